"""Open Zarr arrays, OME-Zarr images 0.4 and 0.5, and list the fields of OME-Zarr plates."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models.v04.image as ome04
import ome_zarr_models.v04.plate as plate04
import ome_zarr_models.v04.well_types as well04
import ome_zarr_models.v05.image as ome05
import ome_zarr_models.v05.plate as plate05
import ome_zarr_models.v05.well_types as well05
import zarr
from pydantic import ValidationError

from napari_samscape.errors import InputError
from napari_samscape.io.image import AXES, Image
from napari_samscape.io.remote import is_url, remote_store
from napari_samscape.io.sources import READS, guessed_axes, name_of, place_of, reason_of


def open_zarr(path: Path | str, axes: str | None) -> Image:
    """Open an array, or the first image of an OME-Zarr group; see `napari_samscape.io.open_image`."""
    try:
        node = zarr.open(path if isinstance(path, Path) else remote_store(path), mode="r")
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"The folder {path} is no Zarr store; {READS}.") from error
    except Exception as error:
        raise InputError(f"{path} is a damaged Zarr store: {reason_of(error)}.") from error
    if isinstance(node, zarr.Array):
        names = getattr(node.metadata, "dimension_names", None) or ()
        named = "".join(name or "?" for name in names)
        axes = axes or (named if named and set(named) <= set(AXES) else guessed_axes(node.shape, str(path)))
        return Image((node,), axes, name=name_of(path), **place_of(path))
    return _open_ome_zarr(path, node)


def _open_ome_zarr(path: Path | str, group: zarr.Group) -> Image:
    """Open the first multiscale of an OME-Zarr group.

    Only the group's own metadata are validated: labels and tables next to the picture may be what they like.
    """
    attributes: Any = group.attrs.asdict()
    version = ome05 if "ome" in attributes else ome04
    attributes = attributes.get("ome", attributes)
    if "plate" in attributes:
        raise InputError(
            f"{path} is a plate of many pictures; samscape batch takes all of them, others take one of its "
            "fields, such as A/1/0."
        )
    if "multiscales" not in attributes:
        inside = _inside(path)
        hint = f"give one that is inside it ({', '.join(inside[:5])})" if inside else "it is empty"
        hint = hint if isinstance(path, Path) else "give one that is inside it"
        raise InputError(f"{path} is a Zarr group but no OME-Zarr image; {hint}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            multiscale = version.ImageAttrs.model_validate(attributes).multiscales[0]
        levels = tuple(group[level.path] for level in multiscale.datasets)
    except ValidationError as error:
        reason = _first(error)
        raise InputError(f"{path} has metadata that are not OME-Zarr 0.4 or 0.5 ({reason}).") from error
    except KeyError as error:
        raise InputError(f"{path} is a damaged OME-Zarr image: the array {error} is missing.") from error
    if not all(isinstance(level, zarr.Array) for level in levels):
        raise InputError(f"{path} is a damaged OME-Zarr image: a level is no array.")
    axes = "".join(str(axis.name).lower()[:1] for axis in multiscale.axes)
    placed = tuple(
        _placed(level.coordinateTransformations, multiscale.coordinateTransformations, len(axes))
        for level in multiscale.datasets
    )
    return Image(
        levels,
        axes,
        scale=placed[0][0],
        translation=placed[0][1],
        placed=placed,
        units=tuple(None if axis.unit is None else str(axis.unit) for axis in multiscale.axes),
        name=name_of(path),
        **place_of(path),
    )


def _inside(path: Path | str) -> list[str]:
    return sorted(child.name for child in path.iterdir() if child.is_dir()) if isinstance(path, Path) else []


def _placed(own: Any, overall: Any, ndim: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and translation of a level: first its own transforms, then those of all levels."""
    scale, translation = np.ones(ndim), np.zeros(ndim)
    for transform in (*(own or ()), *(overall or ())):
        # Those whose numbers lie in a file of their own are rare, and not read.
        if transform.type == "scale" and getattr(transform, "scale", None):
            scale, translation = scale * transform.scale, translation * transform.scale
        elif transform.type == "translation" and getattr(transform, "translation", None):
            translation = translation + transform.translation
    return tuple(scale.tolist()), tuple(translation.tolist())


# Plates ------------------------------------------------------------------------------------------------


def plate_fields(path: str) -> list[str] | None:
    """List the fields of a plate.

    Parameters
    ----------
    path : str
        Of a folder, or a URL.

    Returns
    -------
    list of str or None
        Where each lies in the plate, such as "A/1/0", well by well as its metadata have them; of a well that
        cannot be read, the well itself. None if this is no plate.

    Raises
    ------
    InputError
        If its metadata are not those of a plate.
    """
    try:
        group = zarr.open_group(remote_store(path) if is_url(path) else path, mode="r")
    except Exception:  # whatever it is, it is no plate
        return None
    attributes: Any = group.attrs.asdict()
    version = (plate05, well05) if "ome" in attributes else (plate04, well04)
    attributes = attributes.get("ome", attributes)
    if "plate" not in attributes:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plate = version[0].Plate.model_validate(attributes["plate"])
    except ValidationError as error:
        raise InputError(f"{path} has metadata that are no plate's ({_first(error)}).") from error
    return [field for well in plate.wells for field in _fields_of_well(group, well.path, version[1])]


def _fields_of_well(plate: zarr.Group, path: str, version: Any) -> list[str]:
    try:
        attributes: Any = plate[path].attrs.asdict()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            well = version.WellMeta.model_validate(attributes.get("ome", attributes)["well"])
    except Exception:  # missing or damaged: what is said of it is said when it is opened
        return [path]
    return [f"{path}/{image.path}" for image in well.images]


def _first(error: ValidationError) -> str:
    """Where the first thing is wrong, and what."""
    where = ".".join(str(part) for part in error.errors()[0]["loc"])
    return f"{where}: {error.errors()[0]['msg']}"
