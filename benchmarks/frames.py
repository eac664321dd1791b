"""How much the canvas slows down while a model looks at pictures: time of a frame, idle and meanwhile.

Run ``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/frames.py [--engine local]``: pans a picture of
1024 x 1024 pixels in a real window. With it goes how soon work that is cancelled is given up.
"""

import argparse
import threading
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_samscape.widgets.engine import LocalEngine
from napari_samscape.widgets.process_engine import ProcessEngine
from napari_samscape.widgets.worker import Cancelled

FRAMES = 200
GATE = 1.4
"""While the model works, 95 % of the frames take at most so many times as long as 95 % do when it is idle."""


def frame_times(viewer: napari.Viewer, count: int = FRAMES) -> np.ndarray:
    """Seconds for each of many frames while panning."""
    native, camera = viewer.window._qt_viewer.canvas.native, viewer.scene.camera
    times = []
    for number in range(count):
        start = time.perf_counter()
        camera.center = (0, 512 + 100 * np.sin(number / 10), 512 + 100 * np.cos(number / 10))
        QApplication.processEvents()
        native.repaint()
        times.append(time.perf_counter() - start)
    return np.array(times)


def while_embedding(
    engine: LocalEngine | ProcessEngine, pixels: np.ndarray, viewer: napari.Viewer
) -> np.ndarray:
    """The same while a thread of the docks' kind has pictures embedded, one after the other."""
    stop = threading.Event()

    def embed() -> None:
        number = 0
        while not stop.is_set():
            engine.embed(number, pixels, lambda *_: None)
            number += 1

    thread = threading.Thread(target=embed)
    thread.start()
    try:
        return frame_times(viewer)
    finally:
        stop.set()
        thread.join()


def cancel_time(engine: LocalEngine | ProcessEngine, pixels: np.ndarray) -> float:
    """Seconds from a cancellation in mid work to its end."""
    asked = [0.0]
    begun = time.perf_counter()

    def progress(done: int, total: int, text: str) -> None:
        if done > 3 or time.perf_counter() - begun > 1:
            asked[0] = asked[0] or time.perf_counter()
            raise Cancelled

    try:
        engine.embed("cancelled", pixels, progress)
    except Cancelled:
        return time.perf_counter() - asked[0]
    raise RuntimeError("The picture was embedded before the work could be cancelled.")


def main() -> None:
    """Measure, and print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["process", "local"], default="process")
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1280, 800)
    viewer.add_image(pixels)
    engine = {"process": ProcessEngine, "local": LocalEngine}[options.engine](options.model)
    engine.embed("first", pixels, lambda *_: None)  # loads the model
    frame_times(viewer, 30)
    idle = np.percentile(frame_times(viewer), 95)
    busy = np.percentile(while_embedding(engine, pixels, viewer), 95)
    print(f"idle  {1000 * idle:.1f} ms (p95)\nbusy  {1000 * busy:.1f} ms (p95)")
    print(f"ratio {busy / idle:.2f}, at most {GATE} is wanted")
    print(f"cancelled after {1000 * cancel_time(engine, pixels):.0f} ms")
    engine.close()
    viewer.close()


if __name__ == "__main__":
    main()
