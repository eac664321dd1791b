"""Weights and pictures of the golden files, made anew from a seed as ../shared/golden/README.md says."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_samscape.model.sam import Sam, build_model

SMALL = (
    "attention_biases",
    "point_embeddings",
    "not_a_point_embed",
    "no_mask_embed",
    "mask_tokens",
    "iou_token",
)


def golden_weights(keys_json: Path, seed: int) -> dict[str, Tensor]:
    """Make every weight that ``keys_json`` lists; each depends only on the seed, its name and shape."""
    keys = json.loads(Path(keys_json).read_text())
    return {name: golden_weight(name, tuple(shape), kind, seed) for name, (shape, kind) in keys.items()}


def golden_weight(name: str, shape: tuple[int, ...], kind: str, seed: int) -> Tensor:
    """Make one weight; ``kind`` is "f" for float32 or "i" for an integer entry, which is zero."""
    if kind == "i":
        return torch.zeros(shape, dtype=torch.int64)
    x = np.random.default_rng(zlib.crc32(f"{seed}:{name}".encode())).standard_normal(shape)
    return torch.from_numpy(np.asarray(_scaled(name, x), dtype=np.float32))


def _scaled(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        return 1 + 0.1 * np.abs(x)
    if last == "running_mean":
        return 0.1 * x
    if "gaussian_matrix" in name:
        return x
    if "pos_embed" in name or "rel_pos" in name:
        return 0.1 * x
    if any(part in name for part in SMALL):
        return 0.5 * x
    if last == "bias":
        return 0.05 * x
    if x.ndim >= 2:
        return x / math.sqrt(math.prod(x.shape[1:]))
    return 1 + 0.1 * x


def golden_image(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Make a picture (y, x, 3) of twelve coloured discs on a gradient, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([60 + 60 * x / width, 40 + 80 * y / height, np.full(x.shape, 90.0)], axis=-1)
    for _ in range(12):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        radius = rng.uniform(0.04, 0.15) * min(height, width)
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def golden_model(folder: Path, name: str) -> Sam:
    """Build one of the golden files' models (mini, vit_t, vit_b), with its regenerated weights."""
    seed = int(np.load(folder / f"{name}.npz")["seed"])
    weights = golden_weights(folder / f"{name}.keys.json", seed)
    model = build_model({key: tuple(value.shape) for key, value in weights.items()})
    model.load_state_dict(weights)
    return model.eval()
