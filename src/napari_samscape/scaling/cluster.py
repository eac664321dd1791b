"""The first pass over tiles on several processes or computers, through dask.distributed.

What travels is small: an `Order`, in which picture and model are names, and the place of a tile. Each worker
process opens picture and model once, and writes what it finds into the folder of the work, which must lie
on a disk that all of them see. A tile is done when its file is there, wherever it was made: a worker that
dies loses the tiles it had begun, and dask gives these to another one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_samscape.errors import InputError
from napari_samscape.io import DamagedError
from napari_samscape.model.process import ENVIRONMENT, keep_freed_memory
from napari_samscape.scaling.cache import cache_folder
from napari_samscape.scaling.engine import Plane, look_at_tile
from napari_samscape.scaling.job import Job
from napari_samscape.scaling.memory import remembering
from napari_samscape.scaling.pieces import PiecesInFolder
from napari_samscape.scaling.task import Task, Wish, make_task
from napari_samscape.scaling.tiles import Index

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam
    from napari_samscape.prediction.image import Limits

Tag = TypeVar("Tag")
#: So many tiles are with the scheduler at a time, however many there are: its memory and ours are bounded.
AHEAD = 1000
SENT = AHEAD // 4  # at a time, at least
#: Seconds in which a file that another computer wrote must be seen here.
PATIENCE = 60
CONNECT = "30s"
#: What workers import as they start, torch with it, all at once; not each within its first tile.
LOADED_FIRST = "napari_samscape.model.weights"
#: For a dashboard, which we do not start, dask notes every 10 ms what a worker does, and every 20 ms that
#: it does something: a share of the processor that tiles can use.
UNWATCHED: dict[str, Any] = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
}
_making = threading.RLock()


@dataclass(frozen=True)
class Order:
    """What a worker needs to know of a job.

    Attributes
    ----------
    key : str
        Tells orders apart.
    job : Job
        With absolute paths.
    limits : pair or None
        See `picture.Overview`.
    folder : str
        Of the pieces, plane by plane.
    digest : str or None
        Of the model's weights.
    """

    key: str
    job: Job = field(compare=False)
    limits: Limits | None = field(compare=False)
    folder: str = field(compare=False)
    digest: str | None = field(compare=False)


class Cluster:
    """Workers to spread tiles over; made by `connected`."""

    def __init__(self, client: Any, address: str) -> None:
        self.client = client
        self.address = address

    @property
    def at_once(self) -> int:
        """How many pictures are best under way at a time, so that no worker waits while one is written."""
        return min(max(4, 2 * sum(self.client.nthreads().values())), 32)

    def order(self, job: Job, limits: Limits | None, pieces: Path, digest: str | None) -> Order:
        """Make what a worker needs to know, with paths that are the same wherever it runs."""
        image = job.image if "://" in job.image else os.path.abspath(job.image)
        name = os.path.abspath(job.model) if Path(job.model).exists() else job.model
        cache = None if job.cache is None else str(cache_folder(job.cache))
        plain = replace(job, image=image, model=name, output=os.path.abspath(job.output), cache=cache)
        phrase = job.phrase
        if phrase is not None and phrase.clip is not None and Path(phrase.clip).exists():
            plain = replace(plain, phrase=replace(phrase, clip=os.path.abspath(phrase.clip)))
        return Order(uuid.uuid4().hex, plain, limits, os.path.abspath(pieces), digest)

    def look(self, task: Task, order: Order) -> dict[Index, DamagedError]:
        """Do what `Task.look` does, with `look_at` on the workers.

        Raises
        ------
        InputError
            As `Task.look`; or if the scheduler is lost, or a tile has cost several workers their lives.
        """
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        damaged: dict[Index, DamagedError] = {}
        calls = (((plane, index), (order, plane.place, index)) for plane, index in _left(task))
        try:
            with contextlib.closing(self.each(look_at, calls)) as answers:
                for (plane, index), reason in answers:
                    if reason is None:
                        _await(plane, index)
                    else:
                        damaged[*plane.place, *index] = DamagedError(reason)
                    task.report.start(plane.tiling[index])
        except KilledWorker as error:
            raise InputError(
                "Several workers died at the same tile, perhaps of too little memory; what is done is kept: "
                "start again to go on."
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise InputError(
                f"The scheduler {self.address} was lost; what is done is kept: start again to go on."
            ) from error
        return task.all_or_some(damaged)

    def each(
        self, function: Callable[..., Any], calls: Iterable[tuple[Tag, tuple[Any, ...]]]
    ) -> Generator[tuple[Tag, Any]]:
        """Call a function on the workers, for each tag and its arguments; gives tag and answer as they come.

        However many calls there are, only `AHEAD` of them are with the scheduler at a time. A message takes
        it longer than a call, so calls go there by hundreds.
        """
        from distributed import as_completed

        tags: dict[Any, Tag] = {}
        left = iter(calls)

        def begin(how_many: int) -> list[Any]:
            chosen = list(islice(left, how_many))
            if not chosen:
                return []
            futures = self.client.map(function, *zip(*(each for _, each in chosen), strict=True), pure=False)
            tags.update((future, tag) for future, (tag, _) in zip(futures, chosen, strict=True))
            return futures

        try:
            running = as_completed(begin(AHEAD), loop=self.client.loop)
            for done in running.batches():
                for future, answer in zip(done, self.client.gather(done), strict=True):
                    yield tags.pop(future), answer
                if len(tags) <= AHEAD - SENT:
                    running.update(begin(AHEAD - len(tags)))
        finally:
            with contextlib.suppress(Exception):  # of a scheduler that is lost
                self.client.cancel(list(tags))


@contextlib.contextmanager
def connected(workers: int | None, scheduler: str | None) -> Iterator[Cluster | None]:
    """Start so many worker processes here, or join those of a scheduler; None if neither is asked for.

    Raises
    ------
    InputError
        If dask is not installed, both are asked for, or there is no such scheduler.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise InputError("--workers starts processes here, --scheduler joins others; use one of them.")
    try:
        from distributed import Client
    except ImportError:
        raise InputError("Several workers need dask: pip install 'napari-samscape[dask]'.") from None
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            scheduler = stack.enter_context(_start(workers)).scheduler_address
        try:
            client: Any = stack.enter_context(Client(scheduler, timeout=CONNECT, set_as_default=False))
        except (OSError, ValueError) as error:
            raise InputError(f"There is no dask scheduler at {scheduler}: {error}.") from error
        yield Cluster(client, scheduler)


def _start(workers: int | None) -> Any:
    """Worker processes of one thread each, and a scheduler."""
    import dask
    from distributed import LocalCluster

    # dask has its workers give back whatever is freed, which costs more than half as much time again.
    ours = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ENVIRONMENT.items()}
    with dask.config.set(UNWATCHED | ours):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            preload=[LOADED_FIRST, *dask.config.get("distributed.worker.preload")],
            host="127.0.0.1",
            dashboard_address=None,
            # Without a dashboard, too, it serves figures, on a port that two jobs would both want.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        )


# On the worker -----------------------------------------------------------------------------------------


def look_at(order: Order, place: Index, index: Index) -> str | None:
    """Look at a tile of the plane at a place, on any worker; gives the reason if it cannot be read."""
    with _making:  # one of several threads opens and loads, once
        task = _task(order)
    plane = task.plane_at(place)
    if index in plane.pieces:  # a worker did it that was lost before it could say so
        return None
    error = look_at_tile(plane, plane.tiling[index], task.segment)
    return None if error is None else str(error)


@lru_cache(maxsize=8)
def _task(order: Order) -> Task:
    job, folder = order.job, Path(order.folder)
    model = _model(job.model, job.device, job.precision)
    if getattr(model, "digest", None) != order.digest:
        raise InputError(f"A worker has other weights under the name {job.model} than where the job started.")
    picture = job.open()
    if job.cache is not None:
        model = remembering(model, job.cache, picture.where)
    wish = Wish(job.mode, job.asked, job.tiles, plane=job.plane)
    places = lambda plane: PiecesInFolder(folder / str(plane))  # noqa: E731
    return make_task(picture, wish, model, order.limits, places, None)


@lru_cache(maxsize=1)
def _model(name: str, device: str, precision: str) -> Sam:
    from napari_samscape.model.weights import choose_device, load_model

    keep_freed_memory()  # for workers that others started
    return load_model(name, device=choose_device(device), precision=precision)


# Where the job started ---------------------------------------------------------------------------------


def _left(task: Task) -> Iterator[tuple[Plane, Index]]:
    """The tiles that are not done."""
    for plane in task.planes:
        for tile in plane.tiling:
            if tile.index in plane.pieces:
                task.report.start(tile)
            else:
                yield plane, tile.index


def _await(plane: Plane, index: Index) -> None:
    """Wait until a piece is seen here: network disks take a moment."""
    end = time.monotonic() + PATIENCE
    while index not in plane.pieces:
        if time.monotonic() > end:
            raise InputError(
                "A worker has done a tile whose file is not seen here; the output must lie on a disk that "
                "all workers share."
            )
        time.sleep(0.1)
