"""Edges without learning: Sobel's filter and Canny's method, with scikit-image's defaults.

Nothing here is tuned on any picture, and no map is stretched to its own picture's range: one threshold means
the same contrast in all pictures, as the measure over a data set (ODS) wants it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.feature import canny
from skimage.filters import gaussian, sobel

from napari_samscape.prediction.edges import thinned
from napari_samscape.prediction.image import to_rgb
from napari_samscape.prediction.types import FloatArray

LEVELS = 100  # steps of Canny's threshold
STRONGEST = 4.0  # the highest answer of Canny's Sobel filter along one axis, in a picture from 0 to 1


class Sobel:
    """Magnitude of Sobel's filter on the smoothed grey picture (sigma 1), thinned as a model's edges are."""

    name = "sobel"

    def edges(self, pixels: NDArray[Any]) -> FloatArray:
        """Edge map (y, x), from 0 to 1."""
        return thinned(sobel(gaussian(rgb2gray(to_rgb(pixels)))))


class Canny:
    """How high Canny's upper threshold may be for a pixel to stay in (sigma 1).

    The lower threshold is one half of the upper one, which is the proportion of scikit-image's defaults.
    """

    name = "canny"

    def edges(self, pixels: NDArray[Any]) -> FloatArray:
        """Edge map (y, x), from 0 to 1."""
        grey = rgb2gray(to_rgb(pixels))
        strength = np.zeros(grey.shape, np.float32)
        for level in range(1, LEVELS + 1):
            upper = STRONGEST * level / LEVELS
            left = canny(grey, low_threshold=upper / 2, high_threshold=upper)
            if not left.any():  # higher thresholds leave no more
                break
            strength[left] = level / LEVELS
        return strength
