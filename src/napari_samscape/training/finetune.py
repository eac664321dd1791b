"""Fine-tuning: a model and a few labelled pictures in, a model that knows them out; minutes on two cores.

The parent is only read. What it knew is kept in four ways: by default most of its encoder is frozen; some of
the steps are about what the parent says of sample pictures, and about made-up scenes; the child lies between
the parent and what was learnt (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"); and of all
weights met on the way the last are kept of those that answer best, or as good as best, about objects that no
step has seen, and about the sample pictures.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from napari_samscape.errors import InputError
from napari_samscape.model.progress import Progress
from napari_samscape.model.sam import Sam
from napari_samscape.sample_files import PICTURES
from napari_samscape.training.batches import made_ahead
from napari_samscape.training.data import Picture
from napari_samscape.training.lesson import Manner, batch_of_crops, batch_of_views, keep_views
from napari_samscape.training.lora import add_low_rank, is_low_rank, merge_low_rank
from napari_samscape.training.material import Material
from napari_samscape.training.memory import remembered
from napari_samscape.training.prompts import Batch
from napari_samscape.training.synthetic import synthetic_picture
from napari_samscape.training.train import descend, make_optimizers, share_of_rate
from napari_samscape.training.watch import validate

METHODS = ("decoder", "lora", "full")
HEADS = ("prompt_encoder.", "mask_decoder.")
#: What nano has above the frozen part of its encoder, see `NanoEncoder.finish`.
NECK = tuple(
    f"image_encoder.{name}." for name in ("neck", "lateral", "top_down", "smooth", "to_skips", "dense_head")
)
WARM_UP = 20  # steps
LOOKS = 8  # at the objects held out, in a run
KNOWN = 0.5  # weight of the sample pictures, beside the objects held out, in the choice of what is kept
AS_GOOD = 0.02  # less than the best may be by chance; later weights are the average of more steps
PATIENCE = 5  # looks without a better one; the gain may come late, when the rate falls
CHECKS = 6  # batches of objects held out
KEEPS = 0.98  # of the moving average of the weights, at most, in a step
CORRECTED = 0.5  # share of steps with a correction
CLICK, BOX = 0.0, 0.7  # kinds of `first_prompt`
FIRST_SCENE = 10_000  # its seed
TOO_SMALL = "No labelled object is large enough, as the model sees it, to learn from."
MISSING = 30  # steps with nothing to ask
Make = Callable[[int], "Batch | None"]


@dataclass(frozen=True)
class Settings:
    """How to fine-tune.

    Attributes
    ----------
    method : str
        "decoder": the encoder is frozen, what it makes of a few views is kept, and the rest learns (of `nano`
        also the neck of the encoder and its dense head, which cost little). "lora": decoder, and low-rank
        changes to the encoder's attention. "full": everything. The last two run the encoder in every step.
    steps : int
        At most.
    minutes : float or None
        At most; None for any time.
    rate : float
        Of learning, at its highest.
    crops : int
        In a step, of a model that is asked in windows.
    views : int
        Of the pictures that a frozen encoder sees.
    scenes : int
        Made-up ones, to rehearse, beside as many views of what the parent says of the sample pictures.
    rehearsal : float
        Share of the steps that are about these.
    share : float
        Of the way from the parent's weights to those that were learnt, at which the child lies.
    rank : int
        Of low-rank changes.
    seed : int

    Raises
    ------
    InputError
        If a value is out of range.
    """

    method: str = "decoder"
    steps: int = 360
    minutes: float | None = None
    rate: float = 2e-3
    crops: int = 4
    views: int = 40
    scenes: int = 12
    rehearsal: float = 0.35
    share: float = 0.35
    rank: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"There is no method '{self.method}'; there are {', '.join(METHODS)}.")
        for name in ("steps", "rate", "crops", "views", "rank"):
            if getattr(self, name) <= 0:
                raise InputError(f"The setting {name} must be above 0; it is {getattr(self, name):g}.")
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"The setting minutes must be above 0; it is {self.minutes:g}.")
        if not 0 <= self.rehearsal < 1:
            raise InputError(f"The setting rehearsal must be from 0 to below 1; it is {self.rehearsal:g}.")
        if not 0 < self.share <= 1:
            raise InputError(f"The setting share must be above 0 and at most 1; it is {self.share:g}.")


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of it.

    Attributes
    ----------
    model : Sam
        The child; the parent is as it was.
    steps : int
        Taken.
    kept : int
        The step whose weights were kept; 0 if none was better than the parent.
    seconds : float
    course : list of tuple
        (step, mean IoU of clicks and boxes on objects held out), from step 0; empty without any.
    """

    model: Sam
    steps: int
    kept: int
    seconds: float
    course: list[tuple[int, float]] = field(default_factory=list)


class Learner:
    """A copy of the parent, the weights of it that learn, how they began, and their moving average."""

    def __init__(self, parent: Sam, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.child = copy.deepcopy(parent).train()
        self.child.recall = None  # what is kept of the parent's embeddings is not the child's
        self.child.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weights = self._chosen()
        self.begin = self._values()
        self.average = self._values()
        self.optimizers = make_optimizers(list(self.weights.values()), settings.rate)
        self.manner = Manner.of(parent, settings.crops)

    def _chosen(self) -> dict[str, nn.Parameter]:
        method = self.settings.method
        if method == "lora":
            add_low_rank(self.child.image_encoder, self.settings.rank)
        prefixes = HEADS + (NECK if self.child.is_nano else ())
        chosen = {}
        for name, weight in self.child.named_parameters():
            learns = method == "full" or name.startswith(prefixes) or is_low_rank(name)
            weight.requires_grad_(learns)
            if learns:
                chosen[name] = weight
        return chosen

    def _values(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    def learn(self, batch: Batch, step: int, share: float) -> float:
        """Take a step, at a share of the full rate, and give the loss before it."""
        rng = np.random.default_rng((self.settings.seed, step, 1))
        rounds = 2 if rng.random() < CORRECTED else 1
        loss, _ = descend(self.child, self.optimizers, batch, rounds, share, rng)
        keeps = min(KEEPS, (step + 1) / (step + 5))
        with torch.no_grad():
            for name, weight in self.weights.items():
                self.average[name].lerp_(weight, 1 - keeps)
        return float(loss)

    def look(self, checks: Sequence[Batch]) -> float:
        """Mean IoU of first answers of what would be kept now."""
        own = self._values()
        self._fill(self.snapshot())
        with torch.autocast(self.child.device.type, torch.bfloat16):
            iou = validate(self.child.eval(), checks)
        self._fill(own)
        self.child.train()
        return iou

    def snapshot(self) -> dict[str, Tensor]:
        """What would be kept now: weights between those of the beginning and the averaged ones."""
        share = self.settings.share
        return {name: value.lerp(self.average[name], share) for name, value in self.begin.items()}

    def finished(self, values: dict[str, Tensor]) -> Sam:
        """The model with these weights, like any other."""
        self._fill(values)
        merge_low_rank(self.child.image_encoder)
        for weight in self.child.parameters():
            weight.requires_grad_(True)
        self.child.digest = ""
        return self.child.eval()

    @torch.no_grad()
    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(values[name])


def finetune(
    parent: Sam, material: Material, settings: Settings | None = None, progress: Progress | None = None
) -> Tuned:
    """Teach a model what a few labelled pictures show.

    Parameters
    ----------
    parent : Sam
        Any of the family; it stays as it is.
    material : Material
        What to learn from, and what to judge by.
    settings : Settings, optional
    progress : callable, optional
        Called as ``progress(done, total, text)``; raise from it to cancel.

    Returns
    -------
    Tuned

    Raises
    ------
    InputError
        If nothing in the material can be asked for.
    """
    settings = settings or Settings()
    tell = progress or (lambda done, total, text: None)
    begun = time.monotonic()
    learner = Learner(parent, settings)
    known = remembered(learner.child) if settings.rehearsal and settings.scenes >= len(PICTURES) else []
    make = _lessons(learner, material.learn, known, tell)
    checks = _checks(learner, material.check)
    reminders = _checks(learner, known) if checks else []
    best, kept, parents, highest = learner.snapshot(), 0, 0.0, 0.0
    course: list[tuple[int, float]] = []
    if checks:
        iou, parents = _judged(learner, checks, reminders)
        course.append((0, iou))
    every = max(1, settings.steps // LOOKS)
    step = 0
    with closing(_batches(make)) as batches:
        for batch in batches:
            done = _done(step, time.monotonic() - begun, settings)
            tell(round(1000 * done), 1000, _said(course))
            learner.learn(batch, step, share_of_rate(done, step, WARM_UP))
            step += 1
            over = _done(step, time.monotonic() - begun, settings) >= 1
            if checks and (over or step % every == 0):
                iou, worth = _judged(learner, checks, reminders)
                course.append((step, iou))
                if worth > max(parents, highest - AS_GOOD):
                    best, kept = learner.snapshot(), step
                highest = max(highest, worth)
                over = over or sum(at > kept for at, _ in course) >= PATIENCE
            if over:
                break
    if not checks:
        best, kept = learner.snapshot(), step
    return Tuned(learner.finished(best), step, kept, time.monotonic() - begun, course)


def _judged(learner: Learner, checks: Sequence[Batch], reminders: Sequence[Batch]) -> tuple[float, float]:
    """Mean IoU on objects held out, and what the weights are worth, as they would be kept now."""
    iou = learner.look(checks)
    return iou, iou + KNOWN * learner.look(reminders) if reminders else iou


def _lessons(learner: Learner, pictures: Sequence[Picture], known: Sequence[Picture], tell: Progress) -> Make:
    """What makes the batch of a step; the same step always gets the same."""
    settings, model = learner.settings, learner.child
    rng = np.random.default_rng(settings.seed)
    scenes = [synthetic_picture(FIRST_SCENE + i) for i in range(settings.scenes if settings.rehearsal else 0)]
    scenes += list(known) * (settings.scenes // max(1, len(known)))  # as often as made-up ones
    if settings.method == "decoder":
        views = keep_views(model, pictures, settings.views, rng, progress=tell)
        others = keep_views(model, scenes, len(scenes), rng, progress=tell)

    def make(step: int) -> Batch | None:
        own = np.random.default_rng((settings.seed, step))
        rehearses = bool(scenes) and own.random() < settings.rehearsal
        manner = learner.manner.drawn(own)
        if settings.method == "decoder":
            return batch_of_views(others if rehearses else views, manner, own)
        return batch_of_crops(scenes if rehearses else pictures, manner, own)

    return make


def _batches(make: Make) -> Generator[Batch, None, None]:
    """One after the other; steps with nothing to ask are left out, as long as they are the fewest."""
    missing = 0
    for step, batch in enumerate(made_ahead(make), start=1):
        missing += batch is None
        if missing >= MISSING and 2 * missing > step:
            raise InputError(TOO_SMALL)
        if batch is not None:
            yield batch


def _checks(learner: Learner, pictures: Sequence[Picture]) -> list[Batch]:
    """Questions about objects, the same in every run; an encoder that learns sees them anew each time."""
    rng = np.random.default_rng(0)
    manner = replace(learner.manner, crops=min(4, learner.manner.crops))
    kinds = (CLICK, CLICK, BOX) * 2 if pictures else ()
    if learner.settings.method == "decoder":
        views = keep_views(learner.child, pictures, CHECKS, rng, coloured=False)
        asked = [batch_of_views(views, manner, rng, kind) for kind in kinds]
    else:
        asked = [batch_of_crops(pictures, manner, rng, kind, coloured=False) for kind in kinds]
    return [batch for batch in asked if batch is not None]


def _done(step: int, seconds: float, settings: Settings) -> float:
    """Share of the run that is over, by steps or by time."""
    by_time = seconds / (60 * settings.minutes) if settings.minutes else 0.0
    return min(1.0, max(step / settings.steps, by_time))


def _said(course: Sequence[tuple[int, float]]) -> str:
    found = f", IoU {max(iou for _, iou in course):.3f} on objects held out" if course else ""
    return f"Learning{found}"
