"""``python -m napari_samscape.cli``."""

from napari_samscape.cli import main

main()
