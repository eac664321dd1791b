"""Parts of the comparison with the reference that need no reference."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from napari_samscape.prediction.instances import box_nms


@pytest.fixture
def compare(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(root / "benchmarks")
    import compare_reference

    return compare_reference


class FakeSide:
    """A side whose every deed takes the time that is named for it, at first much longer."""

    def __init__(self, name: str, seconds: float, peak: float = 0.0, masks: Any = None) -> None:
        self.name, self.seconds, self.peak, self.masks, self.turns = name, seconds, peak, masks, 0

    def do(self, what: str) -> dict[str, Any]:
        self.turns += 1
        return {"seconds": self.seconds, "peak_mb": self.peak, "value": 1.0, "file": self.masks}


def test_speed_ups_are_the_references_time_over_ours_and_memory_is_ours_over_the_references(
    compare: ModuleType,
) -> None:
    ours, reference = FakeSide("ours", 2.0, peak=1000), FakeSide("reference", 8.0, peak=4000)
    parts = compare.time_parts(ours, reference, runs=1)
    assert {parts.pop(name) for name in list(parts) if name.endswith("speedup")} == {4.0}
    everything = compare.time_everything(ours, reference, runs=1)
    assert everything.pop("everything_memory_ratio") == everything.pop("everything_fp32_memory_ratio") == 0.25
    assert everything == {"everything_speedup": 4.0, "everything_fp32_speedup": 4.0}


def test_masks_are_matched_one_to_one(compare: ModuleType, tmp_path: Path) -> None:
    masks = np.zeros((3, 8, 8), bool)
    masks[0, :4, :4] = masks[1, 4:, 4:] = masks[2, :1, 7:] = True
    np.save(tmp_path / "reference.npy", masks)
    masks[0, 3] = False  # 12 of 16 pixels
    np.save(tmp_path / "ours.npy", masks[:2])
    sides = [FakeSide(name, 1.0, masks=tmp_path / f"{name}.npy") for name in ("ours", "reference")]
    assert compare.compare_masks(*sides) == {
        "reference_masks": 3,
        "matched_mask_iou": pytest.approx((0.75 + 1) / 2),
        "our_masks": 2,
        "matched_mask_iou_fp32": pytest.approx((0.75 + 1) / 2),
        "our_masks_fp32": 2,
    }


def test_the_stand_in_for_torchvisions_nms_keeps_what_ours_keeps(compare: ModuleType) -> None:
    from compare_side import _nms

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (200, 2))
    boxes, scores = np.concatenate([corners, corners + rng.uniform(1, 30, (200, 2))], axis=1), rng.random(200)
    kept = _nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.5)
    assert 10 < len(kept) < 190
    assert kept.tolist() == list(box_nms(boxes, scores, 0.5))


def test_the_environment_is_made_once(compare: ModuleType, tmp_path: Path) -> None:
    told = f"{torch.__version__} some packages"
    (tmp_path / "packages.txt").write_text(told)
    python = compare.reference_python(tmp_path, "some packages")
    assert tmp_path in python.parents
    assert (tmp_path / "packages.txt").read_text() == told


def test_packages_that_cannot_be_had_end_it_in_a_sentence(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare.venv, "create", lambda *_, **__: None)
    monkeypatch.setattr(compare.subprocess, "run", lambda *_, **__: Namespace(returncode=1))
    with pytest.raises(SystemExit, match=r"pip found no segment-anything==1\.0 or torchvision==0\.\d+\.\*"):
        compare.reference_python(tmp_path, None)
    assert not (tmp_path / "packages.txt").exists()


def test_a_folder_with_something_else_in_it_is_not_cleared(compare: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SystemExit, match="holds something else than a virtual environment"):
        compare.reference_python(tmp_path, None)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_our_side_does_what_it_is_told_in_a_process_of_its_own(compare: ModuleType, tmp_path: Path) -> None:
    weights, picture = tmp_path / "weights.pth", tmp_path / "picture.npy"
    compare.random_weights(compare.MINI, weights)
    compare.square(256, picture)
    common = {"threads": 1, "weights": str(weights), "picture": str(picture)}
    everything = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    with closing(compare.Side("ours", sys.executable, common | {"everything": everything}, tmp_path)) as ours:
        answers = [
            ours.do(what) for what in ("encode", "encode half", "decode_one half", "decode_batch", "masks")
        ]
    assert all(answer["seconds"] > 0 and answer["peak_mb"] > 10 for answer in answers)
    masks = np.load(answers[-1]["file"])
    assert (masks.dtype, masks.shape[1:]) == (bool, (256, 256))


def test_a_side_that_fails_ends_it_in_a_sentence(compare: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="The side 'ours' failed"):
        compare.Side("ours", sys.executable, {"threads": 1}, tmp_path)
