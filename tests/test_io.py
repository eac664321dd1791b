"""What `open_image` reads, and what `write_labels` and `write_overlay` leave on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v04.image import Image as Image04
from ome_zarr_models.v05.image import Image as Image05
from ome_zarr_models.v05.image_label import ImageLabel
from PIL import Image as pillow

from napari_samscape.errors import InputError
from napari_samscape.io import (
    Image,
    Pyramid,
    check_output,
    open_image,
    read_about,
    write_labels,
    write_overlay,
)
from napari_samscape.io.contiguous import Contiguous

RAMP = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
DTYPES = ["bool", "uint8", "int16", "uint16", "float64", ">u2", ">f8"]


def write_ome_zarr(path: Path, version: str, levels: list[np.ndarray], axes: str, scale: list[float]) -> Path:
    """An OME-Zarr image as other programs write it."""
    kinds = {"t": "time", "c": "channel"}
    datasets = []
    for number in range(len(levels)):
        factors = [s * 2**number if axis in "yx" else s for s, axis in zip(scale, axes, strict=True)]
        transforms = [{"type": "scale", "scale": factors}]
        datasets.append({"path": f"s{number}", "coordinateTransformations": transforms})
    named = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in named:
        if axis["type"] == "space":
            axis["unit"] = "micrometer"
    multiscales = [{"axes": named, "datasets": datasets, "name": "cells"}]
    if version == "0.4":
        attributes = {"multiscales": [multiscales[0] | {"version": "0.4"}]}
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": multiscales}}
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="w-", zarr_format=zarr_format, attributes=attributes)
    for number, level in enumerate(levels):
        names = {"dimension_names": tuple(axes)} if zarr_format == 3 else {}
        array = group.create_array(
            f"s{number}", shape=level.shape, dtype=level.dtype, chunks=level.shape, **names
        )
        array[...] = level
    return path


# Reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "jpg", "jp2"])
def test_a_colour_picture_is_yxc(tmp_path: Path, ending: str) -> None:
    pillow.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / f"cells.{ending}", lossless=True)
    image = open_image(tmp_path / f"cells.{ending}")
    assert (image.axes, image.shape, image.name) == ("yxc", (20, 30, 3), "cells")
    np.testing.assert_allclose(image.plane()[10, 10], (200, 100, 50), atol=3)


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        ("1", (20, 30), "bool"),
        ("L", (20, 30), "uint8"),
        ("I;16", (20, 30), "uint16"),
        ("P", (20, 30, 3), "uint8"),
        ("LA", (20, 30, 4), "uint8"),
        ("RGBA", (20, 30, 4), "uint8"),
    ],
)
def test_every_kind_of_png_is_read(tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: str) -> None:
    pillow.new(mode, (30, 20)).save(tmp_path / "cells.png")
    image = open_image(tmp_path / "cells.png")
    assert (image.shape, image.dtype) == (shape, dtype)


def test_an_exif_orientation_is_left_alone_as_napari_does(tmp_path: Path) -> None:
    exif = pillow.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees"
    pillow.new("L", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").shape == (20, 30)


def test_pillows_limit_on_pixels_does_not_apply_and_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow.new("L", (30, 20)).save(tmp_path / "large.png")
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 10)
    assert open_image(tmp_path / "large.png").shape == (20, 30)
    assert pillow.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_of_pixels_comes_out_of_a_tiff_in_native_byte_order(tmp_path: Path, dtype: str) -> None:
    pixels = (RAMP % 7).astype(dtype)
    order = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(tmp_path / "cells.tif", pixels, byteorder=order, photometric="minisblack")
    plane = open_image(tmp_path / "cells.tif").plane()
    assert plane.dtype.isnative
    assert plane.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(plane, pixels)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_every_type_and_number_of_channels_comes_out_of_an_array(dtype: str, channels: int) -> None:
    pixels = np.repeat((RAMP % 7).astype(dtype)[..., None], channels, axis=-1)
    image = open_image(pixels)
    assert image.axes == "yxc"
    plane = image.plane()
    assert plane.dtype.isnative
    np.testing.assert_array_equal(plane, pixels)


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_channels_of_a_tiff_are_moved_last(tmp_path: Path, channels: int, planar: str) -> None:
    pixels = np.stack([RAMP + 1000 * c for c in range(channels)])
    stored = pixels if planar == "separate" else np.moveaxis(pixels, 0, -1)
    tifffile.imwrite(
        tmp_path / "cells.tif", stored, planarconfig=planar, photometric="minisblack", metadata=None
    )
    plane = open_image(tmp_path / "cells.tif").plane()
    np.testing.assert_array_equal(plane.reshape(20, 30, channels), np.moveaxis(pixels, 0, -1))


def test_an_ome_tiff_keeps_axes_scale_and_units(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 3 * 20 * 30, dtype=np.uint16).reshape(2, 4, 3, 20, 30)
    facts = {
        "axes": "TZCYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeY": 0.2,
        "PhysicalSizeZ": 2.0,
        "PhysicalSizeXUnit": "µm",
    }
    tifffile.imwrite(tmp_path / "cells.ome.tif", pixels, metadata=facts)
    image = open_image(tmp_path / "cells.ome.tif")
    assert (image.axes, image.name, image.label_axes) == ("tzcyx", "cells", "tzyx")
    assert image.label_scale == (1.0, 2.0, 0.2, 0.1)
    assert image.label_units == (None, "micrometer", "micrometer", "micrometer")
    np.testing.assert_array_equal(image.plane(t=1, z=2), np.moveaxis(pixels[1, 2], 0, -1))
    np.testing.assert_array_equal(image.plane(t=1, z=2, c=1), pixels[1, 2, 1])


def test_an_imagej_stack_keeps_its_spacing(tmp_path: Path) -> None:
    facts = {"axes": "ZYX", "unit": "um", "spacing": 2.5}
    tifffile.imwrite(
        tmp_path / "cells.tif", np.stack([RAMP] * 7), imagej=True, metadata=facts, resolution=(10, 5)
    )
    image = open_image(tmp_path / "cells.tif")
    assert (image.axes, image.scale) == ("zyx", (2.5, 0.2, 0.1))
    assert image.units == ("micrometer",) * 3


@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg", "zstd", "jpeg2000"])
def test_a_compressed_tiff_is_read(tmp_path: Path, compression: str) -> None:
    pixels = np.full((32, 48, 3), (200, 100, 50), np.uint8)
    tifffile.imwrite(
        tmp_path / "cells.tif", pixels, compression=compression, photometric="rgb", tile=(16, 16)
    )
    np.testing.assert_allclose(open_image(tmp_path / "cells.tif").plane(), pixels, atol=3)


def test_a_ycbcr_jpeg_in_a_tiff_comes_out_as_rgb(tmp_path: Path) -> None:
    pillow.new("RGB", (48, 32), (200, 100, 50)).save(tmp_path / "slide.tif", compression="jpeg")
    np.testing.assert_allclose(open_image(tmp_path / "slide.tif").plane()[10, 10], (200, 100, 50), atol=3)


def test_a_palette_in_a_tiff_gives_its_colours(tmp_path: Path) -> None:
    pillow.new("RGB", (48, 32), (200, 100, 50)).convert("P", palette=1).save(tmp_path / "cells.tif")
    image = open_image(tmp_path / "cells.tif")
    assert image.axes == "yxc"
    np.testing.assert_allclose(image.plane()[10, 10], (200, 100, 50), atol=8)


def test_a_harmless_remark_of_tifffile_is_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.tif"
    tifffile.imwrite(path, RAMP, extratags=[(65000, "H", 1, 7, True)])
    entry = (65000).to_bytes(2, "little")
    path.write_bytes(
        path.read_bytes().replace(entry + b"\3\0", entry + b"\x63\0")
    )  # no type has the number 99
    with tifffile.TiffFile(path) as file:
        assert 65000 not in file.pages.first.tags
    assert "raised" in caplog.text, "tifffile has nothing to say"
    capfd.readouterr()
    np.testing.assert_array_equal(open_image(path).plane(), RAMP)
    assert capfd.readouterr().err == ""


def test_pages_without_a_meaning_are_slices(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([RAMP] * 7))
    assert open_image(tmp_path / "pages.tif").sizes == {"z": 7, "y": 20, "x": 30}
    tifffile.imwrite(tmp_path / "two.tif", np.stack([[RAMP] * 7] * 2))
    assert open_image(tmp_path / "two.tif").sizes == {"t": 2, "z": 7, "y": 20, "x": 30}
    tifffile.imwrite(tmp_path / "three.tif", np.stack([[[RAMP] * 7] * 2] * 6))
    with pytest.raises(InputError, match="cannot be told apart"):
        open_image(tmp_path / "three.tif")


def test_a_pyramid_in_a_tiff_is_read_lazily_tile_by_tile(tmp_path: Path) -> None:
    full = np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif", bigtiff=True) as file:
        file.write(full, subifds=1, tile=(128, 128))
        file.write(full[::2, ::2], subfiletype=1, tile=(128, 128))
    image = open_image(tmp_path / "pyramid.tif")
    assert [level.shape for level in image.levels] == [(512, 512), (256, 256)]
    assert image.data.chunks == (128, 128)
    np.testing.assert_array_equal(image.data[100:140, 300:310], full[100:140, 300:310])
    np.testing.assert_array_equal(image.plane(level=1), full[::2, ::2])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plain_zarr_array_is_lazy(tmp_path: Path, zarr_format: int) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(4, 20, 30), dtype="u2", chunks=(1, 20, 30), zarr_format=zarr_format
    )
    array[2] = RAMP
    image = open_image(str(tmp_path / "a.zarr"))
    assert isinstance(image.data, zarr.Array)
    assert image.axes == "zyx"
    np.testing.assert_array_equal(image.plane(z=2), RAMP)


def test_a_sharded_array_is_as_one_of_chunks(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(4, 20, 30), dtype="u2", chunks=(1, 5, 5), shards=(2, 10, 15)
    )
    array[2] = RAMP
    image = open_image(tmp_path / "a.zarr")
    assert (image.axes, image.data.shards) == ("zyx", (2, 10, 15))
    np.testing.assert_array_equal(image.data[2, 7:19, 3:28], RAMP[7:19, 3:28])


def test_dimension_names_of_a_zarr_array_are_believed(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 20, 30), dtype="u2", dimension_names=("c", "y", "x"))
    assert open_image(tmp_path / "a.zarr").axes == "cyx"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_image_keeps_levels_axes_scale_and_units(tmp_path: Path, version: str) -> None:
    full = np.stack([RAMP, RAMP + 1])
    path = write_ome_zarr(
        tmp_path / "cells.ome.zarr", version, [full, full[:, ::2, ::2]], "cyx", [1, 0.5, 0.25]
    )
    # The fixture itself is what the format asks for.
    (Image04 if version == "0.4" else Image05).from_zarr(zarr.open_group(path, mode="r"))
    image = open_image(path)
    assert (image.axes, image.scale, image.name) == ("cyx", (1, 0.5, 0.25), "cells")
    assert image.units == (None, "micrometer", "micrometer")
    assert [level.shape for level in image.levels] == [(2, 20, 30), (2, 10, 15)]
    assert isinstance(image.data, zarr.Array)
    np.testing.assert_array_equal(image.plane(), np.moveaxis(full, 0, -1))


def test_a_scale_of_the_whole_pyramid_counts_too(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", "0.5", [RAMP], "yx", [0.5, 0.25])
    group = zarr.open_group(path)
    ome = dict(group.attrs["ome"])
    ome["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [2, 3]}]
    group.attrs["ome"] = ome
    assert open_image(path).scale == (1, 0.75)


def test_a_picture_seen_from_a_coarser_level_lies_where_its_file_says(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", "0.5", [RAMP, RAMP[::2, ::2]], "yx", [0.5, 0.25])
    group = zarr.open_group(path)
    ome = dict(group.attrs["ome"])
    for level, start in zip(ome["multiscales"][0]["datasets"], ([1, 2], [3, 4]), strict=True):
        level["coordinateTransformations"].append({"type": "translation", "translation": start})
    ome["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [10, 100]}]
    group.attrs["ome"] = ome
    assert open_image(path).translation == (10, 200)
    coarse = open_image(path, level=1)
    assert (coarse.shape, coarse.scale, coarse.translation) == ((10, 15), (10, 50), (30, 400))
    np.testing.assert_array_equal(coarse.plane(), RAMP[::2, ::2])


@pytest.mark.parametrize(
    ("full", "coarse", "step"), [((40, 60), (20, 30), 2), ((41, 61), (21, 31), 2), ((41, 61), (13, 20), 3)]
)
def test_where_no_file_says_it_a_pixel_of_a_level_is_a_block(
    full: tuple[int, int], coarse: tuple[int, int], step: int
) -> None:
    image = open_image([np.zeros(full), np.zeros(coarse)], level=1)
    assert (image.scale, image.translation) == ((step, step), ((step - 1) / 2,) * 2)


def test_chosen_channels_are_seen_in_their_order() -> None:
    full = np.stack([RAMP, RAMP + 1, RAMP + 2])
    image = open_image(full, axes="cyx", channels=(2, 0))
    assert image.channel_count == 2
    np.testing.assert_array_equal(image.plane(), np.stack([RAMP + 2, RAMP], axis=-1))
    part = image.plane(region=(slice(3, 5), slice(7, 8)))
    np.testing.assert_array_equal(part, np.stack([RAMP + 2, RAMP], axis=-1)[3:5, 7:8])
    np.testing.assert_array_equal(image.plane(c=1), RAMP + 1)
    assert open_image(RAMP, channels=(0,)).plane().shape == (20, 30)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"level": 2}, "no level 2; they go from 0 to 1"),
        ({"level": -1}, "no level -1"),
        ({"channels": (3,)}, "no channel 3; they go from 0 to 2"),
        ({"channels": (0, 0)}, "name one twice"),
    ],
)
def test_a_level_or_channel_that_does_not_exist_is_named(options: dict[str, Any], sentence: str) -> None:
    levels = [np.zeros((3, 20, 30)), np.zeros((3, 10, 15))]
    with pytest.raises(InputError, match=sentence):
        open_image(levels, axes="cyx", **options)
    (name,) = options
    with pytest.raises(InputError, match="its only one is 0"):
        open_image(RAMP, **{name: 1 if name == "level" else (1,)})


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 65), "yx"),
        ((64, 65, 3), "yxc"),
        ((64, 65, 5), "yxc"),
        ((64, 65, 6), "zyx"),
        ((3, 64, 65), "zyx"),
        ((4, 4, 4), "zyx"),
        ((7, 64, 65, 4), "zyxc"),
        ((2, 7, 64, 65), "tzyx"),
        ((2, 3, 7, 64, 65), "tczyx"),
        ((2, 3, 64, 65, 3), "tzyxc"),
    ],
)
def test_dimensions_without_names_are_guessed_by_one_rule(shape: tuple[int, ...], axes: str) -> None:
    assert open_image(np.zeros(shape, np.uint8)).axes == axes


def test_axes_that_are_given_are_taken(tmp_path: Path) -> None:
    image = open_image(np.stack([RAMP] * 3), axes="cyx")
    assert image.plane().shape == (20, 30, 3)
    assert open_image(image) is image


def test_a_dask_array_is_computed_only_where_it_is_read() -> None:
    def block(block_info: dict) -> np.ndarray:
        where = block_info[None]["chunk-location"]
        assert where[0] == 1, "a plane that nobody asked for was computed"
        return RAMP[None]

    lazy = da.map_blocks(block, dtype=RAMP.dtype, chunks=((1,) * 3, (20,), (30,)), meta=RAMP)
    image = open_image(lazy, axes="zyx")
    np.testing.assert_array_equal(image.plane(z=1), RAMP)


def test_a_list_of_arrays_is_a_pyramid() -> None:
    image = open_image([RAMP, RAMP[::2, ::2]])
    assert [level.shape for level in image.levels] == [(20, 30), (10, 15)]
    with pytest.raises(InputError, match="must be a pyramid"):
        open_image([RAMP, RAMP])


@pytest.mark.parametrize("axes", ["yx", "yxc", "cyx", "tczyx"])
def test_of_a_plane_a_part_can_be_read(axes: str) -> None:
    shape = tuple({"t": 2, "c": 3, "z": 4, "y": 20, "x": 30}[axis] for axis in axes)
    image = open_image(np.arange(np.prod(shape)).reshape(shape), axes=axes)
    part = image.plane(region=(slice(5, 9), slice(None, None, 10)))
    np.testing.assert_array_equal(part, image.plane()[5:9, ::10])


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4"])
@pytest.mark.parametrize("options", [{}, {"ome": True}, {"rowsperstrip": 7}, {"imagej": True}])
def test_of_an_uncompressed_tiff_only_what_is_asked_for_is_read(
    tmp_path: Path, dtype: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = np.arange(3 * 40 * 60).reshape(3, 40, 60).astype(dtype)
    order = {"byteorder": ">"} if dtype.startswith(">") or "imagej" in options else {}
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **order, **options)
    image = open_image(tmp_path / "a.tif", axes="zyx")
    assert isinstance(image.data, Contiguous)
    np.testing.assert_array_equal(image.plane(z=1, region=(slice(3, 9), slice(50, 60))), stack[1, 3:9, 50:60])
    np.testing.assert_array_equal(np.asarray(image.data), stack)


def test_a_compressed_tiff_is_read_in_its_own_chunks(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RAMP, compression="zlib", tile=(16, 16))
    assert isinstance(open_image(tmp_path / "a.tif").data, zarr.Array)


def test_planes_come_with_their_place_in_the_labels() -> None:
    pixels = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    image = open_image(pixels, axes="tczyx")
    labels = np.zeros(image.label_shape, int)
    for place in image.plane_indices():
        index, plane = tuple(place.values()), image.plane(**place)
        assert plane.shape == (5, 6, 3)
        labels[index] = plane[..., 1]
    np.testing.assert_array_equal(labels, pixels[:, 1])


@pytest.mark.parametrize("wanted", [{"t": 1}, {"z": 7}, {"z": -1}, {"c": 3}])
def test_a_plane_that_is_not_there_is_named(wanted: dict[str, int]) -> None:
    image = open_image(np.zeros((7, 64, 65, 3), np.uint8))
    with pytest.raises(InputError, match=f"no plane {next(iter(wanted))}="):
        image.plane(**wanted)


# Labels ------------------------------------------------------------------------------------------------

LABELS = np.zeros((1100, 900), np.int32)
LABELS[100:200, 300:500] = 1
LABELS[600:1000, 20:80] = 70_000


def test_labels_become_a_valid_ome_zarr_label_image_with_a_pyramid(tmp_path: Path) -> None:
    like = Image((LABELS,), "yx", scale=(0.5, 0.25), units=("micrometer", "micrometer"))
    about = {"model": "nano", "version": "0.1.0"}
    write_labels(tmp_path / "out.ome.zarr", LABELS, like=like, about=about)
    group = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    model = ImageLabel.from_zarr(group)
    assert model.ome_attributes.version == "0.5"
    assert model.ome_attributes.image_label is not None
    assert group.attrs["samscape"] == about
    image = open_image(tmp_path / "out.ome.zarr")
    assert [level.shape for level in image.levels] == [(1100, 900), (550, 450), (275, 225)]
    assert (image.axes, image.scale) == ("yx", (0.5, 0.25))
    assert image.units == ("micrometer", "micrometer")
    for step, level in zip((1, 2, 4), image.levels, strict=True):
        assert level.dtype == np.int32
        np.testing.assert_array_equal(level[...], LABELS[::step, ::step])
    scales = [
        level.coordinateTransformations[0].scale for level in model.ome_attributes.multiscales[0].datasets
    ]
    assert scales == [[0.5, 0.25], [1, 0.5], [2, 1]]


def test_labels_of_a_stack_leave_the_channels_out(tmp_path: Path) -> None:
    like = open_image(np.zeros((2, 3, 4, 20, 30)), axes="tczyx")
    labels = np.arange(2 * 4 * 20 * 30, dtype=np.int32).reshape(2, 4, 20, 30)
    image = open_image(write_labels(tmp_path / "out.zarr", labels, like=like))
    assert (image.axes, image.shape) == ("tzyx", (2, 4, 20, 30))
    assert image.data.chunks == (1, 1, 20, 30)
    np.testing.assert_array_equal(image.data[...], labels)


def test_labels_of_an_ome_zarr_picture_say_where_it_is(tmp_path: Path) -> None:
    picture = open_image(write_ome_zarr(tmp_path / "in.ome.zarr", "0.5", [RAMP], "yx", [1, 1]))
    write_labels(tmp_path / "out.ome.zarr", np.zeros((20, 30), np.int32), like=picture)
    group = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    named = ImageLabel.from_zarr(group).ome_attributes.image_label.source.image
    assert (tmp_path / "out.ome.zarr" / named).resolve() == picture.path


@pytest.mark.parametrize(("kind", "shifts"), [(np.int32, (0, 0)), (np.float32, (0.25, 0.125))])
def test_outputs_lie_where_the_picture_lies(tmp_path: Path, kind: type, shifts: tuple[float, float]) -> None:
    like = Image((np.zeros((600, 500)),), "yx", scale=(0.5, 0.25), translation=(7, -3))
    pyramid = Pyramid.create(tmp_path / "out.ome.zarr", like, kind)
    image = open_image(tmp_path / "out.ome.zarr")
    assert (len(pyramid.levels), image.scale, image.translation) == (2, (0.5, 0.25), (7, -3))
    # Of labels the first pixel of four stays; a map's pixel stands for all four.
    assert image.at_level(1).translation == (7 + shifts[0], -3 + shifts[1])


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, "uint16"), (65_536, "uint32")])
def test_labels_as_tiff_take_the_type_they_need(tmp_path: Path, largest: int, dtype: str) -> None:
    labels = np.where(LABELS == 70_000, largest, LABELS)
    write_labels(tmp_path / "out.tif", labels, about={"model": "nano"})
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.series[0].dtype == dtype
        np.testing.assert_array_equal(file.asarray(), labels)
        assert file.shaped_metadata[0]["samscape"] == {"model": "nano"}


def test_labels_as_png_have_16_bits(tmp_path: Path) -> None:
    labels = np.where(LABELS == 70_000, 65_535, LABELS)
    write_labels(tmp_path / "out.png", labels, about={"model": "nano"})
    with pillow.open(tmp_path / "out.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), labels)
        assert json.loads(picture.info["samscape"]) == {"model": "nano"}


@pytest.mark.parametrize("labels", [LABELS, np.zeros((2, 20, 30), np.int32)], ids=["too many", "a stack"])
def test_labels_that_no_png_can_hold_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"use \.ome\.zarr or \.tif"):
        write_labels(tmp_path / "out.png", labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.tif", "out.png"])
def test_an_output_says_how_it_was_made(tmp_path: Path, name: str) -> None:
    about = {"model": "nano", "job": {"boxes": [[1, 2.5, 3, 4]]}}
    write_labels(tmp_path / name, np.ones((20, 30), np.int32), about=about)
    assert read_about(tmp_path / name) == about


def test_what_is_not_ours_says_nothing(tmp_path: Path) -> None:
    pillow.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", RAMP)
    (tmp_path / "text.tif").write_text("text")
    write_ome_zarr(tmp_path / "a.zarr", "0.5", [RAMP], "yx", [1, 1])
    for name in ("a.png", "a.tif", "text.tif", "a.zarr", "missing.png", "missing.zarr"):
        assert read_about(tmp_path / name) is None


def test_a_pyramid_is_filled_chunk_by_chunk(tmp_path: Path) -> None:
    labels = np.arange(1200 * 700, dtype=np.int32).reshape(1200, 700)
    pyramid = Pyramid.create(tmp_path / "out.zarr", open_image(labels), np.int32, (250, 300))
    assert [level.chunks for level in pyramid.levels] == [(250, 300), (250, 300), (250, 175)]
    pyramid.levels[0][...] = labels
    steps = list(pyramid.steps())
    assert len(steps) == pyramid.step_count == 3 * 2 + 2 * 1
    for step in steps[:4]:
        step()
    for step in list(Pyramid(tmp_path / "out.zarr").steps())[4:]:  # as after a new start
        step()
    for number, level in enumerate(pyramid.levels):
        np.testing.assert_array_equal(level[...], labels[:: 2**number, :: 2**number])


def test_labels_must_fit_the_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"integers of shape \(20, 30\) would"):
        write_labels(tmp_path / "out.zarr", LABELS, like=open_image(RAMP))
    with pytest.raises(InputError, match="float64"):
        write_labels(tmp_path / "out.zarr", np.zeros((20, 30)))
    assert not list(tmp_path.iterdir())


# Overlays ----------------------------------------------------------------------------------------------


def test_an_overlay_tints_objects_outlines_them_and_leaves_the_rest(tmp_path: Path) -> None:
    rgb = np.full((20, 30, 3), 100, np.uint8)
    labels = np.zeros((20, 30), np.int32)
    labels[5:15, 5:15] = 1
    labels[5:15, 18:28] = 2
    overlay = np.asarray(pillow.open(write_overlay(tmp_path / "out.png", rgb, labels)))
    assert (overlay[labels == 0] == 100).all()
    inside, border = overlay[10, 10].astype(int), overlay[5, 10].astype(int)
    assert np.ptp(inside) > 0, "the object is not tinted"
    assert np.ptp(border) > np.ptp(inside), "the outline is no stronger than the tint"
    assert (overlay[10, 10] != overlay[10, 23]).any(), "two objects have the same colour"


def test_an_overlay_of_a_picture_without_objects_is_the_picture(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    write_overlay(tmp_path / "out.png", rgb, np.zeros((20, 30), np.int32))
    np.testing.assert_array_equal(np.asarray(pillow.open(tmp_path / "out.png")), rgb)


def test_an_overlay_of_a_huge_picture_is_shown_smaller(tmp_path: Path) -> None:
    write_overlay(tmp_path / "out.png", np.zeros((9000, 10, 3), np.uint8), np.zeros((9000, 10), np.int32))
    with pillow.open(tmp_path / "out.png") as picture:
        assert picture.size == (4, 3000)


# Care with what exists ---------------------------------------------------------------------------------

NAMES = ["out.ome.zarr", "out.tif", "out.png"]


@pytest.mark.parametrize("name", NAMES)
def test_an_output_is_replaced_only_if_asked_for(tmp_path: Path, name: str) -> None:
    first, second = np.ones((20, 30), np.int32), np.full((20, 30), 2, np.int32)
    write_labels(tmp_path / name, first)
    with pytest.raises(InputError, match="exists already; add --overwrite"):
        write_labels(tmp_path / name, second)
    np.testing.assert_array_equal(open_image(tmp_path / name).plane(), first)
    write_labels(tmp_path / name, second, overwrite=True)
    np.testing.assert_array_equal(open_image(tmp_path / name).plane(), second)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_dies_leaves_the_old_output_and_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = np.ones((20, 30), np.int32)
    write_labels(tmp_path / name, first)

    def die(self: Path, target: Path) -> None:
        if Path(target) == tmp_path / name:
            raise OSError(28, "No space left on device")
        os.replace(self, target)

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_labels(tmp_path / name, 2 * first, overwrite=True)
    np.testing.assert_array_equal(open_image(tmp_path / name).plane(), first)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_holds_no_labels_is_never_replaced(tmp_path: Path) -> None:
    precious = write_ome_zarr(tmp_path / "raw.ome.zarr", "0.5", [RAMP], "yx", [1, 1])
    with pytest.raises(InputError, match="holds no labels of ours"):
        write_labels(precious, np.ones((20, 30), np.int32), overwrite=True)
    np.testing.assert_array_equal(open_image(precious).plane(), RAMP)


def test_the_output_may_not_touch_the_picture(tmp_path: Path) -> None:
    labels = np.ones((20, 30), np.int32)
    picture = open_image(write_ome_zarr(tmp_path / "in.ome.zarr", "0.5", [RAMP], "yx", [1, 1]))
    with pytest.raises(InputError, match="lies inside the picture"):
        write_labels(tmp_path / "in.ome.zarr" / "out.ome.zarr", labels, like=picture)
    with pytest.raises(InputError, match="is the picture itself"):
        write_labels(tmp_path / "in.ome.zarr", labels, like=picture, overwrite=True)
    os.makedirs(tmp_path / "out.zarr")
    inner = open_image(write_ome_zarr(tmp_path / "out.zarr" / "in.ome.zarr", "0.5", [RAMP], "yx", [1, 1]))
    with pytest.raises(InputError, match="lies inside the output"):
        write_labels(tmp_path / "out.zarr", labels, like=inner, overwrite=True)
    np.testing.assert_array_equal(open_image(tmp_path / "in.ome.zarr").plane(), RAMP)


def test_an_output_must_have_an_ending_we_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.zarr, \.tif, \.tiff or \.png"):
        check_output(tmp_path / "out.jpg")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    labels = np.ones((20, 30), np.int32)
    with pytest.raises(InputError, match="does not exist"):
        write_labels(tmp_path / "missing" / "out.tif", labels)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="does not exist"):
        write_labels(tmp_path / "file" / "out.tif", labels)
    # Nobody, not even root, may make a file here.
    with pytest.raises(InputError, match="cannot be written"):
        write_labels("/proc/out.tif", labels)
