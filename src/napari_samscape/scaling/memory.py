"""Models that find in a cache what they have seen before.

The key of an embedding stands for the pixels that the model is given, 8-bit RGB, with the model's weights and
precision. So every mode, tile, crop and view finds what any of them has seen, and a picture that was changed,
stretched otherwise or cut otherwise is never taken for what it was. The pixels have to be read for that, but
then they are read anyway, and their hash takes milliseconds where an encoder takes seconds.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.scaling.cache import AUTO, Arrays, Cache

if TYPE_CHECKING:
    from napari_samscape.model.sam import Encoded, Sam

#: Part of every key: change it where the same pixels would be encoded otherwise.
LAYOUT = 1


def remembering(model: Sam, folder: str | os.PathLike[str], picture: str) -> Sam:
    """Give the same model, weights shared, that keeps what it has seen in a cache, and finds it again.

    Parameters
    ----------
    model : Sam
    folder : path
        See `Cache`.
    picture : str
        For which picture what is new is kept: what `Cache.entries` and `Cache.prune` call it.

    Returns
    -------
    Sam
        Its embeddings are in half precision, those just made as well, so that results do not depend on what
        was kept before.

    Raises
    ------
    InputError
        If the model was not read from a file, so that its weights have no name; or as `Cache`.
    """
    if not model.digest:
        raise InputError("A cache of embeddings needs a model that was read from a file.")
    other = copy.copy(model)  # a module's copy has the same parameters
    other.recall = Memory(Cache(folder), model, picture)
    return other


def recalling(model: Sam, folder: str | os.PathLike[str] = AUTO) -> Sam:
    """Give the same model, weights shared, that finds what a cache has, but keeps nothing there.

    Parameters
    ----------
    model : Sam
    folder : path
        See `Cache`; "auto" is the user's own.

    Returns
    -------
    Sam
        The model itself where there is no cache, or its weights have no name.
    """
    try:
        cache = Cache(folder, make=False)
    except InputError:
        return model
    if not model.digest:
        return model
    other = copy.copy(model)
    other.recall = Memory(cache, model, None)
    return other


class Memory:
    """What a model asks before it looks at a picture.

    Parameters
    ----------
    cache : Cache
    model : Sam
    picture : str or None
        For which picture what is new is kept; None keeps nothing.

    Attributes
    ----------
    found, made : int
        How many embeddings came from the cache, and how many are new.
    """

    def __init__(self, cache: Cache, model: Sam, picture: str | None) -> None:
        self.cache, self.model, self.picture = cache, model, picture
        self.found = self.made = 0

    def place(self, rgb: NDArray[np.uint8]) -> str:
        """Where the embedding of a picture (y, x, 3) lies in the cache."""
        precision = str(self.model.precision).removeprefix("torch.")
        digest = hashlib.sha256(f"{LAYOUT} {self.model.digest} {precision} {rgb.shape}".encode())
        digest.update(np.ascontiguousarray(rgb).data)
        return f"{self.model.digest[:16]}/{digest.hexdigest()[:32]}"

    def __call__(self, rgb: NDArray[np.uint8], encode: Callable[[], Encoded]) -> Encoded:
        """Give the encoding of a picture, as it was kept or by making it."""
        place = self.place(rgb)
        arrays = self.cache.load(place)
        if arrays is not None and "features" in arrays:
            self.found += 1
            return _from_half(arrays, self.model)
        self.made += 1
        encoded = encode()
        if self.picture is None:
            return encoded
        arrays = _to_half(encoded)
        if not all(np.isfinite(values).all() for values in arrays.values()):
            return encoded  # beyond half precision, this time and the next
        about = {"picture": self.picture, "model": self.model.name, "model_sha256": self.model.digest}
        self.cache.save(place, arrays, about | {"picture_shape": list(rgb.shape[:2])})
        return _from_half(arrays, self.model)


@contextlib.contextmanager
def using(folder: str | os.PathLike[str] | None, picture: str) -> Iterator[Callable[[Sam], Sam]]:
    """Give what makes models remember a picture's parts while a job is at work; without a folder, nothing."""
    if folder is None:
        yield lambda model: model
        return
    with Cache(folder).used_for(picture):
        yield lambda model: remembering(model, folder, picture)


def _to_half(encoded: Encoded) -> Arrays:
    parts = {"features": encoded.features, "dense": encoded.dense}
    parts |= {f"skip{number}": skip for number, skip in enumerate(encoded.skips)}
    with np.errstate(over="ignore"):
        return {
            # In C order, as it will be read: with other strides torch adds in another order.
            name: part.float().cpu().numpy().astype(np.float16, order="C")
            for name, part in parts.items()
            if part is not None
        }


def _from_half(arrays: Arrays, model: Sam) -> Encoded:
    import torch

    from napari_samscape.model.sam import Encoded

    parts = {
        name: torch.from_numpy(values.astype(np.float32)).to(model.device) for name, values in arrays.items()
    }
    skips = sorted(name for name in parts if name.startswith("skip"))
    return Encoded(parts["features"], tuple(parts[name] for name in skips), parts.get("dense"))
