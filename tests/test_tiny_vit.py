"""MobileSAM's encoder agrees with the reference, and its sizes are read off the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import golden_image, golden_weights
from PIL import Image
from torch import Tensor

from napari_samscape.errors import InputError
from napari_samscape.model.tiny_vit import TinyViT, TinyViTConfig, tiny_vit_config

PREFIX = "image_encoder."
SMALL = TinyViTConfig(
    widths=(8, 16, 24, 32),
    depths=(1, 2, 1, 1),
    heads=(2, 3, 4),
    windows=(3, 4, 3),
    mlp_ratio=2,
    conv_ratio=3,
    out_channels=12,
    classes=0,
)


def _shapes(model: TinyViT) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def _normalised(image: np.ndarray) -> Tensor:
    """Prepare a picture (y, x, 3) as the reference does: resize, normalise, then pad to 1024 x 1024."""
    height, width = image.shape[:2]
    scale = 1024 / max(height, width)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
    mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
    padded = np.zeros((1024, 1024, 3), dtype=np.float32)
    padded[: size[1], : size[0]] = (resized - mean) / std
    return torch.from_numpy(padded.transpose(2, 0, 1)[None].copy())


@pytest.fixture(scope="module")
def small_model() -> TinyViT:
    torch.manual_seed(0)
    model = TinyViT(SMALL).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_keys_and_shapes_are_the_official_ones(shared: Path) -> None:
    keys: dict[str, Any] = json.loads((shared / "golden" / "vit_t.keys.json").read_text())
    official = {k.removeprefix(PREFIX): tuple(v[0]) for k, v in keys.items() if k.startswith(PREFIX)}
    assert _shapes(TinyViT()) == official


def test_config_is_read_off_the_official_shapes(shared: Path) -> None:
    keys: dict[str, Any] = json.loads((shared / "golden" / "vit_t.keys.json").read_text())
    assert tiny_vit_config({key: tuple(shape) for key, (shape, _) in keys.items()}) == TinyViTConfig()


def test_config_of_other_sizes_survives_the_way_through_its_weights(small_model: TinyViT) -> None:
    assert tiny_vit_config(_shapes(small_model)) == SMALL


def test_foreign_checkpoint_is_refused() -> None:
    with pytest.raises(InputError, match=r"no TinyViT: 'image_encoder\.patch_embed.* is missing"):
        tiny_vit_config({"image_encoder.pos_embed": (1, 64, 64, 768)})


def test_window_that_is_not_square_is_refused(small_model: TinyViT) -> None:
    shapes = _shapes(small_model) | {"layers.1.blocks.0.attn.attention_biases": (2, 50)}
    with pytest.raises(InputError, match="not square"):
        tiny_vit_config(shapes)


def test_embedding_has_a_sixteenth_of_the_size_whether_or_not_windows_fit(small_model: TinyViT) -> None:
    with torch.inference_mode():
        assert small_model(torch.zeros(2, 3, 96, 160)).shape == (2, 12, 6, 10)


def test_attention_biases_loaded_after_eval_count(small_model: TinyViT) -> None:
    """The reference keeps a table from the switch to eval; here the order of the two must not matter."""
    torch.manual_seed(1)
    images = torch.randn(1, 3, 96, 96)
    other = {key: value.clone() for key, value in small_model.state_dict().items()}
    other["layers.1.blocks.0.attn.attention_biases"] += torch.randn(2, 9)
    loaded_first, eval_first = TinyViT(SMALL), TinyViT(SMALL).eval()
    loaded_first.load_state_dict(other)
    eval_first.load_state_dict(other)
    with torch.inference_mode():
        expected = loaded_first.eval()(images)
        torch.testing.assert_close(eval_first(images), expected)
        assert not torch.allclose(small_model(images), expected)


def test_bias_depends_on_the_distance_in_y_and_x(small_model: TinyViT) -> None:
    """In a window of 3 x 3 the bias of pixels (0, 1) and (2, 0) is number |0-2| * 3 + |1-0| = 7."""
    index = small_model.layers[1].blocks[0].attn.bias_index
    assert index[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert index[1, 6] == index[6, 1] == 7


@pytest.mark.slow
def test_embedding_is_the_references(shared: Path) -> None:
    golden = np.load(shared / "golden" / "vit_t.npz")
    seed = int(golden["seed"])
    weights = golden_weights(shared / "golden" / "vit_t.keys.json", seed)
    encoder = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
    model = TinyViT(tiny_vit_config({key: tuple(value.shape) for key, value in encoder.items()}))
    model.load_state_dict(encoder)
    image = golden_image(*golden["image"].shape[:2], seed)
    np.testing.assert_array_equal(image, golden["image"])

    with torch.inference_mode():
        embedding = model.eval()(_normalised(image))

    expected = golden["embedding_sub"]
    assert embedding.shape == (1, 256, 64, 64)
    assert np.abs(embedding[:, :, ::8, ::8].numpy() - expected).max() < 1e-3 * np.abs(expected).max()
    assert embedding.double().norm().item() == pytest.approx(float(golden["embedding_norm"]), rel=1e-3)
    assert embedding.double().mean().item() == pytest.approx(float(golden["embedding_mean"]), abs=1e-4)
