"""The smaller parts of the docks: option editors, tables of objects."""

import numpy as np
import pytest

pytest.importorskip("napari")

from fake_engine import FakeEngine
from napari.layers import Image, Labels
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent

from napari_samscape.prediction.options import EverythingOptions, default_options, limits
from napari_samscape.prediction.types import Instance
from napari_samscape.widgets.boxes import BoxesWidget
from napari_samscape.widgets.controls import Scroll
from napari_samscape.widgets.edges import EdgesWidget
from napari_samscape.widgets.everything import EverythingWidget
from napari_samscape.widgets.features import add_rows, joined, object_table
from napari_samscape.widgets.fields import Field, OptionFields
from napari_samscape.widgets.layers import Plane, planes_like

# --- options --------------------------------------------------------------------------------------------

FIELDS = (
    Field("crop_overlap_ratio", "Overlap", "How much."),
    Field("mask_nms_thresh", "Same", "From where.", off=True),
    Field("points_per_side", "Side", "How many."),
    Field("prompt_source", "From", "Where.", choices=(("auto", "Best"), ("grid", "Grid"))),
)


@pytest.fixture
def options(qtbot):
    made = OptionFields(FIELDS, default_options(False))
    for editor in made.editors.values():
        qtbot.addWidget(editor)
    return made


def test_defaults_are_given_back_exactly_though_fewer_decimals_are_shown(options):
    default = EverythingOptions()
    assert options.values() == {field.name: getattr(default, field.name) for field in FIELDS}
    assert options.editors["crop_overlap_ratio"].text() == "0.34"


def test_a_number_may_be_left_out(options):
    editor = options.editors["mask_nms_thresh"]
    assert editor.text() == "off"
    editor.setValue(0.0)
    assert options.values()["mask_nms_thresh"] == 0
    editor.stepDown()
    assert options.values()["mask_nms_thresh"] is None


def test_an_editor_keeps_to_the_limits_of_its_option(options):
    for value, expected in ((0, 1), (5000, 1024)):
        options.editors["points_per_side"].setValue(value)
        assert options.values()["points_per_side"] == expected
    assert limits("points_per_side") == (1, 1024, True)


def test_other_defaults_replace_only_what_nobody_has_set(options):
    options.editors["points_per_side"].setValue(7)
    options.use_defaults(default_options(True))
    assert options.values()["mask_nms_thresh"] == default_options(True).mask_nms_thresh
    assert options.values()["points_per_side"] == 7
    options.reset()
    assert options.values()["points_per_side"] == default_options(True).points_per_side


def test_the_wheel_changes_no_number_in_passing(options):
    editor = options.editors["points_per_side"]
    none, down = Qt.MouseButton.NoButton, QPoint(0, -120)
    event = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(), down, none, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    editor.wheelEvent(event)
    assert options.values()["points_per_side"] == 32 and not event.isAccepted()


# --- tables ---------------------------------------------------------------------------------------------


def instance(box):
    y0, x0, y1, x1 = box
    return Instance(box=box, bits=np.packbits(np.ones((y1 - y0, x1 - x0), bool)), predicted_iou=0.5)


def test_of_a_coarse_plane_the_table_counts_in_the_images_own_pixels():
    image = Image(np.zeros((3, 8, 12)))
    # Two rows and three columns become one pixel, whose centre lies in the middle of them.
    plane = Plane((1, 2), (2, 0, 0), (4, 4), level=1, factor=(2.0, 3.0), offset=(0.5, 1.0))
    table = object_table([instance((1, 0, 3, 4))], image, plane, first=7)
    assert table == {
        "index": [7],
        image.axis_labels[0]: [2],
        "y0": [2],
        "x0": [0],
        "y1": [6],
        "x1": [12],
        "area": [48],
        "predicted_iou": [0.5],
    }


def test_rows_are_added_and_columns_that_one_side_lacks_are_empty():
    labels = Labels(np.zeros((2, 2), int), features={"index": [1, 2], "mine": ["a", "b"]})
    add_rows(labels, {"index": [2, 3], "area": [5, 6]})
    assert list(labels.features["index"]) == [1, 2, 3]
    assert labels.features["mine"].fillna("").tolist() == ["a", "", ""]
    assert labels.features["area"].fillna(0).tolist() == [0, 5, 6]


def test_no_tables_make_an_empty_one():
    assert joined([]) == {}


def test_all_planes_of_a_stack_lie_alike():
    plane = Plane((0, 2), (0, 1, 0), (4, 5))
    assert [p.position for p in planes_like(Image(np.zeros((4, 3, 5))), plane)] == [
        (0, i, 0) for i in range(3)
    ]


# --- room -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EverythingWidget, EdgesWidget, BoxesWidget])
def test_where_there_is_room_nothing_has_to_scroll(make_napari_viewer, qtbot, kind):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    viewer.add_image(np.zeros((8, 8)))
    dock = kind(viewer, FakeEngine)
    viewer.window.add_dock_widget(dock)
    (scroll,) = dock.findChildren(Scroll)
    content = scroll.widget()
    qtbot.waitUntil(lambda: scroll.viewport().height() >= content.sizeHint().height(), timeout=20_000)
    qtbot.waitUntil(lambda: not scroll.verticalScrollBar().isVisible(), timeout=20_000)
