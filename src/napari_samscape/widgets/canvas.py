"""What a dock puts on the canvas: the layers for prompts, the preview of the chosen mask, the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from napari_samscape.prediction.types import Instance
from napari_samscape.widgets.drawn import BACKGROUND, FEATURE, FOREGROUND
from napari_samscape.widgets.layers import (
    Plane,
    cut_matrix,
    data_shape,
    placed_like,
    same_place,
    to_layer,
    unsqueezed,
)
from napari_samscape.widgets.resample import bounding_box

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_samscape.widgets.records import Holds
    from napari_samscape.widgets.stack import Stack

OWNER = "napari-samscape"
"""Key in a layer's metadata that marks the layers made here, with the role as its value."""

# Green and red differ in lightness too, and the symbols say it once more, for the colour-blind.
COLOURS = {FOREGROUND: "#2bd1a4", BACKGROUND: "#ff5d5d"}
SYMBOLS = {FOREGROUND: "disc", BACKGROUND: "x"}
BOX_COLOUR = "#ffb000"
PREVIEW_COLOURS = DirectLabelColormap(
    color_dict={None: (0, 0, 0, 0), 0: (0, 0, 0, 0), 1: (1.0, 0.69, 0.0, 0.35), 2: (1.0, 0.69, 0.0, 1.0)}
)
PREVIEW_SIDE = 1024
"""The preview of a larger object is thinned out to this many pixels: it is redrawn with every click."""
PLANES_SIDE = 512
"""Likewise, where it is shown on many planes."""
HANDLE = 11
"""Size of a point on the screen, in pixels."""


def role(layer: Layer) -> str | None:
    """What a layer is for if it was made here ('points', 'shapes', 'preview'), else None."""
    return layer.metadata.get(OWNER)


class Canvas:
    """The layers of one dock in one viewer; each is made once and kept in place.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        The viewer itself, not the proxy that napari hands to plugins.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.points: Points | None = None
        self.shapes: Shapes | None = None
        self._preview: Labels | None = None
        self._keys: list[str] = []
        self._drawn: WeakKeyDictionary[Instance, Any] = WeakKeyDictionary()

    # --- the layers for prompts ---

    @property
    def layers(self) -> tuple[Points, Shapes]:
        """Both layers, once they are there."""
        assert self.points is not None and self.shapes is not None
        return self.points, self.shapes

    def prepare(self, image: Image, points: Points | None, shapes: Shapes | None) -> None:
        """Take the user's prompt layers, or make what is missing, in the image's place."""
        self.points = points or self._own(self.points, image) or self._add_points(image)
        self.shapes = shapes or self._own(self.shapes, image) or self._add_shapes(image)
        if FEATURE not in self.points.features:
            _adopt(self.points)

    def _own(self, layer: Any, image: Image) -> Any:
        """The layer if it was made here and still fits the image; one that does not is removed."""
        if layer is None or layer not in self.viewer.layers or role(layer) is None:
            return None
        if same_place(layer, image):
            self._raise(layer, image)
            return layer
        self.viewer.layers.remove(layer)
        return None

    def _add_points(self, image: Image) -> Points:
        points = Points(
            ndim=image.ndim,
            name="Prompt points",
            metadata={OWNER: "points"},
            size=HANDLE * _pixel(image),
            features={FEATURE: np.array([], dtype=object)},
            feature_defaults={FEATURE: FOREGROUND},
            **placed_like(image),
        )
        self._insert(points)
        _paint(points)
        points.canvas_size_limits = (HANDLE - 3, 1000)
        return points

    def _add_shapes(self, image: Image) -> Shapes:
        shapes = Shapes(
            ndim=image.ndim,
            name="Prompt boxes and outlines",
            metadata={OWNER: "shapes"},
            edge_color=BOX_COLOUR,
            face_color="transparent",
            edge_width=2 * _pixel(image),
            **placed_like(image),
        )
        self._insert(shapes)
        return shapes

    def _insert(self, layer: Layer) -> None:
        """Add a layer on top without taking the user's selection away."""
        selected = set(self.viewer.layers.selection)
        active = self.viewer.layers.selection.active
        self.viewer.add_layer(layer)
        if active is not None:
            self.viewer.layers.selection = selected
            self.viewer.layers.selection.active = active

    def _raise(self, layer: Layer, image: Image, below: Iterable[Layer | None] = ()) -> None:
        """Bring a layer above an image that was opened after it was made, but below some others."""
        layers = self.viewer.layers
        if layers.index(layer) < layers.index(image):
            layers.move(layers.index(layer), len(layers))
        lowest = min((layers.index(other) for other in below if other in layers), default=len(layers))
        if layers.index(image) < lowest < layers.index(layer):
            layers.move(layers.index(layer), lowest)

    # --- tools ---

    def use_points(self, kind: str) -> None:
        """Let the next clicks be points of this kind, 'foreground' or 'background'."""
        if self.points is not None:
            # What is 'current' applies to the selected points too, among them the one clicked last.
            self.points.selected_data = set()
            self.points.current_symbol = SYMBOLS[kind]
            self.points.current_properties = {**self.points.current_properties, FEATURE: np.array([kind])}
            self._activate(self.points, "add")

    @property
    def kind(self) -> str:
        """Kind of the next point."""
        return str(self.points.feature_defaults[FEATURE].iloc[0]) if self.points is not None else FOREGROUND

    def use_shapes(self, mode: str) -> None:
        """Let the next drag draw a shape: 'add_rectangle', 'add_polygon_lasso', ..."""
        if self.shapes is not None:
            self._activate(self.shapes, mode)

    def _activate(self, layer: Layer, mode: str) -> None:
        if layer in self.viewer.layers:
            layer.visible = True
            self.viewer.layers.selection.active = layer
            layer.mode = mode

    def clear(self, image: Image, holds: Holds) -> None:
        """Remove the prompts at places (n, ndim) that ``holds`` is true of: those on a plane, say."""
        for layer in (self.points, self.shapes):
            if layer is None or layer not in self.viewer.layers or len(layer.data) == 0:
                continue
            items = [layer.data] if isinstance(layer, Points) else list(layer.data)
            if isinstance(layer, Points):
                items = [point[None] for point in layer.data]
            dims = self.viewer.dims
            here = [holds(to_layer(item, layer, image, dims)).all() for item in items]
            layer.selected_data = set(np.flatnonzero(here).tolist())
            layer.remove_selected()

    # --- preview ---

    def show(self, found: Any, image: Image | None, plane: Plane | None) -> None:
        """Show an Instance or a mask, bool (y, x), on its plane of the image; None shows nothing."""
        corner, mask = _cut(found)
        if image is None or plane is None or not mask.any():
            if self._preview is not None and self._preview in self.viewer.layers:
                self._preview.visible = False
            return
        step = -(-max(mask.shape) // PREVIEW_SIDE)
        cut = _with_outline(mask[::step, ::step])
        self._put(unsqueezed(cut, plane), cut_matrix(image, plane, corner, step), image)

    def show_planes(self, items: Mapping[int, Instance], stack: Stack) -> None:
        """Show an object on those planes of a stack on which it is, by their places along its axis."""
        if not items:
            self.show(None, None, None)
            return
        boxes = np.array([item.box for item in items.values()])
        (y0, x0), (y1, x1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        first, count = min(items), max(items) - min(items) + 1
        step = -(-max(y1 - y0, x1 - x0) // PLANES_SIDE)
        block = np.zeros((count, -(-(y1 - y0) // step), -(-(x1 - x0) // step)), np.uint8)
        for index, item in items.items():
            corner = np.array(item.box[:2]) - (y0, x0)
            skipped = -corner % step
            cut = self._outlined(item, step, (int(skipped[0]), int(skipped[1])))
            row, column = (corner + skipped) // step
            block[index - first, row : row + cut.shape[0], column : column + cut.shape[1]] = cut
        plane = stack.at(first)
        matrix = cut_matrix(stack.image, plane, (int(y0), int(x0)), int(step))
        self._put(unsqueezed(block, plane, stack.axis), matrix, stack.image)

    def _outlined(self, item: Instance, step: int, skipped: tuple[int, int]) -> NDArray[np.uint8]:
        """Every step-th pixel of an object, with its outline; what was drawn before is not drawn anew."""
        how, cut = self._drawn.get(item, (None, None))
        if cut is None or how != (step, skipped):
            cut = _with_outline(item.mask[skipped[0] :: step, skipped[1] :: step])
            self._drawn[item] = (step, skipped), cut
        return cut

    def _put(self, data: NDArray[np.uint8], matrix: NDArray, image: Image) -> None:
        """Let the preview be this, above the image."""
        preview = self._preview
        if preview is None or preview not in self.viewer.layers or preview.ndim != image.ndim:
            self.hide()
            self._preview = self._add_preview(data, matrix, image)
            return
        self._raise(preview, image, below=(self.points, self.shapes))
        with _unheard(preview):
            with _unseen(preview):  # a mask is never drawn in another one's place
                preview.affine = matrix
            preview.data = data
        if not preview.visible:
            preview.visible = True

    def _add_preview(self, data: NDArray, matrix: NDArray, image: Image) -> Labels:
        preview = Labels(
            data,
            name="Samscape preview",
            metadata={OWNER: "preview"},
            affine=matrix,
            units=image.units,
            axis_labels=image.axis_labels,
            colormap=PREVIEW_COLOURS,
            opacity=1.0,
        )
        self._insert(preview)
        preview.editable = False
        self._raise(preview, image, below=(self.points, self.shapes))
        return preview

    def hide(self) -> None:
        """Take the preview away altogether."""
        if self._preview is not None and self._preview in self.viewer.layers:
            self.viewer.layers.remove(self._preview)
        self._preview = None

    # --- keys ---

    def bind(self, actions: Iterable[tuple[str, Callable[[], None]]]) -> None:
        """Bind keys on the viewer, where the selected layer's own keys win; taken ones are left alone."""
        for key, action in actions:
            with suppress(ValueError):  # somebody else's key
                self.viewer.bind_key(key, lambda _viewer, act=action: act())
                self._keys.append(key)

    # --- end ---

    def close(self) -> None:
        """Give back the keys; take the preview and empty prompt layers out of the viewer."""
        for key in self._keys:
            self.viewer.bind_key(key, None)
        self._keys.clear()
        self.hide()
        for layer in (self.points, self.shapes):
            if layer is not None and layer in self.viewer.layers and role(layer) and len(layer.data) == 0:
                self.viewer.layers.remove(layer)


@contextmanager
def _unheard(preview: Labels) -> Iterator[None]:
    """Let the preview change without a word to the layer list, the sliders and whatever makes colours anew.

    It lies within the image and has always the same colours, so nobody needs to know, and telling all of them
    takes longer than the model's answer. What draws it is told by an event of its own, ``set_data``.
    """
    with ExitStack() as blocked:
        blocked.enter_context(preview.events.blocker())  # the layer list hears all events by this one
        for name in ("affine", "data", "extent", "thumbnail"):
            blocked.enter_context(getattr(preview.events, name).blocker())
        yield


def _unseen(layer: Layer) -> Any:
    """Let a layer be changed without slicing its data again; they are about to be replaced."""
    block = getattr(layer, "_block_refresh", None)  # napari has no public name for it
    return nullcontext() if block is None else block()


def _adopt(points: Points) -> None:
    """Give a user's Points layer the feature, all foreground, and the two colours."""
    features = points.features.copy()
    features[FEATURE] = np.full(len(points.data), FOREGROUND, dtype=object)
    points.features = features
    points.feature_defaults = {**points.feature_defaults.iloc[0].to_dict(), FEATURE: FOREGROUND}
    _paint(points)


def _paint(points: Points) -> None:
    points.face_color_cycle = COLOURS
    points.face_color = FEATURE
    points.border_color = "white"
    points.current_border_color = "white"


def _pixel(image: Image) -> float:
    """Scale, in data pixels, at which a picture of 500 pixels has things at their usual size."""
    return max(min(data_shape(image)[-2:]) / 500, 0.05)


def _cut(found: Any) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """First pixel (y, x) and content of the smallest part of a plane with all that is found."""
    if found is None:
        return (0, 0), np.zeros((0, 0), bool)
    if isinstance(found, Instance):
        return found.box[:2], found.mask
    if not found.any():
        return (0, 0), np.zeros((0, 0), bool)
    y0, x0, y1, x1 = bounding_box(found)
    return (y0, x0), found[y0:y1, x0:x1]


def _with_outline(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """1 inside, 2 along the edge, whose width grows with the object so that it stays in sight."""
    width = max(1, round(max(mask.shape) / 150))
    inner = binary_erosion(mask, iterations=width)
    return mask.astype(np.uint8) + (mask & ~inner)
