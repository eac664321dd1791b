"""Where a Prompt dock looks: at the plane that the viewer shows, and of a large one at what is in view."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from napari_samscape.errors import InputError
from napari_samscape.widgets.drawn import places_of
from napari_samscape.widgets.layers import Plane, levels, read_plane
from napari_samscape.widgets.session import View
from napari_samscape.widgets.windows import about, neighbours, shown_plane

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_samscape.widgets.prompt import PromptWidget

SETTLED = 200
"""Milliseconds that the camera has to rest before what is in view is looked at."""
IDLE = 1500
"""Milliseconds without anything to do after which the neighbourhood is looked at."""


class Gaze:
    """Tells a dock's session which picture to look at.

    Parameters
    ----------
    dock : PromptWidget
        Whose image and viewer.
    """

    def __init__(self, dock: PromptWidget) -> None:
        self._dock = dock
        self._version = 0
        self._view_soon = dock._timer(SETTLED, self._on_view)
        self._ahead_soon = dock._timer(IDLE, self._look_ahead)
        self.plane: Plane | None = None
        """What is looked at; None where there is nothing."""

    def listen(self) -> None:
        """Begin to follow the camera."""
        viewer, listen = self._dock.viewer, self._dock._listening.to
        camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 has moved it
        listen("camera", camera, ("center", "zoom"), lambda *_: self._view_soon.start())
        if hasattr(viewer, "canvas"):
            listen("canvas size", viewer.canvas, ("size",), lambda *_: self._view_soon.start())
        self._dock.session.changed.connect(self._on_state)

    def forget(self) -> None:
        """Take the image for another one: nothing of it has been looked at."""
        self._version += 1

    @property
    def key(self) -> Hashable:
        """What stands for the image as it is now."""
        return self._dock.image.layer.unique_id, self._version

    def look(self) -> None:
        """Look at the plane that the viewer shows, or at what it shows of a large one."""
        dock = self._dock
        dock._look_soon.stop()
        before, self.plane = self.plane, None
        image = dock.image.layer
        dock.propagation.offer_axes(image)
        if image is None:
            dock.session.look_at(None)
            return
        try:
            self.look_at(self._in_view(image, before))
        except InputError as problem:
            dock.session.look_at(None, str(problem))
            return
        dock.ask()

    def look_at(self, plane: Plane) -> None:
        """Look at a plane of the image, or a window of one."""
        self._view_soon.stop()
        self.plane = plane
        if not self._dock.propagation.on:
            self._dock.session.look_at(self._view(plane))

    def with_room(self, image: Image, plane: Plane) -> Plane:
        """Look at a window with room for all prompts on the plane, and return it."""
        wanted = self._in_view(image, plane)
        if wanted != plane and wanted.lies_on(plane):
            self.look_at(wanted)
            return wanted
        return plane

    def _on_view(self) -> None:
        """Look at another window of a large image, if the view asks for it."""
        image, plane = self._dock.image.layer, self.plane
        if image is None or plane is None or plane.window is None:
            return
        with suppress(InputError):  # the sliders have moved, too; that is looked at on its own
            if self.with_room(image, plane) != plane:
                self._dock.ask()

    def _on_state(self, state: object) -> None:
        if self.plane is not None and self.plane.window is not None:
            self._ahead_soon.start()

    def _look_ahead(self) -> None:
        image, plane = self._dock.image.layer, self.plane
        if image is not None and plane is not None:
            self._dock.session.look_ahead([self._view(other) for other in neighbours(image, plane)])

    def _in_view(self, image: Image, current: Plane | None) -> Plane:
        dock = self._dock
        drawn = places_of(image, dock.viewer.dims, dock.canvas.points, dock.canvas.shapes)
        return shown_plane(image, dock.viewer, current, drawn)

    def _view(self, plane: Plane) -> View:
        image = self._dock.image.layer
        return View((self.key, plane), partial(read_plane, levels(image), plane), about(plane))
