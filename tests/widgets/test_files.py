"""What is saved with File > Save and opened again is what it was: pixels, place, table, prompts."""

import json

import numpy as np
import pytest

pytest.importorskip("napari")

from npe2 import PluginManifest

from napari_samscape.errors import InputError
from napari_samscape.io.outlines import mask_polygons, polygon_mask
from napari_samscape.widgets.records import PROMPTS

PLUGIN = "napari-samscape"
RECORD = {"image": "cells", "axes": [0, 1], "position": [0, 0], "points": [[1.25, 2.5]], "labels": [1],
          "shapes": [], "turns": [[1, None]]}  # fmt: skip


@pytest.fixture
def viewer(npe2pm):
    from napari.components import ViewerModel

    npe2pm.register(PluginManifest.from_distribution(PLUGIN))
    return ViewerModel()


def round_trip(viewer, path, *layers):
    """Save layers and open the file."""
    for layer in layers:
        viewer.add_layer(layer)
    viewer.layers.selection = set(layers)
    written = viewer.layers.save(str(path), selected=True, plugin=PLUGIN)
    assert written == [str(path)]
    viewer.layers.clear()
    return viewer.open(str(path), plugin=PLUGIN)


def labels_of(pixels, **place):
    from napari.layers import Labels

    ids = [int(i) for i in np.unique(pixels) if i]
    rows = len(ids)
    features = {
        "index": ids,
        "area": [int((pixels == i).sum()) for i in ids],
        "predicted_iou": [0.875, None, 0.5][:rows],
        "class": ["nucleus", None, "cell"][:rows],
    }
    return Labels(
        pixels, name="cells objects", features=features, metadata={PROMPTS: {ids[0]: RECORD}}, **place
    )


def pixels_of(shape, dtype):
    """Three objects with holes, islands and touching corners, one of which is on every plane."""
    pixels = np.zeros(shape, dtype)
    pixels[..., 2:9, 3:12] = 3
    pixels[..., 4:7, 5:8] = 0
    pixels[..., 5, 6] = 3
    pixels[..., 9:12, 12:15] = 7
    pixels.reshape(-1, *shape[-2:])[-1, 13:15, 1:9] = 200
    return pixels


PLACES = {
    "plain": {},
    "scaled and rotated": {"scale": (0.65, 0.5), "translate": (10, -3), "rotate": 30},
    "with units": {"scale": (0.5, 0.5), "units": ("micrometer", "micrometer"), "axis_labels": ("y", "x")},
}


@pytest.mark.parametrize("ending", [".ome.zarr", ".labels.tif", ".json", ".geojson"])
@pytest.mark.parametrize("place", PLACES)
def test_labels_come_back_exactly(viewer, tmp_path, ending, place):
    before = labels_of(pixels_of((16, 20), np.int32), **PLACES[place])
    (after,) = round_trip(viewer, tmp_path / f"saved{ending}", before)
    np.testing.assert_array_equal(after.data, before.data)
    assert after.data.dtype == before.data.dtype and after.name == before.name
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_array_equal(after.affine.affine_matrix, before.affine.affine_matrix)
    assert after.units == before.units and after.axis_labels == before.axis_labels
    assert after.features.astype(object).where(after.features.notna(), None).to_dict("list") == (
        before.features.astype(object).where(before.features.notna(), None).to_dict("list")
    )
    assert after.metadata[PROMPTS] == {3: RECORD}


@pytest.mark.parametrize("ending", [".ome.zarr", ".labels.tif", ".json", ".geojson"])
@pytest.mark.parametrize(("shape", "dtype"), [((3, 16, 20), np.uint16), ((2, 3, 16, 20), np.uint8)])
def test_stacks_come_back_exactly(viewer, tmp_path, ending, shape, dtype):
    before = labels_of(pixels_of(shape, dtype))
    (after,) = round_trip(viewer, tmp_path / f"saved{ending}", before)
    np.testing.assert_array_equal(after.data, before.data)
    assert after.data.dtype == dtype


def test_large_labels_are_copied_without_being_read_whole(viewer, tmp_path, monkeypatch):
    from napari.layers import Image

    from napari_samscape.widgets import files, labels
    from napari_samscape.widgets.pyramids import writable

    monkeypatch.setattr(labels, "LARGEST", 1000)
    monkeypatch.setattr(files, "LARGEST", 1000)
    before = labels.new_labels(Image(np.zeros((1300, 1500), np.uint8), name="cells"), "objects")
    writable(before).put((slice(300, 700), slice(301, 600)), np.full((400, 299), 5, np.int32))
    expected = [np.asarray(level[...]) for level in before.data]
    (after,) = round_trip(viewer, tmp_path / "saved.ome.zarr", before)
    assert after.multiscale and after.name == "objects"
    for one, other in zip(after.data, expected, strict=True):
        np.testing.assert_array_equal(one[...], other)


def test_a_table_is_saved(viewer, tmp_path):
    layer = viewer.add_layer(labels_of(pixels_of((16, 20), np.int32)))
    layer.save(str(tmp_path / "table.csv"), plugin=PLUGIN)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0].startswith("id,y0,x0,y1,x1,area,predicted_iou") and len(lines) == 4
    assert lines[1].startswith("3,2,3,9,12,55,0.875") and "nucleus" in lines[1]


def test_prompts_come_back_exactly(viewer, tmp_path):
    from napari.layers import Points, Shapes

    places = np.array([[1 / 3, 2.0], [5.125, 7.7]])
    points = Points(
        places,
        name="Prompt points",
        features={"prompt": ["foreground", "background"]},
        scale=(0.5, 0.5),
        size=3,
    )
    shapes = Shapes(name="Prompt boxes and outlines", scale=(0.5, 0.5))
    shapes.add_rectangles(np.array([[1.1, 2], [8, 9]]), edge_width=2)
    shapes.add_paths(np.array([[0, 0], [3.3, 4], [5, 6]]), edge_width=5)
    vertices = [np.array(data) for data in shapes.data]
    after = {layer.name: layer for layer in round_trip(viewer, tmp_path / "prompts.geojson", points, shapes)}
    again = after["Prompt points"]
    np.testing.assert_array_equal(again.data, places)
    assert list(again.features["prompt"]) == ["foreground", "background"] and (again.scale == 0.5).all()
    again = after["Prompt boxes and outlines"]
    assert again.shape_type == ["rectangle", "path"] and list(again.edge_width) == [2, 5]
    for one, other in zip(again.data, vertices, strict=True):
        np.testing.assert_array_equal(one, other)
    content = json.loads((tmp_path / "prompts.geojson").read_text())
    assert content["features"][0]["geometry"]["coordinates"] == [2.5, 1 / 3 + 0.5], "(x, y) for QuPath"


def test_other_programs_files_are_opened(viewer, tmp_path):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 3], [0, 3], [0, 0]]]}
    features = [
        {"type": "Feature", "geometry": square, "properties": {"classification": {"name": "Tumor"}}},
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [2.5, 1.5]}, "properties": None},
    ]
    (tmp_path / "qupath.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    shapes, points = viewer.open(str(tmp_path / "qupath.geojson"), plugin=PLUGIN)
    assert list(shapes.features["class"]) == ["Tumor"] and shapes.data[0].max() == 3.5
    np.testing.assert_array_equal(points.data, [[1, 2]])
    annotation = {"id": 4, "segmentation": {"size": [2, 3], "counts": [2, 2, 2]}, "predicted_iou": 0.5}
    sa1b = {"image": {"width": 3, "height": 2}, "annotations": [annotation]}
    (tmp_path / "sa.json").write_text(json.dumps(sa1b))
    (labels,) = viewer.open(str(tmp_path / "sa.json"), plugin=PLUGIN)
    np.testing.assert_array_equal(labels.data, [[0, 4, 0], [0, 4, 0]])


def test_an_ome_zarr_image_is_opened_with_the_labels_in_it(viewer, tmp_path):
    from napari_samscape.io import Image, Pyramid, write_labels

    like = Image((np.zeros((600, 700), np.float32),), "yx", (0.5, 0.5), name="cells")
    pyramid = Pyramid.create(tmp_path / "cells.ome.zarr", like, np.float32)
    pyramid.levels[0][...] = 1
    (tmp_path / "cells.ome.zarr" / "labels").mkdir()
    write_labels(tmp_path / "nuclei.ome.zarr", np.ones((600, 700), np.int32), like=like)
    (tmp_path / "nuclei.ome.zarr").rename(tmp_path / "cells.ome.zarr" / "labels" / "nuclei.zarr")
    image, labels = viewer.open(str(tmp_path / "cells.ome.zarr"), plugin=PLUGIN)
    assert image.multiscale and len(image.data) == 2 and (image.scale == 0.5).all()
    assert labels._type_string == "labels" and np.asarray(labels.data).all()


def test_files_that_are_not_ours_are_left_to_others(tmp_path):
    from napari_samscape.widgets.files import get_reader

    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "a.labels.tif").write_bytes(b"II*")
    for name in ("settings.json", "a.labels.tif", "missing.geojson", "missing.ome.zarr"):
        assert get_reader(str(tmp_path / name)) is None
    assert get_reader([str(tmp_path / "settings.json")]) is None


def test_labels_with_too_many_axes_are_refused_in_a_sentence(tmp_path):
    from napari_samscape.widgets.files import write_labels

    with pytest.raises(InputError, match="has 5 axes"):
        write_labels(str(tmp_path / "a.ome.zarr"), np.zeros((1, 1, 1, 4, 4), int), {"name": "cells"})


@pytest.mark.parametrize("seed", range(4))
def test_outlines_are_filled_with_exactly_what_they_outline(seed):
    mask = np.random.default_rng(seed).random((13, 17)) < 0.5
    mask[0, 0] = mask[-1, -1] = True
    filled, offset = polygon_mask(mask_polygons(mask, (5, 8)))
    assert offset == (5, 8)
    np.testing.assert_array_equal(filled, mask)
