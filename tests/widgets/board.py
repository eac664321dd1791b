"""A picture of any size that is nowhere: bright squares on black, computed where they are read."""

import threading

import numpy as np

PERIOD, SQUARE = 512, 256


class Level:
    """One level of the picture; notes what is read of it, and by which thread."""

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, side, factor):
        self.factor = factor
        self.shape = (-(-side // factor),) * 2
        self.reads = []

    size = property(lambda self: self.shape[0] * self.shape[1])

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        index = tuple(part for part in index if part is not Ellipsis)
        index += (slice(None),) * (2 - len(index))
        places = [np.arange(size)[part] * self.factor for size, part in zip(self.shape, index, strict=True)]
        self.reads.append((threading.current_thread().name, [(p.min(), p.max()) for p in places if p.size]))
        rows, columns = (np.atleast_1d(place) % PERIOD < SQUARE for place in places)
        pixels = np.where(rows[:, None] & columns[None], np.uint8(200), np.uint8(0))
        return pixels[tuple(0 if np.ndim(place) == 0 else slice(None) for place in places)]

    def __array__(self, dtype=None, copy=None):
        return self[:, :].astype(dtype or self.dtype)


def board(side, levels):
    """The picture's levels, each of half the sides of the one before."""
    return [Level(side, 2**level) for level in range(levels)]
