"""What every dock does the same way: listen to its viewer, work in the background, tell the user, and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari.layers import Image, Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_samscape.errors import InputError
from napari_samscape.widgets.worker import Jobs

if TYPE_CHECKING:
    from napari.viewer import Viewer


NO_IMAGE = "Open an image to begin."


class Dock(QWidget):
    """A widget in a viewer's window, with a thread of its own.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose window it is in.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        # Each dock shares out its own height. Below others napari puts a stretch that outgrows theirs: the
        # forty-third dock of a session would get one of 43.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        # napari hands a proxy to plugins that would wrap every layer; identity matters here.
        self.viewer: Viewer = getattr(viewer, "__wrapped__", viewer)
        self._jobs = Jobs()
        self._listening = Listening()
        self._engines = Engines()
        self._timers: list[QTimer] = []
        # When the window goes, Qt destroys this widget without a word to its Python side.
        self.destroyed.connect(_closer(self._jobs, self._listening, self._engines))

    def _timer(self, milliseconds: int, function: Callable[[], None]) -> QTimer:
        """Make a timer that calls a function once, that long after it was last started."""
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(function)
        self._timers.append(timer)
        return timer

    def _insert_above(self, image: Image, layer: Layer) -> None:
        """Add a layer right above an image, and leave the user's selection as it is."""
        active = self.viewer.layers.selection.active
        self.viewer.layers.insert(self.viewer.layers.index(image) + 1, layer)
        self.viewer.layers.selection.active = active

    def event(self, event: QEvent) -> bool:
        """Close when the dock is closed: napari takes the widget out of it then."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.close_session()
        return bool(super().event(event))

    def close_session(self) -> None:
        """Stop the work and the listening."""
        for timer in self._timers:
            timer.stop()
        _closer(self._jobs, self._listening, self._engines)()


class Closable(Protocol):
    """What has to be given back."""

    def close(self) -> None:
        """Give back what it has taken, whatever is under way."""


AnEngine = TypeVar("AnEngine", bound=Closable)


class Engines:
    """The engine that a dock has; one that is given up keeps no memory and no process."""

    def __init__(self) -> None:
        self._engine: Closable | None = None

    def take(self, engine: AnEngine) -> AnEngine:
        """Have another engine instead of the one before."""
        self.close()
        self._engine = engine
        return engine

    def close(self) -> None:
        """Have none."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None


class Listening:
    """Connections to napari's events, each known by a name of ours."""

    def __init__(self) -> None:
        self._connections: dict[str, list[tuple[Any, Any]]] = {}

    def to(self, what: str, source: Any, names: tuple[str, ...], callback: Callable[..., None]) -> None:
        """Connect a callback to events of a source, instead of whatever went by this name before."""
        self._disconnect(what)
        emitters = [getattr(source.events, name) for name in names if hasattr(source.events, name)]
        for emitter in emitters:
            emitter.connect(callback)
        self._connections[what] = [(emitter, callback) for emitter in emitters]

    def stop(self) -> None:
        """Disconnect all."""
        for what in list(self._connections):
            self._disconnect(what)

    def _disconnect(self, what: str) -> None:
        for emitter, callback in self._connections.pop(what, []):
            emitter.disconnect(callback)


def tell(problem: Exception) -> None:
    """Show an error to the user in a sentence; where it is not of their making, say so."""
    ours = isinstance(problem, InputError)
    show_error(str(problem) if ours else f"Something went wrong in Samscape: {problem!r}.")


def _closer(jobs: Jobs, listening: Listening, engines: Engines) -> Callable[..., None]:
    """Make a function that ends the work and the listening, and needs no Qt object that may be gone."""

    def close(*_: object) -> None:
        jobs.close()
        listening.stop()
        engines.close()

    return close
