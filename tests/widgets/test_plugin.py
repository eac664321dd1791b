"""The plugin as napari finds it: its menu entries work in a real window."""

import numpy as np
import pytest

pytest.importorskip("napari")

from importlib.metadata import PackageNotFoundError, distribution

from fake_engine import FakeEngine

from napari_samscape.widgets import boxes, edges, everything, prompt
from napari_samscape.widgets.samples import embryo, nuclei, scene, tissue

try:
    distribution("napari-samscape")
except PackageNotFoundError:
    pytest.skip("napari-samscape is not installed, so napari cannot find it", allow_module_level=True)


@pytest.fixture
def viewer(make_napari_viewer, npe2pm):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-samscape"))
    return make_napari_viewer()


def test_plugins_samscape_prompt_opens_the_dock(viewer, qtbot, monkeypatch):
    monkeypatch.setattr(prompt.PromptWidget.__init__, "__defaults__", (FakeEngine,))
    viewer.add_image(np.zeros((8, 8)), name="cells")
    _, dock = viewer.window.add_plugin_dock_widget("napari-samscape", "Prompt")
    assert type(dock) is prompt.PromptWidget
    assert dock.viewer is viewer, "the viewer itself, not the proxy that plugins are given"
    qtbot.waitUntil(lambda: dock.session.state.phase == "ready")
    dock.canvas.points.add((4, 4))
    qtbot.waitUntil(lambda: dock.session.state.mask is not None)
    dock.commit()
    assert (viewer.layers["cells objects"].data == 1).all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Everything", everything.EverythingWidget), ("Edges", edges.EdgesWidget), ("Boxes", boxes.BoxesWidget)],
)
def test_plugins_samscape_opens_the_docks_with_a_run_button(viewer, name, kind):
    image = viewer.add_image(np.zeros((8, 8)), name="cells")
    _, dock = viewer.window.add_plugin_dock_widget("napari-samscape", name)
    assert type(dock) is kind and dock.viewer is viewer and dock.image.layer is image


@pytest.mark.parametrize(
    ("key", "shape", "rgb"),
    [
        ("nuclei", (520, 696), False),
        ("tissue", (256, 320, 3), True),
        ("scene", (427, 640, 3), True),
        ("embryo", (51, 120, 122), False),
    ],
)
def test_file_open_sample_opens_the_pictures(viewer, key, shape, rgb):
    (layer,) = viewer.open_sample("napari-samscape", key)
    assert layer.data.shape == shape and layer.rgb == rgb
    assert layer.name == key.capitalize()


def test_samples_are_layer_data():
    for sample, dtype in ((nuclei, np.uint8), (tissue, np.uint8), (scene, np.uint8), (embryo, np.uint16)):
        ((data, options, kind),) = sample()
        assert kind == "image" and data.dtype == dtype and options["name"]


def test_docks_are_in_naparis_menus_for_layers_and_so_in_the_palette(viewer):
    from napari._app_model import get_app_model

    app = get_app_model()

    def listed(menu):
        return {item.command.id for item in app.menus.get_menu(menu) if hasattr(item, "command")}

    docks = {f"napari-samscape.{name}" for name in ("prompt", "everything", "boxes", "edges", "batch")}
    assert docks <= listed("napari/layers/segment")
    assert "napari-samscape.prompt" in listed("napari/layers/annotate")
    assert docks | {"napari-samscape.models"} <= {name for name, _ in app.commands}
