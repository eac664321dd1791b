"""Tiny models of `transformers` with random weights, stored as the library stores real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_samscape.prediction.clip import Clip

WORDS = ["a", "bright", "dark", "red", "cell", "."]
SIZE = 16


def words_of(end: str = "<end>", start: str = "<start>") -> Any:
    """A tokenizer that knows a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(["<unknown>", start, *WORDS, end])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(start, ids[start]), (end, ids[end])]
    tokenizer.post_processor = processors.TemplateProcessing(f"{start} $A {end}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=end, unk_token="<unknown>"
    )


def parts(tokenizer: Any) -> dict[str, dict[str, Any]]:
    """Sizes of a tiny text and a tiny vision transformer."""
    body = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 8}
    return {
        "text_config": {**body, **ends, **text},
        "vision_config": {**body, "image_size": SIZE, "patch_size": 8},
    }


def save_clip(folder: Path, width: int = 12) -> Path:
    """A CLIP whose embeddings have ``width`` numbers."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = words_of()
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(**parts(tokenizer), projection_dim=width)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    square = {"height": SIZE, "width": SIZE}
    CLIPImageProcessorPil(size=square, crop_size=square).save_pretrained(folder)
    return folder


class BrightClip:
    """Likens 'bright' to crops that are bright in the middle, and 'dark' to those that are dark."""

    source, width, size, scale = "bright", 2, 8, 5.0

    def phrases(self, texts: list[str]) -> torch.Tensor:
        known = {"bright": (1.0, 0.0), "dark": (0.0, 1.0)}
        return torch.tensor([known.get(text, (0.7, 0.7)) for text in texts])

    def pictures(self, crops: torch.Tensor) -> torch.Tensor:
        light = crops[:, :, 3:5, 3:5].mean((1, 2, 3))
        return (
            torch.stack([light, 1 - light], dim=1)
            / torch.stack([light, 1 - light], dim=1).norm(dim=1)[:, None]
        )

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() / 255).nan_to_num(0.0)


def as_clip(clip: BrightClip) -> Clip:
    return clip  # type: ignore[return-value]


def grey(*values: int, side: int = 12) -> np.ndarray:
    """Squares of 6 x 6 pixels of these greys in a row on black, each in a field of its own."""
    picture = np.zeros((side, side * len(values), 3), np.uint8)
    for number, value in enumerate(values):
        picture[3:9, side * number + 3 : side * number + 9] = value
    return picture
