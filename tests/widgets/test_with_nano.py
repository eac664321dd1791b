"""The dock with the bundled model on the nuclei sample: clicks in, nuclei out."""

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image
from scipy import ndimage as ndi
from window import press

from napari_samscape.model.registry import local_path
from napari_samscape.widgets.prompt import PromptWidget
from napari_samscape.widgets.samples import nuclei

if local_path("nano") is None:
    pytest.skip("the bundled model is not there", allow_module_level=True)

CENTRES = [(199, 276), (119, 384), (320, 543)]  # three nuclei that stand alone


@pytest.fixture
def pixels():
    ((data, _, _),) = nuclei()
    return data


def nucleus(pixels, centre):
    """The bright region round a point: what a person would call the nucleus."""
    smooth = ndi.gaussian_filter(pixels.astype(float), 1)
    regions, _ = ndi.label(smooth > smooth[centre] / 2)
    return regions == regions[centre]


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def ask(qtbot, dock):
    dock.ask()
    qtbot.waitUntil(
        lambda: dock.session.state.phase == "ready" and dock.session.state.mask is not None, timeout=60_000
    )


@pytest.mark.slow
def test_a_click_on_a_nucleus_gets_the_nucleus(make_napari_viewer, qtbot, pixels):
    viewer = make_napari_viewer()
    viewer.add_layer(Image(pixels, name="nuclei", scale=(0.65, 0.65), rotate=20))
    dock = PromptWidget(viewer)
    viewer.window.add_dock_widget(dock)
    qtbot.waitUntil(lambda: dock.session.state.phase == "ready", timeout=60_000)
    for centre in CENTRES:
        dock.canvas.points.add(centre)
        ask(qtbot, dock)
        dock.commit()
    labels = viewer.layers["nuclei objects"].data
    overlaps = [overlap(labels == i, nucleus(pixels, centre)) for i, centre in enumerate(CENTRES, 1)]
    assert min(overlaps) > 0.6, overlaps


@pytest.mark.slow
def test_a_background_click_takes_a_neighbour_away(make_napari_viewer, qtbot, pixels):
    viewer = make_napari_viewer()
    viewer.add_layer(Image(pixels, name="nuclei"))
    dock = PromptWidget(viewer)
    viewer.window.add_dock_widget(dock)
    qtbot.waitUntil(lambda: dock.session.state.phase == "ready", timeout=60_000)
    dock.canvas.points.add(CENTRES[0])
    ask(qtbot, dock)
    dock.session.choose(int(dock.session.state.masks.masks.sum(axis=(1, 2)).argmax()))
    dock.use("background")
    dock.canvas.points.add((190, 340))
    ask(qtbot, dock)
    assert len(dock.session.state.masks.iou) == 1
    assert not dock.session.state.mask[190, 340]


@pytest.mark.slow
def test_a_nucleus_that_moves_is_followed_through_time(make_napari_viewer, qtbot, pixels):
    centre, shift = CENTRES[0], (4, 6)
    series = np.stack([np.roll(pixels, (shift[0] * t, shift[1] * t), (0, 1)) for t in range(3)])
    viewer = make_napari_viewer()
    viewer.add_layer(Image(series, name="nuclei", axis_labels=("t", "y", "x")))
    viewer.dims.set_point(0, 0)
    dock = PromptWidget(viewer)
    viewer.window.add_dock_widget(dock)
    qtbot.waitUntil(lambda: dock.session.state.phase == "ready", timeout=60_000)
    dock.canvas.points.add((0, *centre))
    ask(qtbot, dock)
    press(viewer, ".")
    qtbot.waitUntil(lambda: dock.propagation.on and not dock.propagation.busy, timeout=60_000)
    press(viewer, "N")
    labels = viewer.layers["nuclei objects"].data
    for t in range(3):
        place = centre[0] + shift[0] * t, centre[1] + shift[1] * t
        assert overlap(labels[t] == 1, nucleus(series[t], place)) > 0.6
