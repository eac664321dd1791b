"""Made-up scenes with known masks, so that the model does not know cells only.

Overlapping ellipses, polygons and blobs with textures, shading and occlusion on cluttered grounds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from skimage.draw import ellipse, polygon

from napari_samscape.training.data import Picture, make_picture


def synthetic_picture(seed: int, size: int = 384) -> Picture:
    """Make one scene; the same seed gives the same scene.

    Parameters
    ----------
    seed : int
    size : int
        Side in pixels.
    """
    rng = np.random.default_rng(seed)
    pixels = _texture(size, rng)
    labels = np.zeros((size, size), np.uint16)
    largest = float(np.exp(rng.uniform(np.log(10), np.log(size / 3))))  # radius; one scale of things a scene
    number = int(np.clip(rng.uniform(0.2, 1.2) * (size / (2 * largest)) ** 2, 3, 120))
    things = rng.integers(1, 4)  # a few kinds of things, each of many alike, as in cells and crowds
    kinds = [(rng.integers(3), rng.uniform(0, 255, 3), rng.uniform(0, 60)) for _ in range(things)]
    for index in range(1, number + 1):
        shape, colour, variety = kinds[rng.integers(things)]
        inside = _shape(int(shape), size, largest * rng.uniform(0.35, 1), rng)
        if inside.sum() < 12:
            continue
        fill = _fill(size, colour + rng.normal(0, variety, 3), rng)
        pixels[inside] = fill[inside]
        labels[inside] = index
        if rng.random() < 0.3:
            pixels[inside & ~_eroded(inside)] *= rng.uniform(0.3, 1.4)
    if rng.random() < 0.6:
        pixels = gaussian_filter(pixels, (*[rng.uniform(0.3, 1.3)] * 2, 0))
    pixels += rng.normal(0, rng.uniform(0, 10), pixels.shape)
    if rng.random() < 0.35:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    return make_picture(np.clip(pixels, 0, 255).astype(np.uint8), labels, f"synthetic/{seed}")


def _texture(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A ground: a colour, coarse and fine noise, perhaps stripes or a gradient, (size, size, 3)."""
    ground = np.full((size, size, 3), rng.uniform(0, 255, 3))
    for cells in (3, 12, 48):
        coarse = rng.normal(0, rng.uniform(0, 30), (cells, cells, 1 if rng.random() < 0.5 else 3))
        ground = ground + zoom(coarse, (size / cells, size / cells, 1), order=1)
    if rng.random() < 0.3:
        ground = ground + _stripes(size, rng)[..., None]
    return ground


def _stripes(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    y, x = np.mgrid[:size, :size]
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(3), np.log(40)))
    phase = (np.cos(angle) * y + np.sin(angle) * x) / period
    return rng.uniform(5, 50) * np.sign(np.sin(2 * np.pi * phase))


def _fill(size: int, colour: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """What a thing is painted with, (size, size, 3)."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    shade = rng.normal(0, 60) * y + rng.normal(0, 60) * x
    fill = colour + shade[..., None]
    if rng.random() < 0.3:
        fill = fill + _stripes(size, rng)[..., None]
    if rng.random() < 0.4:
        cells = int(rng.integers(8, 64))
        noise = zoom(rng.normal(0, rng.uniform(5, 35), (cells, cells)), size / cells, order=1)
        fill = fill + noise[..., None]
    return fill


def _shape(kind: int, size: int, radius: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """An ellipse, a polygon, or a smooth blob somewhere in the scene."""
    inside = np.zeros((size, size), bool)
    y, x = rng.uniform(0, size, 2)
    if kind == 0:
        rows, columns = ellipse(
            y, x, radius, radius * rng.uniform(0.4, 1), shape=inside.shape, rotation=rng.uniform(-3, 3)
        )
    else:
        corners = rng.integers(3, 9) if kind == 1 else 40
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if kind == 1 else np.linspace(0, 2 * np.pi, 40)
        radii = radius * rng.uniform(0.5, 1, corners)
        if kind == 2:
            waves = [rng.normal(0, 0.18 / k) * np.cos(k * angles + rng.uniform(0, 6)) for k in (2, 3, 4, 5)]
            radii = radius * np.clip(0.8 + np.sum(waves, axis=0), 0.2, 1.4)
        rows, columns = polygon(y + radii * np.sin(angles), x + radii * np.cos(angles), inside.shape)
    inside[rows, columns] = True
    return inside


def _eroded(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    shrunk = inside.copy()
    shrunk[1:] &= inside[:-1]
    shrunk[:-1] &= inside[1:]
    shrunk[:, 1:] &= inside[:, :-1]
    shrunk[:, :-1] &= inside[:, 1:]
    return shrunk
