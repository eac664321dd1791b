"""What runs, and what came of it.

A `Job` is plain values, so that it can be written down, sent to another computer and compared with what an
output says of itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from napari_samscape.errors import InputError
from napari_samscape.io import PLANES, Image, open_image
from napari_samscape.prediction.phrase import Phrase
from napari_samscape.prediction.types import Prompts
from napari_samscape.scaling.link import LinkOptions
from napari_samscape.scaling.links import check_linkable
from napari_samscape.scaling.modes import MODES, Asked, Boxes, check_mode, check_options
from napari_samscape.scaling.tiles import TileOptions

#: What is no setting: the picture, which is known by more than its path, and what does not change the labels.
NO_SETTINGS = ("image", "output", "device", "overlay", "objects", "table", "overwrite", "cache")


@dataclass(frozen=True)
class Job:
    """What to segment, how, and where to; plain values only.

    Attributes
    ----------
    image, output : str
        Paths; see `napari_samscape.io.open_image` and `write_labels`.
    model : str
        A known name or the path of a checkpoint.
    mode : str
        "everything", "prompts" for one object per prompt, "boxes" for one object per box of a detector,
        "text" for the objects that look like a phrase, or "edges" for a map of edges instead of labels.
    prompts : tuple of Prompts
        Points and boxes, in pixels of the picture.
    device : str
        "auto", or a device that torch knows.
    overlay : str or None
        A PNG to draw the outlines into.
    overwrite : bool
        Whether outputs that exist are replaced.
    boxes : tuple
        A detector's (y0, x0, y1, x1), for the mode "boxes".
    thin : bool
        Whether edges are lines of one pixel.
    scores, classes : tuple
        Of the boxes, one each, or empty; they go on to the objects.
    detector : str or None
        What finds the boxes instead; see `napari_samscape.prediction.detectors.load_detector`.
    nested : str
        "all", "parts" or "wholes": what the mode "everything" keeps of masks within masks; see
        `napari_samscape.prediction.hierarchy.choose_nested`.
    objects : str or None
        Where to write the objects one by one; see `napari_samscape.io.write_objects`.
    tile, halo, object_size : int or None
        See `napari_samscape.scaling.tiles.TileOptions`.
    options : mapping
        By name, those of `EverythingOptions` or `EdgeOptions` that are not the model's defaults.
    link : LinkOptions or None
        How objects are followed through z and t; None where each plane has its own.
    table : str or None
        Where to write a table of the labels, of pictures of any size; see `napari_samscape.io.write_table`.
    plane : str
        Which slices of a volume are looked at, "xy", "xz" or "yz"; the output has the picture's axes.
    cache : str or None
        A folder where embeddings are kept and found, or "auto"; see `napari_samscape.scaling.cache`.
    level : int
        From which level of a pyramid on the picture is seen; the output has that level's shape and scale.
    channels : tuple of int
        Which channels are seen, up to three as red, green and blue; the first ones where empty.
    precision : str
        Of the model's products, "float32" or "bfloat16"; see `napari_samscape.load_model`.
    phrase : Phrase or None
        What to look for, in words.

    Raises
    ------
    InputError
        If the mode is unknown or does not go with the rest, or the tiles make no sense.
    """

    image: str
    output: str
    model: str = "nano"
    mode: str = "everything"
    prompts: tuple[Prompts, ...] = ()
    device: str = "auto"
    overlay: str | None = None
    overwrite: bool = False
    boxes: Boxes = ()
    thin: bool = True
    scores: Sequence[float] = ()
    classes: Sequence[int | str | None] = ()
    detector: str | None = None
    nested: str = "all"
    objects: str | None = None
    tile: int | None = None
    halo: int | None = None
    object_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    link: LinkOptions | None = None
    table: str | None = None
    plane: str = "xy"
    cache: str | None = None
    level: int = 0
    channels: Sequence[int] = ()
    precision: str = "float32"
    phrase: Phrase | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "boxes", tuple(tuple(box) for box in self.boxes))
        object.__setattr__(self, "scores", tuple(self.scores))
        object.__setattr__(self, "classes", tuple(self.classes))
        check_mode(self.mode, self.asked)
        object.__setattr__(self, "options", check_options(self.mode, self.options))
        lists = {
            "An overlay shows": self.overlay,
            "A file of objects holds": self.objects,
            "A table lists": self.table,
        }
        for what, file in lists.items():
            if MODES[self.mode].gives_map and file is not None:
                raise InputError(f"{what} objects; the mode '{self.mode}' finds none.")
        check_linkable(self.mode, self.link)
        if any(prompt.mask is not None or prompt.text is not None for prompt in self.prompts):
            raise InputError(
                "A job holds points and boxes only; give prompts with masks and texts to segment() in Python."
            )
        if self.plane not in PLANES:
            raise InputError(f"There is no plane '{self.plane}'; there are {', '.join(PLANES)}.")
        if self.objects is not None and (self.link is not None or self.plane != "xy"):
            what = "the links" if self.link is not None else f"the plane {self.plane}"
            raise InputError(
                f"Objects one by one are those of single planes (y, x); leave that file or {what} out."
            )
        if self.tiles != TileOptions() and not MODES[self.mode].is_tiled:
            raise InputError(
                f"The mode '{self.mode}' looks at a whole plane; it takes no tile, halo or object size."
            )

    def open(self) -> Image:
        """Open the picture as it is to be seen; raises InputError as `napari_samscape.open_image`."""
        return open_image(self.image, level=self.level, channels=self.channels)

    @property
    def asked(self) -> Asked:
        """What the mode is told."""
        about = (self.scores, self.classes, self.detector, self.nested, self.options)
        return Asked(self.prompts, self.boxes, self.thin, *about, self.phrase, self.device)

    @property
    def tiles(self) -> TileOptions:
        """What is wished of tiles."""
        return TileOptions(self.tile, self.halo, self.object_size)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides, besides the picture, what the labels are; as JSON gives it back."""
        settings = {name: value for name, value in self.to_json().items() if name not in NO_SETTINGS}
        settings["cache"] = self.cache is not None  # then embeddings are in half precision
        # One by one, so that another one is refused by its name; what was not given has to be seen, too.
        given = settings.pop("options")
        defaults = {name: "default" for name in MODES[self.mode].option_names if name not in settings}
        plain: dict[str, Any] = json.loads(json.dumps(settings | defaults | given))
        return plain

    def to_json(self) -> dict[str, Any]:
        """Give all of it as values that JSON knows."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["prompts"] = [
            {
                "points": prompt.points.tolist(),
                "labels": prompt.labels.tolist(),
                "box": None if prompt.box is None else prompt.box.tolist(),
            }
            for prompt in self.prompts
        ]
        values |= {
            name: None if value is None else asdict(value)
            for name, value in (("link", self.link), ("phrase", self.phrase))
        }
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """Make a job of what `to_json` gave.

        Raises
        ------
        InputError
            If a value is missing, unknown or wrong.
        """
        try:
            prompts = tuple(Prompts(**prompt) for prompt in values.get("prompts", ()))
            kinds: dict[str, Any] = {"link": LinkOptions, "phrase": Phrase}
            made = {
                name: kind(**values[name]) for name, kind in kinds.items() if values.get(name) is not None
            }
            return cls(**{**values, "prompts": prompts, **made})
        except (TypeError, AttributeError) as error:
            raise InputError(f"This is no job: {error}.") from error


@dataclass(frozen=True)
class Result:
    """What a job has done.

    Attributes
    ----------
    output : str
        Where the labels are.
    overlay : str or None
        Where the overlay is.
    objects : int or None
        How many objects were found; None for a map.
    planes, tiles : int
        How many planes there are, over z and t, and how many tiles in all of them.
    shape : tuple of int
        Of the labels.
    seconds : float
        Time for finding and writing them, without loading the model.
    model, device : str
        What found them, and on what.
    note : str or None
        For the user, where there is something to say.
    objects_file : str or None
        Where the objects are, one by one.
    failed : tuple of str
        One sentence for each tile that could not be read; the labels have nothing there.
    options : mapping
        As the job has them.
    table : str or None
        Where the table is.
    """

    output: str
    overlay: str | None
    objects: int | None
    planes: int
    tiles: int
    shape: tuple[int, ...]
    seconds: float
    model: str
    device: str
    note: str | None = None
    objects_file: str | None = None
    failed: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    table: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give all of it as values that JSON knows."""
        return asdict(self) | {"shape": list(self.shape), "failed": list(self.failed)}
