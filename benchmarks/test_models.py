"""How long a model takes to see a picture (encode) and to answer one click (decode).

Random weights do: they take as long as trained ones, and need no download. Only nano has its own, since it
looks at less of the picture where it sees a small object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from speed import discs  # beside this file

from napari_samscape import load_model
from napari_samscape.model.config import DecoderConfig, ViTConfig
from napari_samscape.model.image_encoder import ImageEncoder
from napari_samscape.model.mask_decoder import MaskDecoder
from napari_samscape.model.prompt_encoder import PromptEncoder
from napari_samscape.model.sam import Sam
from napari_samscape.model.tiny_vit import TinyViT
from napari_samscape.prediction.predict import decode_points, embed, predict, upscale
from napari_samscape.prediction.types import Embedding, Prompts

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture
    from torch import nn

SIDE = 1024  # pixels; what SAM shows to its model
DECODER = DecoderConfig(width=256, heads=8, hidden=2048, inner=128, depth=2, iou_hidden=256)
VIT_B = ViTConfig(
    image_size=SIDE,
    patch_size=16,
    width=768,
    heads=12,
    hidden=3072,
    windows=(14, 14, 0) * 4,
    out_channels=256,
)


def make_sam(encoder: nn.Module) -> Sam:
    """SAM's own design with this encoder and random weights."""
    return Sam(encoder, PromptEncoder(DECODER.width, SIDE, SIDE // 16), MaskDecoder(DECODER), pad=SIDE)


@pytest.fixture(scope="module", params=["nano", "vit_t", "vit_b"])
def model(request: pytest.FixtureRequest) -> Sam:
    torch.manual_seed(0)
    builders = {
        "nano": lambda: load_model("nano", device="cpu"),
        "vit_t": lambda: make_sam(TinyViT()),
        "vit_b": lambda: make_sam(ImageEncoder(VIT_B)),
    }
    return builders[request.param]().eval()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return discs(SIDE)[0]


@pytest.fixture(scope="module")
def embedding(model: Sam, pixels: np.ndarray) -> Embedding:
    return embed(model, pixels)


def test_encode(benchmark: BenchmarkFixture, model: Sam, pixels: np.ndarray) -> None:
    embedding = benchmark.pedantic(embed, (model, pixels), rounds=3, warmup_rounds=1)
    assert embedding.features.isfinite().all()


def test_decode_one_click(benchmark: BenchmarkFixture, model: Sam, embedding: Embedding) -> None:
    """As in the viewer: one click, three masks at the picture's size."""
    prompts = Prompts(points=discs(SIDE)[1][:1])
    masks = benchmark(predict, model, embedding, prompts)
    assert masks.masks.shape == (3, SIDE, SIDE)


def test_decode_a_batch_of_clicks(benchmark: BenchmarkFixture, model: Sam, embedding: Embedding) -> None:
    """As in everything mode: many clicks at once, masks at low resolution."""
    points = discs(SIDE)[1][:32]
    logits, _ = benchmark.pedantic(decode_points, (model, embedding, points), rounds=3, warmup_rounds=1)
    assert logits.shape[:2] == (32, 3)


def test_upscale_masks(benchmark: BenchmarkFixture, model: Sam, embedding: Embedding) -> None:
    logits, _ = decode_points(model, embedding, np.full((4, 2), SIDE / 2))
    assert benchmark(upscale, logits, embedding, model).shape == (4, 3, SIDE, SIDE)
