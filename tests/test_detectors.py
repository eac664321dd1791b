"""Detectors by name: what the built-in ones find, and what comes of broken ones."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_samscape.errors import InputError
from napari_samscape.prediction import detectors
from napari_samscape.prediction.cells import blobs, otsu
from napari_samscape.prediction.detections import Detections, detect
from napari_samscape.prediction.detectors import detector_names, load_detector

DISCS = [(20, 20, 8), (20, 36, 8), (70, 60, 12)]  # y, x, radius; the first two touch


def discs(bright: bool = True) -> np.ndarray:
    rows, columns = np.ogrid[:100, :120]
    picture = np.zeros((100, 120), np.uint8)
    for y, x, radius in DISCS:
        picture[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = 200
    return picture if bright else 255 - picture


def centres(found: Detections) -> list[tuple[int, int]]:
    return sorted((round((y0 + y1) / 2), round((x0 + x1) / 2)) for y0, x0, y1, x1 in found.boxes)


# Built in


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("rgb", [True, False])
def test_otsu_puts_a_box_around_each_disc_and_parts_those_that_touch(bright: bool, rgb: bool) -> None:
    picture = discs(bright)
    found = otsu(np.repeat(picture[..., None], 3, axis=-1) if rgb else picture)
    assert len(found) == 3
    expected = [(y - r - 0.5, x - r - 0.5, y + r + 0.5, x + r + 0.5) for y, x, r in DISCS]
    np.testing.assert_allclose(sorted(found.boxes.tolist()), expected, atol=1.5)


@pytest.mark.parametrize("bright", [True, False])
def test_blobs_puts_a_square_on_each_disc(bright: bool) -> None:
    found = blobs(discs(bright))
    np.testing.assert_allclose(centres(found), [(y, x) for y, x, _ in DISCS], atol=2)
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1])
    assert sides.max() == pytest.approx(2 * 12, rel=0.3)


def test_otsu_leaves_out_specks() -> None:
    picture = discs()
    picture[90:93, 5:8] = 200
    assert len(otsu(picture)) == 3


@pytest.mark.parametrize("find", [blobs, otsu])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3), (1, 1), (3, 200)])
def test_in_a_constant_picture_nothing_is_found(find: Any, shape: tuple[int, ...]) -> None:
    assert len(find(np.full(shape, 7, np.uint16))) == 0


@pytest.mark.parametrize("find", [blobs, otsu])
def test_what_is_no_plane_is_refused(find: Any) -> None:
    with pytest.raises(InputError, match=r"the shape \(2, 3, 4, 5\)"):
        find(np.zeros((2, 3, 4, 5)))


# Names


def bring(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    """Pretend that another package brings detectors."""
    entries = [EntryPoint(name, value, detectors.GROUP) for name, value in found.items()]
    monkeypatch.setattr(detectors, "entry_points", lambda group: entries)


def two_boxes(pixels: np.ndarray) -> Any:
    return [(1, 2, 3, 4), (9, 8, 6, 5)], [0.5, 0.25], ["cell", 7]


def test_a_detector_of_another_package_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, stardist="test_detectors:two_boxes", otsu="test_detectors:two_boxes")
    assert detector_names() == ["blobs", "otsu", "stardist"]
    found = detect(load_detector("stardist"), discs())
    np.testing.assert_array_equal(found.boxes, [(1, 2, 3, 4), (6, 5, 9, 8)], "corners are put right")
    assert (found.scores.tolist(), found.classes) == ([0.5, 0.25], ("cell", 7))
    assert load_detector("otsu").find is otsu, "a built-in name cannot be taken"


def test_listing_names_imports_no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, broken="no_such_module:find")
    assert "broken" in detector_names()
    with pytest.raises(
        InputError, match=r"detector broken \(no_such_module:find\) cannot be loaded: ModuleNot"
    ):
        load_detector("broken")


def test_a_detector_that_is_no_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, discs="test_detectors:DISCS")
    with pytest.raises(InputError, match="detector discs .* is no function of a picture"):
        load_detector("discs")


def test_an_unknown_name_is_refused_with_those_known(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, stardist="test_detectors:two_boxes")
    with pytest.raises(InputError, match="'magic'; there are blobs, otsu, stardist and transformers:MODEL"):
        load_detector("magic")


def fails(pixels: np.ndarray) -> Any:
    raise MemoryError("too large")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("all", "gave what is no detection: The boxes must be numbers"),
        (None, "gave what is no detection: Boxes must have the shape"),
        ([[1, 2, 3]], r"gave what is no detection: Boxes must have the shape \(n, 4\)"),
        ([[1, 2, 3, np.nan]], "gave what is no detection: The box number 1 is not finite"),
        (([[1, 2, 3, 4]], [0.5, 0.5]), "gave what is no detection: There are 1 boxes but 2 scores"),
        (((), (), (), ()), "gave a tuple of 4"),
    ],
)
def test_nonsense_is_told_with_the_name_the_detector_was_asked_for_by(
    monkeypatch: pytest.MonkeyPatch, answer: Any, sentence: str
) -> None:
    monkeypatch.setattr("test_detectors.two_boxes", lambda pixels: answer)
    bring(monkeypatch, odd="test_detectors:two_boxes")
    with pytest.raises(InputError, match=f"The detector odd {sentence}"):
        detect(load_detector("odd"), discs())


def test_what_a_detector_raises_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, odd="test_detectors:fails")
    with pytest.raises(InputError, match="The detector odd failed: MemoryError: too large"):
        detect(load_detector("odd"), discs())
    with pytest.raises(InputError, match="The detector <lambda> failed: Boxes must have"):
        detect(lambda pixels: Detections([[1, 2]]), discs())


# Models of transformers


@pytest.fixture(scope="module")
def detr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DETR that answers every picture with the box in its middle, as the library stores one."""
    transformers = pytest.importorskip("transformers", reason="the extra 'detectors' is not installed")
    import torch

    stages = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "embedding_size": 8, "layer_type": "basic"}
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        backbone_config=transformers.ResNetConfig(**stages, out_features=["stage4"]),
        **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 8 for part in ("encoder", "decoder")},
        d_model=8,
        num_queries=2,
        id2label={0: "debris", 1: "cell"},
        label2id={"debris": 0, "cell": 1},
    )
    torch.manual_seed(0)
    model = transformers.DetrForObjectDetection(config)
    with torch.no_grad():  # centre, height and width are a half; it is sure of a cell
        for layer in (model.bbox_predictor.layers[-1], model.class_labels_classifier):
            layer.weight.zero_()
            layer.bias.zero_()
        model.class_labels_classifier.bias[1] = 9
    folder = tmp_path_factory.mktemp("detr")
    model.save_pretrained(folder)
    size = {"shortest_edge": 32, "longest_edge": 64}
    transformers.DetrImageProcessorPil(size=size).save_pretrained(folder)
    return folder


def test_a_model_of_transformers_gives_boxes_scores_and_class_names(detr: Path) -> None:
    find = load_detector(f"transformers:{detr}")
    for pixels in (discs(), np.repeat(discs()[..., None], 3, axis=-1)):
        found = detect(find, pixels)
        np.testing.assert_allclose(found.boxes, [(25, 30, 75, 90)] * 2, atol=1e-3)
        np.testing.assert_allclose(found.scores, np.exp(9) / (np.exp(9) + 2), atol=1e-5)
        assert found.classes == ("cell", "cell")


def test_boxes_the_model_is_not_sure_of_are_left_out(detr: Path) -> None:
    from napari_samscape.prediction.transformers_boxes import TransformersDetector

    assert len(TransformersDetector(str(detr), threshold=0.99999)(discs())) == 0


def test_a_picture_that_is_not_8_bit_is_refused_by_name(detr: Path) -> None:
    with pytest.raises(InputError, match="The detector transformers:.*8-bit grey or RGB.*uint16"):
        detect(load_detector(f"transformers:{detr}"), discs().astype(np.uint16))


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra 'detectors' is not installed")
    with pytest.raises(InputError, match="^The detector transformers:.* cannot be loaded: .*[.]$"):
        load_detector(f"transformers:{tmp_path}")


def test_without_the_library_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install .napari-samscape\[detectors\]"):
        load_detector("transformers:facebook/detr-resnet-50")
