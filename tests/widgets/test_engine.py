"""The engine in this process, with a small network of random weights where the answers do not matter."""

import numpy as np
import pytest

from napari_samscape.errors import InputError
from napari_samscape.prediction.options import EdgeOptions, EverythingOptions
from napari_samscape.prediction.types import Prompts
from napari_samscape.widgets.drawn import Rectangles
from napari_samscape.widgets.engine import PICTURE_SIDE, LocalEngine

PIXELS = np.random.default_rng(0).integers(0, 4000, (48, 64)).astype(np.uint16)


def silent(done, total, text):
    pass


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import torch

    from napari_samscape.model.sam import build_nano
    from napari_samscape.model.weights import save_model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "random.safetensors"
    save_model(build_nano(), path)
    return str(path)


def test_what_is_embedded_is_known_and_can_be_asked(checkpoint):
    engine = LocalEngine(checkpoint)
    assert not engine.knows("a")
    engine.embed("a", PIXELS, silent)
    assert engine.knows("a") and not engine.knows("b")
    masks = engine.predict("a", Prompts(points=[(10, 20)]), multimask=True)
    assert masks.masks.shape == (3, 48, 64) and masks.iou.shape == (3,)
    further = Prompts(points=[(10, 20), (1, 1)], mask=masks.logits[2])
    assert engine.predict("a", further, multimask=False).masks.shape == (1, 48, 64)
    assert engine.picture("a").shape == (48, 64, 3) and engine.picture("a").dtype == np.uint8


def test_a_picture_that_was_embedded_ahead_is_not_looked_at_again(checkpoint, tmp_path, monkeypatch):
    from napari_samscape import load_model
    from napari_samscape.scaling.ahead import embed_ahead

    monkeypatch.setattr("napari_samscape.scaling.cache.cache_folder", lambda folder: tmp_path / "own")
    embed_ahead(PIXELS, model=load_model(checkpoint))
    heard = []
    LocalEngine(checkpoint).embed("a", PIXELS, lambda *what: heard.append(what))
    assert len(heard) == 1 and "Loading" in heard[0][2], "a layer of the encoder was asked"


def test_progress_names_the_loading_and_counts_the_layers(checkpoint):
    heard = []
    LocalEngine(checkpoint).embed("a", PIXELS, lambda *what: heard.append(what))
    assert heard[0][:2] == (0, 0) and "Loading the model" in heard[0][2]
    counts = [done for done, total, _ in heard[1:]]
    assert len(counts) > 10 and counts == sorted(counts)
    assert counts[-1] == heard[-1][1], "the last report says that all is done"


def test_raising_from_the_progress_stops_the_encoder_and_leaves_the_model_usable(checkpoint):
    class Stop(Exception):
        pass

    def stop(done, total, text):
        if done == 3:
            raise Stop

    engine = LocalEngine(checkpoint)
    with pytest.raises(Stop):
        engine.embed("a", PIXELS, stop)
    assert not engine.knows("a")
    engine.embed("a", PIXELS, silent)
    assert engine.knows("a")


def test_the_tasks_give_what_the_functions_of_the_same_names_give(checkpoint):
    from napari_samscape.model.weights import load_model
    from napari_samscape.prediction.automatic import everything
    from napari_samscape.prediction.boxes import segment_boxes
    from napari_samscape.prediction.edges import edges

    engine, model, boxes = LocalEngine(checkpoint), load_model(checkpoint), [(5, 6, 30, 40)]
    given = Rectangles(np.array(boxes), (0,), scores=[0.5], classes=["cell"])
    (item,) = engine.boxes(PIXELS, given, silent)
    (expected,) = segment_boxes(model, PIXELS, boxes)
    assert (item.box, item.score, item.category) == (expected.box, 0.5, "cell")
    coarse = EdgeOptions(points_per_side=2)
    np.testing.assert_array_equal(engine.edges(PIXELS, coarse, silent), edges(model, PIXELS, coarse))
    all_pass = EverythingOptions(
        points_per_side=2, prompt_source="grid", pred_iou_thresh=0, stability_score_thresh=0
    )
    found = engine.everything(PIXELS, all_pass, silent)
    assert len(found) > 0
    assert [item.box for item in found] == [item.box for item in everything(model, PIXELS, all_pass)]


def test_a_task_reports_the_layers_until_it_has_steps_of_its_own_to_report(checkpoint):
    heard = []
    engine = LocalEngine(checkpoint)
    engine.edges(PIXELS, EdgeOptions(points_per_side=5), lambda *what: heard.append(what))
    assert "Loading the model random.safetensors" in heard[0][2]
    texts = list(dict.fromkeys(text for _, _, text in heard[1:]))
    assert texts == [
        "Looking at the picture…",
        "Asking a grid of points…",
        "Drawing edges…",
        "Drew the edges…",
    ]
    looking = [done / total for done, total, text in heard if text == texts[0]]
    assert looking == sorted(looking) and looking[-1] == 1


def test_a_task_can_be_stopped_while_the_picture_is_looked_at(checkpoint):
    class Stop(Exception):
        pass

    def stop(done, total, text):
        if total > 10 and done == 3:
            raise Stop

    with pytest.raises(Stop):
        LocalEngine(checkpoint).everything(PIXELS, EverythingOptions(), stop)


def test_whether_a_model_has_a_dense_head_is_known_or_seen_when_it_is_loaded(checkpoint):
    assert LocalEngine("nano").has_dense is True and LocalEngine("vit_b").has_dense is False
    engine = LocalEngine(checkpoint)
    assert engine.has_dense is None
    engine.load(silent)
    assert engine.has_dense is True


def test_only_the_pictures_used_last_are_remembered(checkpoint):
    engine = LocalEngine(checkpoint)
    engine.embed("a", PIXELS, silent)
    engine._remember = 2 * engine._seen["a"][0].nbytes
    engine.embed("b", PIXELS, silent)
    engine.predict("a", Prompts(points=[(1, 1)]), multimask=True)
    engine.embed("c", PIXELS, silent)
    assert [engine.knows(key) for key in "abc"] == [True, False, True]
    engine._remember = 0
    engine.embed("d", PIXELS, silent)
    assert [engine.knows(key) for key in "abcd"] == [False, False, False, True]


def test_large_pictures_are_kept_small_for_display(checkpoint):
    engine = LocalEngine(checkpoint)
    engine.embed("a", np.zeros((100, 3 * PICTURE_SIDE), np.uint8), silent)
    assert engine.picture("a").shape == (34, PICTURE_SIDE, 3)


def test_a_file_that_is_no_model_is_an_input_error(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a model")
    with pytest.raises(InputError):
        LocalEngine(str(path)).embed("a", PIXELS, silent)
