"""What a run shows of itself while it goes on: a log, a curve, and pictures of what it draws."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries
from torch import Tensor

from napari_samscape.model.sam import MULTI, PIXEL_MEAN, PIXEL_STD, Encoded, Sam
from napari_samscape.training.data import Picture
from napari_samscape.training.loss import true_iou
from napari_samscape.training.prompts import Asked, Batch, collate

LOG_EVERY = 50  # steps
SHOWN = 8  # crops in the picture of samples
CROPS_AT_ONCE = 8
TRUTH, ANSWER, CLICK = (0, 255, 0), (255, 0, 255), (255, 255, 0)

#: Asks something about a crop of a picture, if there is anything to ask.
Take = Callable[[Picture, np.random.Generator], Asked | None]


def encode(model: Sam, batch: Batch) -> Encoded:
    """Encode the crops; what lies outside of pictures is zero, as padding is."""
    mean, std = (batch.pixels.new_tensor(v).reshape(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return model.encode(((batch.pixels - mean) / std).nan_to_num(0.0))


def each_prompts(encoded: Encoded, index: Tensor) -> Encoded:
    """For every prompt, what was encoded of its crop."""
    dense = None if encoded.dense is None else encoded.dense[index]
    return Encoded(encoded.features[index], tuple(skip[index] for skip in encoded.skips), dense)


@torch.inference_mode()
def first_answers(model: Sam, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of three masks the one that the model itself prefers: logits ``(n, h, w)``, and true IoU ``(n,)``."""
    each = each_prompts(encode(model, batch), batch.index)
    logits, iou = model.decode(each, batch.prompt, MULTI)
    chosen = logits[torch.arange(len(logits)), iou.argmax(1)].float()
    return chosen, true_iou(chosen[:, None], batch.targets.at(chosen.shape[-1]))[:, 0]


def held_out(pictures: Sequence[Picture], take: Take, crops: int) -> list[Batch]:
    """Batches to validate on, the same in every run."""
    rng = np.random.default_rng(0)
    asked: list[Asked] = []
    with_objects = [picture for picture in pictures if len(picture.boxes)]
    for number in range(crops if with_objects else 0):
        question = take(with_objects[number % len(with_objects)], rng)
        asked += [] if question is None else [question]
    return [collate(asked[i : i + CROPS_AT_ONCE]) for i in range(0, len(asked), CROPS_AT_ONCE)]


def validate(model: Sam, batches: Sequence[Batch]) -> float:
    """Mean IoU of first prompts over all objects of the batches; NaN where there are none."""
    found = [first_answers(model, b.to(model.device))[1].cpu()[b.targets.is_object] for b in batches]
    return float(torch.cat(found).mean()) if found else float("nan")


def drawn(model: Sam, batch: Batch) -> NDArray[np.uint8]:
    """The crops of a batch in a row: one object's outline each in green, the answer's in magenta, the click.

    Returns
    -------
    ndarray of uint8, shape (s, k * s, 3)
        Of k crops.
    """
    logits, _ = first_answers(model, batch.to(model.device))
    tiles = []
    for number, pixels in enumerate(batch.pixels[:SHOWN]):
        tile = pixels.nan_to_num(0.0).permute(1, 2, 0).numpy().astype(np.uint8).copy()
        first = int((batch.index == number).nonzero()[0, 0])
        for mask, colour in ((batch.targets.masks[first] > 0.5, TRUTH), (logits[first].cpu() > 0, ANSWER)):
            step = len(tile) // len(mask)
            large = np.kron(mask.numpy(), np.ones((step, step), bool))
            tile[find_boundaries(large, mode="inner")] = colour
        (x, y), kind = batch.points[first, 0].round().int().tolist(), int(batch.labels[first, 0])
        if kind >= 0 and batch.texts is None:
            tile[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = CLICK
        tiles.append(tile)
    return np.concatenate(tiles, axis=1)


class Watch:
    """The run's log, a line of JSON every 50 steps, and the pictures drawn now and then.

    Parameters
    ----------
    out : Path
        The run's folder.
    batches : sequence of Batch
        Held out from training; may be empty.
    report : callable
        Gets a line of text now and then.
    """

    def __init__(self, out: Path, batches: Sequence[Batch], report: Callable[[str], None]) -> None:
        self.out, self.batches, self.report = out, batches, report
        self.recent: list[tuple[float, float]] = []

    def add(self, step: int, seconds: float, loss: float, iou: float) -> None:
        """Note one step's loss and IoU of first prompts."""
        self.recent.append((loss, iou))
        if step % LOG_EVERY:
            return
        mean_loss, mean_iou = (float(np.nanmean(v)) for v in zip(*self.recent, strict=True))
        self._write({"step": step, "seconds": seconds, "loss": mean_loss, "iou": mean_iou})
        self.report(f"step {step}  {seconds / 60:.1f} min  loss {mean_loss:.3f}  IoU {mean_iou:.3f}")
        self.recent.clear()

    def look(self, step: int, seconds: float, average: Sam) -> float:
        """Validate the averaged weights and draw ``samples.png`` and ``curve.png``; the validation's IoU."""
        iou = validate(average, self.batches)
        if self.batches:
            self._write({"step": step, "seconds": seconds, "validation": iou})
            self.report(f"step {step}  {seconds / 60:.1f} min  validation IoU {iou:.3f}")
            Image.fromarray(drawn(average, self.batches[0])).save(self.out / "samples.png")
        self._draw_curve()
        return iou

    def _write(self, row: dict[str, Any]) -> None:
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _draw_curve(self) -> None:
        """Write ``curve.png``, if matplotlib is here and there is something to draw."""
        with suppress(ImportError, FileNotFoundError):
            import matplotlib

            matplotlib.use("Agg")
            from matplotlib import pyplot as plt

            rows = [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]
            figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), constrained_layout=True)
            for axis, keys in zip(axes, (("loss",), ("iou", "validation")), strict=True):
                for key in keys:
                    points = [(row["seconds"] / 60, row[key]) for row in rows if key in row]
                    axis.plot([m for m, _ in points], [v for _, v in points], label=key)
                axis.set(xlabel="minutes")
                axis.legend()
            figure.savefig(self.out / "curve.png", dpi=100)
            plt.close(figure)
