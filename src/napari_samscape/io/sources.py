"""What all readers share: names, places and reasons, and the axes of arrays that do not name theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from napari_samscape.errors import InputError
from napari_samscape.io.image import AXES

READS = "PNG, JPEG, BMP, GIF, WebP, PPM, JPEG 2000, TIFF, Zarr and OME-Zarr are read"
# Beyond this many, the last axis of an array without names is not taken for channels.
MOST_CHANNELS = 5


def guessed_axes(shape: tuple[int, ...], name: str) -> str:
    """Name the dimensions of an array that does not; the rule is in `open_image`."""
    if not 2 <= len(shape) <= 5:
        raise InputError(
            f"{name} has {len(shape)} dimension(s), its shape is {tuple(shape)}; 2 to 5 are read."
        )
    last_is_channels = len(shape) > 2 and shape[-1] <= MOST_CHANNELS and shape[-1] < min(shape[-3:-1])
    if last_is_channels:
        return "tzyxc"[5 - len(shape) :]
    return "".join(axis for axis in AXES if axis in "ctzyx"[5 - len(shape) :])


def place_of(path: Path | str) -> dict[str, Any]:
    """Where a picture lies, as `Image` has it."""
    return {"path": path} if isinstance(path, Path) else {"url": path}


def name_of(path: Path | str) -> str:
    """The file's name without its endings: 'cells' for 'cells.ome.zarr'."""
    path = path.resolve() if isinstance(path, Path) else Path(urlsplit(path).path)
    stem = Path(path.name).stem
    return stem.removesuffix(".ome") or path.name


def reason_of(error: BaseException) -> str:
    """The first line of what went wrong, without a full stop."""
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
