"""A person at work whose napari is killed: two objects, a third with its prompts, settings; run by a test."""

import sys
import time

import napari
from fake_engine import FakeEngine
from napari.layers import Image
from qtpy.QtWidgets import QApplication
from window import picture

from napari_samscape.widgets.prompt import PromptWidget


def wait_for(condition):
    while not condition():
        QApplication.processEvents()
        time.sleep(0.01)


def ask(dock, point):
    dock.canvas.points.add(point)
    dock.ask()
    wait_for(lambda: dock.session.state.phase == "ready" and not dock.session.pending)


def main():
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.add_layer(Image(picture(), name="cells", scale=(2, 3)))
    dock = PromptWidget(viewer, FakeEngine)
    viewer.window.add_dock_widget(dock)
    wait_for(lambda: dock.session.state.phase == "ready")
    for point in [(20, 20), (45, 30)]:
        ask(dock, point)
        dock.commit()
    dock.over.setChecked(True)
    ask(dock, (0, 0))
    dock.choose(2)
    wait_for(lambda: not dock.keeper.busy)
    print("saved", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    sys.exit(main())
