"""From a move of the mouse to the mask under it, drawn, in a real window: 60 ms at most, with ViT-B 150.

ViT-B has random weights, which take as long as others.
"""

import pytest

napari = pytest.importorskip("napari")

import torch  # noqa: E402
from qtpy.QtCore import QPoint  # noqa: E402
from qtpy.QtTest import QTest  # noqa: E402
from test_models import VIT_B, make_sam  # noqa: E402  (beside this file, as is waiting)
from waiting import wait_for  # noqa: E402

from napari_samscape.model.image_encoder import ImageEncoder  # noqa: E402
from napari_samscape.model.weights import save_model  # noqa: E402
from napari_samscape.widgets.process_engine import ProcessEngine  # noqa: E402
from napari_samscape.widgets.prompt import PromptWidget  # noqa: E402


@pytest.fixture(params=["nano", "vit_b"])
def model(request, tmp_path) -> str:
    if request.param == "nano":
        return "nano"
    torch.manual_seed(0)
    save_model(make_sam(ImageEncoder(VIT_B)), tmp_path / "vit_b.safetensors")
    return str(tmp_path / "vit_b.safetensors")


def test_mouse_move_to_mask(benchmark, model: str) -> None:
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-samscape", "nuclei")
    dock = PromptWidget(viewer, lambda _: ProcessEngine(model))
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
