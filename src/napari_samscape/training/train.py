"""One readable loop: crops in, better weights out; can be stopped and taken up again at any moment."""

from __future__ import annotations

import json
import math
import os
import time
import tomllib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_samscape.errors import InputError
from napari_samscape.model.sam import SINGLE, Sam, build_nano
from napari_samscape.model.weights import choose_device, load_model, save_model
from napari_samscape.prediction.clip import load_clip
from napari_samscape.training.batches import Sampler, read_pictures
from napari_samscape.training.data import read_source
from napari_samscape.training.loss import dense_loss, prompt_loss, true_iou
from napari_samscape.training.muon import Muon, is_matrix
from napari_samscape.training.prompts import Batch, correction
from napari_samscape.training.team import Team
from napari_samscape.training.text import Describe
from napari_samscape.training.watch import Watch, each_prompts, encode, held_out

ALL = slice(0, 4)
WARM_UP = 100  # steps
OTHERS = 6000  # objects among which alike ones are sought
NO_STEP = 1_000_000_000
VALIDATION_CROPS = 64
ALONE = Team()
WITHOUT_ENCODER = ("prompt_encoder.", "mask_decoder.")
SAVED = {"model", "average", "optimizers", "step", "seconds", "best", "config"}
Report = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """A data set: its path (relative to the configuration file), share of the crops, and completeness."""

    path: str
    weight: float = 1.0
    complete: bool = True


@dataclass(frozen=True)
class Config:
    """What ``samscape train`` reads from its TOML file."""

    sources: tuple[Source, ...]
    out: str = "runs/nano"
    start: str = ""  # a checkpoint to begin with
    parts: tuple[str, ...] = ()  # train only weights whose names begin so; all where left out
    minutes: float = 60.0
    batch: int = 8  # crops
    crop: int = 256  # pixels
    wide: float = 0.0  # share of steps that have a quarter as many crops, twice as wide, to show context
    objects: int = 8  # asked for in a crop
    rate: float = 1e-3
    rounds: int = 2  # first prompt, then corrections
    corrected: float = 1.0  # share of steps in which there are corrections
    synthetic: int = 0  # made-up pictures
    synthetic_weight: float = 0.1
    validation: tuple[str, ...] = ()  # data sets to watch, never trained on
    seed: int = 0
    threads: int = 2
    device: str = "auto"
    shown: int = 0  # longest side of a picture as a whole, in pixels; as the model has it where 0
    recolour: bool = True  # whether crops are shown in other colours, too
    text: str = ""  # a CLIP, by name or folder; its view of an object is then the first prompt
    text_share: float = 0.75  # of steps; the others begin with clicks and boxes, as without
    text_area: int = 625  # pixels of a described object in a crop; the paper's 100 x 100 of 1024 x 1024
    text_noise: float = 0.0  # length of what is added to CLIP's view; phrases never lie where pictures do
    text_nearest: int = 0  # an object is also asked for by one of so many others that CLIP takes for alike
    folder: Path = field(default=Path(), compare=False)  # where the file lies


def read_config(path: Path) -> Config:
    """Read a configuration.

    Raises
    ------
    InputError
        If the file is missing, is no TOML, or holds a key that is not known.
    """
    try:
        values = tomllib.loads(path.read_text())
    except OSError:
        raise InputError(f"There is no configuration {path}.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is no TOML: {error}.") from None
    known = {f.name for f in fields(Config)}
    for key in values:
        if key not in known:
            raise InputError(f"{path} has a key '{key}', which is none of {', '.join(sorted(known))}.")
    try:
        values["sources"] = tuple(Source(**row) for row in values.get("sources", []))
        values |= {key: tuple(values[key]) for key in ("parts", "validation") if key in values}
        return Config(**values, folder=path.parent)
    except TypeError as error:
        raise InputError(f"{path} has a wrong entry: {error}.") from None


def forward(model: Sam, batch: Batch, rounds: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Loss of a batch over several rounds of prompts, and the first round's true IoU by object.

    Each further round adds a click in the error of the mask chosen and gives that mask as a prompt.
    """
    encoded = encode(model, batch)
    loss = encoded.features.new_zeros(()) if encoded.dense is None else dense_loss(encoded.dense, batch.dense)
    each = each_prompts(encoded, batch.index)
    cells = model.prompt_encoder.grid - encoded.features.shape[3]  # the crop lies anywhere in a picture
    origin = torch.from_numpy(rng.uniform(0, max(cells, 0), (len(batch.pixels), 2)).astype(np.float32))
    origin = origin.to(batch.pixels.device)[batch.index]
    prompt, first = batch.prompt, None
    for turn in range(rounds):
        # After a correction the single mask counts; all four then only now and then, to save time.
        which = ALL if turn == 0 or rng.random() < 0.25 else SINGLE
        logits, iou = model.decode_whole(each, prompt, which, origin)
        targets = batch.targets.at(logits.shape[3])
        loss = loss + prompt_loss(logits, iou, targets) / rounds
        chosen = 1 + iou[:, 1:].argmax(1) if turn == 0 else torch.zeros_like(batch.index)  # of the four
        shown = logits.detach()[torch.arange(len(logits)), chosen].float()
        if first is None:
            first = true_iou(shown[:, None], targets)[:, 0]
        if turn < rounds - 1:
            more, kinds = correction(shown, targets, rng, batch.pixels.shape[3] // shown.shape[2])
            points, labels = torch.cat([prompt.points, more], 1), torch.cat([prompt.labels, kinds], 1)
            prompt = replace(prompt, points=points, labels=labels, masks=shown[:, None].clamp(-12, 12))
    return loss, first[batch.targets.is_object]  # type: ignore[index]


@dataclass
class State:
    """Everything a run needs to go on."""

    model: Sam
    average: Sam  # moving average of the weights: what is kept
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    seconds: float = 0.0
    best: float = 0.0  # validation IoU so far

    def save(self, path: Path, config: Config) -> None:
        """Write to a temporary name, then move."""
        partial = path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
                "config": _identity(config),
            },
            partial,
        )
        os.replace(partial, path)

    def load(self, path: Path, config: Config) -> None:
        """Go on from a file.

        Raises
        ------
        InputError
            If the file was written under another configuration, or by another version.
        """
        saved = torch.load(path, weights_only=True)
        if not saved.keys() >= SAVED:
            raise InputError(f"{path} is of another version; use another output folder.")
        before = _identity(Config(())) | saved["config"]  # of an older version, which knew fewer keys
        for key, value in _identity(config).items():
            if before[key] != value:
                raise InputError(
                    f"{path} was trained with another '{key}'; use another output folder, or the old value."
                )
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        for optimizer, values in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.step, self.seconds, self.best = saved["step"], saved["seconds"], saved["best"]


def _identity(config: Config) -> dict[str, Any]:
    """The settings that may not change within a run."""
    changeable = {"minutes", "threads", "device", "folder", "out", "validation"}
    return json.loads(json.dumps({k: v for k, v in asdict(config).items() if k not in changeable}))


def new_state(config: Config) -> State:
    """A run's beginning: fresh weights, or those of ``config.start``, which may learn to take text.

    Raises
    ------
    InputError
        If there are no such weights or no such CLIP, or they do not go together or with the crops' size.
    """
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    begin = load_model(config.folder / config.start) if config.start else build_nano()
    _check_crop(begin, config)
    if config.text:
        _take_text(begin, describe_with(config).clip.width, config)
    model = begin.to(device).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = deepcopy(model).eval()
    parts = config.parts or (WITHOUT_ENCODER if config.text and config.start else ())
    for name, weight in model.named_parameters():
        weight.requires_grad_(not parts or name.startswith(parts))
    learned = [p for p in model.parameters() if p.requires_grad]
    if not learned:
        raise InputError(f"No weight's name begins with {' or '.join(parts)}.")
    return State(model, average, make_optimizers(learned, config.rate))


def _check_crop(model: Sam, config: Config) -> None:
    if not model.is_nano and config.crop != model.image_size:
        size = model.image_size
        raise InputError(
            f"{config.start} looks at {size} x {size} pixels, no more and no less: set crop = {size}."
        )


def _take_text(model: Sam, width: int, config: Config) -> None:
    learnt = model.prompt_encoder.text_width
    if learnt not in (0, width):
        raise InputError(
            f"{config.start} has learnt from a CLIP with embeddings of {learnt} numbers; those of "
            f"{config.text} have {width}."
        )
    if not learnt:
        model.prompt_encoder.add_text(width)


def describe_with(config: Config) -> Describe:
    """What shows objects to the configuration's CLIP, which is loaded once."""
    folder = config.folder / config.text
    clip = load_clip(str(folder) if folder.exists() else config.text, config.device)
    return Describe(clip, config.text_area, config.text_noise)


def _with_others(sampler: Sampler, describe: Describe, config: Config) -> Describe:
    """The same, that knows other objects; these are of batches that no step has."""
    plain = replace(sampler, config=replace(config, text_share=1.0), describe=replace(describe, noise=0.0))
    others: list[Tensor] = []
    while sum(map(len, others)) < OTHERS:
        texts = plain.batch(NO_STEP + len(others)).texts
        others += [] if texts is None else [texts]
    return replace(describe, others=torch.cat(others), nearest=config.text_nearest)


def make_optimizers(weights: list[nn.Parameter], rate: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for matrices, AdamW at half the rate for the rest; each only if there is something for it."""
    matrices = [p for p in weights if is_matrix(p)]
    others = [p for p in weights if not is_matrix(p)]
    made: list[torch.optim.Optimizer] = [Muon(matrices, rate)] if matrices else []
    if others:
        made.append(torch.optim.AdamW(others, rate / 2, betas=(0.9, 0.99), weight_decay=0.0))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return tuple(made)


def share_of_rate(done: float, step: int, warm_up: int = WARM_UP) -> float:
    """Share of the full learning rate: a warm-up of so many steps, then a cosine down to a hundredth.

    ``done`` is the share of the run that is over.
    """
    cosine = 0.5 + 0.5 * math.cos(math.pi * done)
    return min(1.0, (step + 1) / warm_up) * (0.01 + 0.99 * cosine)


def train(config: Config, report: Report = print, checkpoint_every: float = 180.0) -> Path:
    """Train until the time is over, going on from an earlier run in the same folder.

    Processes started by ``torchrun`` share each step's crops, see `Team`.

    Parameters
    ----------
    config : Config
    report : callable
        Gets a line of text now and then.
    checkpoint_every : float
        Seconds between checkpoints.

    Returns
    -------
    Path
        The averaged weights, ``nano.safetensors`` in the output folder: the latest, or those of the best
        validation where data sets to validate on are named.

    Raises
    ------
    InputError
        If a data set cannot be read, or the folder holds a run of another configuration.
    """
    torch.set_num_threads(config.threads)
    team = Team.join()
    try:
        return _train(config, report if team.leads else _silent, checkpoint_every, team)
    finally:
        team.leave()


def _silent(line: str) -> None:
    """The leader of a team tells for all."""


def _train(config: Config, report: Report, checkpoint_every: float, team: Team) -> Path:
    out = config.folder / config.out
    out.mkdir(parents=True, exist_ok=True)
    state = new_state(config)
    if (out / "state.pt").exists():
        state.load(out / "state.pt", config)
        report(f"going on from step {state.step}, {state.seconds / 60:.1f} minutes")
    groups, weights = read_pictures(config)
    report(f"{sum(map(len, groups))} pictures from {len(groups)} sources")
    describe = describe_with(config) if config.text else None
    sampler = Sampler(groups, weights, config, config.shown or state.model.image_size, describe, team)
    if describe is not None and config.text_nearest:
        sampler = replace(sampler, describe=_with_others(sampler, describe, config))
    watched = [p for path in config.validation for p in read_source(config.folder / path)]
    watch = Watch(out, held_out(watched, sampler.held_out, VALIDATION_CROPS), report)
    saved = time.monotonic()
    for batch in sampler.batches(state.step):
        begun = time.monotonic()
        loss, iou = one_step(state, batch, config, team)
        state.step += 1
        state.seconds = team.as_leader(state.seconds + time.monotonic() - begun)
        over = state.seconds > 60 * config.minutes
        if team.leads:
            watch.add(state.step, state.seconds, loss, iou)
        if team.leads and (over or time.monotonic() - saved > checkpoint_every):
            iou = watch.look(state.step, state.seconds, state.average)
            if not iou < state.best:  # NaN: nothing to validate on
                save_model(state.average, out / "nano.safetensors")
                state.best = float(np.nan_to_num(iou))
            state.save(out / "state.pt", config)
            saved = time.monotonic()
        if over:
            break
    return out / "nano.safetensors"


def one_step(state: State, batch: Batch, config: Config, team: Team = ALONE) -> tuple[float, float]:
    """Learn from one batch, each of a team from its own: its loss and the mean IoU of first prompts."""
    rng = np.random.default_rng((config.seed, state.step, 1))
    rounds = config.rounds if rng.random() < config.corrected else 1
    share = share_of_rate(min(1.0, state.seconds / (60 * config.minutes)), state.step)
    loss, iou = descend(state.model, state.optimizers, batch, rounds, share, rng, team)
    keep = min(0.999, (state.step + 1) / (state.step + 10))
    with torch.no_grad():
        for ours, new in zip(state.average.parameters(), state.model.parameters(), strict=True):
            ours.lerp_(new, 1 - keep)
    return float(loss), float(iou.mean()) if len(iou) else float("nan")


def descend(  # noqa: PLR0913
    model: Sam,
    optimizers: Sequence[torch.optim.Optimizer],
    batch: Batch,
    rounds: int,
    share: float,
    rng: np.random.Generator,
    team: Team = ALONE,
) -> tuple[Tensor, Tensor]:
    """Change a model by a batch, at a share of the full rate; what `forward` gave before."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = group["full_rate"] * share
    with torch.autocast(model.device.type, torch.bfloat16):
        loss, iou = forward(model, batch.to(model.device), rounds, rng)
    model.zero_grad(set_to_none=True)
    loss.backward()
    team.average_gradients(model)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if torch.isfinite(norm):  # one bad batch must not spoil hours
        for optimizer in optimizers:
            optimizer.step()
    return loss.detach(), iou
