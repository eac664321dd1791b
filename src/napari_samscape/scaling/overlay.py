"""The overlay of a finished job: a plane of the picture with its objects, as large as is good to look at."""

from __future__ import annotations

from napari_samscape.io import Image, open_image, write_overlay
from napari_samscape.io.write import OVERLAY_SIDE
from napari_samscape.scaling.job import Job
from napari_samscape.scaling.picture import Overview


def draw_overlay(job: Job, image: Image, overview: Overview, overwrite: bool) -> None:
    """Draw the middle slice of the first time point, with labels as they were written."""
    from napari_samscape.prediction.image import to_rgb

    step = -(-max(image.sizes["y"], image.sizes["x"]) // OVERLAY_SIDE)
    z, every = image.sizes.get("z", 1) // 2, (slice(None, None, step), slice(None, None, step))
    rgb = to_rgb(image.plane(z=z, region=every), overview.limits)
    labels = open_image(job.output, axes=image.label_axes).plane(z=z, region=every)
    write_overlay(job.overlay or "", rgb, labels, overwrite=overwrite)
