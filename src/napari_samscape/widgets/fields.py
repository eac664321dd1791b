"""Options as rows of a form: each has a name for people, an editor, and a tip with units and meaning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QSizePolicy, QSpinBox

from napari_samscape.prediction.options import limits
from napari_samscape.widgets.controls import form

MOST = 1_000_000
"""An editor's highest number where the option itself has no limit."""
DECIMALS = 2


@dataclass(frozen=True)
class Field:
    """One option.

    Attributes
    ----------
    name : str
        What it is called in Python and on the command line.
    label : str
        What the form calls it.
    tip : str
        What it means, with units.
    unit : str
        Shown behind a number.
    step : float
        By how much the arrows change a number.
    choices : sequence of (value, str)
        What can be chosen, where it is no number.
    off : bool
        Whether a number may be left out, too (None).
    """

    name: str
    label: str
    tip: str
    unit: str = ""
    step: float = 0.05
    choices: Sequence[tuple[Any, str]] = ()
    off: bool = False


class _Whole(QSpinBox):
    def __init__(self, field: Field) -> None:
        super().__init__()
        low, high, _ = limits(field.name)
        self._lowest = int(low)
        self.setRange(self._lowest - field.off, MOST if math.isinf(high) else int(high))
        if field.off:
            self.setSpecialValueText("off")
        self.setSuffix(f" {field.unit}" if field.unit else "")

    def read(self) -> int | None:
        return None if self.value() < self._lowest else int(self.value())

    def put(self, value: int | None) -> None:
        self.setValue(self.minimum() if value is None else value)

    def wheelEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        _only_with_focus(self, QSpinBox, event)


class _Decimal(QDoubleSpinBox):
    def __init__(self, field: Field) -> None:
        super().__init__()
        low, high, _ = limits(field.name)
        self._lowest = max(low, 0.0)
        self.setDecimals(DECIMALS)
        self.setSingleStep(field.step)
        self.setRange(self._lowest - (field.step if field.off else 0), MOST if math.isinf(high) else high)
        if field.off:
            self.setSpecialValueText("off")  # for the lowest value, one step below 0
        self.setSuffix(f" {field.unit}" if field.unit else "")

    def read(self) -> float | None:
        value = round(float(self.value()), DECIMALS)
        return None if value < self._lowest else value

    def put(self, value: float | None) -> None:
        self.setValue(self.minimum() if value is None else value)

    def wheelEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        _only_with_focus(self, QDoubleSpinBox, event)


class _Choice(QComboBox):
    def __init__(self, field: Field) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for value, text in field.choices:
            self.addItem(text, value)

    def read(self) -> Any:
        return self.currentData()

    def put(self, value: Any) -> None:
        self.setCurrentIndex(self.findData(value))


def _only_with_focus(editor: Any, kind: Any, event: Any) -> None:
    """Let the wheel scroll the dock, not change a number that the mouse happens to pass over."""
    if editor.hasFocus():
        kind.wheelEvent(editor, event)
    else:
        event.ignore()


class OptionFields:
    """Editors for options, and what they are by default.

    Parameters
    ----------
    fields : iterable of Field
        The options.
    defaults : object
        Has an attribute for each; the values at first.
    """

    def __init__(self, fields: Iterable[Field], defaults: Any) -> None:
        self._fields = {field.name: field for field in fields}
        self.editors: dict[str, Any] = {name: _editor(field) for name, field in self._fields.items()}
        self._defaults: dict[str, Any] = {}
        self.use_defaults(defaults, every=True)

    def rows(self, fields: Iterable[Field]) -> QFormLayout:
        """Make a form of some of them."""
        editors = {field.label: self.editors[field.name] for field in fields}
        layout = form(*editors.items())
        for editor in editors.values():
            layout.labelForField(editor).setToolTip(editor.toolTip())
        return layout

    def values(self) -> dict[str, Any]:
        """What is set; a default that has more decimals than are shown is meant exactly."""
        return {
            name: self._defaults[name] if self._is_default(name) else editor.read()
            for name, editor in self.editors.items()
        }

    def use_defaults(self, defaults: Any, *, every: bool = False) -> None:
        """Set other defaults where the user has set nothing, or everywhere."""
        for name, editor in self.editors.items():
            untouched = every or self._is_default(name)
            self._defaults[name] = getattr(defaults, name)
            if untouched:
                editor.put(self._defaults[name])

    def changes(self) -> dict[str, Any]:
        """What is set otherwise than by default."""
        return {name: editor.read() for name, editor in self.editors.items() if not self._is_default(name)}

    def put(self, values: dict[str, Any]) -> None:
        """Set some."""
        for name, value in values.items():
            if name in self.editors:
                self.editors[name].put(value)

    def changed(self) -> list[Any]:
        """The signals of all editors, which say that something else is set."""
        return [
            editor.currentIndexChanged if isinstance(editor, QComboBox) else editor.valueChanged
            for editor in self.editors.values()
        ]

    def reset(self) -> None:
        """Set everything to its default."""
        for name, editor in self.editors.items():
            editor.put(self._defaults[name])

    def _is_default(self, name: str) -> bool:
        default = self._defaults[name]
        shown = round(default, DECIMALS) if isinstance(default, float) else default
        return bool(self.editors[name].read() == shown)


def _editor(field: Field) -> Any:
    editor: Any
    if field.choices:
        editor = _Choice(field)
    elif limits(field.name)[2]:
        editor = _Whole(field)
    else:
        editor = _Decimal(field)
    editor.setToolTip(tip(f"{field.tip} ({field.name})"))
    editor.setMinimumWidth(90)
    editor.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return editor


def tip(text: str) -> str:
    """Text for a tooltip; as rich text it is wrapped, which plain text is not."""
    return f"<qt>{escape(text)}</qt>"
