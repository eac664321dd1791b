"""A stand-in for a model: the objects of a picture are its bright spots. Quick, and right by construction."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from napari_samscape.errors import InputError
from napari_samscape.prediction import predict as predicting
from napari_samscape.prediction.ask import Answer
from napari_samscape.prediction.instances import instance_from_mask, instances_from_labels
from napari_samscape.prediction.types import NOTHING, Instances, Masks

MODEL = SimpleNamespace(
    name="bright", device="cpu", digest="0" * 64, image_size=1024, tile_size=1024, magnifies=1.0
)
BRIGHT = 128


def spots(*centres: tuple[int, int], shape: tuple[int, int] = (40, 60), dtype: str = "uint16") -> np.ndarray:
    """A picture with a square of 5 x 5 bright pixels around each centre."""
    pixels = np.zeros(shape, dtype)
    for y, x in centres:
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 1 if dtype == "bool" else 100
    return pixels


def everything(model, pixels, options=None, progress=None) -> Instances:
    assert model is MODEL
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    labels, count = ndimage.label(pixels.max(axis=-1) > BRIGHT)
    for number in range(count):
        if progress is not None:
            progress(number, count, "bright spots")
    return instances_from_labels(labels)


def embed(model, pixels, *, limits=None) -> np.ndarray:
    assert model is MODEL
    return ndimage.label(pixels.max(axis=-1) > BRIGHT)[0]


def predict(model, embedding, prompts, *, multimask=True) -> Masks:
    """All spots under a foreground click or in the box, but none under a background click."""
    prompts.check_inside(embedding.shape)
    ids = {embedding[tuple(np.round(point).astype(int))] for point in prompts.points[prompts.labels == 1]}
    if prompts.box is not None:
        y0, x0, y1, x1 = np.clip(prompts.box.round().astype(int), 0, None)
        ids |= set(np.unique(embedding[y0 : y1 + 1, x0 : x1 + 1]))
    ids -= {embedding[tuple(np.round(point).astype(int))] for point in prompts.points[prompts.labels == 0]}
    mask = np.isin(embedding, list(ids - {0}))
    masks = np.stack([mask, np.zeros_like(mask), np.ones_like(mask)] if multimask else [mask])
    iou = np.array([0.9, 0.1, 0.2] if multimask else [0.9], np.float32)
    return Masks(masks, iou, np.zeros((len(masks), 4, 4), np.float32))


def ask(views, prompts, *, multimask=None, look=True, place=None) -> list[Answer]:
    answers = []
    for prompt in prompts:
        click = len(prompt.points) == 1 and prompt.box is None and prompt.mask is None
        embedding = views.view(views.whole).embedding
        found = predicting.predict(views.model, embedding, prompt, multimask=click)
        items = [
            instance_from_mask(mask, predicted_iou=float(iou)) if mask.any() else NOTHING
            for mask, iou in zip(found.masks, found.iou, strict=True)
        ]
        answers.append(Answer(tuple(items), found.iou, found.logits, views.whole))
    return answers


def load_model(name="nano", device=None, precision="float32"):
    if name not in ("nano", "bright"):
        raise InputError(f"There is no model '{name}'.")
    return MODEL


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where `scaling` looks for models."""
    monkeypatch.setattr("napari_samscape.prediction.automatic.everything", everything)
    monkeypatch.setattr("napari_samscape.prediction.views.embed", embed)
    monkeypatch.setattr("napari_samscape.prediction.ask.ask", ask)
    monkeypatch.setattr("napari_samscape.prediction.predict.predict", predict)
    monkeypatch.setattr("napari_samscape.model.weights.load_model", load_model)


def contents(folder: Path) -> list[str]:
    """Names of all that lies in a folder, at any depth."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
