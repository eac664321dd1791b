"""What the docks ask of a model, behind one small interface, so that a process can stand in for a thread.

Pictures go by a key: the embedding stays where the model is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_samscape.prediction.types import Embedding, Masks, Prompts

Progress = Callable[[int, int, str], None]


class Engine(Protocol):
    """A promptable model. Everything but ``knows`` may take long and is called off the GUI thread."""

    def knows(self, key: Hashable) -> bool:
        """Whether the picture of this key has been embedded."""

    def embed(self, key: Hashable, pixels: NDArray, progress: Progress) -> None:
        """Look at a picture, (y, x) or (y, x, c), and remember it under the key."""

    def predict(self, key: Hashable, prompts: Prompts) -> Masks:
        """Answer prompts about a picture that has been embedded."""


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
        self._embeddings: OrderedDict[Hashable, Embedding] = OrderedDict()

    def knows(self, key: Hashable) -> bool:
        """Whether the picture of this key has been embedded."""
        return key in self._embeddings

    def embed(self, key: Hashable, pixels: NDArray, progress: Progress) -> None:
        """Look at a picture, (y, x) or (y, x, c), and remember it under the key."""
        if self._loaded is None:
            progress(0, 0, f"Loading the model {self.model}…")
            from napari_samscape.model.weights import load_model

            self._loaded = load_model(self.model)
        from napari_samscape.prediction.predict import embed

        with _watched(self._loaded, progress):
            self._embeddings[key] = embed(self._loaded, pixels)
        while len(self._embeddings) > self._remember:
            self._embeddings.popitem(last=False)

    def predict(self, key: Hashable, prompts: Prompts) -> Masks:
        """Answer prompts about a picture that has been embedded."""
        from napari_samscape.prediction.predict import predict

        self._embeddings.move_to_end(key)
        return predict(self._loaded, self._embeddings[key], prompts)


@contextmanager
def _watched(model: Any, progress: Progress) -> Iterator[None]:
    """Report progress from inside the image encoder, layer by layer, which is also where it can be stopped."""
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
