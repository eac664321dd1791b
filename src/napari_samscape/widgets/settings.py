"""What users set in docks, kept from one session to the next, in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QComboBox

from napari_samscape.errors import InputError
from napari_samscape.io.text import replacing_text
from napari_samscape.widgets.autosave import data_folder

if TYPE_CHECKING:
    from napari_samscape.widgets.choosers import ModelChooser
    from napari_samscape.widgets.dock import Dock
    from napari_samscape.widgets.fields import OptionFields

SOON = 300
"""Milliseconds after a change at which it is kept."""


class Settings:
    """The settings of one dock.

    Parameters
    ----------
    dock : Dock
        Whose.
    name : str
        What they are kept under.
    """

    def __init__(self, dock: Dock, name: str) -> None:
        self._name = name
        self._read: dict[str, Callable[[], Any]] = {}
        self._known = _stored().get(name, {})
        self._soon = dock._timer(SOON, self.save)

    def check(self, name: str, box: QCheckBox) -> None:
        """Keep whether a box is ticked."""
        box.setChecked(bool(self._known.get(name, box.isChecked())))
        self._keep(name, box.isChecked, box.toggled)

    def choice(self, name: str, box: QComboBox) -> None:
        """Keep which text of a list is chosen."""
        index = box.findText(str(self._known.get(name, box.currentText())))
        box.setCurrentIndex(max(index, 0))
        self._keep(name, box.currentText, box.currentIndexChanged)

    def model(self, chooser: ModelChooser) -> None:
        """Keep the model, as long as it is there."""
        chooser.take(str(self._known.get("model", chooser.currentData())))
        self._keep("model", chooser.currentData, chooser.chosen)

    def options(self, fields: OptionFields) -> None:
        """Keep what is set otherwise than by default."""
        fields.put(self._known.get("options", {}))
        for changed in fields.changed():
            changed.connect(lambda *_: self._soon.start())
        self._read["options"] = fields.changes

    def _keep(self, name: str, read: Callable[[], Any], changed: Any) -> None:
        self._read[name] = read
        changed.connect(lambda *_: self._soon.start())

    def save(self) -> None:
        """Write them down, beside those of other docks."""
        place = _place()
        content = {**_stored(), self._name: {name: read() for name, read in self._read.items()}}
        with suppress(OSError, InputError):  # without them one only has to set them again
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing_text(place, True) as file:
                json.dump(content, file, indent=1)


def _place() -> Path:
    return data_folder() / "settings.json"


def _stored() -> dict[str, Any]:
    try:
        content = json.loads(_place().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
