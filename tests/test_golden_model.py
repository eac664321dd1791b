"""The networks give the reference's outputs, on weights that anyone can regenerate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import golden_model
from numpy.typing import NDArray

from napari_samscape.prediction.predict import embed, predict
from napari_samscape.prediction.types import Embedding, Prompts

TOLERANCE = 1e-3
MODELS = [
    "mini",
    pytest.param("vit_t", marks=pytest.mark.slow),
    pytest.param("vit_b", marks=pytest.mark.slow),
]
Golden = dict[str, NDArray]


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest, shared: Path) -> tuple[Golden, object, Embedding]:
    golden = dict(np.load(shared / "golden" / f"{request.param}.npz"))
    model = golden_model(shared / "golden", request.param)
    return golden, model, embed(model, golden["image"])


def prompts_of(image: NDArray, kind: str) -> Prompts:
    """The golden file's prompts, given there as (x, y) fractions, in pixels (y, x)."""
    h, w = image.shape[:2]
    box = (0.3 * h, 0.2 * w, 0.8 * h, 0.65 * w)
    return {
        "point": Prompts([(0.55 * h, 0.4 * w)], [1]),
        "points": Prompts([(0.55 * h, 0.4 * w), (0.2 * h, 0.7 * w), (0.9 * h, 0.1 * w)], [1, 0, 1]),
        "box": Prompts(box=box),
        "box_point": Prompts([(0.5 * h, 0.5 * w)], [0], box=box),
    }[kind]


def golden_masks(golden: Golden, key: str) -> NDArray[np.bool_]:
    shape = golden[f"{key}_shape"]
    return np.unpackbits(golden[f"{key}_mask"], count=np.prod(shape)).reshape(shape).astype(bool)


def close(ours: NDArray, theirs: NDArray) -> bool:
    return float(np.abs(ours - theirs).max()) <= TOLERANCE * float(np.abs(theirs).max())


def test_embedding(case) -> None:
    golden, _, embedding = case
    features = embedding.features.numpy()
    step = 1 if golden["embedding_sub"].shape == features.shape else 8
    assert embedding.input_shape == tuple(golden["input_size"])
    assert close(features[..., ::step, ::step], golden["embedding_sub"])
    assert np.linalg.norm(features.astype(np.float64)) == pytest.approx(
        golden["embedding_norm"], rel=TOLERANCE
    )


@pytest.mark.parametrize("mode", ["multi", "single"])
@pytest.mark.parametrize("kind", ["point", "points", "box", "box_point"])
def test_masks(case, kind: str, mode: str) -> None:
    golden, model, embedding = case
    got = predict(model, embedding, prompts_of(golden["image"], kind), multimask=mode == "multi")
    key = f"{kind}_{mode}"
    assert np.abs(got.iou - golden[f"{key}_iou"].reshape(-1)).max() <= TOLERANCE
    low = golden[f"{key}_low"]
    assert close(got.logits[:, ::4, ::4], low.reshape(got.logits[:, ::4, ::4].shape))
    assert (got.masks == golden_masks(golden, key)).mean() >= 0.999


def test_mask_prompt_refines(case) -> None:
    golden, model, embedding = case
    first = predict(model, embedding, prompts_of(golden["image"], "point"), multimask=False)
    h, w = golden["image"].shape[:2]
    again = Prompts([(0.5 * h, 0.45 * w)], [1], mask=first.logits[0])
    got = predict(model, embedding, again, multimask=False)
    assert np.abs(got.iou - golden["refine_iou"].reshape(-1)).max() <= TOLERANCE
    assert (got.masks == golden_masks(golden, "refine")).mean() >= 0.999


def test_precision_of_the_test_itself() -> None:
    """A tolerance relative to the largest magnitude must reject a small but real change."""
    theirs = torch.randn(100).numpy()
    assert not close(theirs + 0.01 * np.abs(theirs).max(), theirs)
