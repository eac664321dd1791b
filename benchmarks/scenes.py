"""Made-up scenes with words to them: coloured, textured shapes, and captions that are true of one of them.

Some pairs of colour and shape are kept for measuring: no scene and no caption of training has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

SIDE = 192
COLOURS = {
    "red": (205, 45, 40),
    "green": (55, 160, 60),
    "blue": (50, 80, 205),
    "yellow": (230, 205, 50),
    "purple": (150, 60, 170),
    "cyan": (60, 195, 205),
    "orange": (235, 130, 40),
    "pink": (235, 120, 165),
    "brown": (125, 80, 45),
    "white": (225, 225, 220),
    "navy": (30, 40, 110),
    "mint": (150, 225, 175),
    "teal": (20, 110, 110),
    "lime": (165, 225, 60),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
TEXTURES = ("plain", "striped", "dotted")
SIZES = {"small": (17.0, 20.0), "large": (26.0, 30.0)}  # radii
#: Whether colour and shape are said, as often as it stands here.
SAID = ((True, True),) * 4 + ((True, False), (False, True))
RELATIONS = ("left of", "right of", "above", "below")
#: Pairs that training never sees. Most colours come in all shapes and most shapes in all colours, else a
#: dual encoder learns that a colour tells what shape a thing cannot have.
NEW_PAIRS = frozenset(
    {
        ("red", "star"),
        ("green", "circle"),
        ("blue", "cross"),
        ("yellow", "square"),
        ("purple", "triangle"),
        ("cyan", "star"),
    }
)


@dataclass(frozen=True)
class Thing:
    """One shape of a scene, and where it lies."""

    colour: str
    shape: str
    texture: str
    size: str
    y: float = 0.0
    x: float = 0.0
    radius: float = 0.0

    @property
    def pair(self) -> tuple[str, str]:
        return self.colour, self.shape

    def relation_to(self, other: Thing) -> str:
        """How this lies to another one, along the axis on which they lie further apart."""
        dy, dx = self.y - other.y, self.x - other.x
        if abs(dx) > abs(dy):
            return "left of" if dx < 0 else "right of"
        return "above" if dy < 0 else "below"


@dataclass(frozen=True)
class Caption:
    """What is said of a thing; None is not said."""

    colour: str | None = None
    shape: str | None = None
    texture: str | None = None
    size: str | None = None
    relation: str | None = None
    other: tuple[str, str] | None = None  # colour and shape

    def __str__(self) -> str:
        words = [word for word in (self.size, self.texture, self.colour) if word]
        text = " ".join(["a", *words, self.shape or "thing"])
        return text if self.relation is None else f"{text} {self.relation} a {' '.join(self.other or ())}"

    def is_true_of(self, thing: Thing, scene: Sequence[Thing]) -> bool:
        """Whether it is true of a thing among those of its scene."""
        for name in ("colour", "shape", "texture", "size"):
            if getattr(self, name) not in (None, getattr(thing, name)):
                return False
        if self.relation is None:
            return True
        others = [other for other in scene if other is not thing and other.pair == self.other]
        return any(thing.relation_to(other) == self.relation for other in others)


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture (y, x, 3) of uint8, its labels (y, x), and the things, the first of which is labelled 1."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    things: tuple[Thing, ...]


def training_scene(seed: int) -> Scene:
    """A scene without a new pair; the same seed gives the same scene.

    Its things have two to four colours and as many shapes, so that neither alone tells which is meant.
    """
    rng = np.random.default_rng((1, seed))
    colours = rng.choice(list(COLOURS), rng.integers(2, 5), replace=False).tolist()
    shapes = rng.choice(SHAPES, rng.integers(2, 5), replace=False).tolist()
    things: list[Thing] = []
    while len(things) < 6:
        thing = random_thing(rng, colours, shapes)
        if thing.pair not in NEW_PAIRS:
            things.append(thing)
    return draw(things, rng)


#: What is asked for: a pair of colour and shape that was seen, a new one, and what more is said.
KINDS = ("seen pair", "new pair", "new pair, texture said", "size", "relation")


def asked_scene(kind: str, seed: int) -> tuple[Scene, Caption]:
    """A scene that was never seen, and a caption that is true of its first thing alone.

    Beside the thing asked for lie one of its colour and one of its shape, and what else tells the kind: of
    "texture said" one of the same pair in another texture, of "size" one of the other size, of "relation" one
    elsewhere.
    """
    rng = np.random.default_rng((2, KINDS.index(kind), seed))
    while True:
        scene, caption = _try(kind, rng)
        true = [caption.is_true_of(thing, scene.things) for thing in scene.things]
        if len(scene.things) >= 4 and true == [True] + [False] * (len(true) - 1):
            return scene, caption


def _try(kind: str, rng: np.random.Generator) -> tuple[Scene, Caption]:
    new = kind.startswith("new")
    asked = random_thing(rng)
    while (asked.pair in NEW_PAIRS) != new:
        asked = random_thing(rng)
    same_colour, same_shape = random_thing(rng), random_thing(rng)
    same_colour = replace(same_colour, colour=asked.colour)
    same_shape = replace(same_shape, shape=asked.shape)
    caption = Caption(asked.colour, asked.shape)
    twin = replace(random_thing(rng), colour=asked.colour, shape=asked.shape)
    more = [random_thing(rng), random_thing(rng)]
    if kind.endswith("texture said"):
        caption, more[0] = replace(caption, texture=asked.texture), twin
    elif kind == "size":
        caption, more[0] = replace(caption, size=asked.size), replace(twin, texture=asked.texture)
    elif kind == "relation":
        more[0] = twin
    scene = draw([asked, same_colour, same_shape, *more], rng)
    if kind == "relation" and len(scene.things) > 1:
        first, other = scene.things[0], scene.things[rng.integers(1, len(scene.things))]
        caption = replace(caption, relation=first.relation_to(other), other=other.pair)
    return scene, caption


def random_thing(
    rng: np.random.Generator, colours: Sequence[str] = tuple(COLOURS), shapes: Sequence[str] = SHAPES
) -> Thing:
    kinds = (colours, shapes, TEXTURES, list(SIZES))
    return Thing(*(str(rng.choice(kind)) for kind in kinds))


def random_caption(thing: Thing, scene: Sequence[Thing], rng: np.random.Generator) -> Caption:
    """A caption that is true of a thing; it says the colour, the shape, or mostly both, see `SAID`."""
    says_colour, says_shape = SAID[rng.integers(len(SAID))]
    caption = Caption(thing.colour if says_colour else None, thing.shape if says_shape else None)
    if rng.random() < 0.35:
        caption = replace(caption, texture=thing.texture)
    if rng.random() < 0.35:
        caption = replace(caption, size=thing.size)
    others = [other for other in scene if other is not thing]
    if others and rng.random() < 0.2:
        other = others[rng.integers(len(others))]
        caption = replace(caption, relation=thing.relation_to(other), other=other.pair)
    return caption


def draw(things: Sequence[Thing], rng: np.random.Generator) -> Scene:
    """Put things where there is room, the first one first; what finds none is left out."""
    pixels = _ground(rng)
    labels = np.zeros((SIDE, SIDE), np.uint16)
    placed: list[Thing] = []
    for thing in things:
        radius = float(rng.uniform(*SIZES[thing.size]))
        for _ in range(60):
            y, x = rng.uniform(radius + 2, SIDE - radius - 3, 2)
            if all(np.hypot(y - o.y, x - o.x) > radius + o.radius + 3 for o in placed):
                placed.append(replace(thing, y=float(y), x=float(x), radius=radius))
                _paint(pixels, labels, placed[-1], len(placed), rng)
                break
    pixels = gaussian_filter(pixels, (0.5, 0.5, 0)) + rng.normal(0, 5, pixels.shape)
    return Scene(pixels.clip(0, 255).astype(np.uint8), labels, tuple(placed))


def _ground(rng: np.random.Generator) -> NDArray[np.float64]:
    ground = np.full((SIDE, SIDE, 3), rng.uniform(90, 170)) + rng.normal(0, 8, 3)
    for cells in (4, 16):
        coarse = rng.normal(0, 9, (cells, cells, 1))
        ground = ground + zoom(coarse, (SIDE / cells, SIDE / cells, 1), order=1)
    return ground


def _paint(
    pixels: NDArray[np.float64],
    labels: NDArray[np.uint16],
    thing: Thing,
    number: int,
    rng: np.random.Generator,
) -> None:
    where = tuple(
        slice(max(0, int(c - thing.radius - 2)), int(c + thing.radius + 3)) for c in (thing.y, thing.x)
    )
    y, x = (axis.astype(np.float64) for axis in np.mgrid[where])
    pixels, labels = pixels[where], labels[where]  # views: what is painted here is painted there
    angle = rng.uniform(0, 2 * np.pi)
    v = ((y - thing.y) * np.cos(angle) - (x - thing.x) * np.sin(angle)) / thing.radius
    u = ((y - thing.y) * np.sin(angle) + (x - thing.x) * np.cos(angle)) / thing.radius
    depth = _depth(thing.shape, v, u) * thing.radius  # pixels from the outline, inside above 0
    colour = np.array(COLOURS[thing.colour]) + rng.normal(0, 10, 3) + rng.normal(0, 10)
    bright = np.ones_like(v)
    if thing.texture == "striped":
        bright = np.where(np.sin(v * thing.radius * 2 * np.pi / 8) > 0, 1.0, 0.55)
    elif thing.texture == "dotted":
        waves = np.sin(v * thing.radius * np.pi / 4.5) * np.sin(u * thing.radius * np.pi / 4.5)
        bright = np.where(np.abs(waves) > 0.55, 0.45, 1.0)
    inside = depth > 0
    pixels[inside] = (colour * bright[..., None])[inside]
    pixels[inside & (depth < 2)] = 25  # a dark outline, as wide on small things as on large ones
    labels[inside] = number


def _depth(shape: str, v: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far inside a shape of radius 1 each place lies, about; below 0 outside."""
    if shape == "circle":
        return 0.92 - np.hypot(v, u)
    if shape == "square":
        return 0.78 - np.maximum(abs(v), abs(u))
    if shape == "cross":
        arms = [np.minimum(0.95 - abs(a), 0.32 - abs(b)) for a, b in ((v, u), (u, v))]
        return np.maximum(*arms)
    angle, far = np.arctan2(v, u), np.hypot(v, u)
    if shape == "triangle":
        sector = (angle + np.pi) % (2 * np.pi / 3) - np.pi / 3
        return 0.5 - far * np.cos(sector)
    # A star: straight from each of five tips to the notches between them.
    sector = abs((angle + np.pi) % (2 * np.pi / 5) - np.pi / 5)
    tip, notch = np.array([1.0, 0.0]), 0.42 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    side = notch - tip
    normal = np.array([side[1], -side[0]]) / np.hypot(*side)
    along, across = far * np.cos(np.pi / 5 - sector), far * np.sin(np.pi / 5 - sector)
    return -((along - tip[0]) * normal[0] + (across - tip[1]) * normal[1])


def scenes(count: int, first: int = 0) -> Iterator[Scene]:
    """Scenes to train on."""
    return (training_scene(first + number) for number in range(count))
