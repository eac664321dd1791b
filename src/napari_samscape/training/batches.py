"""What is trained on: pictures in memory, and batches of their crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_samscape.errors import InputError
from napari_samscape.training.data import Picture, chances_by_kind, random_crop, read_source, recolour
from napari_samscape.training.prompts import Asked, Batch, ask, collate
from napari_samscape.training.synthetic import synthetic_picture
from napari_samscape.training.team import Team

Made = TypeVar("Made")
TRIES = 200  # crops looked at for each one that is wanted

if TYPE_CHECKING:
    from napari_samscape.training.text import Describe
    from napari_samscape.training.train import Config


def read_pictures(config: Config) -> tuple[list[list[Picture]], list[float]]:
    """All sources in memory, and how often each is drawn from.

    Raises
    ------
    InputError
        If a source cannot be read or holds no object.
    """
    groups, weights = [], []
    for source in config.sources:
        pictures = read_source(config.folder / source.path, source.complete)
        if not any(len(p.boxes) for p in pictures):
            raise InputError(f"{source.path} holds no labelled object.")
        groups.append(pictures)
        weights.append(source.weight)
    if config.synthetic:
        groups.append([synthetic_picture(config.seed * 100_000 + i) for i in range(config.synthetic)])
        weights.append(config.synthetic_weight)
    if not groups:
        raise InputError("The configuration names no source of pictures.")
    return groups, weights


def made_ahead(make: Callable[[int], Made], step: int = 0) -> Iterator[Made]:
    """What is made for each step from ``step`` on, two ahead in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, step + i) for i in range(3)]
        while True:
            yield waiting.pop(0).result()
            step += 1
            waiting.append(pool.submit(make, step + 2))


@dataclass(frozen=True, eq=False)
class Sampler:
    """Makes batches: pictures and how often each group is drawn from, and how a model is shown them."""

    groups: list[list[Picture]]
    weights: list[float]
    config: Config
    image_size: int  # at which a whole picture is shown
    describe: Describe | None
    team: Team = Team()

    def batch(self, step: int) -> Batch:
        """A process's share of a step's batch; the same step always gives the same batch."""
        config, rng = self.config, np.random.default_rng((self.config.seed, step))
        chances = np.array(self.weights) / sum(self.weights)
        crops, size = self.team.share(config.batch), config.crop
        if rng.random() < config.wide:
            crops, size = max(1, crops // 4), 2 * size
        if self.team.size > 1:  # up to here all agree, so that none waits for one with larger crops
            rng = np.random.default_rng((self.config.seed, step, self.team.rank))
        describe = self.describe if self.describe is not None and rng.random() < config.text_share else None
        asked: list[Asked] = []
        for _ in range(TRIES * crops):
            if len(asked) == crops:
                return collate(asked)
            pictures = self.groups[rng.choice(len(self.groups), p=chances)]
            picture = pictures[rng.choice(len(pictures), p=chances_by_kind(pictures))]
            crop = random_crop(picture, size, self.image_size, rng)
            pixels = recolour(crop.pixels, rng) if config.recolour else crop.pixels
            question = ask(replace(crop, pixels=pixels), config.objects, rng, describe)
            asked += [] if question is None else [question]
        if describe is None:
            raise InputError("There is nothing to ask for in the pictures that are trained on.")
        raise InputError(
            f"Hardly an object covers {describe.smallest} pixels of a crop, which describing it takes: "
            "lower text_area, or leave text out."
        )

    def held_out(self, picture: Picture, rng: np.random.Generator) -> Asked | None:
        """A crop to validate on, in its own colours."""
        crop = random_crop(picture, self.config.crop, self.image_size, rng)
        return ask(crop, self.config.objects, rng, self.describe)

    def batches(self, step: int) -> Iterator[Batch]:
        """Batches from ``step`` on."""
        return made_ahead(self.batch, step)
