"""What is under File > Open Sample > Samscape."""

from __future__ import annotations

from typing import Any

from napari_samscape.sample_files import sample_path

LayerData = tuple[Any, dict[str, Any], str]


def nuclei() -> list[LayerData]:
    """Nuclei in fluorescence, grey."""
    return _sample("nuclei")


def tissue() -> list[LayerData]:
    """A stained section of tissue, RGB."""
    return _sample("tissue")


def scene() -> list[LayerData]:
    """A photograph, RGB."""
    return _sample("scene")


def embryo() -> list[LayerData]:
    """Nuclei of a mouse embryo in fluorescence, a volume (z, y, x)."""
    return _sample("embryo")


def _sample(name: str) -> list[LayerData]:
    import numpy as np

    from napari_samscape.io import open_image

    return [(np.asarray(open_image(sample_path(name)).data), {"name": name.capitalize()}, "image")]
