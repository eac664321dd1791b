"""Everything that touches napari and Qt; nothing outside this folder does."""
