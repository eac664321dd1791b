"""Make docs/images/napari_window.png: the real window with objects, a prompt and its three masks.

Run ``xvfb-run -a -s "-screen 0 1400x900x24" python examples/screenshot.py [OUT.png] [--theme light]``.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_samscape.widgets.prompt import PromptWidget

SIZE = (1280, 800)
# Pixels (y, x) of the nuclei sample: nuclei to commit, and one that is left with its prompts.
NUCLEI = [
    (53, 527),
    (119, 384),
    (149, 449),
    (179, 493),
    (320, 543),
    (365, 573),
    (280, 129),
    (378, 218),
    (388, 663),
]
NUCLEI += [(353, 60), (203, 340), (17, 207), (24, 426), (457, 550)]
PROMPTED = (199, 276)
OUT = Path(__file__).parents[1] / "docs" / "images" / "napari_window.png"


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Let the window work until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("The window did not get ready in time.")
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Open the window, prompt, commit, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, default=OUT)
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()

    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.theme = options.theme
    viewer.window.resize(*SIZE)
    viewer.open_sample("napari-samscape", "nuclei")
    dock = PromptWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Prompt (Samscape)")
    if options.model != "nano":
        dock.model.open(options.model)
    wait_for(lambda: dock.session.state.phase == "ready")
    for y, x in NUCLEI:
        ask(dock, (y, x))
        dock.commit()
    ask(dock, PROMPTED)
    dock.canvas.points.selected_data = set()
    viewer.reset_view()
    end = time.monotonic() + 1
    wait_for(lambda: time.monotonic() > end)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    viewer.screenshot(str(options.out), canvas_only=False, flash=False)
    viewer.close()
    print(options.out)


def ask(dock: PromptWidget, point: tuple[int, int]) -> None:
    """Add a point and wait for the masks."""
    dock.canvas.points.add(point)
    dock.ask()
    wait_for(lambda: dock.session.state.phase == "ready" and not dock.session.pending)


if __name__ == "__main__":
    main()
