"""What the docks ask of a model, behind one small interface, so that a process can stand in for a thread.

Pictures go by a key: the embedding stays where the model is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_samscape.model.progress import Progress
from napari_samscape.prediction.types import Masks

if TYPE_CHECKING:
    from napari_samscape.prediction.ask import Answer
    from napari_samscape.prediction.options import EdgeOptions, EverythingOptions
    from napari_samscape.prediction.phrase import Phrase
    from napari_samscape.prediction.types import Instance, Instances, Prompts
    from napari_samscape.prediction.views import Views
    from napari_samscape.scaling.propagate import Found
    from napari_samscape.widgets.drawn import Rectangles
    from napari_samscape.widgets.lesson import Learnt, Lesson


VIEWS = 8
"""How many embeddings of one picture are kept, of the whole and of what was looked at closer."""

REMEMBERED = 2**29
"""So many bytes of pictures and embeddings are kept: eighty views by nano, 120 by SAM's own models."""

PICTURE_SIDE = 1024
"""Longest side, in pixels, of the pictures that are kept to be shown next to the masks."""


class Engine(Protocol):
    """A promptable model. What takes a picture or a prompt may take long; it is called off the GUI thread."""

    def knows(self, key: Hashable) -> bool:
        """Whether the picture of this key has been embedded."""

    def embed(self, key: Hashable, pixels: NDArray, progress: Progress) -> None:
        """Look at a picture, (y, x) or (y, x, c), and remember it under the key."""

    def predict(self, key: Hashable, prompts: Prompts, multimask: bool) -> Masks:
        """Answer prompts about a picture that has been embedded, with three masks or with one."""

    def glance(self, key: Hashable, prompts: Prompts, multimask: bool) -> Instance:
        """The best mask that `predict` would give without looking closer; of no area where there is none."""

    def follow(self, key: Hashable, prompts: Prompts, before: Found | None, progress: Progress) -> Found:
        """The object of prompts in one plane of many; ``before`` is what was projected onto it, if any."""

    def picture(self, key: Hashable) -> NDArray[np.uint8]:
        """What the model saw, (y, x, 3); a picture larger than ``PICTURE_SIDE`` is thinned out."""

    @property
    def has_dense(self) -> bool | None:
        """Whether the model has a dense head; None where that shows only when it is loaded."""

    def load(self, progress: Progress) -> None:
        """Load the model if it is not loaded yet; may take long, too."""

    def everything(self, pixels: NDArray, options: EverythingOptions, progress: Progress) -> Instances:
        """Find all objects in a picture, (y, x) or (y, x, c)."""

    def edges(self, pixels: NDArray, options: EdgeOptions, progress: Progress) -> NDArray[np.float32]:
        """Draw the edges of a picture, from 0 to 1, (y, x)."""

    def boxes(self, pixels: NDArray, found: Rectangles, progress: Progress) -> Instances:
        """Find the object in each box; one without area where there is none."""

    def text(self, pixels: NDArray, phrase: Phrase, mode: str, progress: Progress) -> Instances:
        """Find what looks like a phrase: in the mode "text" by ranking everything, in "prompts" at once."""

    def tune(self, lesson: Lesson, progress: Progress) -> Learnt:
        """Write a checkpoint of a model that has learnt from labelled pictures; this one stays as it is."""

    def close(self) -> None:
        """Give back what it has taken, whatever is under way."""


class LocalEngine:
    """A model in this process; torch is imported, and the model loaded, with the first picture.

    Parameters
    ----------
    model : str
        What ``load_model`` takes: a known name or a path.
    remember : int
        Bytes of pictures and embeddings that are kept, of the pictures used last; the last one always is.
    """

    def __init__(self, model: str = "nano", remember: int = REMEMBERED) -> None:
        self.model = model
        self._remember = remember
        self._loaded: Any = None
        self._seen: OrderedDict[Hashable, tuple[Views, NDArray[np.uint8]]] = OrderedDict()

    def knows(self, key: Hashable) -> bool:
        """Whether the picture of this key has been embedded."""
        return key in self._seen

    def embed(self, key: Hashable, pixels: NDArray, progress: Progress) -> None:
        """Look at a picture, (y, x) or (y, x, c), and remember it under the key."""
        self.load(progress)
        from napari_samscape.prediction.image import to_rgb
        from napari_samscape.prediction.views import Views

        rgb = to_rgb(pixels)
        views = Views(self._loaded, rgb, keep=VIEWS)
        with _watched(self._loaded, progress):
            views.view(views.whole)
        step = -(-max(rgb.shape) // PICTURE_SIDE)
        self._seen[key] = views, rgb[::step, ::step].copy()
        while len(self._seen) > 1 and sum(seen.nbytes for seen, _ in self._seen.values()) > self._remember:
            self._seen.popitem(last=False)

    def predict(self, key: Hashable, prompts: Prompts, multimask: bool) -> Masks:
        """Answer prompts about a picture that has been embedded, with three masks or with one.

        Small things are looked at closer first.
        """
        answer = self._answer(key, prompts, multimask, look=True)
        shape = self._seen[key][0].shape
        masks = np.stack([item.within(shape) for item in answer.masks])
        return Masks(masks, answer.iou, answer.logits, answer.view)

    def glance(self, key: Hashable, prompts: Prompts, multimask: bool) -> Instance:
        """The best mask that `predict` would give without looking closer; of no area where there is none."""
        return self._answer(key, prompts, multimask, look=False).best

    def follow(self, key: Hashable, prompts: Prompts, before: Found | None, progress: Progress) -> Found:
        """The object of prompts in one plane of many; ``before`` is what was projected onto it, if any."""
        from napari_samscape.scaling.propagate import answer

        self._seen.move_to_end(key)
        with _watched(self._loaded, progress):
            return answer(self._seen[key][0], prompts, before)

    def _answer(self, key: Hashable, prompts: Prompts, multimask: bool, look: bool) -> Answer:
        from napari_samscape.prediction.ask import ask

        self._seen.move_to_end(key)
        return ask(self._seen[key][0], [prompts], multimask=multimask, look=look)[0]

    def picture(self, key: Hashable) -> NDArray[np.uint8]:
        """What the model saw, (y, x, 3); a picture larger than ``PICTURE_SIDE`` is thinned out."""
        return self._seen[key][1]

    def close(self) -> None:
        """Forget all pictures."""
        self._seen.clear()

    @property
    def has_dense(self) -> bool | None:
        """Whether the model has a dense head; None where that shows only when it is loaded."""
        if self._loaded is not None:
            return hasattr(self._loaded.image_encoder, "dense_head")
        from napari_samscape.model.registry import KNOWN

        return KNOWN[self.model].has_dense if self.model in KNOWN else None

    def load(self, progress: Progress) -> None:
        """Load the model if it is not loaded yet."""
        if self._loaded is None:
            progress(0, 0, f"Loading the model {Path(self.model).name}…")
            from napari_samscape.model.weights import load_model
            from napari_samscape.scaling.memory import recalling

            self._loaded = recalling(load_model(self.model))

    def everything(self, pixels: NDArray, options: EverythingOptions, progress: Progress) -> Instances:
        """Find all objects in a picture, (y, x) or (y, x, c)."""
        self.load(progress)
        from napari_samscape.prediction.automatic import everything

        with _followed(self._loaded, progress) as tell:
            return everything(self._loaded, pixels, options, tell)

    def edges(self, pixels: NDArray, options: EdgeOptions, progress: Progress) -> NDArray[np.float32]:
        """Draw the edges of a picture, from 0 to 1, (y, x)."""
        self.load(progress)
        from napari_samscape.prediction.edges import edges

        with _followed(self._loaded, progress) as tell:
            return edges(self._loaded, pixels, options, tell)

    def boxes(self, pixels: NDArray, found: Rectangles, progress: Progress) -> Instances:
        """Find the object in each box; one without area where there is none."""
        self.load(progress)
        from napari_samscape.prediction.boxes import segment_boxes

        with _followed(self._loaded, progress) as tell:
            return segment_boxes(self._loaded, pixels, found.boxes, found.scores, found.classes, tell)

    def text(self, pixels: NDArray, phrase: Phrase, mode: str, progress: Progress) -> Instances:
        """Find what looks like a phrase: in the mode "text" by ranking everything, in "prompts" at once."""
        self.load(progress)
        from napari_samscape.prediction.image import to_rgb
        from napari_samscape.scaling.modes import MODES, Asked, check_mode

        asked = Asked(phrase=phrase, device=str(self._loaded.device))
        check_mode(mode, asked)
        progress(0, 0, f"Loading the CLIP {Path(str(phrase.clip)).name}…")
        find = MODES[mode].make(self._loaded, asked)
        with _followed(self._loaded, progress) as tell:
            found: Any = find(to_rgb(pixels), tell)  # these modes find objects
            return found

    def tune(self, lesson: Lesson, progress: Progress) -> Learnt:
        """Write a checkpoint of a model that has learnt from labelled pictures; this one stays as it is."""
        self.load(progress)
        from napari_samscape.training.finetune import Settings
        from napari_samscape.training.material import hold_out, labelled
        from napari_samscape.training.tuning import tune
        from napari_samscape.widgets.lesson import Learnt

        material = hold_out([labelled(*each) for each in lesson.pictures], complete=lesson.complete)
        settings = Settings(**lesson.settings)
        outcome = tune(self._loaded, material, lesson.out, settings, progress=progress)
        return Learnt(outcome.path, outcome.rows() if outcome.before else ())


@contextmanager
def _followed(model: Any, progress: Progress) -> Iterator[Progress]:
    """Give a callback for a task's own steps; in between, the image encoder's layers report as well.

    Until the task has done a step, these are the progress. Later, when there are crops or windows to look at,
    they are where the work can be stopped.
    """
    steps: tuple[int, int, str] = (0, 0, "")

    def tell(done: int, total: int, text: str) -> None:
        nonlocal steps
        steps = done, total, f"{text[:1].upper()}{text[1:]}…"
        progress(*steps)

    def look(done: int, total: int, text: str) -> None:
        progress(*(steps if steps[0] else (done, total, text)))

    with _watched(model, look):
        yield tell


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

    def before_all(*_: Any) -> None:
        nonlocal done
        done = 0

    hooks = [leaf.register_forward_hook(after_layer) for leaf in leaves]
    hooks.append(encoder.register_forward_pre_hook(before_all))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
