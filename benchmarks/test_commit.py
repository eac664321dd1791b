"""Committing a mask to labels of 50,000 x 50,000 pixels on disk: at most 50 ms."""

import numpy as np
import pytest

napari = pytest.importorskip("napari")

from napari.layers import Image  # noqa: E402

from napari_samscape.widgets.labels import Found, new_labels, write_objects  # noqa: E402
from napari_samscape.widgets.layers import plane_of  # noqa: E402
from napari_samscape.widgets.windows import SIDE, shown_plane  # noqa: E402

HUGE = 50_000
MASK = 200
"""Side of the object, in pixels."""


def test_commit_on_a_huge_layer(benchmark, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SAMSCAPE_DATA", str(tmp_path))
    viewer = napari.components.ViewerModel()
    image = viewer.add_layer(Image(np.broadcast_to(np.uint8(0), (HUGE, HUGE)), name="huge", visible=False))
    labels = viewer.add_layer(new_labels(image, "objects"))
    rng = np.random.default_rng(0)
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    mask = y**2 + x**2 < (MASK // 2) ** 2
    number = 0

    def commit() -> None:
        nonlocal number
        number += 1
        viewer.scene.camera.center, viewer.scene.camera.zoom = (0, *rng.uniform(1000, HUGE - 1000, 2)), 1.0
        plane = shown_plane(image, viewer)
        assert write_objects(labels, [Found(mask, image, plane, number)], viewer.dims, over=False)

    assert plane_of(image, viewer.dims, full_resolution=True).shape == (HUGE, HUGE)
    benchmark.pedantic(commit, rounds=40, warmup_rounds=5)
    print(f"\ncommitted in {1000 * benchmark.stats.stats.median:.0f} ms (median)")
