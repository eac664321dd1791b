"""Embeddings made ahead: all tiles of a picture through the image encoder, for whatever is asked later."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from napari_samscape.errors import InputError
from napari_samscape.io import DamagedError, Image, open_image
from napari_samscape.model.progress import Progress
from napari_samscape.scaling.cache import AUTO, Cache
from napari_samscape.scaling.engine import read_tile
from napari_samscape.scaling.memory import remembering
from napari_samscape.scaling.picture import PlaneOf, is_constant, look_over
from napari_samscape.scaling.tiles import TileOptions, tile_plane

if TYPE_CHECKING:
    from napari_samscape.model.sam import Sam


@dataclass(frozen=True)
class Embedded:
    """What was embedded.

    Attributes
    ----------
    cache : str
        Where the embeddings are.
    tiles : int
        Of all planes.
    made, found, constant : int
        How many of them are new, were there before, and hold nothing to see.
    failed : tuple of str
        One sentence for each tile that could not be read.
    seconds : float
    """

    cache: str
    tiles: int
    made: int
    found: int
    constant: int
    failed: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give all of it as values that JSON knows."""
        return asdict(self) | {"failed": list(self.failed)}


def embed_ahead(  # noqa: PLR0913  (two for what, the others to override)
    image: Image | str | os.PathLike[str],
    *,
    model: Sam,
    cache: str | os.PathLike[str] = AUTO,
    tiles: TileOptions | None = None,
    plane: str = "xy",
    progress: Progress | None = None,
) -> Embedded:
    """Embed a picture as everything-mode and edges look at it first: in tiles, or whole where it is small.

    Parameters
    ----------
    image : Image or path
    model : Sam
        Read from a file; see `napari_samscape.load_model`.
    cache : path
        See `napari_samscape.scaling.cache.Cache`.
    tiles : TileOptions, optional
    plane : {"xy", "xz", "yz"}
    progress : callable, optional
        Called as ``progress(done, total, text)``; raising from it cancels. What was done is kept.

    Returns
    -------
    Embedded

    Raises
    ------
    InputError
        If the picture or the cache cannot be used, or none of the tiles can be read.
    """
    from napari_samscape.prediction.image import to_rgb
    from napari_samscape.prediction.predict import embed
    from napari_samscape.prediction.views import LARGE

    start = time.perf_counter()
    image = open_image(image)
    slices, kept = image.sliced(plane), Cache(cache)
    limits = look_over(image).limits
    shape = (slices.sizes["y"], slices.sizes["x"])
    tiling = tile_plane(shape, model.tile_size, LARGE, tiles or TileOptions())
    model = remembering(model, kept.folder, image.where)
    indices = list(slices.plane_indices())
    total, done, constant, failed = len(indices) * len(tiling), 0, 0, list[str]()
    with kept.used_for(image.where):
        for index in indices:
            for tile in tiling:
                if progress is not None:
                    progress(done, total, f"tile {done + 1} of {total}")
                done += 1
                try:
                    pixels = read_tile(PlaneOf(slices, index), tile)
                except DamagedError as error:
                    failed.append(f"tile {'/'.join(map(str, (*index.values(), *tile.index)))}: {error}")
                    continue
                if is_constant(pixels):
                    constant += 1
                else:
                    embed(model, to_rgb(pixels, limits))
    if len(failed) == total:
        raise InputError(failed[0])
    memory: Any = model.recall
    seconds = round(time.perf_counter() - start, 3)
    return Embedded(str(kept.folder), total, memory.made, memory.found, constant, tuple(failed), seconds)
