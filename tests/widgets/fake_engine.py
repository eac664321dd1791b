"""A model for fast tests: the object is the connected region of equal intensity round the prompt."""

import threading

import numpy as np
from scipy import ndimage as ndi

from napari_samscape.errors import InputError
from napari_samscape.prediction.types import Masks


def region(picture, y, x):
    """The connected region of equal intensity that holds the pixel (y, x)."""
    components, _ = ndi.label(picture == picture[y, x])
    return components == components[y, x]


class FakeEngine:
    """Answers with the region round the first click, a smaller and a larger one; counts its work.

    A ``gate`` (an Event) holds embedding up until it is set, as a large model would.
    """

    def __init__(self, name="nano", gate=None):
        self.name = name
        self.gate = gate
        self.seen = {}
        self.asked = []
        self.threads = set()

    def knows(self, key):
        return key in self.seen

    def embed(self, key, pixels, progress):
        self.threads.add(threading.current_thread())
        while self.gate is not None and not self.gate.wait(0.005):
            progress(1, 4, "Looking at the picture…")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise InputError("The picture holds values that are not finite.")
        self.seen[key] = pixels if pixels.ndim == 2 else pixels.astype(float).sum(axis=-1)

    def picture(self, key):
        grey = self.seen[key].astype(float)
        grey = (255 * grey / max(grey.max(), 1)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)

    def predict(self, key, prompts, multimask):
        self.threads.add(threading.current_thread())
        self.asked.append(prompts)
        picture = self.seen[key]
        prompts.check_inside(picture.shape)
        mask = region(picture, *np.rint(self.centre(prompts)).astype(int))
        for (y, x), label in zip(np.rint(prompts.points).astype(int), prompts.labels, strict=True):
            if label == 0:
                mask &= ~region(picture, y, x)
        masks = np.stack([ndi.binary_erosion(mask), mask, ndi.binary_dilation(mask)])
        iou, logits = np.array([0.5, 0.9, 0.7], np.float32), np.arange(12, dtype=np.float32).reshape(3, 2, 2)
        return Masks(masks, iou, logits) if multimask else Masks(masks[1:2], iou[1:2], logits[1:2])

    @staticmethod
    def centre(prompts):
        if len(prompts.points):
            return prompts.points[0]
        if prompts.box is not None:
            return prompts.box.reshape(2, 2).mean(axis=0)
        return np.argwhere(prompts.mask).mean(axis=0)
