"""What the mouse does on the canvas beyond napari's tools: preview, background points, drags as one step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_samscape.widgets.drawn import BACKGROUND, FOREGROUND
from napari_samscape.widgets.layers import place_on

if TYPE_CHECKING:
    from napari_samscape.widgets.prompt import PromptWidget


class Cursor:
    """The mouse over the canvas of a dock's viewer.

    Parameters
    ----------
    dock : PromptWidget
        Who is told.
    """

    def __init__(self, dock: PromptWidget) -> None:
        self._dock = dock
        self._foreground_soon = dock._timer(0, lambda: dock.use(FOREGROUND))

    def listen(self) -> None:
        """Begin."""
        dock, viewer = self._dock, self._dock.viewer
        dock._listening.to("canvas", viewer, ("mouse_over_canvas",), self._on_canvas)
        dock.preview.toggled.connect(lambda: dock.session.point_at(None))
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.mouse_wheel_callbacks.append(self._on_wheel)
        viewer.mouse_drag_callbacks += [self._on_drag, self._on_press]

    def close(self) -> None:
        """End."""
        viewer = self._dock.viewer
        for callbacks, ours in (
            (viewer.mouse_move_callbacks, self._on_move),
            (viewer.mouse_wheel_callbacks, self._on_wheel),
            (viewer.mouse_drag_callbacks, self._on_press),
            (viewer.mouse_drag_callbacks, self._on_drag),
        ):
            if ours in callbacks:
                callbacks.remove(ours)

    def _on_move(self, _viewer: Any, event: Any) -> None:
        """Preview what a click here would give; with Shift, what a background point would."""
        dock = self._dock
        background = "Shift" in event.modifiers
        # Once there are prompts, the chosen mask has to be seen, unless one asks for the other.
        wanted = dock.preview.isChecked() and self._points_in_hand and background == dock.session.has_prompts
        wanted = wanted and not dock.propagation.on
        image, plane, place = dock.image.layer, dock.plane, None
        if wanted and image is not None and plane is not None:
            place = place_on(image, plane, dock.viewer.dims, event.position)
        dock.session.point_at(None if place is None else (place[0], place[1]), label=int(not background))

    def _on_wheel(self, _viewer: Any, event: Any) -> None:
        """Go through the masks with Shift; napari has Ctrl for the sliders and Alt for the layers."""
        masks = self._dock.session.state.masks
        if tuple(event.modifiers) != ("Shift",) or masks is None:
            return
        turned = sum(event.delta)  # some systems turn a wheel sideways while Shift is held
        if turned:
            event.handled = True
            self._dock.choose((self._dock.session.state.chosen - int(np.sign(turned))) % len(masks.iou))

    def _on_canvas(self, event: Any) -> None:
        if not event.value:
            self._dock.session.point_at(None)

    def _on_drag(self, _viewer: Any, event: Any) -> Iterator[None]:
        """Wait for the end of a drag: what it does is one step."""
        self._dock.recall.held = True
        yield
        while event.type == "mouse_move":
            yield
        self._dock.recall.held = False
        self._dock.ask_soon.start()  # not now: the layer does its part after this

    def _on_press(self, _viewer: Any, event: Any) -> Iterator[None]:
        """Let a click with Shift be a background point; napari asks the viewer before the layer."""
        dock = self._dock
        if "Shift" not in event.modifiers or not self._points_in_hand or dock.canvas.kind == BACKGROUND:
            return
        dock.use(BACKGROUND)
        yield
        while event.type == "mouse_move":
            yield
        self._foreground_soon.start()  # not now: the layer adds its point after this

    @property
    def _points_in_hand(self) -> bool:
        """Whether a click on the canvas would make a point."""
        points = self._dock.canvas.points
        return (
            points is not None
            and points is self._dock.viewer.layers.selection.active
            and points.mode == "add"
        )
