"""Two detectors for cells and nuclei that need no training; see `napari_samscape.prediction.detections`.

Objects are taken for brighter than their surroundings, or for darker: whichever of the two sides of Otsu's
threshold has fewer pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import blob_log, peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from napari_samscape.errors import InputError
from napari_samscape.prediction.detections import Detections

#: Pixels; noise below this is smoothed away.
SMOOTH = 1.0
#: Pixels; regions of fewer are no objects, and middles that lie closer are those of one object.
MIN_AREA, MIN_DISTANCE = 20, 5
#: Of blobs: smallest sigma in pixels, largest as a share of the shorter side, and how many in all.
SMALLEST, LARGEST, SCALES = 3.0, 1 / 16, 12
#: Fainter ones than this share of the strongest go, and of two that overlap by more than this, the smaller.
FAINTEST, OVERLAP = 0.25, 0.3


def otsu(pixels: NDArray[Any]) -> Detections:
    """Otsu's threshold, and a watershed of the distance to its edge, which parts what touches.

    Parameters
    ----------
    pixels : ndarray, shape (y, x) or (y, x, c)

    Returns
    -------
    Detections
        A box around each region of at least `MIN_AREA` pixels.
    """
    grey = _grey(pixels)
    inside = _inside(grey)
    distance = gaussian(ndimage.distance_transform_edt(inside), SMOOTH, preserve_range=True)
    middles = peak_local_max(
        distance, min_distance=MIN_DISTANCE, labels=inside.astype(int), exclude_border=False
    )
    markers = np.zeros(grey.shape, np.int32)
    markers[tuple(middles.T)] = np.arange(1, len(middles) + 1)
    regions = watershed(-distance, markers, mask=inside)
    areas = np.bincount(regions.ravel())
    boxes = [
        (rows.start - 0.5, columns.start - 0.5, rows.stop - 0.5, columns.stop - 0.5)
        for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1)
        if areas[number] >= MIN_AREA
    ]
    return Detections(boxes)


def blobs(pixels: NDArray[Any]) -> Detections:
    """Round spots of any size, where the Laplacian of a Gaussian is largest (scikit-image's `blob_log`).

    Parameters
    ----------
    pixels : ndarray, shape (y, x) or (y, x, c)
        Takes about 100 bytes of memory for each pixel.

    Returns
    -------
    Detections
        A square around each spot.
    """
    grey = _grey(pixels)
    inside = _inside(grey)
    if not inside.any():
        return Detections(())
    if grey[inside].mean() < grey[~inside].mean():
        grey = 1 - grey
    found = blob_log(
        grey,
        min_sigma=SMALLEST,
        max_sigma=max(SMALLEST, LARGEST * min(grey.shape)),
        num_sigma=SCALES,
        threshold=None,
        threshold_rel=FAINTEST,
        overlap=OVERLAP,
    )
    radius = found[:, 2:] * np.sqrt(2)  # at which the Laplacian of a disc is largest
    return Detections(np.concatenate([found[:, :2] - radius, found[:, :2] + radius], axis=1))


def _grey(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """One channel, the mean of all, from 0 to 1."""
    pixels = np.asarray(pixels)
    if pixels.ndim not in (2, 3):
        raise InputError(
            f"A detector looks at (y, x) or (y, x, c); this picture has the shape {pixels.shape}."
        )
    grey = pixels.astype(np.float64)
    grey = grey if pixels.ndim == 2 else grey.mean(axis=-1)
    low, high = grey.min(), grey.max()
    return (grey - low) / (high - low) if high > low else np.zeros_like(grey)


def _inside(grey: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The side of Otsu's threshold that has fewer pixels; nothing in a constant picture."""
    smooth = gaussian(grey, SMOOTH, preserve_range=True)
    if smooth.max() - smooth.min() < 1e-6:
        return np.zeros(grey.shape, bool)
    bright = smooth > threshold_otsu(smooth)
    return bright if 2 * np.count_nonzero(bright) <= bright.size else ~bright
