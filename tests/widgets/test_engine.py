"""The engine in this process, with a small network of random weights where the answers do not matter."""

import numpy as np
import pytest

from napari_samscape.errors import InputError
from napari_samscape.prediction.types import Prompts
from napari_samscape.widgets.engine import PICTURE_SIDE, LocalEngine

PIXELS = np.random.default_rng(0).integers(0, 4000, (48, 64)).astype(np.uint16)


def silent(done, total, text):
    pass


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from napari_samscape.model.sam import build_nano
    from napari_samscape.model.weights import save_model

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


def test_only_the_pictures_used_last_are_remembered(checkpoint):
    engine = LocalEngine(checkpoint, remember=2)
    engine.embed("a", PIXELS, silent)
    engine.embed("b", PIXELS, silent)
    engine.predict("a", Prompts(points=[(1, 1)]), multimask=True)
    engine.embed("c", PIXELS, silent)
    assert [engine.knows(key) for key in "abc"] == [True, False, True]


def test_large_pictures_are_kept_small_for_display(checkpoint):
    engine = LocalEngine(checkpoint)
    engine.embed("a", np.zeros((100, 3 * PICTURE_SIDE), np.uint8), silent)
    assert engine.picture("a").shape == (34, PICTURE_SIDE, 3)


def test_a_file_that_is_no_model_is_an_input_error(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a model")
    with pytest.raises(InputError):
        LocalEngine(str(path)).embed("a", PIXELS, silent)
