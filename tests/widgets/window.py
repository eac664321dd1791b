"""What a person does with the Prompt dock in a real napari window, and the picture to do it with."""

import numpy as np
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import QPoint

FIRST, SECOND = (slice(10, 30), slice(15, 40)), (slice(40, 55), slice(5, 60))


def picture():
    """Two bright rectangles, of 100 and 200, on black; 64 x 64."""
    pixels = np.zeros((64, 64), np.uint8)
    pixels[FIRST], pixels[SECOND] = 100, 200
    return pixels


def settle(qtbot, dock):
    """Wait until the dock has caught up with the viewer and the engine with the dock."""
    timers = (dock._image_soon, dock._look_soon, dock.ask_soon, dock._layers_soon, dock.desk._show_soon)
    timers += (dock._restore_soon, dock.gaze._view_soon)
    qtbot.waitUntil(
        lambda: not any(t.isActive() for t in timers) and dock.session.state.phase != "working",
        timeout=20_000,
    )


def click_on(qtbot, dock, *points):
    for point in points:
        dock.canvas.points.add(point)
    settle(qtbot, dock)


def press(viewer, key):
    """Press a key with the canvas in focus."""
    viewer.window._qt_viewer._key_map_handler.press_key(coerce_keybinding(key))


def canvas_position(viewer, world):
    """Where a world point (y, x) is drawn on the canvas, in Qt's pixels."""
    canvas = viewer.window._qt_viewer.canvas
    transform = canvas.view.transform * canvas.view.scene.transform
    x, y = transform.map((world[1], world[0]))[:2]
    return QPoint(round(float(x)), round(float(y)))
