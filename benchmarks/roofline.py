"""How much arithmetic a picture and a prompt take, and how much of this machine's matrix rate is reached.

    python benchmarks/roofline.py [--models nano vit_b] [--threads 2] [--write]

Prints a table; --write puts it into docs/performance.md. vit_b has random weights, which take as long.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from compare_reference import DECODER, VIT_B  # beside this file, as the next ones
from sections import origin
from speed import discs, median_ms
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_samscape import embed, load_model
from napari_samscape.model.image_encoder import ImageEncoder
from napari_samscape.model.mask_decoder import MaskDecoder
from napari_samscape.model.prompt_encoder import PromptEncoder
from napari_samscape.model.sam import Sam
from napari_samscape.prediction.predict import decode_points
from napari_samscape.scaling.pieces import written_whole

if TYPE_CHECKING:
    from napari_samscape.prediction.types import Embedding

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- roofline.py writes from here -->", "<!-- to here -->"
MATRIX = 2048  # rows and columns of the matrices that are multiplied
BATCHES = (1, 16, 64)  # prompts decoded at once
HEAD = ("model", "what", "GFLOP", "ms", "GFLOP/s", "of the matrix rate")


def matrix_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of multiplying large matrices."""
    one, two = (torch.rand(MATRIX, MATRIX).to(dtype) for _ in range(2))
    return 2 * MATRIX**3 / median_ms(lambda: one @ two, 5) / 1e6


def gflop(work: Callable[[], Any]) -> float:
    """Floating-point operations of matrix products, convolutions and attention."""
    # Attention in steps, since what is done in one is not counted everywhere.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def model_named(name: str) -> Sam:
    """A known model; SAM's ViT-B with random weights."""
    if name != "vit_b":
        return load_model(name, device="cpu")
    torch.manual_seed(0)
    prompts = PromptEncoder(DECODER.width, VIT_B.image_size, VIT_B.image_size // VIT_B.patch_size)
    return Sam(ImageEncoder(VIT_B), prompts, MaskDecoder(DECODER), pad=VIT_B.image_size).eval()


def rows(name: str, rate: float, runs: int) -> Iterator[tuple[str, ...]]:
    """What the encoder does for a picture, and the decoder for a prompt."""
    model = model_named(name)
    side = model.image_size
    pixels, points = discs(side)
    yield _row(name, f"picture, {side} x {side}", lambda: embed(model, pixels), 1, (rate, runs))
    embedding = embed(model, pixels)
    for batch in BATCHES:
        work = _decoding(model, embedding, points[:batch])
        yield _row(name, f"prompt, in batches of {batch}", work, batch, (rate, runs))


def _decoding(model: Sam, embedding: Embedding, points: Any) -> Callable[[], Any]:
    return lambda: decode_points(model, embedding, points)


def _row(
    name: str, what: str, work: Callable[[], Any], times: int, how: tuple[float, int]
) -> tuple[str, ...]:
    print(f"{name}: {what}", file=sys.stderr, flush=True)
    rate, runs = how
    amount, taken = gflop(work) / times, median_ms(work, runs) / times
    reached = 1000 * amount / taken
    return name, what, f"{amount:.2f}", f"{taken:.1f}", f"{reached:.0f}", f"{100 * reached / rate:.0f} %"


def main() -> None:
    """Measure, print, and write where asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["nano", "vit_b"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rates = {kind: matrix_rate(kind) for kind in (torch.float32, torch.bfloat16)}
    told = ", ".join(f"{rate:.0f} GFLOP/s in {str(kind)[6:]}" for kind, rate in rates.items())
    cells = [row for name in options.models for row in rows(name, rates[torch.float32], options.runs)]
    marks = ("---",) * 2 + ("---:",) * 4
    lines = [
        f"- {origin(' '.join(['python benchmarks/roofline.py', *sys.argv[1:]]))}",
        f"- Matrices of {MATRIX} x {MATRIX} are multiplied at {told}",
        "",
        *("| " + " | ".join(line) + " |" for line in (HEAD, marks, *cells)),
    ]
    print("\n".join(lines))
    if options.write:
        page = PAGE.read_text()
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        with written_whole(PAGE) as file:
            file.write("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]).encode())


if __name__ == "__main__":
    main()
