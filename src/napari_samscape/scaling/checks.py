"""Whether a job can be done: said before any of it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_samscape.errors import InputError
from napari_samscape.io import OBJECT_ENDINGS, Image, check_output
from napari_samscape.scaling.job import Job
from napari_samscape.scaling.modes import Asked

#: TIFF and PNG are made in memory: pictures of more pixels need an OME-Zarr.
MOST_PIXELS_IN_MEMORY = 2**29


def check_outputs(job: Job, image: Image, overwrite: bool) -> None:
    """Raise InputError if an output may not be written, or cannot hold the labels of a picture."""
    path = check_output(job.output, source=image, overwrite=overwrite)
    if job.overlay is not None:
        check_output(job.overlay, endings=(".png",), source=image, overwrite=overwrite)
        if Path(job.overlay).resolve() == path.resolve():
            raise InputError(f"The labels and the overlay cannot both go to {job.output}.")
    if job.objects is not None:
        check_output(job.objects, endings=OBJECT_ENDINGS, source=image, overwrite=overwrite)
    if job.table is not None:
        check_output(job.table, endings=(".csv",), source=image, overwrite=overwrite)
    if path.suffix.lower() == ".zarr":
        return
    if path.suffix.lower() == ".png" and np.prod(image.label_shape[:-2]) > 1:
        raise InputError(f"A PNG holds one plane, but {image} has several; use .ome.zarr or .tif.")
    if np.prod(image.label_shape) > MOST_PIXELS_IN_MEMORY:
        raise InputError(f"{image} is too large for a {path.suffix} of its labels; use .ome.zarr.")


def check_prompts(image: Image, asked: Asked) -> None:
    """Raise InputError if prompts are not about a single plane, or lie outside of it."""
    if (asked.prompts or len(asked.boxes)) and int(np.prod(image.label_shape[:-2])) > 1:
        sizes = ", ".join(f"{axis}={image.sizes[axis]}" for axis in image.label_axes[:-2])
        raise InputError(f"Prompts are about one plane, but {image} has several ({sizes}).")
    for prompt in asked.prompts:
        prompt.check_inside((image.sizes["y"], image.sizes["x"]))
