"""napari finds the plugin, and every name in its manifest exists."""

from importlib import metadata

import pytest
from npe2 import PluginManifest

from napari_samscape.sample_files import SAMPLES

NAME = "napari-samscape"


@pytest.fixture
def manifest(root):
    return PluginManifest.from_file(root / "src" / "napari_samscape" / "napari.yaml")


def test_the_manifest_at_the_top_is_the_one_in_the_package(root):
    inside = root / "src" / "napari_samscape" / "napari.yaml"
    assert (root / "napari.yaml").read_text() == inside.read_text()
    assert (root / "napari.yaml").resolve() == inside


def test_npe2_finds_the_installed_plugin(manifest):
    (entry,) = (point for point in metadata.entry_points(group="napari.manifest") if point.name == NAME)
    assert entry.value == "napari_samscape:napari.yaml"
    found = PluginManifest.from_distribution(NAME)
    assert found.name == manifest.name == NAME
    assert found.display_name == "Samscape"
    assert found.contributions == manifest.contributions


def test_every_python_name_imports(manifest):
    manifest.validate_imports()  # lists all that fail


def test_one_dock_for_each_task_is_offered(manifest):
    offered = {widget.display_name: widget.plugin_name for widget in manifest.contributions.widgets}
    docks = ("Prompt", "Everything", "Edges", "Boxes", "Text", "Batch", "Models", "Train", "Project")
    assert offered == dict.fromkeys(docks, NAME)


def test_docks_are_offered_in_naparis_menus_for_layers(manifest):
    menus = {menu: [item.command for item in items] for menu, items in manifest.contributions.menus.items()}
    segment = ["prompt", "everything", "boxes", "text", "edges", "batch"]
    assert menus == {
        "napari/layers/segment": [f"{NAME}.{name}" for name in segment],
        "napari/layers/annotate": [f"{NAME}.{name}" for name in ("prompt", "project", "train")],
    }
    docks = {widget.command for widget in manifest.contributions.widgets}
    assert docks >= {command for commands in menus.values() for command in commands}


def test_every_sample_picture_is_offered_and_only_these(manifest):
    assert [sample.key for sample in manifest.contributions.sample_data] == list(SAMPLES)
