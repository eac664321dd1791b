"""From a move of the mouse to the mask under it, drawn, in a real window: at most 60 ms with nano."""

import pytest

napari = pytest.importorskip("napari")

from qtpy.QtCore import QPoint  # noqa: E402
from qtpy.QtTest import QTest  # noqa: E402
from waiting import wait_for  # noqa: E402  (beside this file)

from napari_samscape.widgets.prompt import PromptWidget  # noqa: E402


def test_mouse_move_to_mask(benchmark) -> None:
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-samscape", "nuclei")
    dock = PromptWidget(viewer)
    viewer.window.add_dock_widget(dock)
    wait_for(lambda: dock.session.state.phase == "ready")
    viewer.reset_view()
    canvas = viewer.window._qt_viewer.canvas
    centre, side = canvas.native.rect().center(), min(canvas.native.width(), canvas.native.height()) // 3
    places = [centre + QPoint(x, y) for x in range(-side, side, 40) for y in range(-side, side, 40)]
    number = 0

    def move() -> None:
        nonlocal number
        before = dock.session.state.preview
        QTest.mouseMove(canvas.native, places[number % len(places)])
        wait_for(lambda: dock.session.state.preview is not before)
        canvas.native.repaint()
        number += 1

    try:
        benchmark.pedantic(move, rounds=60, warmup_rounds=10)
        print(f"\nmask drawn {1000 * benchmark.stats.stats.median:.0f} ms after the move (median)")
    finally:
        dock.close_session()
        viewer.close()
