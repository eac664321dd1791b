"""A whole picture to labels: `segment` in memory, and `run`, which does a `Job` from file to file.

Both are the same engine: tiles, of which a small picture has one, are looked at, then put together. `run`
keeps what it found in a folder beside the output, so that it can be killed at any moment and go on.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_samscape.errors import InputError
from napari_samscape.io import (
    PLANES,
    Image,
    Pyramid,
    make_place,
    move_into_place,
    open_image,
    read_about,
    write_labels,
    write_map,
    write_objects,
    write_table,
)
from napari_samscape.model.progress import Progress
from napari_samscape.prediction.detections import Detector
from napari_samscape.prediction.detectors import load_detector
from napari_samscape.prediction.phrase import Phrase
from napari_samscape.prediction.types import Prompts
from napari_samscape.scaling.checks import check_outputs, check_prompts
from napari_samscape.scaling.job import Job, Result
from napari_samscape.scaling.link import LinkOptions
from napari_samscape.scaling.links import Linking, StoreInMemory, check_link
from napari_samscape.scaling.memory import using
from napari_samscape.scaling.modes import Asked, Boxes, Options, check_mode
from napari_samscape.scaling.objects import Account
from napari_samscape.scaling.overlay import draw_overlay
from napari_samscape.scaling.picture import Overview, look_over
from napari_samscape.scaling.pieces import Pieces, PiecesInMemory, disk_trouble
from napari_samscape.scaling.remarks import note, sentence
from napari_samscape.scaling.task import Task, Wish, make_task
from napari_samscape.scaling.tiles import TileOptions
from napari_samscape.scaling.work import Work, first_difference, work_folder, work_on

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam
    from napari_samscape.scaling.cluster import Cluster

__all__ = ["Job", "Result", "run", "segment"]

Load = Callable[[Job, Progress | None], "Sam"]


def segment(  # noqa: PLR0913  (the public face of all modes)
    image: Image | str | os.PathLike[str] | ArrayLike,
    *,
    model: Sam | str | Path = "nano",
    mode: str | None = None,
    prompts: Prompts | Sequence[Prompts] | None = None,
    boxes: Boxes = (),
    detector: str | Detector | None = None,
    options: Options | None = None,
    tiles: TileOptions | None = None,
    link: LinkOptions | None = None,
    plane: str = "xy",
    cache: str | os.PathLike[str] | None = None,
    phrase: Phrase | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """Find the objects of a picture of any number of planes; the labels are in memory, the picture is not.

    Parameters
    ----------
    image : Image, path or array_like
        See `napari_samscape.open_image`. Each plane of a stack over z or t is looked at by itself.
    model : Sam, str or path
        What `napari_samscape.load_model` gives, or what it takes; give a loaded one to more than one call.
    mode : {"everything", "prompts", "boxes", "edges", "text"}, optional
        Where left out, "prompts" or "boxes" if there are any, or a detector; "text" for a phrase alone.
    prompts : Prompts or sequence of Prompts, optional
        One object each, for pictures of one plane; the first gets the id 1, and so on.
    boxes : sequence of (y0, x0, y1, x1), optional
        A detector's, one object each, for pictures of one plane; what lies outside is cut off.
    detector : str or callable, optional
        Finds the boxes of each plane: one of `napari_samscape.prediction.detectors.detector_names`, or a
        function as `napari_samscape.prediction.detections.Detector` says.
    options : mapping, EverythingOptions or EdgeOptions, optional
        How to look for everything, or for edges; see `napari_samscape.prediction.options`. A mapping, as
        ``{"points_per_side": 16}``, changes what it names and leaves the rest as it is by default.
    tiles : TileOptions, optional
        How large planes are cut up; chosen where left out.
    link : LinkOptions, optional
        Follow objects through the stack; see `napari_samscape.scaling.link`.
    plane : {"xy", "xz", "yz"}
        Which slices of a volume are looked at, and what the tiles are of; the labels have the picture's axes.
        Links along "z" go from slice to slice.
    cache : path, optional
        A folder where embeddings are kept and found, or "auto"; see `napari_samscape.scaling.cache`.
    phrase : Phrase, optional
        What to look for, in words: "text" ranks everything by it, a detector of the mode "boxes" finds it,
        and a model that has learnt to take text is asked for it in the mode "prompts".
    progress : callable, optional
        Called as ``progress(done, total, text)``; raising from it cancels.

    Returns
    -------
    ndarray of int32, shape ([t,] [z,] y, x)
        0 is background; ids go on from plane to plane, so that each object has its own, which with ``link``
        it has in all its planes. Where objects overlap, the smaller lies on top. A constant plane has no
        objects. With the mode "edges", float32 of the same shape: the strength of edges from 0 to 1.

    Raises
    ------
    InputError
        If the picture cannot be read, holds NaN or infinite values, or a prompt does not fit it.

    Examples
    --------
    >>> labels = segment("cells.ome.zarr")  # doctest: +SKIP
    """
    from napari_samscape.model.weights import given_model

    image, model = open_image(image), given_model(model)
    each = (prompts,) if isinstance(prompts, Prompts) else tuple(prompts or ())
    boxed = len(boxes) or detector is not None
    mode = mode or ("prompts" if each else "boxes" if boxed else "text" if phrase else "everything")
    asked = Asked(each, boxes, detector=detector, options=options, phrase=phrase, device=str(model.device))
    check_mode(mode, asked)
    slices = image.sliced(plane)
    check_prompts(slices, asked)
    check_link(mode, slices.stacked, link)
    linking = None if link is None else Linking(link, StoreInMemory())
    wish = Wish(mode, asked, tiles or TileOptions(), linking=linking, plane=plane)
    with using(cache, image.where) as remember:
        task = make_task(image, wish, remember(model), look_over(image).limits, _in_memory(), progress)
        for error in task.look().values():
            raise error
    out = np.zeros(image.label_shape, task.dtype)
    writer = task.writer(out)
    for number, step in enumerate(task.steps(writer), start=1):
        step()
        task.report.writing(number, task.step_count)
    return out


def load(job: Job, progress: Progress | None = None) -> Sam:
    """Load a job's model, on its device."""
    from napari_samscape.model.weights import choose_device, load_model

    device = choose_device(job.device)
    if progress is not None:
        progress(0, 0, f"loading {job.model}")
    return load_model(job.model, device=device, precision=job.precision)


def run(
    job: Job,
    progress: Progress | None = None,
    *,
    model: Sam | None = None,
    load: Load = load,
    cluster: Cluster | None = None,
) -> Result:
    """Do a job: read, segment, write. Everything that can be checked is checked before the model is loaded.

    Memory does not depend on the picture's size, except for outputs other than OME-Zarr, and as far as a
    format can be read in parts (PNG, JPEG and the like cannot).

    Parameters
    ----------
    job : Job
        One that was killed goes on where it was; one that is finished is left as it is.
    progress : callable, optional
        Called as ``progress(done, total, text)``; raising from it cancels, and the job can go on later.
    model : Sam, optional
        The job's model where it is loaded already.
    load : callable, optional
        Gives it otherwise; asked only if there is something to do.
    cluster : Cluster, optional
        Workers that look at tiles; see `napari_samscape.scaling.cluster.connected`. Objects one by one are
        found here.

    Returns
    -------
    Result
        With a sentence for each tile that could not be read. If there are any, what was found is kept, so
        that the same job tries only those again.

    Raises
    ------
    InputError
        See `segment`, `napari_samscape.io.check_output` and `napari_samscape.scaling.work.work_on`; or if the
        output is of another job, the disk is full, or no tile can be read.
    """
    image = job.open()
    made: dict[str, Any] = read_about(job.output) or {}
    replaces = job.overwrite or "settings" in made
    slices = image.sliced(job.plane)
    check_outputs(job, image, replaces)
    check_prompts(slices, job.asked)
    check_link(job.mode, slices.stacked, job.link)
    overview = look_over(image)
    settings = job.settings | {"image": image.where, "picture": overview.signature[:16]}
    asked, account = job.asked, None
    if job.detector is not None:
        asked = replace(asked, detector=load_detector(job.detector, job.phrase))
    if job.objects is not None:
        account = Account()
    if "settings" in made and not job.overwrite:
        difference = first_difference(settings, made["settings"])
        if difference is not None:
            raise InputError(
                f"The output {job.output} exists already, made with another {difference}; add --overwrite "
                "(overwrite=True) to replace it."
            )
        beside = [path for path in (job.objects, job.table) if path is not None]
        if not made["failed"] and all(Path(path).exists() for path in beside):
            return _finished(job, image, overview, made)
    make_place(Path(job.output), image)
    with work_on(job.output, job.overwrite) as work, using(job.cache, image.where) as remember:
        work.agree(settings)
        model = model or load(job, progress)
        digest = getattr(model, "digest", None)
        work.agree({"model_sha256": digest, "version": _version()})
        start = time.perf_counter()
        linking = None if job.link is None else Linking(job.link, work.links)
        wish = Wish(job.mode, asked, job.tiles, account, linking, job.plane)
        # Masks that overlap are in no piece, so objects one by one want all of them found in one go.
        pieces = work.pieces if account is None else _in_memory()
        task = make_task(image, wish, remember(model), overview.limits, pieces, progress)
        if cluster is None or account is not None:
            damaged = task.look()
        else:
            damaged = cluster.look(task, cluster.order(job, overview.limits, work.folder / "pieces", digest))
        failed = [sentence(task, place, error) for place, error in damaged.items()]
        about = {
            "version": _version(),
            "model_sha256": digest,
            "job": job.to_json(),
            "settings": settings,
            "tiles": task.report.tiles,
            "failed": failed,
        }
        objects = _write(task, work, about, replaces)
        if account is not None and job.objects is not None:
            write_objects(job.objects, account.rows(), like=image, about=about, overwrite=replaces)
        if job.table is not None:
            write_table(job.table, task.measured(), image.label_axes.replace("zyx", PLANES[job.plane]))
        said = note(task, objects, failed)
        work.is_finished = not failed
    if job.overlay is not None:
        draw_overlay(job, image, overview, replaces)
    seconds = round(time.perf_counter() - start, 3)
    return replace(_result(job, image, about, objects), device=str(model.device), seconds=seconds, note=said)


def _write(task: Task, work: Work, about: dict[str, Any], replaces: bool) -> int | None:
    """Second pass, and the output's way to its place; gives the number of objects."""
    path, is_zarr = work.output, work.output.suffix.lower() == ".zarr"
    done = work.written(about["failed"])
    if done == 0:
        shutil.rmtree(work.result, ignore_errors=True)
        with disk_trouble(path):
            Pyramid.create(work.result, task.image, task.dtype, task.chunks)
    for unfinished in work.result.rglob("*.partial"):  # chunks that Zarr was writing when it was killed
        unfinished.unlink()
    pyramid = Pyramid(work.result)
    writer = task.writer(pyramid.levels[0])
    steps, total = task.steps(writer), task.step_count
    if is_zarr:
        steps, total = chain(steps, pyramid.steps()), total + pyramid.step_count
    for number, step in enumerate(steps, start=1):
        if number > done:
            with disk_trouble(path):
                step()
            work.note_written(number, about["failed"])
        task.report.writing(number, total)
    objects = None if task.mode.gives_map else writer.objects
    about = about | {"objects": objects}
    if is_zarr:
        with disk_trouble(path):
            pyramid.tell(about)
            move_into_place(work.result, path, replaces)
    else:
        write: Any = write_map if task.mode.gives_map else write_labels
        write(path, pyramid.levels[0][...], like=task.image, about=about, overwrite=replaces)
    return objects


def _finished(job: Job, image: Image, overview: Overview, made: dict[str, Any]) -> Result:
    """What is said of a job that was finished before; only what is missing is done."""
    if work_folder(job.output).exists():  # it was killed in its last moment
        with work_on(job.output) as work:
            work.is_finished = True
    if job.overlay is not None and not Path(job.overlay).exists():
        draw_overlay(job, image, overview, overwrite=False)
    return replace(_result(job, image, made, made["objects"]), note="This job was finished before.")


def _result(job: Job, image: Image, about: dict[str, Any], objects: int | None) -> Result:
    return Result(
        output=job.output,
        overlay=job.overlay,
        objects=objects,
        planes=int(np.prod(image.sliced(job.plane).label_shape[:-2])),
        tiles=about["tiles"],
        shape=image.label_shape,
        seconds=0.0,
        model=job.model,
        device=job.device,
        objects_file=job.objects,
        failed=tuple(about["failed"]),
        options=job.options,
        table=job.table,
    )


def _in_memory() -> Callable[[int], Pieces]:
    """Places for the pieces of each plane."""
    places: dict[int, Pieces] = defaultdict(PiecesInMemory)
    return places.__getitem__


def _version() -> str:
    from importlib.metadata import version

    return version("napari-samscape")
