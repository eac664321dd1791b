"""A whole picture to labels: `segment` in memory, and `run`, which does a `Job` from file to file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_samscape.errors import InputError
from napari_samscape.io import (
    OBJECT_ENDINGS,
    Image,
    check_output,
    open_image,
    write_labels,
    write_map,
    write_objects,
    write_overlay,
)
from napari_samscape.prediction.detections import Detector
from napari_samscape.prediction.detectors import load_detector
from napari_samscape.prediction.types import Prompts
from napari_samscape.scaling.job import Job, Result
from napari_samscape.scaling.modes import MODES, Asked, Boxes, Find, check_mode
from napari_samscape.scaling.objects import Account

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam

__all__ = ["Job", "Result", "run", "segment"]

Progress = Callable[[int, int, str], None]
# Intensity limits of a stack or a pyramid are estimated from so many planes, of about so many pixels each.
SAMPLED_PLANES = 16
SAMPLED_PIXELS = 1_000_000


def segment(  # noqa: PLR0913  (the public face of all modes)
    image: Image | str | os.PathLike[str] | ArrayLike,
    *,
    model: Sam,
    mode: str | None = None,
    prompts: Prompts | Sequence[Prompts] | None = None,
    boxes: Boxes = (),
    detector: str | Detector | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """Find the objects of a picture of any number of planes.

    Parameters
    ----------
    image : Image, path or array_like
        See `napari_samscape.open_image`. Each plane of a stack over z or t is looked at by itself.
    model : Sam
        See `napari_samscape.load_model`.
    mode : {"everything", "prompts", "boxes", "edges"}, optional
        Where left out, "prompts" or "boxes" if there are any, or a detector.
    prompts : Prompts or sequence of Prompts, optional
        One object each, for pictures of one plane; the first gets the id 1, and so on.
    boxes : sequence of (y0, x0, y1, x1), optional
        A detector's, one object each, for pictures of one plane; what lies outside is cut off.
    detector : str or callable, optional
        Finds the boxes of each plane: one of `napari_samscape.prediction.detectors.detector_names`, or a
        function as `napari_samscape.prediction.detections.Detector` says.
    progress : callable, optional
        Called as ``progress(done, total, text)``; raising from it cancels.

    Returns
    -------
    ndarray of int32, shape ([t,] [z,] y, x)
        0 is background; ids go on from plane to plane, so that each object has its own. Where objects
        overlap, the smaller lies on top. A constant plane has no objects. With the mode "edges", float32 of
        the same shape: the strength of edges from 0 to 1.

    Raises
    ------
    InputError
        If the picture cannot be read, holds NaN or infinite values, or a prompt does not fit it.

    Examples
    --------
    >>> labels = segment("cells.ome.zarr", model=load_model("nano"))  # doctest: +SKIP
    """
    image = open_image(image)
    each = (prompts,) if isinstance(prompts, Prompts) else tuple(prompts or ())
    boxed = len(boxes) or detector is not None
    mode = mode or ("prompts" if each else "boxes" if boxed else "everything")
    asked = Asked(each, boxes, detector=detector)
    check_mode(mode, asked)
    _check_prompts(image, asked)
    return _planes(image, MODES[mode].make(model, asked), MODES[mode].gives_map, Account(), progress)


def run(job: Job, progress: Progress | None = None, *, model: Sam | None = None) -> Result:
    """Do a job: read, segment, write. Everything that can be checked is checked before the model is loaded.

    Parameters
    ----------
    job : Job
    progress : callable, optional
        Called as ``progress(done, total, text)``; raising from it cancels, and nothing is written.
    model : Sam, optional
        The job's model where it is loaded already.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        See `segment` and `napari_samscape.io.check_output`.
    """
    image = open_image(job.image)
    check_output(job.output, source=image, overwrite=job.overwrite)
    if job.overlay is not None:
        check_output(job.overlay, endings=(".png",), source=image, overwrite=job.overwrite)
        if Path(job.overlay).resolve() == Path(job.output).resolve():
            raise InputError(f"The labels and the overlay cannot both go to {job.output}.")
    if job.objects is not None:
        check_output(job.objects, endings=OBJECT_ENDINGS, source=image, overwrite=job.overwrite)
    asked = job.asked
    _check_prompts(image, asked)
    if job.detector is not None:
        asked = replace(asked, detector=load_detector(job.detector))
    if model is None:
        from napari_samscape.model.weights import choose_device, load_model

        device = choose_device(job.device)
        if progress is not None:
            progress(0, 0, f"loading {job.model}")
        model = load_model(job.model, device=device)
    start = time.perf_counter()
    mode, account = MODES[job.mode], Account(keep=job.objects is not None)
    found = _planes(image, mode.make(model, asked), mode.gives_map, account, progress)
    seconds = time.perf_counter() - start
    about = {"version": _version(), "model_sha256": getattr(model, "digest", None), "job": job.to_json()}
    write = write_map if mode.gives_map else write_labels
    write(job.output, found, like=image, about=about, overwrite=job.overwrite)
    if job.objects is not None:
        write_objects(job.objects, account.rows(), like=image, about=about, overwrite=job.overwrite)
    if job.overlay is not None:
        _write_overlay(job, image, found)
    objects = None if mode.gives_map else int(np.count_nonzero(np.unique(found)))
    return Result(
        output=job.output,
        overlay=job.overlay,
        objects=objects,
        planes=int(np.prod(found.shape[:-2])),
        shape=found.shape,
        seconds=round(seconds, 3),
        model=job.model,
        device=str(model.device),
        note=_note(job, image, found, account),
        objects_file=job.objects,
    )


def _planes(
    image: Image, find: Find, gives_map: bool, account: Account, progress: Progress | None
) -> NDArray[Any]:
    """Labels or a map of all planes; the account is filled."""
    from napari_samscape.prediction.image import to_rgb
    from napari_samscape.prediction.instances import labels_from_instances

    result = np.zeros(image.label_shape, np.float32 if gives_map else np.int32)
    count = int(np.prod(result.shape[:-2]))
    limits = _limits(image)
    for number, (index, pixels) in enumerate(image.planes()):
        _check_finite(pixels, image, index)
        if _is_constant(pixels):
            continue
        found = find(to_rgb(pixels, limits), _part(progress, number, count))
        if gives_map:
            result[index] = found
            continue
        plane = labels_from_instances(found)
        plane[plane > 0] += account.add(index, found)
        result[index] = plane
    if progress is not None:
        progress(count, count, "done")
    return result


def _part(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Turn one plane's progress into that of all planes."""
    if progress is None:
        return None
    name = f"plane {number + 1} of {count}: " if count > 1 else ""

    def report(done: int, total: int, text: str) -> None:
        progress(number * total + done, count * total, name + text)

    return report


def _check_prompts(image: Image, asked: Asked) -> None:
    if (asked.prompts or len(asked.boxes)) and int(np.prod(image.label_shape[:-2])) > 1:
        sizes = ", ".join(f"{axis}={image.sizes[axis]}" for axis in image.label_axes[:-2])
        raise InputError(f"Prompts are about one plane, but {image} has several ({sizes}).")
    for prompt in asked.prompts:
        prompt.check_inside((image.sizes["y"], image.sizes["x"]))


def _limits(image: Image) -> Any:
    """Intensities that become black and white, the same for all planes.

    A picture of one plane is looked at whole; of a stack, evenly spread planes of the coarsest level.
    """
    from napari_samscape.prediction.image import image_limits

    if image.dtype == np.uint8 and image.sizes.get("c") in (3, 4):
        return None  # RGB is taken as it is
    level = len(image.levels) - 1
    sizes = dict(zip(image.axes, image.levels[level].shape, strict=True))
    indices = list(np.ndindex(sizes.get("t", 1), sizes.get("z", 1)))
    chosen = np.unique(np.linspace(0, len(indices) - 1, SAMPLED_PLANES).round().astype(int))
    samples = []
    for t, z in (indices[number] for number in chosen):
        pixels = image.plane(t, z, level=level)
        _check_finite(pixels, image, (t, z))
        if len(indices) > 1:
            step = max(1, int((pixels.shape[0] * pixels.shape[1] / SAMPLED_PIXELS) ** 0.5))
            pixels = pixels[::step, ::step]
        samples.append(pixels.reshape(-1, 1, sizes.get("c", 1)))
    return image_limits(np.concatenate(samples))


def _check_finite(pixels: NDArray[Any], image: Image, index: tuple[int, ...]) -> None:
    if pixels.dtype.kind != "f" or np.isfinite(pixels).all():
        return
    bad = ~np.isfinite(pixels.reshape(*pixels.shape[:2], -1)).all(axis=-1)
    where = f" in plane {index}" if any(index) else ""
    raise InputError(
        f"{image} holds NaN or infinite values in {int(bad.sum())} of {bad.size} pixels{where}; "
        "fill them before segmenting."
    )


def _is_constant(pixels: NDArray[Any]) -> bool:
    return bool((pixels == pixels[:1, :1]).all())


def _note(job: Job, image: Image, found: NDArray[Any], account: Account) -> str | None:
    empty = account.empty
    if job.mode == "boxes" and empty:
        numbers = ", ".join(map(str, empty[:20])) + (", ..." if len(empty) > 20 else "")
        return f"{len(empty)} of {account.count} boxes lie outside the picture or are empty: {numbers}."
    if not found.any():
        what = "edges" if MODES[job.mode].gives_map else "objects"
        if all(_is_constant(pixels) for _, pixels in image.planes()):
            return f"The picture is constant, so there are no {what}."
        return f"No {what} were found."
    return None


def _write_overlay(job: Job, image: Image, labels: NDArray[np.int32]) -> None:
    """Draw the middle slice of the first time point."""
    from napari_samscape.prediction.image import to_rgb

    z = image.sizes.get("z", 1) // 2
    index = tuple({"t": 0, "z": z}[axis] for axis in image.label_axes[:-2])
    rgb = to_rgb(image.plane(z=z), _limits(image))
    write_overlay(job.overlay or "", rgb, labels[index], overwrite=job.overwrite)


def _version() -> str:
    from importlib.metadata import version

    return version("napari-samscape")
