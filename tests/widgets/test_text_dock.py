"""The Text dock in a real napari window; what it shares with Everything is tested there."""

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image, Labels

from napari_samscape.widgets.text import TextWidget


@pytest.fixture
def open_dock(open_task):
    def open_it(*layers, words="grey", clip="some/clip"):
        viewer, dock = open_task(TextWidget, *layers)
        dock.text.setText(words)
        dock.clip.line.setText(clip)
        return viewer, dock

    return open_it


def test_run_lists_what_looks_like_the_words_with_its_likelihood(open_dock, run, picture):
    viewer, dock = open_dock(Image(picture, name="cells"))
    assert run(dock) == "Found 2 of 'grey', now in 'cells by text'."
    labels = viewer.layers["cells by text"]
    np.testing.assert_array_equal(labels.data, np.where(picture > 0, 3 - picture // 100, 0))
    table = labels.features.to_dict("list")
    assert (table["index"], table["score"], table["text"]) == ([1, 2], [0.75, 0.5], ["grey", "grey"])
    phrase, mode = dock._engine.options
    assert (phrase.text, phrase.clip, phrase.threshold, phrase.top, mode) == (
        "grey",
        "some/clip",
        0.5,
        None,
        "text",
    )
    assert phrase.distractors == ("something else", "the background", "a texture")


def test_what_is_set_is_asked_and_enter_runs(open_dock, qtbot, picture):
    _, dock = open_dock(Image(picture))
    dock.others.setText(" dirt;; dust ")
    dock.options.editors["threshold"].put(0.25)
    dock.options.editors["top"].put(1)
    dock.text.returnPressed.emit()
    qtbot.waitUntil(lambda: not dock._jobs.busy)
    phrase, _ = dock._engine.options
    assert (phrase.distractors, phrase.threshold, phrase.top) == (("dirt", "dust"), 0.25, 1)


def test_the_model_itself_can_be_asked(open_dock, run, picture):
    _, dock = open_dock(Image(picture))
    dock.way.setCurrentIndex(1)
    assert not dock.others.isEnabled()
    run(dock)
    assert dock._engine.options[1] == "prompts"


def test_a_phrase_that_finds_nothing_makes_no_layer_and_says_so(open_dock, run, picture, told):
    viewer, dock = open_dock(Image(picture), words="nothing")
    text = "Nothing was found that looks like 'nothing'; a lower likelihood lets more pass."
    assert (run(dock), told) == (text, [text])
    assert not any(isinstance(layer, Labels) for layer in viewer.layers)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ((" ", "some/clip"), "Say in words what to look for first."),
        (("grey", ""), "Choose a CLIP first: a folder, or a name as openai/clip-vit-base-patch32."),
        (("a texture", "some/clip"), "The text 'a texture' is among its own distractors."),
        (("grey", "missing"), 'install it with: pip install "napari-samscape[text]".'),
    ],
)
def test_what_is_missing_is_told_in_a_sentence(open_dock, run, picture, told, asked, sentence):
    _, dock = open_dock(Image(picture), words=asked[0], clip=asked[1])
    assert sentence in run(dock) and sentence in told[0]


def test_all_planes_of_a_stack_are_asked(open_dock, run, picture):
    viewer, dock = open_dock(Image(np.stack([picture, picture * 0, picture]), name="stack"))
    dock.all_planes.setChecked(True)
    assert run(dock) == "Found 4 of 'grey' on 3 planes, now in 'stack by text'."
    assert list(viewer.layers["stack by text"].features["index"]) == [1, 2, 3, 4]
