"""What the docks ask of a model, behind one small interface, so that a process can stand in for a thread.

Pictures go by a key: the embedding stays where the model is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_samscape.prediction.types import Embedding, Masks, Prompts

Progress = Callable[[int, int, str], None]

PICTURE_SIDE = 1024
"""Longest side, in pixels, of the pictures that are kept to be shown next to the masks."""


class Engine(Protocol):
    """A promptable model. Everything but ``knows`` may take long and is called off the GUI thread."""

    def knows(self, key: Hashable) -> bool:
        """Whether the picture of this key has been embedded."""

    def embed(self, key: Hashable, pixels: NDArray, progress: Progress) -> None:
        """Look at a picture, (y, x) or (y, x, c), and remember it under the key."""

    def predict(self, key: Hashable, prompts: Prompts, multimask: bool) -> Masks:
        """Answer prompts about a picture that has been embedded, with three masks or with one."""

    def picture(self, key: Hashable) -> NDArray[np.uint8]:
        """What the model saw, (y, x, 3); a picture larger than ``PICTURE_SIDE`` is thinned out."""


class LocalEngine:
    """A model in this process; torch is imported, and the model loaded, with the first picture.

    Parameters
    ----------
    model : str
        What ``load_model`` takes: a known name or a path.
    remember : int
        How many pictures' embeddings are kept, the most recently used ones.
    """

    def __init__(self, model: str = "nano", remember: int = 16) -> None:
        self.model = model
        self._remember = remember
        self._loaded: Any = None
        self._seen: OrderedDict[Hashable, tuple[Embedding, NDArray[np.uint8]]] = OrderedDict()

    def knows(self, key: Hashable) -> bool:
        """Whether the picture of this key has been embedded."""
        return key in self._seen

    def embed(self, key: Hashable, pixels: NDArray, progress: Progress) -> None:
        """Look at a picture, (y, x) or (y, x, c), and remember it under the key."""
        if self._loaded is None:
            progress(0, 0, f"Loading the model {self.model}…")
            from napari_samscape.model.weights import load_model

            self._loaded = load_model(self.model)
        from napari_samscape.prediction.image import to_rgb
        from napari_samscape.prediction.predict import embed

        rgb = to_rgb(pixels)
        with _watched(self._loaded, progress):
            embedding = embed(self._loaded, rgb)
        step = -(-max(rgb.shape) // PICTURE_SIDE)
        self._seen[key] = embedding, rgb[::step, ::step].copy()
        while len(self._seen) > self._remember:
            self._seen.popitem(last=False)

    def predict(self, key: Hashable, prompts: Prompts, multimask: bool) -> Masks:
        """Answer prompts about a picture that has been embedded, with three masks or with one."""
        from napari_samscape.prediction.predict import predict

        self._seen.move_to_end(key)
        return predict(self._loaded, self._seen[key][0], prompts, multimask=multimask)

    def picture(self, key: Hashable) -> NDArray[np.uint8]:
        """What the model saw, (y, x, 3); a picture larger than ``PICTURE_SIDE`` is thinned out."""
        return self._seen[key][1]


@contextmanager
def _watched(model: Any, progress: Progress) -> Iterator[None]:
    """Report progress from each layer of the image encoder, where the work can be stopped, too."""
    encoder = getattr(model, "image_encoder", model)
    leaves = [module for module in encoder.modules() if next(module.children(), None) is None]
    done = 0

    def after_layer(*_: Any) -> None:
        nonlocal done
        done = min(done + 1, len(leaves))
        progress(done, len(leaves), "Looking at the picture…")

    hooks = [leaf.register_forward_hook(after_layer) for leaf in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
