"""Five hundred objects prompted, committed and every third undone, in a real window: memory and speed stay.

Run ``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/soak.py [--objects 500]``; with nano.
"""

import argparse
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication
from waiting import wait_for  # beside this file

from napari_samscape.widgets.prompt import PromptWidget


def resident() -> float:
    """Memory of this process, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def main() -> None:
    """Prompt, commit, undo; print memory and time for each tenth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=500)
    count = parser.parse_args().objects
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-samscape", "nuclei")
    dock = PromptWidget(viewer)
    viewer.window.add_dock_widget(dock)
    wait_for(lambda: dock.session.state.phase == "ready")
    rng, start = np.random.default_rng(0), time.perf_counter()
    for number in range(1, count + 1):
        dock.canvas.points.add(rng.uniform((0, 0), (519, 695)))
        dock.ask()
        wait_for(lambda: dock.session.state.phase == "ready" and not dock.session.pending)
        dock.over.setChecked(True)
        dock.commit()
        if number % 3 == 0:
            dock.undo()
            dock.clear()
        QApplication.processEvents()
        if number % max(1, count // 10) == 0:
            now = time.perf_counter()
            seconds, start = now - start, now
            print(
                f"{number:5d} objects  {resident():6.0f} MB  {10 * 1000 * seconds / count:5.0f} ms each",
                flush=True,
            )
    dock.close_session()
    viewer.close()


if __name__ == "__main__":
    main()
