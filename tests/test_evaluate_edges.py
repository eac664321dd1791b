"""`samscape evaluate --protocol edges`: data sets of boundaries, the methods, and what is said of them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow
from scipy.io import savemat
from test_automatic import painted
from test_cli import printed_json, samscape
from test_edges import WholeOnly, outline

from napari_samscape.errors import InputError
from napari_samscape.evaluation.baselines import Baseline
from napari_samscape.evaluation.datasets import Dataset, Sample, open_dataset
from napari_samscape.evaluation.edge_baselines import Canny, Sobel
from napari_samscape.evaluation.methods import ModelMethod
from napari_samscape.evaluation.report import markdown
from napari_samscape.evaluation.run import evaluate

DISC = painted((64, 64, 30, 10))
RING = outline(DISC[..., 0] == 10)
HUMANS = np.stack([RING, RING, np.zeros_like(RING)])


def packed(boundaries: np.ndarray) -> bytes:
    file = io.BytesIO()
    k, height, width = boundaries.shape
    bits = np.packbits(boundaries.reshape(k, height * width), axis=1)
    np.savez(file, shape=boundaries.shape, bounds_packed=bits)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zip of one disc, upright and turned, and a stand-in for the model."""
    monkeypatch.setattr("napari_samscape.model.weights.load_model", lambda *_: WholeOnly())
    path = tmp_path / "bounds.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("index.json", json.dumps([{"name": "b"}, {"name": "a"}]))
        for name, cut in (("a", np.s_[:, 10:]), ("b", np.s_[10:, :])):
            archive.writestr(f"images/{name}.png", png(DISC[cut]))
            archive.writestr(f"gt/{name}.npz", packed(HUMANS[(slice(None), *cut)]))
    return path


# Data sets


def same(samples: list[Sample], expected: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    assert [sample.name for sample in samples] == [name for name, _, _ in expected]
    for sample, (_, pixels, humans) in zip(samples, expected, strict=True):
        np.testing.assert_array_equal(sample.pixels, pixels)
        np.testing.assert_array_equal(sample.boundaries, humans)
        assert sample.boundaries.dtype == bool
        assert sample.objects == ()


def test_a_zip_is_read_in_the_order_of_its_index(bounds: Path) -> None:
    same(
        [read() for read in open_dataset(bounds).readers],
        [("b", DISC[10:], HUMANS[:, 10:]), ("a", DISC[:, 10:], HUMANS[:, :, 10:])],
    )


def test_a_zip_may_be_unpacked_and_lack_its_index(bounds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(bounds) as archive:
        archive.extractall(folder)
    (folder / "index.json").unlink()
    assert [read().name for read in open_dataset(folder).readers] == ["a", "b"]


@pytest.mark.parametrize("top", ["", "data", "BSDS500/data"])
@pytest.mark.parametrize("humans", [1, 3])
def test_bsds500_is_read_as_it_is_distributed(tmp_path: Path, top: str, humans: int) -> None:
    for part in ("images/test", "images/train", "groundTruth/test"):
        (tmp_path / top / part).mkdir(parents=True)
    for part in ("test/7", "train/8"):
        (tmp_path / top / "images" / f"{part}.jpg").write_bytes(png(DISC))
    cells = np.empty((1, humans), dtype=object)
    for k in range(humans):
        cells[0, k] = {"Segmentation": np.ones(RING.shape), "Boundaries": HUMANS[k].astype(np.uint8)}
    savemat(tmp_path / top / "groundTruth" / "test" / "7.mat", {"groundTruth": cells})
    same([read() for read in open_dataset(tmp_path).readers], [("7", DISC, HUMANS[:humans])])


def test_the_test_pictures_open(shared: Path) -> None:
    path = shared / "data" / "bsds500" / "test_100.zip"
    if not path.exists():
        pytest.skip("BSDS500's test pictures are not there")
    dataset = open_dataset(path)
    first = dataset.readers[0]()
    assert (dataset.name, len(dataset)) == ("bsds500/test_100", 100)
    assert (first.name, first.boundaries.shape) == ("100039", (5, 321, 481))
    assert first.boundaries.sum(axis=(1, 2)).tolist() == [2177, 5094, 1077, 1123, 3308]


def broken(bounds: Path, name: str, content: bytes | None) -> Path:
    """The zip with one file replaced, or without it."""
    path = bounds.with_name("broken.zip")
    with zipfile.ZipFile(bounds) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
            elif content is not None:
                new.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("images/a.png", None, "holds boundaries of the picture 'a', but not the picture"),
        ("gt/a.npz", None, r"holds no boundaries for the picture 'a' \(gt/a.npz\)"),
        ("gt/a.npz", packed(HUMANS), r"118 pixels; these have the shape \(3, 128, 128\)"),
        ("gt/a.npz", packed(HUMANS[:0, :, 10:]), r"at least one of 128 x 118 pixels; .* \(0, 128, 118\)"),
        ("gt/a.npz", b"nonsense", "cannot be read as pictures and boundaries"),
        ("images/a.png", b"nonsense", "cannot be read as pictures and boundaries"),
        ("index.json", b"[1]", "cannot be read as pictures and boundaries"),
    ],
)
def test_a_damaged_data_set_is_named(bounds: Path, name: str, content: bytes | None, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        [read() for read in open_dataset(broken(bounds, name, content)).readers]


# Methods


@pytest.mark.parametrize("method", [Sobel(), Canny()], ids=lambda method: method.name)
def test_a_baseline_draws_a_step_of_more_contrast_more_strongly(method: Any) -> None:
    picture = np.zeros((60, 80), np.uint8)
    picture[:, 20:] = 60
    picture[:, 50:] = 255
    found = method.edges(picture)
    assert found.dtype == np.float32
    assert found.shape == picture.shape
    middle = found[5:-5]
    weak, strong = middle[:, 18:22].max(axis=1), middle[:, 48:52].max(axis=1)
    np.testing.assert_allclose(strong / weak, 195 / 60, rtol=0.05)
    # A step lies between two pixels; scikit-image's Canny keeps both.
    assert set(np.flatnonzero(middle.any(axis=0))) <= {19, 20, 49, 50}
    assert found.max() <= 1


def test_canny_keeps_a_pixel_as_long_as_one_that_it_hangs_together_with() -> None:
    picture = np.zeros((60, 80), np.uint8)
    picture[:, 40:] = np.linspace(120, 200, 60)[:, None]  # above one half of the strongest everywhere
    strength = Canny().edges(picture)[5:-5, 38:42].max(axis=1)
    assert np.ptp(strength) == 0
    assert strength[0] > 0.2


@pytest.mark.parametrize("method", [Sobel(), Canny()], ids=lambda method: method.name)
def test_a_baseline_draws_nothing_in_a_constant_picture(method: Any) -> None:
    assert not method.edges(np.full((40, 50), 90, np.uint8))[2:-2, 2:-2].any()


# Figures


def test_a_model_that_draws_what_humans_drew_is_nearly_perfect(bounds: Path) -> None:
    found = evaluate(open_dataset(bounds), ModelMethod(WholeOnly()), "edges")
    assert found["protocol"] == "edges"
    assert (found["pictures"], found["n"], found["thresholds"]) == (2, 6, 99)
    assert found["ods_precision"] > 0.95
    # The third human drew nothing, which costs no recall.
    assert 0.95 < found["ods"] <= 1
    assert found["ois"] >= found["ods"] - 0.01
    assert found["ci95"][0] <= found["ods"] + 1e-9
    assert found["seconds_per_image"] > 0


def test_without_boundaries_or_edges_one_sentence_says_so(bounds: Path) -> None:
    plain = Dataset("plain", (lambda: Sample("cells", DISC, ()),))
    with pytest.raises(InputError, match="needs boundaries drawn by humans, .* the picture 'cells' has none"):
        evaluate(plain, Sobel(), "edges")
    with pytest.raises(InputError, match="'baseline' draws no edges"):
        evaluate(open_dataset(bounds), Baseline(), "edges")
    with pytest.raises(InputError, match="'canny' finds no objects"):
        evaluate(open_dataset(bounds), Canny(), "box")
    with pytest.raises(InputError, match="has pictures but no labelled object"):
        evaluate(open_dataset(bounds), Baseline(), "everything")


def test_the_command_gives_one_json_object(bounds: Path) -> None:
    found = printed_json("evaluate", str(bounds), "--protocol", "edges", "--thresholds", "9", "--limit", "1")
    usual = {"dataset", "model", "protocol", "pictures", "n", "seconds_per_image", "peak_mb", "ci95"}
    assert usual | {"ods", "ois", "ap", "r50"} <= set(found)
    assert (found["model"], found["n"], found["thresholds"], found["ci95"]) == ("seer", 3, 9, None)
    assert set(found["baselines"]) == {"sobel", "canny"}
    assert found["baselines"]["canny"]["ods"] > 0.5


def test_the_command_prints_a_table_and_refuses_labels(bounds: Path, tmp_path: Path) -> None:
    table = samscape("evaluate", str(bounds), "--protocol", "edges", "--thresholds", "3")
    assert table.exit_code == 0
    assert all(word in table.stdout for word in ("ODS", "OIS", "AP", "R50", "drawings", "canny", "sobel"))

    cells = tmp_path / "cells"
    cells.mkdir()
    for name in ("c.png", "c_labels.png"):
        (cells / name).write_bytes(png(DISC[..., 0]))
    refused = samscape("evaluate", str(cells), "--protocol", "edges")
    assert refused.exit_code == 2
    assert isinstance(refused.exception, SystemExit | InputError)


def test_the_report_has_a_row_for_each_method(bounds: Path) -> None:
    rows = [evaluate(open_dataset(bounds), method, "edges", levels=3) for method in (Sobel(), Canny())]
    lines = markdown(rows).splitlines()
    head = "| data set | model | pictures | drawings | ODS | 95 % | OIS | AP | R50 | s / picture | peak MB |"
    assert lines[0] == head
    assert [line.split(" | ")[1] for line in lines[2:]] == ["sobel", "canny"]
