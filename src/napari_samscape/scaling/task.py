"""A picture and what is done with it, in the engine's terms: planes, a function for tiles, and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.io import DamagedError, Image, TableRow
from napari_samscape.model.process import give_back_memory
from napari_samscape.model.progress import Progress
from napari_samscape.prediction.types import Instances
from napari_samscape.scaling.engine import Plane, Segment, Writer, look_at_tiles
from napari_samscape.scaling.links import Linking, Stack
from napari_samscape.scaling.measure import measure
from napari_samscape.scaling.modes import MODES, Asked, Mode
from napari_samscape.scaling.objects import Account
from napari_samscape.scaling.picture import PlaneOf, is_constant
from napari_samscape.scaling.pieces import Notes, Pieces
from napari_samscape.scaling.tiles import Tile, TileOptions, Tiling, chunks_for, tile_plane
from napari_samscape.scaling.turned import Turned

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam
    from napari_samscape.prediction.image import Limits

# Progress: looking at a tile counts this much, writing it one.
LOOKING = 20
LONGEST_CHUNK = 1024
# Side of a chunk that is written slice by slice across: as often it is read and written again.
CUBE = 64


@dataclass(frozen=True, eq=False)
class Task:
    """A picture and what is done with it, slice by slice of a plane; what is written is as the picture."""

    image: Image
    mode: Mode
    asked: Asked
    tiling: Tiling  # of each plane
    segment: Segment
    report: Report
    pieces: Callable[[int], Pieces]
    account: Account | None = None
    linking: Linking | None = None
    plane: str = "xy"

    @cached_property
    def slices(self) -> Image:
        """The picture as it is looked at: its planes (y, x) are the slices."""
        return self.image.sliced(self.plane)

    @property
    def planes(self) -> Iterator[Plane]:
        """All planes, one after another; nothing is read yet."""
        return (self.plane_at(tuple(index.values())) for index in self.slices.plane_indices())

    def plane_at(self, place: tuple[int, ...]) -> Plane:
        """One plane, by where it lies along t and z."""
        stacked = self.slices.stacked
        array = PlaneOf(self.slices, dict(zip(stacked, place, strict=True)))
        number = int(np.ravel_multi_index(place, tuple(stacked.values()))) if stacked else 0
        return Plane(array, self.tiling, self.pieces(number), place)

    @cached_property
    def links(self) -> Stack | None:
        """What links the objects of planes, where that is wanted."""
        linking = self.linking
        return None if linking is None else Stack(self.slices.stacked, self.plane_at, linking)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the output."""
        return np.dtype(np.float32 if self.mode.gives_map else np.int32)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Of an output on disk: tiles are made of whole ones, or slices across go through few of them."""
        return chunks_for(self.tiling, LONGEST_CHUNK) if self.plane == "xy" else (CUBE,) * 3

    def look(self) -> dict[tuple[int, ...], DamagedError]:
        """First pass; by place and tile, what could not be read."""
        damaged = {}
        for plane in self.planes:
            for index, error in look_at_tiles(plane, self.segment, self.report.start).items():
                damaged[*plane.place, *index] = error
        return self.all_or_some(damaged)

    def all_or_some(
        self, damaged: dict[tuple[int, ...], DamagedError]
    ) -> dict[tuple[int, ...], DamagedError]:
        """Put in order what could not be read; if that is everything, raise it."""
        if len(damaged) == self.report.tiles:
            raise next(iter(damaged.values()))
        return dict(sorted(damaged.items()))

    def writer(self, out: Any) -> Writer:
        """Give what puts pieces together in ``out``."""
        keeps_ids = self.account is not None or not self.mode.is_tiled
        return Writer(Turned(out, self.image, self.plane), keeps_ids, self.links)

    def steps(self, writer: Writer) -> Iterator[Callable[[], None]]:
        """Second pass, step by step."""
        linked = () if self.links is None else self.links.steps()
        return chain(linked, chain.from_iterable(writer.steps(plane) for plane in self.planes))

    @property
    def step_count(self) -> int:
        """How many `steps` there are."""
        return self.report.tiles + (0 if self.links is None else len(self.links))

    def measured(self) -> Iterator[TableRow]:
        """What the labels are, object by object, once all tiles have been looked at."""
        writer = self.writer(np.zeros(0, self.dtype))
        return chain.from_iterable(measure(plane, writer) for plane in self.planes)

    def notes(self) -> Iterator[Notes]:
        """What is remembered of the tiles that are done."""
        for plane in self.planes:
            yield from (plane.pieces.notes(t.index) for t in plane.tiling if t.index in plane.pieces)


@dataclass(eq=False)
class Report:
    """Turns the progress of one tile into that of all, and of the writing after them."""

    tell: Progress | None
    planes: int
    tiles_per_plane: int
    linked: int = 0  # planes whose objects are linked before anything is written
    begun: int = field(default=0, init=False)

    @property
    def tiles(self) -> int:
        """How many there are in all planes."""
        return self.planes * self.tiles_per_plane

    def start(self, tile: Tile) -> None:
        """Tell that a tile is begun."""
        self.begun += 1
        if self.tell is not None and self.tiles > 1:
            self.inside(0, 1, "looking")

    def inside(self, done: int, total: int, text: str) -> None:
        """Tell how far the tile begun last is."""
        if self.tell is None:
            return
        plane, tile = divmod(self.begun - 1, self.tiles_per_plane)
        where = f"plane {plane + 1} of {self.planes}" if self.planes > 1 else ""
        if self.tiles_per_plane > 1:
            where += f"{', ' if where else ''}tile {tile + 1} of {self.tiles_per_plane}"
        done = (self.begun - 1) * total + done
        self.tell(done * LOOKING, total * self.tiles * (LOOKING + 1), f"{where}: {text}" if where else text)

    def writing(self, done: int, total: int) -> None:
        """Tell how many steps of writing are done."""
        if self.tell is not None:
            text = "linking" if done < self.linked else "writing" if done < total else "done"
            self.tell(total * LOOKING + done, total * (LOOKING + 1), text)


@dataclass(frozen=True, eq=False)
class Wish:
    """What is wanted of a picture; with an account, each object is noted there, of planes of one tile.

    With a linking, objects go on from slice to slice of the plane.
    """

    mode: str
    asked: Asked
    tiles: TileOptions
    account: Account | None = None
    linking: Linking | None = None
    plane: str = "xy"


def make_task(  # noqa: PLR0913  (all that there is to know)
    image: Image,
    wish: Wish,
    model: Sam,
    limits: Limits | None,
    pieces: Callable[[int], Pieces],
    progress: Progress | None,
) -> Task:
    """Prepare a task.

    Parameters
    ----------
    image : Image
    wish : Wish
    model : Sam
    limits : pair or None
        See `picture.Overview`.
    pieces : callable
        Gives the place for the pieces of each plane, by its number.
    progress : callable or None

    Returns
    -------
    Task

    Raises
    ------
    InputError
        If the tiles wished for leave no room for a core, or there are several and an account is wished for,
        or only so many objects of a text.
    """
    from napari_samscape.prediction.image import to_rgb
    from napari_samscape.prediction.views import LARGE

    mode, slices = MODES[wish.mode], image.sliced(wish.plane)
    shape = (slices.sizes["y"], slices.sizes["x"])
    whole = Tiling(shape, shape, (0, 0))
    tiling = tile_plane(shape, model.tile_size, LARGE, wish.tiles) if mode.is_tiled else whole
    account, places = wish.account, [tuple(index.values()) for index in slices.plane_indices()]
    if account is not None and len(tiling) > 1:
        raise InputError(
            f"{image} is cut into {len(tiling)} tiles, and objects one by one are written for pictures of "
            "one tile only; leave that file out, or choose a tile as large as the picture."
        )
    phrase = wish.asked.phrase
    if phrase is not None and phrase.top is not None and len(tiling) > 1:
        raise InputError(
            f"{image} is cut into {len(tiling)} tiles, which cannot tell what is likeliest in all of it; "
            f"leave out how many of '{phrase.text}' are wanted, or choose a tile as large as the picture."
        )
    planes = int(np.prod(slices.label_shape[:-2]))
    report = Report(progress, planes, len(tiling), 0 if wish.linking is None else planes)
    find = mode.make(model, wish.asked)

    def segment(pixels: NDArray[Any], origin: tuple[int, ...]) -> Any:
        if is_constant(pixels):
            return None
        give_back_memory()  # of the tile before: so that the last one needs no more than the first
        found = find(to_rgb(pixels, limits), report.inside)
        if account is not None and isinstance(found, Instances):
            account.add(places[report.begun - 1], found)
        return found

    return Task(image, mode, wish.asked, tiling, segment, report, pieces, account, wish.linking, wish.plane)
