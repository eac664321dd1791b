"""Small objects are decoded in a window of the embedding instead of on all of it.

The time of decoding grows with the cells looked at, and most objects need few of them. `nano` learnt from
crops of 256 pixels, wherever they lay in a picture; a window shows its decoder what such a crop does. Where
an answer comes near the window's edge there may be more of the object behind it, so that prompt is asked
again on the whole grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_samscape.model.nano import STRIDE
from napari_samscape.model.prompt_encoder import PADDING

if TYPE_CHECKING:
    from napari_samscape.model.sam import Encoded, PromptTensors

CELLS = 16  # a window's side; 256 pixels, as the crops that nano learnt from
WORTH = 1.5  # grids of fewer windows than this are decoded whole
LARGEST = 0.6  # of the window's side, that a prompt may span
MARGIN = 1  # cells along a window's edge that no mask may reach
CELLS_AT_ONCE = 8 * CELLS**2  # of all prompts decoded together on a CPU; more do not stay in its cache
FINE = 8  # mask cells along a cell of the embedding
OUTSIDE = -20.0  # the logit of what lies outside of a window

Decode = Callable[["Encoded", "PromptTensors", slice, Tensor | None], tuple[Tensor, Tensor]]
Size = tuple[int, int]  # (h, w) in cells
Corner = tuple[int, int]  # (x, y) in cells, where a window begins


def is_worth_it(encoded: Encoded) -> bool:
    """Whether this is one picture as `nano` sees it, clearly larger than a window."""
    b, _, h, w = encoded.features.shape
    return encoded.dense is not None and b == 1 and h * w >= WORTH * min(CELLS, h) * min(CELLS, w)


def decode_in_windows(
    decode: Decode, encoded: Encoded, prompt: PromptTensors, which: slice
) -> tuple[Tensor, Tensor]:
    """Answer every prompt in a window if it fits into one, else on the whole grid.

    Parameters
    ----------
    decode : callable
        `Sam.decode_whole`.
    encoded : Encoded
        Of one picture, with skips and dense maps as `nano` makes them.
    prompt : PromptTensors
        b prompts, at least one.
    which : slice
        As for ``decode``.

    Returns
    -------
    logits : Tensor, shape (b, n, h, w)
        Of the whole picture; `OUTSIDE` where a window did not look.
    iou : Tensor, shape (b, n)
    """
    h, w = encoded.features.shape[2:]
    size = (min(CELLS, h), min(CELLS, w))
    starts, fits = place_windows(prompt, (h, w))
    found: list[_Part] = []
    whole = [index for index, fit in enumerate(fits) if not fit]
    device = encoded.features.device
    for indices in _portions([index for index, fit in enumerate(fits) if fit], size, device):
        corners = [starts[index] for index in indices]
        origin = torch.tensor(corners, dtype=torch.float32, device=device)
        cut = cut_windows(encoded, corners, size)
        asked = _moved(prompt[indices], corners, origin, size)
        part = _Part(indices, corners, *decode(cut, asked, which, origin))
        found.append(part)
        whole += [indices[place] for place in reaching_edge(part.logits, corners, (h, w))]
    for indices in _portions(whole, (h, w), device):
        answers = decode(encoded, prompt[indices], which, None)
        found.append(_Part(indices, [(0, 0)] * len(indices), *answers))
    return _joined(found, len(fits), (h, w))


@dataclass(frozen=True, eq=False)
class _Part:
    """Answers to some of the prompts."""

    indices: list[int]  # which prompts
    corners: list[Corner]
    logits: Tensor
    iou: Tensor


def _portions(indices: list[int], size: Size, device: torch.device) -> Iterator[list[int]]:
    """The prompts that are decoded together, where each looks at ``size`` cells."""
    most = CELLS_AT_ONCE // (size[0] * size[1]) if device.type == "cpu" else len(indices)
    step = max(1, most)
    for first in range(0, len(indices), step):
        yield indices[first : first + step]


def place_windows(prompt: PromptTensors, grid: Size) -> tuple[list[Corner], list[bool]]:
    """Windows in whose middle the prompts lie, as far as the picture allows.

    Returns
    -------
    corners : list of (x, y)
        In cells.
    fits : list of bool
        Whether points, box and mask together span at most `LARGEST` of a window.
    """
    low, high = _extent(prompt)
    span = high - low  # negative where nothing is given
    fits = ((span >= 0) & (span <= LARGEST * CELLS * STRIDE)).all(1)
    middle = ((low + high) / 2 + 0.5) / STRIDE
    ends = low.new_tensor([max(grid[1] - CELLS, 0), max(grid[0] - CELLS, 0)])
    corners = torch.minimum((middle - CELLS / 2).nan_to_num(0).round().clamp(min=0), ends)
    return [(int(x), int(y)) for x, y in corners.tolist()], fits.tolist()


def _extent(prompt: PromptTensors) -> tuple[Tensor, Tensor]:
    """Least and greatest (x, y), ``(b, 2)`` each, in pixels, of points, box and mask."""
    places, counts = [prompt.points], [prompt.labels != PADDING]
    if prompt.boxes is not None:
        places.append(prompt.boxes.unflatten(1, (2, 2)))
        counts.append(torch.ones_like(places[-1][..., 0], dtype=torch.bool))
    if prompt.masks is not None:
        inside = prompt.masks[:, 0] > 0
        places.append(torch.stack([_ends(inside.any(1)), _ends(inside.any(2))], dim=-1))
        counts.append(inside.flatten(1).any(1, keepdim=True).expand(-1, 2))
    each, missing = torch.cat(places, 1), ~torch.cat(counts, 1)[..., None]
    return each.masked_fill(missing, torch.inf).amin(1), each.masked_fill(missing, -torch.inf).amax(1)


def _ends(inside: Tensor) -> Tensor:
    """First and last place ``(b, 2)``, in pixels, of mask cells ``(b, k)`` that are inside."""
    steps = inside.to(torch.uint8)
    last = inside.shape[1] - 1 - steps.flip(1).argmax(1)
    return (torch.stack([steps.argmax(1), last], dim=1) + 0.5) * (STRIDE / FINE) - 0.5


def cut_windows(encoded: Encoded, corners: list[Corner], size: Size) -> Encoded:
    """What was encoded of one picture, for each of b windows."""
    features, dense, *skips = (
        _cut(whole, corners, encoded.features.shape[3], size)
        for whole in (encoded.features, encoded.dense, *encoded.skips)
        if whole is not None
    )
    return replace(encoded, features=features, dense=dense, skips=tuple(skips))


def _cut(whole: Tensor, corners: list[Corner], cells: int, size: Size) -> Tensor:
    """Windows ``(b, c, k * h, k * w)`` of a map ``(1, c, H, W)`` that is k times as fine as the embedding."""
    k = whole.shape[3] // cells
    h, w = size
    parts = [whole[:, :, k * y : k * (y + h), k * x : k * (x + w)] for x, y in corners]
    if len(parts) == 1:
        return parts[0]
    # Channels last, as convolutions want them on a CPU.
    return torch.cat([part.permute(0, 2, 3, 1) for part in parts]).permute(0, 3, 1, 2)


def _moved(prompt: PromptTensors, corners: list[Corner], origin: Tensor, size: Size) -> PromptTensors:
    """Prompts as seen in windows that begin at ``corners``, which ``origin`` holds as a tensor ``(b, 2)``."""
    shift = STRIDE * origin
    boxes = None if prompt.boxes is None else prompt.boxes - shift.repeat(1, 2)
    masks = prompt.masks
    if masks is not None:
        cells = masks.shape[3] // FINE
        each = zip(masks.split(1), corners, strict=True)
        masks = torch.cat([_cut(mask, [corner], cells, size) for mask, corner in each])
    return replace(prompt, points=prompt.points - shift[:, None], boxes=boxes, masks=masks)


def reaching_edge(logits: Tensor, corners: list[Corner], grid: Size) -> list[int]:
    """Which of the answers ``(b, n, h, w)`` come near an edge of their window that is not the picture's."""
    near = FINE * MARGIN
    h, w = logits.shape[2] // FINE, logits.shape[3] // FINE
    strips = logits[..., :near], logits[..., :near, :], logits[..., -near:], logits[..., -near:, :]
    reached = torch.stack([strip.amax((1, 2, 3)) for strip in strips], dim=1) > 0
    inner = reached.new_tensor([(x > 0, y > 0, x + w < grid[1], y + h < grid[0]) for x, y in corners])
    return (reached & inner).any(1).nonzero()[:, 0].tolist()


def _joined(found: list[_Part], count: int, grid: Size) -> tuple[Tensor, Tensor]:
    """All answers in the prompts' order and at the picture's size; of two to a prompt, the later one."""
    n = found[0].iou.shape[1]
    logits = found[0].logits.new_full((count, n, FINE * grid[0], FINE * grid[1]), OUTSIDE)
    iou = found[0].iou.new_empty(count, n)
    for part in found:
        h, w = part.logits.shape[2:]
        iou[part.indices] = part.iou
        for index, (x, y), masks in zip(part.indices, part.corners, part.logits, strict=True):
            logits[index, :, FINE * y : FINE * y + h, FINE * x : FINE * x + w] = masks
    return logits, iou
