"""Make the pictures of walkthrough.md: drives the real window with mouse and keys, as a person would.

Run ``xvfb-run -a -s "-screen 0 1400x900x24" python docs/walkthrough.py [--theme light] [--out FOLDER]``.

Whatever the window looks like today is what the pages show.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent / "images" / "walkthrough"
SIZE = (1280, 800)
COLOURS = 256
"""Each picture has so many colours: the repository stays small."""
STRIP, STRIP_HEIGHT, GAP = ("1_hover", "2_masks", "4_everything"), 360, 8
"""The README's pictures in a row: which, how high, and how far apart, in pixels."""
NUCLEI = [(119, 384), (149, 449), (320, 543), (365, 573), (280, 129), (378, 218), (203, 340), (24, 426)]
NEXT = (199, 276)
NUCLEUS = (15, 93, 64)
"""(z, y, x) in the volume."""


def main() -> None:
    """Go through the pages one by one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--side", type=int, default=960, help="width of the pictures, in pixels")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        os.environ["SAMSCAPE_DATA"] = folder  # nobody's own sessions and settings are touched
        Walk(options).go()
    strip(options.out)


def strip(folder: Path, names: Sequence[str] = STRIP) -> None:
    """Put some pictures side by side, without the layer list, for the README."""
    from PIL import Image

    parts = [Image.open(folder / f"{name}.png").convert("RGB") for name in names]
    width, height = parts[0].size
    parts = [part.crop((round(0.26 * width), 0, width, height)) for part in parts]
    size = (round(parts[0].width * STRIP_HEIGHT / height), STRIP_HEIGHT)
    whole = Image.new("RGB", (len(parts) * size[0] + (len(parts) - 1) * GAP, STRIP_HEIGHT), "white")
    for number, part in enumerate(parts):
        whole.paste(part.resize(size, Image.Resampling.LANCZOS), (number * (size[0] + GAP), 0))
    path = folder / "strip.png"
    whole.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(f"{path} {path.stat().st_size / 1000:.0f} kB", flush=True)


class Walk:
    """One window from beginning to end."""

    def __init__(self, options: argparse.Namespace) -> None:
        import napari

        self.options = options
        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.theme = options.theme
        self.viewer.window.resize(*SIZE)
        self.canvas = self.viewer.window._qt_viewer.canvas
        self.docked = None

    def go(self) -> None:
        """All pages."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        viewer, native = self.viewer, self.canvas.native
        viewer.open_sample("napari-samscape", "nuclei")
        dock = self.dock("Prompt")
        self.wait(lambda: dock.session.state.phase == "ready")
        viewer.reset_view()
        self.rest()
        QTest.mouseMove(native, self.place(NEXT))
        self.wait(lambda: dock.session.state.preview is not None)
        self.shot("1_hover")
        for nucleus in NUCLEI:
            self.click(nucleus)
            self.wait(lambda: dock.session.state.phase == "ready" and not dock.session.pending)
            QTest.keyClick(native, Qt.Key.Key_N)
        self.click(NEXT)
        self.wait(lambda: dock.session.state.phase == "ready" and dock.session.state.masks is not None)
        QTest.mouseMove(native, self.place((300, 20)))
        self.rest()
        self.shot("2_masks")
        QTest.keyClick(native, Qt.Key.Key_N)
        dock.objects.model.setData(dock.objects.model.index(3, 4), "nucleus")
        dock.objects.select([4])
        dock.desk.select([4])
        self.shot("3_objects")
        dock = self.dock("Everything")
        dock.run_button.click()
        self.wait(lambda: not dock._jobs.busy)
        viewer.reset_view()
        self.shot("4_everything")
        dock = self.dock("Batch")
        self.fill(dock)
        self.shot("5_batch")
        dock = self.dock("Models")
        dock.table.selectRow(1)
        self.shot("6_models")
        self.follow()
        viewer.close()

    def follow(self) -> None:
        """An object through a volume."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        viewer = self.viewer
        viewer.layers.clear()
        (layer,) = viewer.open_sample("napari-samscape", "embryo")
        layer.contrast_limits = 100, 700
        dock = self.dock("Prompt")
        viewer.dims.set_current_step(0, NUCLEUS[0])
        viewer.reset_view()
        self.wait(lambda: dock.session.state.phase == "ready")
        self.click(NUCLEUS[1:])
        self.wait(lambda: dock.session.state.phase == "ready" and dock.session.state.masks is not None)
        QTest.keyClick(self.canvas.native, Qt.Key.Key_G, Qt.KeyboardModifier.ShiftModifier)
        self.wait(lambda: dock.propagation.on and not dock.propagation.busy)
        self.shot("7_propagate")
        QTest.keyClick(self.canvas.native, Qt.Key.Key_N)
        viewer.dims.ndisplay = 3
        getattr(viewer, "scene", viewer).camera.angles = (10, -25, 20)
        self.shot("8_volume")

    def fill(self, dock) -> None:
        """Show a list of batches as it may look after a while."""
        from napari_samscape.widgets.jobs import Batch

        dock.source.setText("plate_7/*.tif")
        dock.folder.setText("labels_7")
        orders = [{"source": f"plate_{n}/*.tif", "folder": f"labels_{n}"} for n in (5, 6)]
        done, running = (Batch(order) for order in orders)
        running.start()
        running.report(0, 96_000, "A01.tif: tile 1 of 4", now=time.monotonic() - 300)
        running.report(41_500, 96_000, "D06.tif: tile 3 of 4", now=time.monotonic())
        done.finish({"pictures": [], "done": 96, "failed": 0, "objects": 18_204, "table": "", "seconds": 812})
        dock.batches, dock._current = [done, running], None
        dock._show()
        dock.table.selectRow(1)

    # --- what a person does ---

    def dock(self, name: str):
        """Open a dock from the menu, instead of the one before."""
        if self.docked is not None:
            self.viewer.window.remove_dock_widget(self.docked)
        self.docked, widget = self.viewer.window.add_plugin_dock_widget("napari-samscape", name)
        self.rest()
        return widget

    def place(self, pixel: tuple[int, int]):
        """Where a pixel (y, x) of the picture is on the canvas."""
        from qtpy.QtCore import QPoint

        transform = self.canvas.view.transform * self.canvas.view.scene.transform
        x, y = transform.map((pixel[1], pixel[0]))[:2]
        return QPoint(round(float(x)), round(float(y)))

    def click(self, pixel: tuple[int, int]) -> None:
        """Click on a pixel of the picture."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        where = self.place(pixel)
        QTest.mouseMove(self.canvas.native, where)
        QTest.mouseClick(self.canvas.native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, where)
        self.rest(0.1)

    def wait(self, condition: Callable[[], bool], seconds: float = 180) -> None:
        """Let the window work until the condition holds."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("The window did not get ready in time.")
            QApplication.processEvents()
            time.sleep(0.01)

    def rest(self, seconds: float = 0.5) -> None:
        """Let the window come to rest."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def shot(self, name: str) -> None:
        """Save a picture of the whole window, small."""
        from PIL import Image

        self.rest()
        picture = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        height = round(picture.height * self.options.side / picture.width)
        picture = picture.resize((self.options.side, height), Image.Resampling.LANCZOS)
        path = self.options.out / f"{name}.png"
        picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        print(f"{path} {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
