"""Write labels, maps and overlays: to a temporary name next to the output, then moved into place.

An output is refused, not overwritten, unless that is asked for; and even then a folder is only replaced if
it is an OME-Zarr that we have written, so that a slip of the pen cannot delete somebody's pictures.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.image_label import ImageLabelAttrs
from ome_zarr_models.v05.image_label_types import Label, Source
from ome_zarr_models.v05.multiscales import Dataset, Multiscale
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from napari_samscape.errors import InputError
from napari_samscape.io.image import Image

LABEL_ENDINGS = (".zarr", ".tif", ".tiff", ".png")
CHUNK = 1024
# The pyramid ends where a level fits into half a chunk.
COARSEST = CHUNK // 2
# An overlay is to be looked at: larger pictures are shown at a fraction of their size.
OVERLAY_SIDE = 4096
ATTRIBUTE = "samscape"


def check_output(
    path: str | os.PathLike[str],
    *,
    endings: tuple[str, ...] = LABEL_ENDINGS,
    source: Image | None = None,
    overwrite: bool = False,
) -> Path:
    """Say, before any work is done, whether a result may be written to a path.

    Parameters
    ----------
    path : path
        The output.
    endings : tuple of str
        What its name may end in.
    source : Image, optional
        The picture that is read; the output must not lie inside it nor replace it.
    overwrite : bool
        Whether an output that exists may be replaced.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    InputError
        If the ending is unknown, the output exists, its folder is missing or cannot be written, or the
        output would touch the picture.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise InputError(
            f"The output {path} must end in {', '.join(endings[:-1])} or {endings[-1]}."
            if len(endings) > 1
            else f"The output {path} must end in {endings[0]}."
        )
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"The output folder {folder} does not exist.")
    if source is not None and source.path is not None:
        _check_apart(path, source.path)
    if path.exists() or path.is_symlink():
        if not overwrite:
            raise InputError(
                f"The output {path} exists already; add --overwrite (overwrite=True) to replace it."
            )
        if path.is_dir() and not _is_ours(path):
            raise InputError(
                f"The output {path} is a folder that holds no labels of ours; it is not replaced."
            )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The output folder {folder} cannot be written.")
    return path


def write_labels(
    path: str | os.PathLike[str],
    labels: NDArray[np.integer[Any]],
    *,
    like: Image | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a label image; the ending of the name says as what.

    Parameters
    ----------
    path : path
        ``.zarr`` (better ``.ome.zarr``): an OME-Zarr 0.5 label image with a pyramid. ``.tif``, ``.tiff``:
        a compressed TIFF, uint16 or, beyond 65535 objects, uint32. ``.png``: 16 bits, one plane.
    labels : ndarray of int, shape ([t,] [z,] y, x)
        0 is background.
    like : Image, optional
        The picture they belong to: axes, pixel sizes and units are taken from it.
    about : mapping, optional
        How they were made, of plain JSON values; kept inside the file under "samscape".
    overwrite : bool
        Whether an output that exists is replaced.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    InputError
        As `check_output`; or if the labels do not fit the picture or the format.

    Examples
    --------
    >>> write_labels("cells_labels.ome.zarr", labels, like=open_image("cells.tif"))  # doctest: +SKIP
    """
    labels = np.asarray(labels)
    like = like or Image((labels,), "tzyx"[-labels.ndim :])
    if labels.shape != like.label_shape or labels.dtype.kind not in "iu":
        raise InputError(
            f"The labels, {labels.dtype} of shape {labels.shape}, do not fit {like}; "
            f"integers of shape {like.label_shape} would."
        )
    path = check_output(path, source=like, overwrite=overwrite)
    with replacing(path, overwrite) as temporary:
        if path.suffix.lower() == ".zarr":
            _write_zarr(temporary, labels, like, about or {})
        elif path.suffix.lower() == ".png":
            _write_png(temporary, labels, about or {})
        else:
            _write_tiff(temporary, labels, like, about or {})
    return path


def write_map(
    path: str | os.PathLike[str],
    values: NDArray[np.floating[Any]],
    *,
    like: Image | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a map of numbers from 0 to 1, such as edges; the ending of the name says as what.

    Parameters
    ----------
    path : path
        ``.zarr`` (better ``.ome.zarr``): an OME-Zarr 0.5 image of float32 with a pyramid, in which a pixel is
        the highest of those it stands for, so that thin lines do not vanish. ``.tif``, ``.tiff``: a
        compressed TIFF of float32. ``.png``: 16 bits, where 65535 is 1, one plane.
    values : ndarray of float, shape ([t,] [z,] y, x)
    like, about, overwrite
        As in `write_labels`.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    InputError
        As `check_output`; or if the map does not fit the picture or the format, or a value is not in 0..1.
    """
    values = np.asarray(values)
    like = like or Image((values,), "tzyx"[-values.ndim :])
    if values.shape != like.label_shape or values.dtype.kind != "f":
        raise InputError(
            f"The map, {values.dtype} of shape {values.shape}, does not fit {like}; "
            f"real numbers of shape {like.label_shape} would."
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("A map must hold numbers from 0 to 1; this holds others.")
    values = values.astype(np.float32, copy=False)
    path = check_output(path, source=like, overwrite=overwrite)
    with replacing(path, overwrite) as temporary:
        if path.suffix.lower() == ".zarr":
            _write_zarr(temporary, values, like, about or {})
        elif path.suffix.lower() == ".png":
            _write_png(temporary, (values * 65535).round().astype(np.uint16), about or {})
        else:
            _write_tiff(temporary, values, like, about or {})
    return path


def write_overlay(
    path: str | os.PathLike[str],
    rgb: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a PNG of the picture with its objects tinted and outlined, each in a colour of its own.

    Parameters
    ----------
    path : path
        The output, ending in ``.png``.
    rgb : ndarray of uint8, shape (y, x, 3)
        The picture as it is to be seen.
    labels : ndarray of int, shape (y, x)
        0 is background.
    overwrite : bool
        Whether an output that exists is replaced.

    Returns
    -------
    Path
        The path written. Sides longer than 4096 pixels are shown at a fraction of their size.

    Raises
    ------
    InputError
        As `check_output`; or if the labels do not fit the picture.
    """
    from skimage.color import label2rgb
    from skimage.segmentation import find_boundaries

    if rgb.shape != (*labels.shape, 3):
        raise InputError(f"The labels of shape {labels.shape} do not fit a picture of shape {rgb.shape}.")
    path = check_output(path, endings=(".png",), overwrite=overwrite)
    step = -(-max(labels.shape) // OVERLAY_SIDE)
    rgb, labels = rgb[::step, ::step], labels[::step, ::step]
    tinted = label2rgb(labels, rgb, alpha=0.35, bg_label=0, bg_color=None, saturation=1)
    outlines = find_boundaries(labels, mode="inner")
    tinted[outlines] = label2rgb(labels, bg_label=0)[outlines]
    with replacing(path, overwrite) as temporary:
        pillow.fromarray((tinted * 255).round().astype(np.uint8)).save(temporary)
    return path


def _write_zarr(path: Path, pixels: NDArray[Any], like: Image, about: Mapping[str, Any]) -> None:
    """Whole numbers are labels, others a map; only labels keep their pixel 0 in place from level to level."""
    axes, steps, are_labels = like.label_axes, [1], pixels.dtype.kind != "f"
    while max(pixels.shape[-2:]) / steps[-1] > COARSEST:
        steps.append(2 * steps[-1])
    datasets = []
    for level, step in enumerate(steps):
        shrunk = [step if axis in "yx" else 1 for axis in axes]
        scale = [size * by for size, by in zip(like.label_scale, shrunk, strict=True)]
        # The middle of the pixels that one stands for.
        shift = [size * (by - 1) / 2 for size, by in zip(like.label_scale, shrunk, strict=True)]
        moved = None if are_labels or step == 1 else shift
        datasets.append(Dataset.build(path=str(level), scale=scale, translation=moved))
    multiscale = Multiscale(
        axes=[
            Axis(name=axis, type="time" if axis == "t" else "space", unit=unit)
            for axis, unit in zip(axes, like.label_units, strict=True)
        ],
        datasets=tuple(datasets),
        name=like.name,
        type="nearest" if are_labels else "max",
    )
    attributes: ImageAttrs | ImageLabelAttrs = ImageAttrs(version="0.5", multiscales=[multiscale])
    if are_labels:
        source = None
        if like.path is not None and like.path.is_dir():
            source = Source(image=os.path.relpath(like.path, path.parent.parent / path.name))
        label = {"image-label": Label(version="0.5", source=source)}
        attributes = ImageLabelAttrs(version="0.5", **label, multiscales=[multiscale])
    ome = attributes.model_dump(mode="json", by_alias=True, exclude_none=True)
    group = zarr.open_group(path, mode="w-", zarr_format=3, attributes={"ome": ome, ATTRIBUTE: dict(about)})
    for level in range(len(steps)):
        if level:
            pixels = pixels[..., ::2, ::2] if are_labels else _highest(pixels)
        chunks = (1,) * (pixels.ndim - 2) + tuple(min(CHUNK, size) for size in pixels.shape[-2:])
        array = group.create_array(
            str(level), shape=pixels.shape, dtype=pixels.dtype, chunks=chunks, dimension_names=tuple(axes)
        )
        array[...] = pixels


def _highest(pixels: NDArray[Any]) -> NDArray[Any]:
    """The highest of each 2 x 2 pixels; at an odd end, of fewer."""
    rows = np.maximum.reduceat(pixels, np.arange(0, pixels.shape[-2], 2), axis=-2)
    columns: NDArray[Any] = np.maximum.reduceat(rows, np.arange(0, pixels.shape[-1], 2), axis=-1)
    return columns


def _write_tiff(path: Path, pixels: NDArray[Any], like: Image, about: Mapping[str, Any]) -> None:
    if pixels.dtype.kind != "f":
        small = int(pixels.max()) <= np.iinfo(np.uint16).max
        pixels = pixels.astype(np.uint16 if small else np.uint32)
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack",
        compression="zlib",
        # Kept readable without OME's XML: tifffile writes this as JSON into the description.
        metadata={"axes": like.label_axes.upper(), "scale": like.label_scale, ATTRIBUTE: dict(about)},
        ome=False,
    )


def _write_png(path: Path, labels: NDArray[Any], about: Mapping[str, Any]) -> None:
    plane = labels.reshape(labels.shape[-2:]) if labels[..., 0, 0].size == 1 else None
    if plane is None or int(labels.max()) > np.iinfo(np.uint16).max:
        raise InputError(
            f"A PNG holds one plane of at most 65535 objects; for {labels.shape} with {labels.max()} "
            "use .ome.zarr or .tif."
        )
    notes = PngInfo()
    notes.add_text(ATTRIBUTE, json.dumps(dict(about)))
    pillow.fromarray(plane.astype(np.uint16)).save(path, format="PNG", pnginfo=notes)


@contextlib.contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a temporary path next to the output and move what was written there into place at the end.

    Whatever happens in between, nothing half-written is left behind, and the old output stays until the
    new one is complete.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise InputError(f"The output folder {path.parent} cannot be written: {error.strerror}.") from error
    temporary, old = folder / path.name, folder / "replaced"
    try:
        yield temporary
        check_output(path, endings=(path.suffix.lower(),), overwrite=overwrite)
        if path.is_dir():
            path.rename(old)
        try:
            temporary.replace(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as error:
        raise InputError(f"The output {path} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_apart(output: Path, source: Path) -> None:
    written, read = output.resolve(), source.resolve()
    if written == read:
        raise InputError(f"The output {output} is the picture itself; choose another name.")
    if read in written.parents:
        raise InputError(f"The output {output} lies inside the picture {source}; choose a place outside it.")
    if written in read.parents:
        raise InputError(f"The picture {source} lies inside the output {output}; choose another place.")


def _is_ours(path: Path) -> bool:
    try:
        attributes: Any = zarr.open_group(path, mode="r", zarr_format=3).attrs.asdict()
    except Exception:  # whatever it is, we have not written it
        return False
    return "image-label" in attributes.get("ome", {}) or ATTRIBUTE in attributes
