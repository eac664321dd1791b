"""Many pictures with the same settings: a job for each, and one table of all their objects.

The folder that is written to holds, for each picture, NAME.ome.zarr (or another ending) and tables/NAME.csv;
the table of all; and batch.json, which says what was asked for.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_samscape.errors import InputError
from napari_samscape.io import LABEL_ENDINGS, PLANES, check_table, join_tables
from napari_samscape.model.progress import Progress
from napari_samscape.scaling.batch import load as load_for
from napari_samscape.scaling.batch import run
from napari_samscape.scaling.job import Job
from napari_samscape.scaling.modes import MODES
from napari_samscape.scaling.pictures import Picture, output_names
from napari_samscape.scaling.pieces import DiskFullError, written_whole
from napari_samscape.scaling.work import first_difference, work_on

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam
    from napari_samscape.scaling.cluster import Cluster


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes
    ----------
    picture : str
        `Picture.name`.
    output : str
        Where its labels are.
    objects : int or None
        How many there are; None for a map, and where it failed.
    error : str or None
        Why there is no output.
    failed : tuple of str
        One sentence for each tile that could not be read.
    """

    picture: str
    output: str
    objects: int | None = None
    error: str | None = None
    failed: tuple[str, ...] = ()

    @property
    def sentences(self) -> Iterator[str]:
        """What went wrong."""
        if self.error is not None:
            yield f"{self.picture}: {self.error}"
        yield from (f"{self.picture}: {sentence}" for sentence in self.failed)


@dataclass(frozen=True)
class BatchResult:
    """What a batch has done; ``table`` is None for maps."""

    folder: str
    table: str | None
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def objects(self) -> int:
        """How many there are in all pictures."""
        return sum(outcome.objects or 0 for outcome in self.outcomes)

    @property
    def sentences(self) -> list[str]:
        """All that went wrong."""
        return [sentence for outcome in self.outcomes for sentence in outcome.sentences]

    def to_json(self) -> dict[str, Any]:
        """Give all of it as values that JSON knows."""
        pictures = [asdict(outcome) for outcome in self.outcomes]
        done = sum(outcome.error is None for outcome in self.outcomes)
        counts = {"done": done, "failed": len(pictures) - done, "objects": self.objects}
        about = {"folder": self.folder, "table": self.table, "seconds": self.seconds}
        return about | counts | {"pictures": pictures}


def run_many(  # noqa: PLR0913  (where to, how, and as what)
    pictures: Sequence[Picture],
    folder: Path,
    settings: Mapping[str, Any],
    *,
    ending: str = ".ome.zarr",
    table: str = "objects.csv",
    progress: Progress | None = None,
    cluster: Cluster | None = None,
    parts: int = 1,
) -> BatchResult:
    """Do the same with many pictures. A batch that was killed goes on where it was.

    Parameters
    ----------
    pictures : sequence of Picture
        See `pictures.find_pictures`.
    folder : Path
        Made where it is not there; its own folder must be.
    settings : mapping
        Of `Job`, but for the paths.
    ending : str
        Of the outputs, as in `napari_samscape.io.write_labels`.
    table : str
        A name in the folder, ending in .csv or .parquet; see `napari_samscape.io.join_tables`.
    progress : callable, optional
        Called as ``progress(pictures done, pictures, text)``, from several threads if there is a cluster;
        raising from it cancels.
    cluster : Cluster, optional
        Workers that look at tiles, of several pictures at a time; see `cluster.connected`.
    parts : int
        Into how many steps of the progress each picture is divided.

    Returns
    -------
    BatchResult
        In the order of pictures. Those that failed say why, and are tried again the next time.

    Raises
    ------
    InputError
        If the settings are wrong or others than those the folder was made with, the model cannot be loaded,
        the disk is full, or somebody else works in the folder.
    """
    start = time.perf_counter()
    plan = Job("", "", **settings)
    gives_map = MODES[plan.mode].gives_map
    _check_names(folder, ending, table)
    try:
        (folder / "tables").mkdir(parents=True, exist_ok=True) if not gives_map else folder.mkdir(
            exist_ok=True
        )
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    check_table(folder / table)
    with work_on(folder / "batch.json"):  # for its lock
        _agree(folder, plan.settings | {"ending": ending}, plan.overwrite)
        jobs = [
            replace(
                plan,
                image=picture.path,
                output=str(folder / f"{name}{ending}"),
                table=None if gives_map else str(folder / "tables" / f"{name}.csv"),
            )
            for picture, name in zip(pictures, output_names(pictures), strict=True)
        ]
        each = _Each(len(jobs), partial(run, cluster=cluster), progress, parts)
        at_once = 1 if cluster is None else cluster.at_once
        outcomes = tuple(_in_order(each, pictures, jobs, at_once))
        rows = ((o.picture, job) for o, job in zip(outcomes, jobs, strict=True) if o.error is None)
        tables = ((name, Path(job.table)) for name, job in rows if job.table is not None)
        if not gives_map:
            join_tables(folder / table, tables, PLANES[plan.plane])
    seconds = round(time.perf_counter() - start, 3)
    return BatchResult(str(folder), None if gives_map else str(folder / table), outcomes, seconds)


class _Each:
    """Does one picture after another; what concerns only one of them is noted, anything else is raised."""

    def __init__(
        self, count: int, run: Callable[..., Any], progress: Progress | None, parts: int = 1
    ) -> None:
        self.count, self.run, self.progress, self.parts = count, run, progress, parts
        self.done = 0
        self.fatal: BaseException | None = None
        self._model: Sam | None = None
        self._lock = threading.Lock()

    def __call__(self, picture: Picture, job: Job) -> Outcome:
        outcome = Outcome(picture.name, job.output)

        def tell(done: int, total: int, text: str) -> None:
            share = min(done / total, 1) if total else 0
            self._fatally(lambda: self._tell(f"{picture.name}: {text}", share))

        try:
            result = self.run(job, tell, load=lambda job, _: self._fatally(lambda: self._load(job)))
            outcome = replace(outcome, objects=result.objects, failed=result.failed)
        except DiskFullError:
            raise
        except InputError as error:
            if self.fatal is not None:
                raise
            outcome = replace(outcome, error=str(error))
        except Exception as error:  # of the model, or of a picture's reader; the other pictures may be fine
            if self.fatal is not None:
                raise
            outcome = replace(outcome, error=f"{type(error).__name__}: {error}")
        with self._lock:
            self.done += 1
        self._tell(picture.name)
        return outcome

    def _tell(self, text: str, share: float = 0) -> None:
        if self.progress is not None:
            # Of a picture that is whole, the next step is another one's.
            within = min(int(share * self.parts), self.parts - 1)
            self.progress(self.done * self.parts + within, self.count * self.parts, text)

    def _load(self, job: Job) -> Sam:
        with self._lock:
            if self._model is None:
                self._model = load_for(job)
            return self._model

    def _fatally(self, work: Callable[[], Any]) -> Any:
        """Do what must not be taken for a fault of the picture."""
        try:
            return work()
        except BaseException as error:
            self.fatal = error
            raise


def _in_order(
    each: _Each, pictures: Sequence[Picture], jobs: Sequence[Job], at_once: int
) -> Iterable[Outcome]:
    if at_once == 1:
        yield from map(each, pictures, jobs)
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        yield from pool.map(each, pictures, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _check_names(folder: Path, ending: str, table: str) -> None:
    if not ending.lower().endswith(LABEL_ENDINGS) or Path(f"x{ending}").name != f"x{ending}":
        raise InputError(
            f"Outputs cannot end in '{ending}'; they may in .ome.zarr, {', '.join(LABEL_ENDINGS)}."
        )
    if Path(table).name != table:
        raise InputError(f"The table '{table}' must be a name without folders; it is written to {folder}.")
    if not folder.parent.is_dir():
        raise InputError(f"The folder {folder.parent} does not exist.")


def _agree(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Note what is asked for, or find it as it was noted; another job on the same folder is refused."""
    path = folder / "batch.json"
    try:
        there = json.loads(path.read_text())["settings"]
    except (OSError, ValueError, LookupError, TypeError):
        there = {}
    difference = first_difference(settings, there)
    if difference is not None and not overwrite:
        raise InputError(
            f"The folder {folder} was begun with another {difference}; finish it as it was begun, choose "
            "another folder, or add --overwrite (overwrite=True) to make all of it anew."
        )
    with written_whole(path) as file:
        file.write(json.dumps({"settings": dict(settings)}, indent=1).encode())
