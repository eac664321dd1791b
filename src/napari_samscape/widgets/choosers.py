"""Drop-down lists for layers and models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels, Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QSizePolicy, QWidget

from napari_samscape.model import registry
from napari_samscape.widgets.canvas import role
from napari_samscape.widgets.fields import tip
from napari_samscape.widgets.pyramids import is_writable

if TYPE_CHECKING:
    from napari.components import ViewerModel

OTHER = "From a file…"
FILTER = "Checkpoints (*.safetensors *.pth *.pt);;All files (*)"


def _narrow(box: QComboBox) -> None:
    """Keep a long layer name from widening the dock, and the keyboard on the canvas."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    box.setFocusPolicy(Qt.FocusPolicy.NoFocus)


class LayerChooser(QComboBox):
    """A list of those layers of a viewer that are wanted; keeps its choice when layers are renamed or moved.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Whose layers.
    wanted : callable
        Says of a layer whether it is listed.
    none : str, optional
        A first entry that stands for no layer (for a new one, say).
    about : str
        What the layer is for: the tooltip, with the layer's name, which may be too long to be seen.
    """

    chosen = Signal()
    """Another layer, or none, is chosen now."""

    def __init__(
        self,
        viewer: ViewerModel,
        wanted: Callable[[Layer], bool],
        none: str | None = None,
        about: str = "",
    ) -> None:
        super().__init__()
        self._viewer = viewer
        self._wanted = wanted
        self._none = none
        self._about = about
        self._layer: Layer | None = None
        _narrow(self)
        self.activated.connect(lambda _index: self.choose(self.currentData()))
        self.refresh()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self._layer

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer of the list, or none."""
        if layer is not self._layer:
            self._layer = layer
            self._show_choice()
            self.chosen.emit()

    def refresh(self, *_: object) -> None:
        """List the layers afresh; a choice that is gone is replaced by the newest layer, or by none."""
        listed = [layer for layer in reversed(self._viewer.layers) if self._wanted(layer)]
        self.clear()
        if self._none is not None or not listed:
            self.addItem(self._none or "—", None)
        for layer in listed:
            self.addItem(layer.name, layer)
        if self._layer not in listed:
            self.choose(listed[0] if listed and self._none is None else None)
        self._show_choice()

    def _show_choice(self) -> None:
        for index in range(self.count()):
            if self.itemData(index) is self._layer:
                self.setCurrentIndex(index)
        name = "" if self._layer is None else f" ({self._layer.name})"
        self.setToolTip(tip(f"{self._about}{name}"))


class ModelChooser(QComboBox):
    """The known models that are here, and checkpoints from files."""

    chosen = Signal(str)
    """The name or path of another model."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _narrow(self)
        self.setToolTip(tip("The model that is asked; the dock Models brings others."))
        self.addItem(OTHER, None)
        self._last = 0
        self._list_known()
        self.activated.connect(self._on_activated)

    def _list_known(self) -> None:
        """Have the known models that are here, in their order, before those from files."""
        chosen, here = self.itemData(self._last), models_here()
        for index in reversed(range(self.count())):
            name = self.itemData(index)
            if name in registry.KNOWN and name != chosen and name not in dict(here):
                self.removeItem(index)
        for index, (name, about) in enumerate(here):
            if self.findData(name) < 0:
                self.insertItem(index, name, name)
                self.setItemData(index, about, Qt.ItemDataRole.ToolTipRole)
        self._last = max(0, self.findData(chosen)) if chosen is not None else 0
        self.setCurrentIndex(self._last)

    def showPopup(self) -> None:  # noqa: N802 - Qt's name
        """List what is here by now: the Models dock brings and removes some."""
        self._list_known()
        super().showPopup()

    def _on_activated(self, index: int) -> None:
        if self.itemData(index) is None:
            path, _ = QFileDialog.getOpenFileName(self, "Open a SAM checkpoint", "", FILTER)
            self.setCurrentIndex(self._last)
            if path:
                self.open(path)
        elif index != self._last:
            self._last = index
            self.chosen.emit(self.itemData(index))

    def take(self, model: str) -> None:
        """Choose a model of the list, or a checkpoint that is there."""
        index = self.findData(model)
        if index >= 0:
            self.setCurrentIndex(index)
            self._on_activated(index)
        elif Path(model).is_file():
            self.open(model)

    def offer(self, path: str) -> None:
        """List a checkpoint's path, and leave the choice as it is."""
        if self.findData(path) < 0:
            self.insertItem(self.count() - 1, Path(path).name, path)

    def open(self, path: str) -> None:
        """Add a checkpoint's path to the list and choose it."""
        self.insertItem(self.count() - 1, Path(path).name, path)
        self._last = self.count() - 2
        self.setCurrentIndex(self._last)
        self.chosen.emit(path)


class ColumnChooser(QComboBox):
    """A list of the columns of a layer's features, and none.

    Parameters
    ----------
    preferred : iterable of str
        Names that are chosen by themselves where they turn up, the first of them first.
    """

    def __init__(self, preferred: Iterable[str] = ()) -> None:
        super().__init__()
        self._preferred = tuple(preferred)
        self._names: list[str] = []
        _narrow(self)
        self.addItem("None", None)

    @property
    def column(self) -> str | None:
        """The chosen column, or None."""
        name = self.currentData()
        return None if name is None else str(name)

    def offer(self, names: Iterable[str]) -> None:
        """List other columns; a choice that is still there stays."""
        names = list(names)
        if names == self._names:
            return
        before, self._names = self.column, names
        self.clear()
        self.addItem("None", None)
        for name in names:
            self.addItem(name, name)
        wanted = next((name for name in (before, *self._preferred) if name in names), None)
        self.setCurrentIndex(self.findData(wanted) if wanted is not None else 0)


def users(kind: type[Layer]) -> Callable[[Layer], bool]:
    """Make a test for layers of a kind that were not made by a dock for its own ends."""
    return lambda layer: isinstance(layer, kind) and role(layer) is None


def writable(layer: Layer) -> bool:
    """Labels that objects can go to; into a pyramid we can write if it is one like ours."""
    return users(Labels)(layer) and (not layer.multiscale or is_writable(layer))


def models_here() -> list[tuple[str, str]]:
    """Names of the known models that need no download any more, each with what it is for."""
    here = [
        (name, model.about) for name, model in registry.KNOWN.items() if registry.local_path(name) is not None
    ]
    return here or [("nano", registry.KNOWN["nano"].about)]
