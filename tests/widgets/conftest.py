"""What the tests of all docks share: the docks with a Run button in real windows, and what users are told."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    """A folder of the test's own for what docks save by themselves."""
    monkeypatch.setenv("SAMSCAPE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def told(monkeypatch):
    """Texts of the notifications that the user gets."""
    from napari.utils.notifications import notification_manager

    texts = []
    monkeypatch.setattr(notification_manager, "dispatch", lambda notice: texts.append(notice.message))
    return texts


@pytest.fixture
def picture():
    """Two bright rectangles, of 100 and 200, on black; 64 x 64."""
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:30, 15:40], pixels[40:55, 5:60] = 100, 200
    return pixels


@pytest.fixture
def open_task(make_napari_viewer):
    """Open a viewer with layers and a dock of a class in it."""
    from fake_engine import FakeEngine

    def open_it(kind, *layers, engine=FakeEngine):
        viewer = make_napari_viewer()
        for layer in layers:
            viewer.add_layer(layer)
        dock = kind(viewer, engine)
        viewer.window.add_dock_widget(dock)
        return viewer, dock

    return open_it


@pytest.fixture
def run(qtbot):
    """Press Run and wait for the end; returns what the dock says then."""

    def run_it(dock):
        dock.run_button.click()
        qtbot.waitUntil(lambda: not dock._jobs.busy, timeout=20_000)
        return dock.status.text.text()

    return run_it


@pytest.fixture
def open_dock(make_napari_viewer, qtbot):
    """Open a viewer with layers and the Prompt dock in it, and wait until it is ready."""
    from fake_engine import FakeEngine
    from window import settle

    from napari_samscape.widgets.prompt import PromptWidget

    def open_it(*layers, show=False, engine=FakeEngine, wait=True):
        viewer = make_napari_viewer(show=show)
        for layer in layers:
            viewer.add_layer(layer)
        dock = PromptWidget(viewer, engine)
        viewer.window.add_dock_widget(dock, name="Prompt")
        if wait:
            settle(qtbot, dock)
        return viewer, dock

    return open_it
