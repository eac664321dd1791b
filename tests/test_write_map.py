"""Maps of numbers from 0 to 1 on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image as OmeImage

from napari_samscape.errors import InputError
from napari_samscape.io import Image, open_image, write_map


@pytest.mark.parametrize("name", ["map.tif", "map.zarr", "map.ome.zarr", "map.png"])
def test_a_map_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    write_map(tmp_path / name, values)
    again = open_image(tmp_path / name).plane()
    if name.endswith(".png"):
        assert again.dtype == np.uint16
        np.testing.assert_allclose(again / 65535, values, atol=1e-5)
    else:
        assert again.dtype == np.float32
        np.testing.assert_array_equal(again, values)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_thin_line_survives_in_every_level_of_the_pyramid_and_stays_in_place(tmp_path: Path) -> None:
    values = np.zeros((5, 1301), np.float32)
    values[:, 801] = 0.5
    write_map(tmp_path / "m.ome.zarr", values, like=Image((values,), "yx", scale=(2.0, 2.0)))
    group = zarr.open_group(tmp_path / "m.ome.zarr", mode="r")
    OmeImage.from_zarr(group)
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert len(datasets) == 3
    for level, dataset in enumerate(datasets):
        column = int(np.argmax(group[str(level)][0]))
        assert group[str(level)][0, column] == 0.5
        transforms = {t["type"]: t[t["type"]] for t in dataset["coordinateTransformations"]}
        place = column * transforms["scale"][1] + transforms.get("translation", [0, 0])[1]
        assert abs(place - 2 * 801) <= transforms["scale"][1] / 2


def test_a_map_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    values = np.zeros((4, 5), np.float32)
    for name in ("m.tif", "m.ome.zarr", "m.png"):
        write_map(tmp_path / name, values)
        with pytest.raises(InputError, match="exists already"):
            write_map(tmp_path / name, values)
        write_map(tmp_path / name, values + 1, overwrite=True)
        assert open_image(tmp_path / name).plane().min() > 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.full((4, 5), np.nan), "numbers from 0 to 1"),
        (np.full((4, 5), 1.5), "numbers from 0 to 1"),
        (np.zeros((4, 5), int), "int64 of shape"),
        (np.zeros((5, 4)), "does not fit"),
    ],
)
def test_what_is_no_map_of_the_picture_is_refused(tmp_path: Path, values: np.ndarray, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        write_map(tmp_path / "m.tif", values, like=Image((np.zeros((4, 5)),), "yx"))
    assert list(tmp_path.iterdir()) == []
