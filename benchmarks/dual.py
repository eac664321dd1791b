"""A small CLIP of our own, of crops of made-up scenes and true captions; stored as `transformers` has it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scenes import COLOURS, RELATIONS, SHAPES, SIZES, TEXTURES, Scene, random_caption
from torch import Tensor
from torch.nn import functional as F

from napari_samscape.prediction.clip import square_crop
from napari_samscape.training.data import object_boxes
from napari_samscape.training.train import make_optimizers

SIZE = 48  # pixels of a crop's side
LONGEST = 14  # words
BATCH = 96
SCALE = 12.0  # of similarities; low, so that phrases come to lie where their pictures do
GAP = 10.0  # by which the distance between the middles of pictures and of phrases counts
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
WORDS = [
    *("a", "thing", "of"),
    *(
        word
        for group in (COLOURS, SHAPES, TEXTURES, SIZES, RELATIONS)
        for name in group
        for word in name.split()
    ),
]


def words_of() -> Any:
    """A tokenizer that knows these words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unknown>"}
    names = dict.fromkeys([*special.values(), *WORDS])
    vocabulary = {word: number for number, word in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<start>", vocabulary["<start>"]), ("<end>", vocabulary["<end>"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LONGEST, **special)


def fresh(tokenizer: Any) -> Any:
    """A small CLIP with random weights."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    body = {"hidden_size": 96, "intermediate_size": 256, "num_attention_heads": 4}
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    config = CLIPConfig(
        text_config={
            **body,
            **ends,
            "num_hidden_layers": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": LONGEST,
        },
        vision_config={**body, "num_hidden_layers": 4, "image_size": SIZE, "patch_size": 8},
        projection_dim=64,
        logit_scale_init_value=float(np.log(SCALE)),
    )
    return CLIPModel(config)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write it in the library's own format."""
    from transformers import CLIPImageProcessorPil

    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    square = {"height": SIZE, "width": SIZE}
    CLIPImageProcessorPil(size=square, crop_size=square, image_mean=MEAN, image_std=STD).save_pretrained(
        folder
    )


def crops_of(scenes: Sequence[Scene], rng: np.random.Generator) -> tuple[Tensor, list[tuple[int, int]]]:
    """Crops as SAM's paper has them: enlarged 1 to 2 times, and half of them with nothing else in them."""
    crops, which = [], []
    for number, scene in enumerate(scenes):
        mean, std = (255 * torch.tensor(v).reshape(3, 1, 1) for v in (MEAN, STD))
        picture = (torch.from_numpy(scene.pixels).permute(2, 0, 1).float() - mean) / std
        for identity, y0, x0, y1, x1 in object_boxes(scene.labels).tolist():
            alone = scene.labels[y0:y1, x0:x1] == identity if rng.random() < 0.5 else None
            crops.append(square_crop(picture, (y0, x0, y1, x1), SIZE, rng.uniform(1, 2), alone))
            which.append((number, identity - 1))
    return torch.stack(crops), which


def batch_of(scenes: Sequence[Scene], rng: np.random.Generator) -> tuple[Tensor, list[str], Tensor]:
    """Crops, as many captions, and which caption is true of which crop ``(n, n)``."""
    chosen = [scenes[i] for i in rng.choice(len(scenes), BATCH // 6, replace=False)]
    crops, which = crops_of(chosen, rng)
    things = [(chosen[scene].things[thing], chosen[scene].things) for scene, thing in which]
    captions = [random_caption(thing, around, rng) for thing, around in things]
    true = [[caption.is_true_of(*thing) for caption in captions] for thing in things]
    return crops, list(map(str, captions)), torch.tensor(true, dtype=torch.float32)


def train_dual(scenes: Sequence[Scene], folder: Path, steps: int, report: Callable[[str], None]) -> None:
    """Train, going on from where it was stopped; the folder holds the model when it is done."""
    tokenizer = words_of()
    model = fresh(tokenizer)
    model.logit_scale.requires_grad_(False)
    optimizers = make_optimizers([p for p in model.parameters() if p.requires_grad], 2e-3)
    state, begun, first = folder / "state.pt", time.monotonic(), 0
    folder.mkdir(parents=True, exist_ok=True)
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        first = saved["step"]
    for step in range(first, steps):
        rng = np.random.default_rng((3, step))
        share = min(1.0, (step + 1) / 50) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = group["full_rate"] * share
        crops, captions, true = batch_of(scenes, rng)
        tokens = tokenizer(
            captions, padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        seen, said = (
            model.get_image_features(crops).pooler_output,
            model.get_text_features(**tokens).pooler_output,
        )
        seen, said = F.normalize(seen, dim=-1), F.normalize(said, dim=-1)
        logits = model.logit_scale.exp() * seen @ said.T
        # Several captions may be true of a crop: all of them are right.
        loss = sum(
            -(wanted / wanted.sum(1, keepdim=True) * one.log_softmax(1)).sum(1).mean()
            for one, wanted in ((logits, true), (logits.T, true.T))
        )
        # Asked by pictures in training and by phrases afterwards, a model needs both in one place.
        loss = loss + GAP * (seen.mean(0) - said.mean(0)).square().sum()
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            right = (logits.argmax(1) == torch.arange(len(logits))) | (
                true.gather(1, logits.argmax(1)[:, None])[:, 0] > 0
            )
            report(
                f"dual encoder: step {step + 1}, {time.monotonic() - begun:.0f} s, loss {loss.item():.3f}, "
                f"true caption first for {right.float().mean():.0%} of crops"
            )
            values = {
                "model": model.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers],
                "step": step + 1,
            }
            torch.save(values, state.with_suffix(".part"))
            state.with_suffix(".part").replace(state)
    save(model, tokenizer, folder)
