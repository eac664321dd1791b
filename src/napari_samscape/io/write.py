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
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from napari_samscape.errors import InputError
from napari_samscape.io.image import Image
from napari_samscape.io.place import check_output, make_place, name_in_place
from napari_samscape.io.pyramid import ATTRIBUTE, Pyramid

# An overlay is to be looked at: larger pictures are shown at a fraction of their size.
OVERLAY_SIDE = 4096


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
    make_place(path, like)
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
    make_place(path, like)
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
    pyramid = Pyramid.create(path, like, pixels.dtype)
    pyramid.tell(about)
    pyramid.levels[0][...] = pixels
    for step in pyramid.steps():
        step()


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
    temporary = folder / path.name
    try:
        yield temporary
        move_into_place(temporary, path, overwrite)
    except OSError as error:
        raise InputError(f"The output {path} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(temporary: Path, path: Path, overwrite: bool = False) -> None:
    """Give a complete output its name; one that is replaced stays until then.

    Parameters
    ----------
    temporary : Path
        In a folder of its own, on the same disk.
    path : Path
        The output.
    overwrite : bool
        Whether an output that exists is replaced.

    Raises
    ------
    InputError
        As `check_output`.
    OSError
        If it cannot be moved.
    """
    check_output(path, endings=(path.suffix.lower(),), overwrite=overwrite)
    old = temporary.parent / "replaced"
    if path.is_dir():
        path.rename(old)
    try:
        temporary.replace(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    name_in_place(path)


def read_about(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read what an output says of how it was made.

    Parameters
    ----------
    path : path
        Of anything.

    Returns
    -------
    dict or None
        The ``about`` of `write_labels`, `write_map` or `write_objects`; None if it says nothing, or is not
        ours.
    """
    path = Path(path)
    about: Any = None
    # Whatever goes wrong, it says nothing that we can read.
    with contextlib.suppress(Exception):
        if path.is_dir():
            about = zarr.open_group(path, mode="r", zarr_format=3).attrs.asdict()[ATTRIBUTE]
        elif path.suffix.lower() == ".png":
            with pillow.open(path, formats=["PNG"]) as picture:
                about = json.loads(picture.info[ATTRIBUTE])
        elif path.suffix.lower() in (".json", ".geojson"):
            content = json.loads(path.read_text(encoding="utf-8"))
            about = content.get("info", content)[ATTRIBUTE]
        elif path.is_file():
            with tifffile.TiffFile(path) as file:
                about = (file.shaped_metadata or ({},))[0].get(ATTRIBUTE)
    return about if isinstance(about, dict) else None
