"""Text to mask without a download: a small CLIP and a small model, trained here on made-up scenes and measured.

As in SAM's paper (section 7.5, appendix D.5): the model learns to find objects by a CLIP's embedding of their
pictures, and is asked by its embedding of a phrase. Whatever was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from dual import train_dual
from PIL import Image
from scenes import Scene, scenes

from napari_samscape.model.config import DecoderConfig
from napari_samscape.model.nano import NanoConfig
from napari_samscape.model.sam import build_nano
from napari_samscape.model.weights import save_model
from napari_samscape.training.train import Config, Source, train

HERE = Path(__file__).resolve().parent
SHOWN = 192  # pixels: as large as the scenes are
SMALL = NanoConfig(
    widths=(16, 24, 48, 96),
    depths=(1, 1, 2, 1),
    fine=(24, 16, 8),
    decoder=DecoderConfig(width=64, heads=4, hidden=256, inner=64, depth=2, iou_hidden=64),
)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def write_zip(path: Path, made: Sequence[Scene]) -> None:
    """Write scenes as a data set that ``samscape train`` reads."""
    with zipfile.ZipFile(path.with_suffix(".part"), "w") as archive:
        archive.writestr("index.json", json.dumps([{"name": str(i)} for i in range(len(made))]))
        for number, scene in enumerate(made):
            for folder, array in (("images", scene.pixels), ("labels", scene.labels)):
                buffer = io.BytesIO()
                Image.fromarray(array).save(buffer, "png")
                archive.writestr(f"{folder}/{number}.png", buffer.getvalue())
    path.with_suffix(".part").replace(path)


def configured(work: Path, minutes: float, text: bool) -> Config:
    """What is trained: first by clicks, then by text as well."""
    common = Config(
        sources=(Source("scenes.zip"),),
        minutes=minutes,
        batch=6,
        crop=SHOWN,
        shown=SHOWN,
        objects=6,
        rate=3e-3,
        corrected=0.25,
        recolour=False,
        threads=1,
        device="cpu",
        folder=work,
    )
    from dataclasses import replace

    if not text:
        return replace(common, out="clicks", start="fresh.safetensors")
    parts = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    start = "clicks/nano.safetensors"
    return replace(common, out="words", start=start, text="clip", text_area=80, text_share=0.85, parts=parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=1000, help="of the dual encoder")
    parser.add_argument("--clicks", type=float, default=10, help="minutes of training by clicks")
    parser.add_argument("--words", type=float, default=20, help="minutes of training by text")
    parser.add_argument("--stages", nargs="+", default=["clip", "clicks", "words", "measure"])
    parser.add_argument("--work", type=Path, default=HERE.parent / ".benchmarks" / "text")
    parser.add_argument("--out", type=Path, default=HERE / "TEXT.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    made = list(scenes(options.scenes))
    if not (work / "scenes.zip").exists():
        write_zip(work / "scenes.zip", made)
    if not (work / "fresh.safetensors").exists():
        torch.manual_seed(0)
        save_model(build_nano(SMALL), work / "fresh.safetensors")
    if "clip" in options.stages:
        train_dual(made, work / "clip", options.steps, say)
    if "clicks" in options.stages:
        train(configured(work, options.clicks, text=False), say)
    if "words" in options.stages:
        train(configured(work, options.words, text=True), say)


if __name__ == "__main__":
    main()
