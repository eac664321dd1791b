"""Open pictures lazily: PNG, JPEG and their like, TIFF, OME-TIFF, Zarr, OME-Zarr 0.4 and 0.5, arrays.

Rows and columns are kept as the file stores them: an EXIF orientation is not applied, as napari does not
apply it either, so that a point clicked in napari names the same pixel on the command line. Palettes are
looked up; other colour models become RGB.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import tifffile
import zarr
from numpy.typing import ArrayLike
from PIL import Image as pillow
from PIL import UnidentifiedImageError

from napari_samscape.errors import InputError
from napari_samscape.io.contiguous import contiguous_tiff
from napari_samscape.io.image import AXES, Image
from napari_samscape.io.ome import open_zarr
from napari_samscape.io.remote import VanishedError, is_url, open_remote_file
from napari_samscape.io.sources import READS, guessed_axes, name_of, place_of, reason_of

# Named, because some of Pillow's readers start other programs (Ghostscript).
PICTURES = ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000"]
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What tifffile logs when a file ends before its pages do; other remarks of its are harmless.
SIGNS_OF_DAMAGE = ("invalid page offset", "corrupted file")
_pillow_lock = threading.Lock()


def open_image(
    source: str | os.PathLike[str] | ArrayLike | Image,
    *,
    axes: str | None = None,
    level: int = 0,
    channels: Sequence[int] = (),
) -> Image:
    """Open a picture without reading it, wherever its format allows that.

    Parameters
    ----------
    source : path or array_like
        A file (PNG, JPEG, ..., TIFF, OME-TIFF, BigTIFF), a folder (Zarr array, OME-Zarr 0.4 or 0.5), either
        also behind a URL (http, https, s3; a Zarr's has a ".zarr" in it), or an array (NumPy, dask, Zarr; a
        list of arrays of falling size is a pyramid, as in napari's layers).
    axes : str, optional
        One letter of "tczyx" per dimension, for sources that do not name theirs. Where left out: two
        dimensions are yx; a last one of at most five, smaller than all others, is c; what is left are
        z, then t before it, then c before that.
    level : int
        From which level of a pyramid on to see it; 0 is full resolution.
    channels : sequence of int
        Which channels to see, in this order; all where left out.

    Returns
    -------
    Image
        Lazy; pictures that Pillow reads are decoded at once.

    Raises
    ------
    InputError
        If it is missing, unreadable, no image, damaged, empty, or has unusable dimensions; or if there is no
        such level or channel.

    Examples
    --------
    >>> open_image(np.zeros((7, 64, 65), np.uint16)).sizes
    {'z': 7, 'y': 64, 'x': 65}
    """
    image = source if isinstance(source, Image) else _open(source, axes)
    image = image.at_level(level)
    return image.of_channels(channels) if channels else image


def _open(source: Any, axes: str | None) -> Image:
    if isinstance(source, str) and is_url(source):
        return _open_url(source, axes)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(Path(source), axes)
    return _open_array(source, axes)


def _open_path(path: Path, axes: str | None) -> Image:
    try:
        if path.is_dir():
            return open_zarr(path, axes)
        if not path.exists():
            raise InputError(f"There is no file {path}.")
        if not path.is_file():
            raise InputError(f"{path} is neither a file nor a folder.")
        with path.open("rb") as file:
            start = file.read(4)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be opened: {reason_of(error)}.") from error
    if not start:
        raise InputError(f"{path} is empty (0 bytes).")
    if start in TIFF_STARTS:
        return _open_tiff(path, axes)
    return _open_picture(path, axes)


def _open_url(url: str, axes: str | None) -> Image:
    if any(part.lower().endswith(".zarr") for part in urlsplit(url).path.split("/")):
        return open_zarr(url, axes)
    file = open_remote_file(url)
    start = file.read(4)
    file.seek(0)
    if start in TIFF_STARTS:
        return _open_tiff(url, axes, file)
    with file:
        return _open_picture(url, axes, file=file)


# Arrays ------------------------------------------------------------------------------------------------


def _open_array(source: Any, axes: str | None) -> Image:
    if isinstance(source, Sequence) and source and all(hasattr(level, "shape") for level in source):
        levels = tuple(source)
    elif hasattr(source, "shape") and hasattr(source, "dtype"):
        levels = (source,)
    else:
        try:
            levels = (np.asarray(source),)
        except ValueError:
            raise InputError("The picture must be a regular array; this is not.") from None
    sizes = [int(np.prod(level.shape)) for level in levels]
    if any(smaller >= larger for larger, smaller in zip(sizes, sizes[1:], strict=False)):
        raise InputError("A list of arrays must be a pyramid, each level smaller than the one before it.")
    name = getattr(source, "basename", None) or "The array"
    return Image(levels, axes or guessed_axes(levels[0].shape, str(name)), name=str(name))


# Pictures that Pillow reads ----------------------------------------------------------------------------


def _open_picture(
    path: Path | str, axes: str | None, formats: list[str] = PICTURES, file: Any = None
) -> Image:
    try:
        with _any_size(), pillow.open(file or path, formats=formats) as picture:
            picture.load()
            pixels = np.asarray(_without_palette(picture))
    except VanishedError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image of a known kind; {READS}.") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise InputError(
            f"{path} cannot be read, it may be truncated or damaged: {reason_of(error)}."
        ) from error
    return Image((pixels,), axes or "yxc"[: pixels.ndim], name=name_of(path), **place_of(path))


def _without_palette(picture: pillow.Image) -> pillow.Image:
    """Turn colour models other than grey and RGB into RGB; transparency becomes a fourth channel."""
    if picture.mode in ("LA", "La", "PA") or (picture.mode == "P" and "transparency" in picture.info):
        return picture.convert("RGBA")
    if picture.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        return picture.convert("RGB")
    return picture


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's limit on the number of pixels: large pictures are what this package is for."""
    with _pillow_lock:
        limit, pillow.MAX_IMAGE_PIXELS = pillow.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            pillow.MAX_IMAGE_PIXELS = limit


# TIFF --------------------------------------------------------------------------------------------------


def _open_tiff(path: Path | str, axes: str | None, remote: Any = None) -> Image:
    with _complaints() as complaints:
        try:
            file = tifffile.TiffFile(remote or path)
        except Exception as error:
            raise InputError(
                f"{path} cannot be read, it may be truncated or damaged: {reason_of(error)}."
            ) from error
        try:
            if not len(file.pages):
                raise ValueError("it has no pages")
            series = file.series[0]
            if file.pages.first.photometric == tifffile.PHOTOMETRIC.PALETTE and len(file.pages) == 1:
                file.close()
                if remote is not None:
                    remote.seek(0)
                return _open_picture(path, axes, ["TIFF"], remote)  # Pillow looks the colours up
            plain = contiguous_tiff(path, series, remote)
            levels: tuple[Any, ...] = (
                (plain,)
                if plain
                else tuple(
                    zarr.open_array(series.aszarr(level=number), mode="r")
                    for number in range(len(series.levels))
                )
            )
            scale, units = _tiff_scale(file)
            letters = series.axes
        except Exception as error:
            file.close()
            raise InputError(
                f"{path} cannot be read, it may be truncated or damaged: {reason_of(error)}."
            ) from error
        if plain is None:
            # The arrays read from the open file; it is closed when the last of them is gone.
            weakref.finalize(levels[0].store, file.filehandle.close)
        else:
            file.close()
    if complaints:
        raise InputError(f"{path} cannot be read, it may be truncated or damaged: {complaints[0]}.")
    axes = axes or _tiff_axes(path, letters)
    return Image(
        levels,
        axes,
        scale=tuple(scale.get(axis, 1.0) for axis in axes),
        units=tuple(units.get(axis) for axis in axes),
        name=name_of(path),
        **place_of(path),
    )


def _tiff_axes(path: Path | str, letters: str) -> str:
    """Translate tifffile's axes: samples are channels, an axis without a known meaning is z, else t."""
    axes = list(letters.replace("S", "C").lower())
    free = [axis for axis in "zt" if axis not in axes]
    for place in reversed(range(len(axes))):
        if axes[place] not in AXES and free:
            axes[place] = free.pop(0)
    if not set(axes) <= set(AXES) or len(set(axes)) < len(axes):
        raise InputError(f"{path} has axes '{letters}' that cannot be told apart.")
    return "".join(axes)


def _tiff_scale(file: tifffile.TiffFile) -> tuple[dict[str, float], dict[str, str]]:
    """Pixel sizes and units as OME-TIFF or ImageJ state them; a plain TIFF's dots per inch mean nothing."""
    if file.is_ome and file.ome_metadata:
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        keys = {
            axis: f"PhysicalSize{axis.upper()}" for axis in "zyx" if f"PhysicalSize{axis.upper()}" in pixels
        }
        return (
            {axis: float(pixels[key]) for axis, key in keys.items() if float(pixels[key]) > 0},
            {axis: _unit(str(pixels.get(f"{key}Unit", "µm"))) for axis, key in keys.items()},
        )
    if file.is_imagej and file.imagej_metadata:
        facts, scale = file.imagej_metadata, {}
        for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
            pixels_per_unit, units = (
                file.pages.first.tags[tag].value if tag in file.pages.first.tags else (0, 1)
            )
            if pixels_per_unit:
                scale[axis] = units / pixels_per_unit
        if facts.get("spacing"):
            scale["z"] = float(facts["spacing"])
        unit = facts.get("unit")
        return scale, dict.fromkeys(scale, _unit(str(unit))) if unit and unit != "pixel" else {}
    return {}, {}


def _unit(name: str) -> str:
    """The name by which OME-Zarr calls a unit of length."""
    short = {"µm": "micrometer", "um": "micrometer", "micron": "micrometer", "\\u00B5m": "micrometer"}
    return (short | {"nm": "nanometer", "mm": "millimeter", "cm": "centimeter", "m": "meter"}).get(name, name)


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile only logs when pages are missing, and keep it off the screen."""
    found: list[str] = []

    class Collector(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            text = record.getMessage()
            if record.threadName != threading.current_thread().name:
                return True
            if any(sign in text for sign in SIGNS_OF_DAMAGE):
                found.append(text.rpartition("> ")[2])
            return False

    logger, collector = logging.getLogger("tifffile"), Collector()
    logger.addFilter(collector)
    try:
        yield found
    finally:
        logger.removeFilter(collector)
