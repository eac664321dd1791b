"""Where an output may go: not over what is there, not into its own picture, unless as one of its labels."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import zarr

from napari_samscape.errors import InputError
from napari_samscape.io.image import Image
from napari_samscape.io.pyramid import ATTRIBUTE

LABEL_ENDINGS = (".zarr", ".tif", ".tiff", ".png")
# The group inside an OME-Zarr image in which its label images are.
LABELS = "labels"


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
        The picture that is read; the output must not replace it, nor lie inside it, unless that is an
        OME-Zarr 0.5 image and the output one of its ``labels``.
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
    if source is not None and source.path is not None and _is_label_place(path, source.path):
        folder = folder if folder.exists() else source.path  # it is made when there is something to put there
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


def make_place(path: Path, source: Image) -> None:
    """Make the group of labels inside the picture, where the output is one of them and there are none yet."""
    if source.path is not None and _is_label_place(path, source.path) and not path.parent.exists():
        about: Any = {"ome": {"version": "0.5", LABELS: []}}
        try:
            zarr.open_group(path.parent, mode="a", zarr_format=3, attributes=about)
        except OSError as error:
            raise InputError(f"The output folder {path.parent} cannot be made: {error.strerror}.") from error


def name_in_place(path: Path) -> None:
    """Name an output among the labels of the image inside which it is, if it is inside one."""
    if _is_label_place(path, path.parent.parent):
        group = zarr.open_group(path.parent, mode="a", zarr_format=3)  # a plain folder becomes one
        known: Any = group.attrs.asdict().get("ome", {})
        names = [name for name in known.get(LABELS, []) if name != path.name]
        group.attrs["ome"] = known | {LABELS: [*names, path.name]}


def _is_label_place(path: Path, image: Path) -> bool:
    """Whether a Zarr is, or would be, one of the labels inside an OME-Zarr 0.5 image, where NGFF has them."""
    if path.suffix.lower() != ".zarr" or path.parent.resolve() != (image / LABELS).resolve():
        return False
    with contextlib.suppress(OSError, ValueError):
        about = json.loads((image / "zarr.json").read_text())
        return "multiscales" in about.get("attributes", {}).get("ome", {})
    return False


def _check_apart(output: Path, source: Path) -> None:
    written, read = output.resolve(), source.resolve()
    if written == read:
        raise InputError(f"The output {output} is the picture itself; choose another name.")
    if read in written.parents and not _is_label_place(output, source):
        raise InputError(
            f"The output {output} lies inside the picture {source}; choose a place outside it, or, of an "
            f"OME-Zarr 0.5 image, {source / LABELS / 'NAME.zarr'}."
        )
    if written in read.parents:
        raise InputError(f"The picture {source} lies inside the output {output}; choose another place.")


def _is_ours(path: Path) -> bool:
    try:
        attributes: Any = zarr.open_group(path, mode="r", zarr_format=3).attrs.asdict()
    except Exception:  # whatever it is, we have not written it
        return False
    return "image-label" in attributes.get("ome", {}) or ATTRIBUTE in attributes
