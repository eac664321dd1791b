"""Time this package against the reference, segment-anything 1.0, in turns, and compare their masks.

    python benchmarks/compare_reference.py [--quick] [--json] [--runs 3] [--threads 2]

Both have the same random weights of SAM's ViT-B (time does not depend on them) and see 1024 x 1024 pixels;
with --quick a miniature of it and 256 x 256. For the agreement of masks, the reference's own generator asks
nano.

The reference gets a virtual environment of its own in the user's cache folder (or --environment), with
segment-anything and the torchvision that belongs to this environment's torch. Torch, numpy and Pillow are
this environment's, so that both sides compute with the same. The usual torchvision has a compiled part that
wants CUDA, gigabytes of it; where it does not fit, the suppression of overlapping boxes, all that is used of
it, is done by a few lines of ours, and the result says so. With --packages others are installed, torch among
them: 'segment-anything==1.0 torch==2.9.1 torchvision==0.24.1'.

The figures go into REPORT.md, but those of --quick do not. With --json the last line is JSON: speed-ups
(reference / ours, medians); everything_memory_ratio (ours / reference, peak of the whole process); and for
nano the mean IoU of matched masks, and how many there are.
The reference computes in float32. Figures of our decoder, everything-mode and masks are those with precision
bfloat16, and, where a name has fp32 in it, float32; bf16_mask_iou says how far the two agree on ViT-B.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment
from sections import Report  # beside this file

import napari_samscape
from napari_samscape.model.config import DecoderConfig, ViTConfig
from napari_samscape.model.image_encoder import ImageEncoder
from napari_samscape.model.mask_decoder import MaskDecoder
from napari_samscape.model.prompt_encoder import PromptEncoder
from napari_samscape.model.registry import cache_dir
from napari_samscape.model.sam import Sam
from napari_samscape.sample_files import sample_path

HERE = Path(__file__).resolve().parent
PACKAGE = "segment-anything==1.0"
#: Windows of 14 with global attention in every third block; mini is the same in small.
VIT_B = ViTConfig(1024, 16, width=768, heads=12, hidden=3072, windows=(14, 14, 0) * 4, out_channels=256)
MINI = ViTConfig(256, 16, width=96, heads=4, hidden=384, windows=(5, 0, 5, 0), out_channels=256)
DECODER = DecoderConfig(width=256, heads=8, hidden=2048, inner=128, depth=2, iou_hidden=256)
#: For nano in both generators; the rest as the reference has it.
NANO = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.6}
ABOUT = """`segment-anything` 1.0 and this package in turns, ViT-B with random weights, 1024 x 1024 pixels;
what each line means: [docs/performance.md](../docs/performance.md)."""
MATCHED = 0.5  # least IoU of two masks that are taken for the same


class Side:
    """A process that does one side's work."""

    def __init__(self, name: str, python: Path | str, settings: dict[str, Any], folder: Path) -> None:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(settings))
        here = Path(napari_samscape.__file__).resolve().parents[1]
        self._process = subprocess.Popen(
            [str(python), str(HERE / "compare_side.py"), name, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(here)},
        )
        self.name = name
        self.nms = self._answer()["nms"]

    def do(self, what: str) -> dict[str, Any]:
        """Have something done; gives seconds and peak_mb, and what came of it."""
        print(f"{self.name}: {what}", file=sys.stderr, flush=True)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            sys.exit(f"The side '{self.name}' failed (exit code {self._process.returncode}); see above.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def reference_python(folder: Path, packages: str | None) -> Path:
    """Python of the environment with the reference; made where it is missing."""
    numbers = torch.__version__.partition("+")[0].split(".")
    # torchvision 0.15 belongs to torch 2.0, 0.16 to 2.1, and so on.
    suits = f"torchvision==0.{int(numbers[1]) + 15}.*"
    wanted = packages.split() if packages else [PACKAGE, suits]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    note = folder / "packages.txt"
    told = f"{torch.__version__} {' '.join(wanted)}"
    if note.exists() and note.read_text() == told:
        return python
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        sys.exit(f"The folder {folder} holds something else than a virtual environment; name another one.")
    print(f"Setting up {folder} with {' and '.join(wanted)}.", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    # Without what they depend on, which is this environment's; torchvision would bring a torch of its own.
    alone = [] if packages else ["--no-deps"]
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", *alone, *wanted], stdout=sys.stderr, check=False
    )
    if done.returncode != 0:
        sys.exit(f"The reference cannot be installed: pip found no {' or '.join(wanted)} for this Python.")
    libraries = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # Last on the path, so what is installed there comes first.
    ours = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    Path(libraries, "zz_samscape.pth").write_text(ours)
    note.write_text(told)
    return python


def random_weights(vit: ViTConfig, path: Path) -> None:
    """Write weights of SAM that have learnt nothing, under the official names."""
    torch.manual_seed(0)
    grid = vit.image_size // vit.patch_size
    prompts = PromptEncoder(DECODER.width, vit.image_size, grid)
    model = Sam(ImageEncoder(vit), prompts, MaskDecoder(DECODER), pad=vit.image_size)
    torch.save(model.state_dict(), path)


def square(side: int, path: Path) -> None:
    """Write a square picture (side, side, 3) of nuclei."""
    grey = Image.open(sample_path("nuclei")).convert("L")
    cut = grey.crop((0, 0, min(grey.size), min(grey.size))).resize((side, side))
    np.save(path, np.repeat(np.asarray(cut)[..., None], 3, axis=2))


def median_seconds(tasks: Sequence[tuple[Side, str]], runs: int, warm: bool = True) -> list[float]:
    """Median time of each task; they take turns, and the first turn does not count where it warms them up."""
    taken: list[list[float]] = [[] for _ in tasks]
    for turn in range(runs + warm):
        for (side, what), times in zip(tasks, taken, strict=True):
            seconds = side.do(what)["seconds"]
            if turn >= warm:
                times.append(seconds)
    return [float(np.median(times)) for times in taken]


def speedups(ours: Side, reference: Side, what: str, runs: int) -> tuple[float, float]:
    """How much faster we are in float32, and with half the bits."""
    full, half, theirs = median_seconds([(ours, what), (ours, f"{what} half"), (reference, what)], runs)
    return theirs / full, theirs / half


def time_parts(ours: Side, reference: Side, runs: int) -> dict[str, float]:
    """Speed-ups of the encoder and the decoder."""
    encode = speedups(ours, reference, "encode", runs)
    one, batch = (speedups(ours, reference, what, 3 * runs) for what in ("decode_one", "decode_batch"))
    return {
        "encoder_fp32_speedup": encode[0],
        "encoder_bf16_speedup": encode[1],
        "decode_one_speedup": one[1],
        "decode_one_fp32_speedup": one[0],
        "decode_batch_speedup": batch[1],
        "decode_batch_fp32_speedup": batch[0],
        "bf16_mask_iou": ours.do("agreement")["value"],
    }


def time_everything(ours: Side, reference: Side, runs: int) -> dict[str, float]:
    """Speed-up of everything-mode, and memory; in processes that have done nothing else."""
    tasks = [(ours, "everything half"), (ours, "everything"), (reference, "everything")]
    done: list[list[dict[str, Any]]] = [[] for _ in tasks]
    for _ in range(runs):
        for (side, what), answers in zip(tasks, done, strict=True):
            answers.append(side.do(what))
    half, full, theirs = (float(np.median([one["seconds"] for one in answers])) for answers in done)
    peak = [max(one["peak_mb"] for one in answers) for answers in done]
    return {
        "everything_speedup": theirs / half,
        "everything_fp32_speedup": theirs / full,
        "everything_memory_ratio": peak[0] / peak[2],
        "everything_fp32_memory_ratio": peak[1] / peak[2],
    }


def compare_masks(ours: Side, reference: Side) -> dict[str, float]:
    """Numbers of masks, and the mean IoU of those that are the same objects."""
    theirs = np.load(reference.do("masks")["file"])
    figures: dict[str, float] = {"reference_masks": len(theirs)}
    for what, end in (("masks half", ""), ("masks", "_fp32")):
        found = np.load(ours.do(what)["file"])
        iou = mask_ious(theirs, found)
        matched = iou[linear_sum_assignment(iou, maximize=True)]
        matched = matched[matched >= MATCHED]
        figures[f"matched_mask_iou{end}"] = float(matched.mean()) if len(matched) else 0.0
        figures[f"our_masks{end}"] = len(found)
    return figures


def mask_ious(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of each mask (n, y, x) with each (m, y, x)."""
    first, second = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (one, two))
    shared = (first @ second.T).astype(np.float64)
    union = first.sum(1)[:, None] + second.sum(1)[None] - shared
    return shared / np.maximum(union, 1)


def measure(options: argparse.Namespace, python: Path, folder: Path) -> dict[str, Any]:
    """All figures."""
    vit = MINI if options.quick else VIT_B
    points = {"points_per_side": 8 if options.quick else 32}
    random_weights(vit, folder / "weights.pth")
    square(vit.image_size, folder / "picture.npy")
    square(512, folder / "nuclei.npy")
    sam = {
        "threads": options.threads,
        "weights": str(folder / "weights.pth"),
        "picture": str(folder / "picture.npy"),
        "vit": asdict(vit),
        "everything": points,
    }
    nano = {
        "threads": options.threads,
        "weights": "nano",
        "picture": str(folder / "nuclei.npy"),
        "vit": None,
        "everything": NANO | {"points_per_side": 16 if options.quick else 32},
    }
    figures: dict[str, Any] = {}
    for work, ours, theirs in (
        (lambda *sides: time_parts(*sides, options.runs), sam, sam),
        (lambda *sides: time_everything(*sides, options.everything_runs), sam, sam),
        (compare_masks, nano, nano),
    ):
        with (
            closing(Side("ours", sys.executable, ours, folder)) as one,
            closing(Side("reference", python, theirs, folder)) as other,
        ):
            figures |= work(one, other) | {"reference_nms": other.nms}
    about = {"model": "mini" if options.quick else "vit_b", "threads": options.threads}
    return figures | about | {"torch": torch.__version__}


def main() -> None:
    """Set up, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a miniature, to see that all works")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    parser.add_argument(
        "--runs", type=int, default=3, help="turns of the encoder; three times as many decode"
    )
    parser.add_argument("--everything-runs", type=int, default=1, help="turns of everything-mode")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of both sides")
    parser.add_argument("--environment", type=Path, default=cache_dir() / "reference-environment")
    parser.add_argument("--packages", default=None, help="what is installed there, torch among it")
    options = parser.parse_args()
    python = reference_python(options.environment, options.packages)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, python, Path(folder))
    shown = {
        name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in figures.items()
    }
    if not options.quick:
        lines = ["| what | figure |", "|---|---:|", *(f"| {name} | {text} |" for name, text in shown.items())]
        command = "python benchmarks/compare_reference.py"
        Report(HERE / "REPORT.md").put("Beside the reference", [ABOUT, "", *lines], command)
    if options.json:
        print(json.dumps(figures))
        return
    for name, text in shown.items():
        print(f"{name:28} {text}")


if __name__ == "__main__":
    main()
