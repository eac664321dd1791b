"""Training by text: objects asked for by CLIP's embedding of their own picture."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import BrightClip, as_clip, grey, save_clip

import napari_samscape.training.train as train_module
from napari_samscape.errors import InputError
from napari_samscape.model.config import DecoderConfig, ViTConfig
from napari_samscape.model.image_encoder import ImageEncoder
from napari_samscape.model.mask_decoder import MaskDecoder
from napari_samscape.model.nano import NanoConfig
from napari_samscape.model.prompt_encoder import PromptEncoder
from napari_samscape.model.sam import Sam, build_nano
from napari_samscape.model.weights import load_model, save_model
from napari_samscape.training.batches import Sampler, read_pictures
from napari_samscape.training.data import Crop
from napari_samscape.training.loss import Targets, pixel_weights
from napari_samscape.training.prompts import ask
from napari_samscape.training.text import Describe
from napari_samscape.training.train import (
    Config,
    describe_with,
    forward,
    new_state,
    one_step,
    read_config,
    train,
)

pytest.importorskip("transformers", reason="the extra 'text' is not installed")

SMALL = NanoConfig(widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), fine=(8, 8, 8))


def small_sam() -> Sam:
    """SAM's own architecture, with a vision transformer for pictures of 64 pixels."""
    torch.manual_seed(0)
    decoder = DecoderConfig(width=32, heads=1, hidden=32, inner=16, depth=2, iou_hidden=16)
    vit = ViTConfig(64, 16, width=32, heads=2, hidden=32, windows=(2, 0), out_channels=32)
    return Sam(ImageEncoder(vit), PromptEncoder(32, 64, 4), MaskDecoder(decoder), pad=64)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two discs, a CLIP whose embeddings have 12 numbers, and a small nano that knows no text."""
    y, x = np.mgrid[:96, :96]
    labels = np.zeros((96, 96), np.uint16)
    labels[(y - 30) ** 2 + (x - 30) ** 2 < 200] = 1
    labels[(y - 66) ** 2 + (x - 60) ** 2 < 300] = 2
    with zipfile.ZipFile(tmp_path / "discs.zip", "w") as archive:
        archive.writestr("index.json", json.dumps([{"name": "0"}]))
        for folder, array in (("images", (labels > 0).astype(np.uint8) * 200), ("labels", labels)):
            buffer = io.BytesIO()
            Image.fromarray(array).save(buffer, "png")
            archive.writestr(f"{folder}/0.png", buffer.getvalue())
    save_clip(tmp_path / "clip")
    torch.manual_seed(0)
    save_model(build_nano(SMALL), tmp_path / "small.safetensors")
    (tmp_path / "c.toml").write_text(
        'out = "run"\nminutes = 0.0001\nbatch = 2\ncrop = 64\nobjects = 2\nthreads = 1\ndevice = "cpu"\n'
        'start = "small.safetensors"\ntext = "clip"\ntext_share = 1.0\ntext_area = 30\n'
        '[[sources]]\npath = "discs.zip"\n'
    )
    return read_config(tmp_path / "c.toml")


def sampler(config: Config) -> Sampler:
    return Sampler(*read_pictures(config), config, 512, describe_with(config))


def test_a_crop_is_asked_by_what_clip_sees_of_its_objects_and_small_ones_are_not() -> None:
    pixels = torch.from_numpy(grey(250, 40)).permute(2, 0, 1).float()
    labels = np.zeros((12, 24), np.int64)
    labels[3:9, 3:9], labels[3:9, 15:21], labels[0:2, 12:22] = 1, 2, 3  # the last of 20 pixels
    describe = Describe(as_clip(BrightClip()), smallest=30)
    asked = ask(Crop(pixels, labels, complete=True), 6, np.random.default_rng(0), describe)
    assert asked is not None and asked.texts is not None and asked.is_object.all()
    is_bright = asked.masks[:, 2, 2] > 0.5
    assert 0 < is_bright.sum() < 6
    assert ((asked.texts[:, 0] > 0.9) == is_bright).all() and not asked.masks[:, 0, 8].any()


def test_noise_turns_what_clip_sees_by_about_its_length_and_keeps_it_of_length_1() -> None:
    pixels, labels = torch.full((3, 12, 24), 250.0), np.zeros((12, 24), np.int64)
    labels[3:9, 3:9] = 1
    crop = Crop(pixels, labels, complete=True)
    clip = as_clip(BrightClip())
    plain, twice, away = (
        Describe(clip, 30, noise)(crop, [1] * 50, np.random.default_rng(0)) for noise in (0, 0, 0.5)
    )
    assert torch.equal(plain, twice)
    torch.testing.assert_close(away.norm(dim=1), torch.ones(50))
    turned = (plain * away).sum(1)
    assert 0.8 < turned.mean() < 0.95, "about 1 / sqrt(1 + 0.5 ** 2)"
    assert turned.std() > 0.01


def test_an_object_is_mostly_asked_for_by_another_that_clip_takes_for_alike() -> None:
    pixels, labels = torch.full((3, 12, 24), 250.0), np.zeros((12, 24), np.int64)
    labels[3:9, 3:9] = 1
    crop = Crop(pixels, labels, complete=True)
    describe = Describe(as_clip(BrightClip()), 30)
    own = describe(crop, [1], np.random.default_rng(0))
    near, far = torch.nn.functional.normalize(own + 0.1), -own
    others = torch.cat([far, near, far])
    found = replace(describe, others=others, nearest=1)(crop, [1] * 200, np.random.default_rng(0))
    swapped = torch.isclose(found, near).all(1)
    assert torch.isclose(found[~swapped], own).all() and 0.6 < swapped.float().mean() < 0.8


def test_what_is_alike_is_sought_among_what_is_trained_on(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "OTHERS", 10)
    one = sampler(config)
    assert one.describe is not None
    describe = train_module._with_others(one, one.describe, replace(config, text_nearest=3, text_noise=1.0))
    assert describe.others is not None and len(describe.others) >= 10 and describe.nearest == 3
    torch.testing.assert_close(describe.others.norm(dim=1), torch.ones(len(describe.others)))
    train(replace(config, text_nearest=3), lambda line: None)
    assert (config.folder / "run" / "nano.safetensors").exists()


def test_the_first_prompt_is_the_text_alone_and_clicks_come_after_it(config: Config) -> None:
    batch = sampler(config).batch(0)
    assert batch.texts is not None and batch.texts.shape == (4, 12)
    assert batch.prompt.points.shape == (4, 0, 2)
    clicks = sampler(replace(config, text_share=0.0)).batch(0)
    assert clicks.texts is None and clicks.prompt.points.shape[1] == 3


def test_the_image_encoder_stays_and_the_projection_learns(config: Config) -> None:
    state = new_state(config)
    before = {name: weight.clone() for name, weight in state.model.state_dict().items()}
    one_step(state, sampler(config).batch(0), config)
    changed = {name for name, w in state.model.state_dict().items() if not torch.equal(w, before[name])}
    assert {name.split(".")[0] for name in changed} == {"prompt_encoder", "mask_decoder"}
    assert {"prompt_encoder.text_projection.weight", "prompt_encoder.text_projection.bias"} <= changed
    every = new_state(replace(config, parts=("image_encoder.", "prompt_encoder.")))
    assert all(weight.requires_grad for weight in every.model.image_encoder.parameters())


def test_a_run_writes_a_checkpoint_that_takes_text_and_can_be_trained_further(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_samscape.training.train.VALIDATION_CROPS", 4)
    path = train(replace(config, validation=("discs.zip",)), report=lambda _: None)
    assert load_model(path).prompt_encoder.text_width == 12
    further = new_state(replace(config, start=str(path)))
    assert further.model.prompt_encoder.text_width == 12


def test_weights_of_another_clip_and_crops_without_a_large_object_are_refused(config: Config) -> None:
    model = build_nano(SMALL)
    model.prompt_encoder.add_text(7)
    save_model(model, config.folder / "other.safetensors")
    with pytest.raises(
        InputError, match="learnt from a CLIP with embeddings of 7 numbers; those of clip have 12"
    ):
        new_state(replace(config, start="other.safetensors"))
    with pytest.raises(InputError, match="Hardly an object covers 100000 pixels of a crop"):
        sampler(replace(config, text_area=100_000, batch=1)).batch(0)


def test_a_state_of_before_there_were_texts_goes_on(config: Config, tmp_path: Path) -> None:
    plain = replace(config, text="", text_share=0.75, text_area=625)
    state = new_state(plain)
    state.save(tmp_path / "state.pt", plain)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for key in ("text", "text_share", "text_area", "recolour", "shown"):
        del saved["config"][key]
    torch.save(saved, tmp_path / "state.pt")
    state.load(tmp_path / "state.pt", plain)
    with pytest.raises(InputError, match="trained with another 'text'"):
        state.load(tmp_path / "state.pt", config)


def test_sams_own_architecture_learns_text_too(config: Config) -> None:
    save_model(small_sam(), config.folder / "sam.safetensors")
    config = replace(config, start="sam.safetensors")
    state = new_state(config)
    loss, _ = forward(state.model, sampler(config).batch(0), 2, np.random.default_rng(0))
    loss.backward()
    assert state.model.prompt_encoder.text_projection.weight.grad.abs().sum() > 0
    with pytest.raises(
        InputError, match=r"sam.safetensors looks at 64 x 64 pixels, no more and no less: set crop = 64"
    ):
        new_state(replace(config, crop=32))


def test_targets_at_half_the_size_keep_shares_and_weights() -> None:
    masks = torch.zeros(1, 8, 8)
    masks[0, 2:4, 2:7] = 1
    targets = Targets(masks, pixel_weights(masks, torch.ones_like(masks)), torch.tensor([True]))
    half = targets.at(4)
    assert half.masks[0, 1].tolist() == [0, 1, 1, 0.5]
    assert half.weights.sum() == pytest.approx(1)
    assert targets.at(8) is targets
