"""Whatever can be set or pressed explains itself, and a number says in what it is counted."""

import npe2
import pytest

pytest.importorskip("napari")

from qtpy.QtGui import QTextDocumentFragment
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QHeaderView,
    QLineEdit,
    QPlainTextEdit,
    QWidget,
)

from napari_samscape.widgets.boxes import BoxesWidget

INPUTS = (QAbstractButton, QAbstractItemView, QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit)
UNITS = ("0 to 1", "0 (any", "pixels", "minutes", "logits", "points", "times", "rounds", "cells", "fraction",
         "objects", "factor")  # fmt: skip

MANIFEST = npe2.PluginManifest.from_distribution("napari-samscape")
DOCKS = {one.display_name: MANIFEST.contributions.commands for one in MANIFEST.contributions.widgets}


def inputs(dock):
    """All that a user can set or press, without the parts that Qt makes these of."""
    for widget in dock.findChildren(QWidget):
        parent, is_part = widget.parent(), False
        while parent is not None and parent is not dock:
            is_part = is_part or isinstance(parent, (QAbstractItemView, QAbstractSpinBox, QComboBox))
            parent = parent.parent()
        if isinstance(widget, INPUTS) and not isinstance(widget, QHeaderView) and not is_part:
            yield widget


def told(widget):
    return QTextDocumentFragment.fromHtml(widget.toolTip()).toPlainText().strip()


def name(widget):
    return f"{type(widget).__name__} '{getattr(widget, 'text', getattr(widget, 'currentText', str))()}'"


@pytest.mark.parametrize("title", DOCKS)
def test_whatever_can_be_set_explains_itself(make_napari_viewer, title):
    viewer = make_napari_viewer()
    _, dock = viewer.window.add_plugin_dock_widget("napari-samscape", title)
    found = list(inputs(dock))
    assert len(found) >= 4, "that cannot be all"
    assert [name(widget) for widget in found if len(told(widget)) < 10] == []
    numbers = [widget for widget in found if isinstance(widget, QAbstractSpinBox)]
    assert [told(widget) for widget in numbers if not any(unit in told(widget) for unit in UNITS)] == []


def test_a_list_of_layers_says_what_it_is_for_and_which_is_chosen(make_napari_viewer):
    viewer = make_napari_viewer()
    dock = BoxesWidget(viewer)
    assert told(dock.shapes) == "A Shapes layer with rectangles."
    viewer.add_shapes(name="a detector's boxes")
    dock.shapes.refresh()
    assert told(dock.shapes) == "A Shapes layer with rectangles. (a detector's boxes)"
    dock.close_session()
