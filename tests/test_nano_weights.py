"""The weights that ship: on every machine the same masks, and clicks that find what they are on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_samscape import Prompts, embed, load_model, predict
from napari_samscape.model.sam import Sam

STORED = Path(__file__).parent / "data" / "nano_tiny.npz"
CLICKS = [(20, 20), (44, 42)]


def tiny_picture() -> np.ndarray:
    """Two bright discs on a dim ground, 96 x 96."""
    y, x = np.mgrid[:96, :96]
    pixels = np.full((96, 96), 20, np.uint8)
    pixels[(y - 20) ** 2 + (x - 20) ** 2 < 100] = 180
    pixels[(y - 44) ** 2 + (x - 42) ** 2 < 144] = 230
    return pixels


def answers(model: Sam) -> np.ndarray:
    """The best mask for each click, ``(2, 96, 96)``."""
    embedding = embed(model, tiny_picture())
    found = [predict(model, embedding, Prompts(points=[click])) for click in CLICKS]
    return np.stack([masks.masks[masks.best] for masks in found])


def test_the_same_weights_give_the_same_masks_everywhere(nano: Sam) -> None:
    """Stored by ``python tests/test_nano_weights.py``, to be done again with new weights."""
    stored = np.load(STORED)
    if str(stored["digest"]) != nano.digest:
        pytest.fail("The stored masks are of other weights; store them anew.")
    masks = np.unpackbits(stored["masks"]).reshape(2, 96, 96).astype(bool)
    assert (answers(nano) == masks).mean() > 0.999


def test_a_click_on_a_disc_finds_the_disc(nano: Sam) -> None:
    pixels = tiny_picture()
    for mask, level in zip(answers(nano), (180, 230), strict=True):
        disc = pixels == level
        assert (mask & disc).sum() / (mask | disc).sum() > 0.8


def test_the_file_is_small(nano: Sam) -> None:
    from napari_samscape.model.registry import local_path

    path = local_path("nano")
    assert path is not None and path.stat().st_size < 16 * 2**20


if __name__ == "__main__":
    model = load_model("nano", device="cpu")
    STORED.parent.mkdir(exist_ok=True)
    np.savez_compressed(STORED, masks=np.packbits(answers(model)), digest=model.digest)
