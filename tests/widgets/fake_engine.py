"""A model for fast tests: the object is the connected region of equal intensity round the prompt."""

import threading
from dataclasses import replace

import numpy as np
from scipy import ndimage as ndi

from napari_samscape.errors import InputError
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import NOTHING, Instance, Instances, Masks
from napari_samscape.scaling.propagate import Found
from napari_samscape.widgets.lesson import Learnt


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
        self.followed = []
        self.threads = set()
        self.options = None
        self.loaded = False

    def close(self):
        self.closed = True

    def tune(self, lesson, progress):
        progress(1, 2, "Learning")
        return Learnt(lesson.out, [("objects", str(int(lesson.pictures[0][2].max())))])

    def knows(self, key):
        return key in self.seen

    def embed(self, key, pixels, progress):
        self.seen[key] = self.look(pixels, progress)

    def look(self, pixels, progress):
        self.threads.add(threading.current_thread())
        while self.gate is not None and not self.gate.wait(0.005):
            progress(1, 4, "Looking at the picture…")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise InputError("The picture holds values that are not finite.")
        return pixels if pixels.ndim == 2 else pixels.astype(float).sum(axis=-1)

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

    def glance(self, key, prompts, multimask):
        mask = self.predict(key, prompts, multimask=False).masks[0]
        return instance_from_mask(mask, predicted_iou=0.9) if mask.any() else NOTHING

    def follow(self, key, prompts, before, progress):
        """The region at the middle of what is projected; points correct a mask by whole regions."""
        progress(0, 0, "")
        self.asked.append(prompts)
        self.followed.append(key)
        picture = self.seen[key][..., 0] if self.seen[key].ndim == 3 else self.seen[key]
        given = prompts.mask is not None and prompts.mask.shape == picture.shape and len(prompts.points)
        mask = prompts.mask > 0 if given else region(picture, *np.rint(self.centre(prompts)).astype(int))
        for (y, x), label in zip(np.rint(prompts.points).astype(int), prompts.labels, strict=True):
            mask = mask | region(picture, y, x) if label else mask & ~region(picture, y, x)
        item = instance_from_mask(mask, predicted_iou=0.9) if mask.any() else NOTHING
        return Found(item, (0, 0, *picture.shape), np.where(mask, 1, -1).astype(np.float32))

    @staticmethod
    def centre(prompts):
        if len(prompts.points):
            return prompts.points[0]
        if prompts.box is not None:
            return prompts.box.reshape(2, 2).mean(axis=0)
        return np.argwhere(prompts.mask).mean(axis=0)

    @property
    def has_dense(self):
        return None if "/" in self.name and not self.loaded else self.name == "nano"

    def load(self, progress):
        self.threads.add(threading.current_thread())
        if "broken" in self.name:
            raise InputError("The file is no model.")
        self.loaded = True

    def everything(self, pixels, options, progress):
        """The regions of equal intensity that are not black, the darkest first; all are rather sure."""
        grey, self.options = self.look(pixels, progress), options
        if options.pred_iou_thresh >= 0.9:
            return Instances((), grey.shape)
        items = []
        for value in np.unique(grey[grey > 0]):
            parts, count = ndi.label(grey == value)
            for part in range(1, count + 1):
                items.append(instance_from_mask(parts == part, predicted_iou=0.9, stability=0.75))
        return Instances(tuple(items), grey.shape)

    def edges(self, pixels, options, progress):
        """1 on the bright side of each edge, and 0.5 on the dark side too where lines may be soft."""
        grey, self.options = self.look(pixels, progress), options
        inside = grey > 0
        edges = (inside & ~ndi.binary_erosion(inside)).astype(np.float32)
        if not options.thin:
            edges[ndi.binary_dilation(inside) & ~inside] = 0.5
        return edges

    def boxes(self, pixels, found, progress):
        """The region at the middle of each box; nothing where that lies outside or is black."""
        grey, self.options = self.look(pixels, progress), found
        items = []
        for index, box in enumerate(found.boxes):
            y, x = np.rint(box.reshape(2, 2).mean(axis=0)).astype(int)
            item = Instance(box=(0, 0, 0, 0), bits=np.zeros(0, np.uint8))
            if 0 <= y < grey.shape[0] and 0 <= x < grey.shape[1] and grey[y, x] > 0:
                item = instance_from_mask(region(grey, y, x), predicted_iou=0.9)
            score = np.nan if found.scores is None else found.scores[index]
            category = None if found.classes is None else found.classes[index]
            items.append(replace(item, score=score, category=category))
        return Instances(tuple(items), grey.shape)

    def text(self, pixels, phrase, mode, progress):
        """The regions that are not black, the brightest first; nothing looks like 'nothing'."""
        grey, self.options = self.look(pixels, progress), (phrase, mode)
        if phrase.clip == "missing":
            raise InputError(
                'The CLIP needs transformers; install it with: pip install "napari-samscape[text]".'
            )
        values = [] if phrase.text == "nothing" else sorted(np.unique(grey[grey > 0]), reverse=True)
        items = [
            replace(instance_from_mask(grey == value, predicted_iou=0.9), score=0.75 - 0.25 * place)
            for place, value in enumerate(values)
        ]
        return Instances(tuple(items), grey.shape)
