"""Open napari with a sample picture and the Prompt dock, as `make napari` does; a file's path opens that."""

import sys

import napari

from napari_samscape.widgets.prompt import PromptWidget


def main() -> None:
    """Open the window and stay until it is closed."""
    viewer = napari.Viewer(title="napari-samscape", show_welcome_screen=False)
    if len(sys.argv) > 1:
        viewer.open(sys.argv[1:])
    else:
        viewer.open_sample("napari-samscape", "nuclei")
    viewer.window.add_dock_widget(PromptWidget(viewer), name="Prompt (Samscape)")
    napari.run()


if __name__ == "__main__":
    main()
