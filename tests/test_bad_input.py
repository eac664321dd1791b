"""What bad input gets: one sentence that says what and where, exit code 2, and nothing written.

Each row is tried through the command line and, where there is one, through the Python function.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import bright
import numpy as np
import pytest
import tifffile
import torch
import zarr
from bright import MODEL, spots
from PIL import Image as pillow
from safetensors.torch import save_file
from typer.testing import CliRunner

from napari_samscape import InputError, load_model, open_image, segment
from napari_samscape.cli.app import app
from napari_samscape.scaling.batch import Job, run

GOOD = spots((10, 10), (20, 40))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and a stand-in for the model."""
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*arguments: str) -> str:
    """Run a command that must be refused as it should be, and give its sentence."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    names = bright.contents(Path())
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("samscape: ")
    assert result.stderr.count("\n") == 1, "more than one line"
    assert "Traceback" not in result.stderr
    assert bright.contents(Path()) == names, "something was written or deleted"
    assert all(path.read_bytes() == content for path, content in before.items()), "something was changed"
    sentence = result.stderr.removeprefix("samscape: ").rstrip("\n")
    assert sentence.endswith(".")
    return sentence


# Pictures ----------------------------------------------------------------------------------------------


def text_file(path: Path) -> None:
    path.write_text("This is not a picture.")


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def empty_folder(path: Path) -> None:
    path.mkdir()


def png(path: Path, keep: float = 1.0) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)
    pillow.fromarray(noise).save(path, format="PNG")
    cut(path, keep)


def jpeg(path: Path, keep: float = 1.0) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    pillow.fromarray(noise).save(path, format="JPEG")
    cut(path, keep)


def tiff(path: Path, keep: float = 1.0, compression: str | None = None) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (7, 40, 60), np.uint8)
    tifffile.imwrite(path, noise, compression=compression)
    cut(path, keep)


def cut(path: Path, keep: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])


def unknown_compression(path: Path) -> None:
    tifffile.imwrite(path, GOOD)
    entry = b"\x03\x01\x03\0\x01\0\0\0"  # tag 259, one short
    path.write_bytes(path.read_bytes().replace(entry + b"\x01\0", entry + b"\xfe\x7f"))  # NeXT's of 1988


def no_width(path: Path) -> None:
    png(path)
    whole = bytearray(path.read_bytes())
    whole[16:20] = bytes(4)  # the width in PNG's header
    path.write_bytes(whole)


def zarr_array(path: Path, shape: tuple[int, ...], dtype: str = "u2") -> None:
    zarr.create_array(path, shape=shape, dtype=dtype)


def broken_chunk(path: Path) -> None:
    array = zarr.create_array(path, shape=(40, 60), dtype="u2", chunks=(40, 60))
    array[...] = GOOD
    (chunk,) = [file for file in (path / "c").rglob("*") if file.is_file()]
    chunk.write_bytes(b"broken")


def broken_metadata(path: Path) -> None:
    zarr_array(path, (40, 60))
    (path / "zarr.json").write_text("{")


def zarr_group(path: Path, attributes: dict | None = None) -> None:
    zarr.open_group(path, mode="w-", attributes=attributes or {}).create_array(
        "table", shape=(4,), dtype="u2"
    )


def not_finite(path: Path) -> None:
    pixels = GOOD.astype(np.float32)
    pixels[0, :3] = np.nan
    tifffile.imwrite(path, pixels)


BAD_METADATA = {"ome": {"version": "0.5", "multiscales": [{"axes": [], "datasets": []}]}}
SCALE = [{"type": "scale", "scale": [1, 1]}]
LOST_ARRAY = {
    "ome": {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
                "datasets": [{"path": "lost", "coordinateTransformations": SCALE}],
            }
        ],
    }
}


def ome_zarr(path: Path, axes: str, *levels: tuple[tuple[int, ...], list[float]]) -> None:
    """An OME-Zarr 0.5 image with levels of these shapes and scales."""
    named = [{"name": axis, "type": {"c": "channel"}.get(axis, "space")} for axis in axes]
    datasets = [
        {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for number, (_, scale) in enumerate(levels)
    ]
    ome = {"version": "0.5", "multiscales": [{"axes": named, "datasets": datasets}]}
    group = zarr.open_group(path, mode="w-", attributes={"ome": ome})
    for number, (shape, _) in enumerate(levels):
        group.create_array(str(number), shape=shape, dtype="u2")


# What it is: file name, how it is made, what the sentence says.
PICTURES: dict[str, tuple[str, Callable[[Path], None] | None, str]] = {
    "missing": ("a.png", None, "There is no file a.png"),
    "in a missing folder": ("b/a.png", None, "There is no file b/a.png"),
    "a name beyond the limit": ("a" * 300 + ".png", None, "aaa.png cannot be opened: File name too long"),
    "a text": ("a.png", text_file, "a.png is no image of a known kind; PNG, JPEG"),
    "an empty file": ("a.tif", empty_file, r"a.tif is empty \(0 bytes\)"),
    "an empty folder": ("a", empty_folder, "The folder a is no Zarr store"),
    "an empty folder called zarr": ("a.zarr", empty_folder, "The folder a.zarr is no Zarr store"),
    "half a PNG": (
        "a.png",
        lambda path: png(path, 0.5),
        "a.png cannot be read, it may be truncated or damaged",
    ),
    "half a JPEG": (
        "a.jpg",
        lambda path: jpeg(path, 0.5),
        "a.jpg cannot be read, it may be truncated or damaged",
    ),
    "a PNG without width": ("a.png", no_width, "a.png (cannot be read|is no image)"),
    "half a TIFF": (
        "a.tif",
        lambda path: tiff(path, 0.5),
        "a.tif cannot be read, it may be truncated or damaged",
    ),
    "half a compressed TIFF": (
        "a.tif",
        lambda path: tiff(path, 0.5, "zlib"),
        "a.tif cannot be read, it may be truncated or damaged",
    ),
    "the start of a TIFF": (
        "a.tif",
        lambda path: tiff(path, 0.001),
        "a.tif cannot be read, it may be truncated or damaged",
    ),
    "a TIFF of no pages": (
        "a.tif",
        lambda path: path.write_bytes(b"II*\0\0\0\0\0"),
        "a.tif cannot be read, .*no pages",
    ),
    "a TIFF that nobody can decode": (
        "a.tif",
        unknown_compression,
        "a.tif cannot be read, .*NEXT.* not supported",
    ),
    "NaN pixels": ("a.tif", not_finite, "a.tif holds NaN or infinite values in 3 of 2400 pixels"),
    "no pixels": (
        "a.zarr",
        lambda path: zarr_array(path, (0, 60)),
        r"a.zarr is empty: its shape is \(0, 60\)",
    ),
    "one dimension": ("a.zarr", lambda path: zarr_array(path, (60,)), r"a.zarr has 1 dimension"),
    "six dimensions": ("a.zarr", lambda path: zarr_array(path, (2,) * 6), r"a.zarr has 6 dimension"),
    "complex numbers": ("a.zarr", lambda path: zarr_array(path, (40, 60), "c8"), "a.zarr holds complex64"),
    "a Zarr with a broken chunk": (
        "a.zarr",
        broken_chunk,
        "a.zarr cannot be read, it may be truncated or damaged",
    ),
    "a Zarr with broken metadata": ("a.zarr", broken_metadata, "a.zarr is a damaged Zarr store"),
    "a Zarr group": ("a.zarr", zarr_group, r"no OME-Zarr image; give one that is inside it \(table\)"),
    "an OME-Zarr with bad metadata": (
        "a.zarr",
        lambda path: zarr_group(path, BAD_METADATA),
        r"a.zarr has metadata that are not OME-Zarr 0.4 or 0.5 \(multiscales",
    ),
    "an OME-Zarr without its array": (
        "a.zarr",
        lambda path: zarr_group(path, LOST_ARRAY),
        "array 'lost' is missing",
    ),
    "an OME-Zarr with more axes than dimensions": (
        "a.zarr",
        lambda path: ome_zarr(path, "zyx", ((40, 60), [1, 1, 1])),
        r"a.zarr has 2 dimensions \(40, 60\), which do not fit the axes 'zyx'",
    ),
    "an OME-Zarr whose levels have other axes": (
        "a.zarr",
        lambda path: ome_zarr(path, "yx", ((40, 60), [1, 1]), ((1, 20, 30), [2, 2])),
        r"a.zarr has 3 dimensions \(1, 20, 30\), which do not fit the axes 'yx'",
    ),
    "an OME-Zarr with a scale for other axes": (
        "a.zarr",
        lambda path: ome_zarr(path, "yx", ((40, 60), [1, 1, 1])),
        r"a.zarr has metadata that are not OME-Zarr 0.4 or 0.5 \(multiscales",
    ),
    "an OME-Zarr with a scale of zero": (
        "a.zarr",
        lambda path: ome_zarr(path, "yx", ((40, 60), [0, 1])),
        r"a.zarr has the pixel sizes \(0.0, 1.0\); they must be above 0",
    ),
    "an OME-Zarr whose levels grow": (
        "a.zarr",
        lambda path: ome_zarr(path, "yx", ((40, 60), [1, 1]), ((80, 120), [2, 2])),
        r"a.zarr is no pyramid: its levels have the shapes \(40, 60\), \(80, 120\)",
    ),
}


@pytest.mark.parametrize("what", PICTURES)
def test_a_picture_that_cannot_be_used(folder: Path, what: str) -> None:
    name, make, sentence = PICTURES[what]
    if make is not None:
        make(Path(name))
    assert re.search(sentence, refused("segment", name, "out.ome.zarr", "--overlay", "out.png"))
    with pytest.raises(InputError, match=sentence):
        segment(name, model=MODEL)


def test_a_picture_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may read anything, so the refusal is played.
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    png(Path("a.png"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", deny)
        result = CliRunner().invoke(app, ["segment", "a.png", "out.tif"])
    assert result.exit_code == 2
    assert result.stderr == "samscape: a.png cannot be opened: Permission denied.\n"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (np.zeros((0, 5)), r"empty: its shape is \(0, 5\)"),
        (np.zeros(5), "1 dimension"),
        (np.zeros((2,) * 6), "6 dimension"),
        (np.zeros((5, 5), complex), "complex128"),
        (np.full((5, 5), "a"), "<U1 values, which are no intensities"),
        ([[1, 2], [3]], "regular array"),
        (None, "dimension"),
    ],
)
def test_an_array_that_cannot_be_used(source: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_image(source)


@pytest.mark.parametrize("axes", ["yxq", "zyy", "zcx", "yx"])
def test_axes_that_do_not_fit(axes: str) -> None:
    with pytest.raises(InputError, match="axes"):
        open_image(np.zeros((3, 40, 60)), axes=axes)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "float64", ">u2"])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_a_picture_of_any_type_and_number_of_channels_is_good_input(
    folder: Path, dtype: str, channels: int
) -> None:
    plane = (spots((10, 10), dtype="bool") * 200).astype(dtype)
    zarr.create_array("a.zarr", data=np.repeat(plane[..., None], channels, axis=-1))
    result = CliRunner().invoke(app, ["segment", "a.zarr", "out.tif"])
    assert result.exit_code == 0, result.output
    assert tifffile.imread("out.tif").max() == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--level", "1"], "cells.tif has no level 1; its only one is 0"),
        (["--channels", "2"], "cells.tif has no channel 2; its only one is 0"),
        (["--channels", "red"], "--channels 'red' cannot be read"),
        (["--channels", "0,1,2,3"], "--channels '0,1,2,3' cannot be read"),
        (["--channels", ""], "--channels '' cannot be read"),
    ],
)
@pytest.mark.parametrize("command", [["segment", "cells.tif", "out.tif"], ["embed", "cells.tif"]])
def test_a_level_or_channel_that_is_not_there(
    folder: Path, command: list[str], options: list[str], sentence: str
) -> None:
    tifffile.imwrite("cells.tif", GOOD)
    assert sentence in refused(*command, *options)


# Prompts -----------------------------------------------------------------------------------------------

PROMPTS = {
    "a point outside": (["--points", "40,5"], r"point \(y=40, x=5\) lies outside the picture of 40 x 60"),
    "a point before the first pixel": (["--points", "-1,5"], r"point \(y=-1, x=5\) lies outside"),
    "a point that is no number": (["--points", "nan,5"], "not a finite number"),
    "a label that is neither 0 nor 1": (["--points", "5,5", "--labels", "2"], r"1 \(foreground\) or 0"),
    "fewer labels than points": (["--points", "5,5;6,6", "--labels", "1"], "2 points but 1 labels"),
    "labels without points": (["--labels", "1"], "there are no --points"),
    "no points": (["--points", ""], "The prompt is empty"),
    "no boxes": (["--boxes", ""], "The prompt is empty"),
    "an empty list of boxes": (["--boxes", "empty.json"], "The prompt is empty"),
    "no prompt at all": (["--mode", "prompts"], "needs at least one prompt"),
    "a prompt for everything": (["--mode", "everything", "--points", "5,5"], "takes no prompts"),
    "a box without area": (["--boxes", "5,5,5,9"], r"box \(5, 5, 5, 9\) has no area"),
    "a box outside": (["--boxes", "5,60,9,70"], r"box \(5, 60, 9, 70\) lies outside the picture"),
    "half a box": (["--boxes", "5,5"], "--boxes '5,5' cannot be read"),
    "words": (["--points", "here"], "--points 'here' cannot be read"),
    "a missing file of boxes": (
        ["--boxes", "missing.json"],
        "boxes in missing.json cannot be read: No such file",
    ),
    "a file that is no JSON": (["--boxes", "broken.json"], "broken.json is no JSON file"),
    "a file of something else": (["--boxes", "other.json"], r"other.json must hold a list of boxes"),
    "a file of words": (["--boxes", "words.json"], "must be numbers"),
}


@pytest.mark.parametrize("what", PROMPTS)
def test_a_prompt_that_cannot_be_used(folder: Path, what: str) -> None:
    tifffile.imwrite("cells.tif", GOOD)
    for name, content in {"empty": [], "other": {"points": 1}, "words": [["a", "b", "c", "d"]]}.items():
        Path(f"{name}.json").write_text(json.dumps(content))
    Path("broken.json").write_text("[")
    options, sentence = PROMPTS[what]
    assert re.search(sentence, refused("segment", "cells.tif", "out.ome.zarr", *options))


def test_reversed_corners_of_a_box_are_put_right(folder: Path) -> None:
    tifffile.imwrite("cells.tif", GOOD)
    result = CliRunner().invoke(app, ["segment", "cells.tif", "out.tif", "--boxes", "15,15,5,5"])
    assert result.exit_code == 0
    assert tifffile.imread("out.tif")[10, 10] == 1


# Outputs -----------------------------------------------------------------------------------------------

OUTPUTS = {
    "exists": (["there.png"], "there.png exists already; add --overwrite"),
    "exists as a folder": (["there.zarr"], "there.zarr exists already; add --overwrite"),
    "is a folder of somebody's": (
        ["there.zarr", "--overwrite"],
        "there.zarr is a folder that holds no labels",
    ),
    "is the picture": (["cells.tif", "--overwrite"], "cells.tif is the picture itself"),
    "has an unknown ending": (["out.jpg"], r"out.jpg must end in .zarr, .tif, .tiff or .png"),
    "has no ending": (["out"], "out must end in"),
    "lies in a missing folder": (["missing/out.png"], "output folder missing does not exist"),
    "lies in a file": (["there.png/out.png"], "output folder there.png does not exist"),
    "lies where nobody may write": (["/proc/out.png"], "output .*/proc.* cannot be written"),
    "has an overlay that exists": (["out.tif", "--overlay", "there.png"], "there.png exists already"),
    "has an overlay that is no PNG": (["out.tif", "--overlay", "over.jpg"], "over.jpg must end in .png"),
    "has itself as overlay": (["out.png", "--overlay", "out.png"], "cannot both go to out.png"),
}


@pytest.mark.parametrize("what", OUTPUTS)
def test_an_output_that_cannot_be_written(folder: Path, what: str) -> None:
    tifffile.imwrite("cells.tif", GOOD)
    Path("there.png").write_bytes(b"precious")
    Path("there.zarr").mkdir()
    Path("there.zarr/notes.txt").write_text("precious")
    arguments, sentence = OUTPUTS[what]
    assert re.search(sentence, refused("segment", "cells.tif", *arguments))
    options = dict(zip(arguments[1::2], arguments[2::2], strict=False))
    job = Job(
        "cells.tif", arguments[0], overlay=options.get("--overlay"), overwrite="--overwrite" in arguments
    )
    with pytest.raises(InputError, match=sentence):
        run(job)


def test_a_folder_without_permission_to_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite("cells.tif", GOOD)
    # Root may write anywhere, so the refusal is played.
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "output folder . cannot be written" in refused("segment", "cells.tif", "out.tif")


# Models and devices ------------------------------------------------------------------------------------


class Evil:
    """A pickle that leaves a trace when it is loaded."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("it-ran"),)


def checkpoint(path: Path) -> None:
    save_file({"weight": torch.zeros(100, 100)}, path)


def evil_zip(path: Path) -> None:
    torch.save({"model": Evil()}, path)


MODELS: dict[str, tuple[str, Callable[[Path], object] | None, str]] = {
    "unknown": ("vit_x", None, "There is no model 'vit_x'"),
    "not downloaded": ("vit_b", None, "samscape models --download vit_b"),
    "a text": ("a.pth", lambda path: path.write_text("weights"), "a.pth"),
    "empty": ("a.pt", lambda path: path.write_bytes(b""), "a.pt"),
    "a foreign checkpoint": ("a.safetensors", checkpoint, "a.safetensors is no Segment Anything checkpoint"),
    "a foreign checkpoint of torch": (
        "a.pth",
        lambda path: torch.save({"weight": torch.zeros(4)}, path),
        "a.pth is no Segment Anything checkpoint",
    ),
    "a list": ("a.pth", lambda path: torch.save([1, 2], path), "a.pth is no Segment Anything checkpoint"),
    "truncated safetensors": ("a.safetensors", lambda path: (checkpoint(path), cut(path, 0.5)), "truncated"),
    "a truncated checkpoint": (
        "a.pth",
        lambda path: (torch.save({"weight": torch.zeros(100, 100)}, path), cut(path, 0.5)),
        "a.pth",
    ),
    "a pickle that runs code": ("a.pth", lambda path: path.write_bytes(pickle.dumps(Evil())), "may run code"),
    "a checkpoint that runs code": ("a.pth", evil_zip, "may run code"),
    "a folder": ("a.pth", lambda path: path.mkdir(), "a.pth"),
}


@pytest.mark.parametrize("what", MODELS)
def test_a_model_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("cells.tif", GOOD)
    name, make, sentence = MODELS[what]
    if make is not None:
        make(Path(name))
    assert re.search(sentence, refused("segment", "cells.tif", "out.ome.zarr", "--model", name))
    with pytest.raises(InputError, match=sentence):
        load_model(name)
    assert not Path("it-ran").exists()


@pytest.mark.parametrize("device", ["abacus", "", "cuda:99", "meta:x"])
def test_a_device_that_is_not_here(folder: Path, device: str) -> None:
    tifffile.imwrite("cells.tif", GOOD)
    sentence = refused("segment", "cells.tif", "out.ome.zarr", "--device", device)
    assert f"'{device}'" in sentence
