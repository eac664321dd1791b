"""Embeddings on disk: found again by what was looked at, whole or not at all, pruned unless in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from bright import spots
from test_cli import printed_json, samscape
from torch.nn import functional as F
from typer.testing import CliRunner

from napari_samscape.cli.app import app
from napari_samscape.errors import InputError
from napari_samscape.io import open_image
from napari_samscape.model.nano import NanoConfig
from napari_samscape.model.sam import Encoded, Sam, build_nano
from napari_samscape.prediction.predict import embed, predict
from napari_samscape.prediction.types import Prompts
from napari_samscape.scaling.batch import Job, run, segment
from napari_samscape.scaling.cache import Cache
from napari_samscape.scaling.cluster import Cluster, _model, _task, look_at
from napari_samscape.scaling.memory import recalling, remembering

RGB = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)


class Counting(SimpleNamespace):
    """A model that notes what it encodes, and gives its pixels, smaller."""

    def __init__(self, **changed: Any) -> None:
        facts = {"name": "counting", "digest": "c" * 64, "precision": torch.float32}
        facts |= {
            "image_size": 32,
            "tile_size": 32,
            "device": torch.device("cpu"),
            "recall": None,
            "seen": [],
            "factor": 1.0,
        }
        super().__init__(**facts | changed)

    def normalise(self, rgb: torch.Tensor) -> torch.Tensor:
        return rgb / 255

    def encode(self, tensor: torch.Tensor) -> Encoded:
        self.seen.append(tensor.shape)
        small = self.factor * F.adaptive_avg_pool2d(tensor, 4)
        return Encoded(small, (2 * small, 3 * small), None)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entry() -> Path:
    """The only one there is."""
    (only,) = Path("cache/embeddings.zarr").glob("*/*/zarr.json")
    return only.parent


# Found again -------------------------------------------------------------------------------------------


def test_the_same_pixels_are_encoded_once_whoever_asks() -> None:
    model = Counting()
    first = embed(remembering(model, "cache", "a.tif"), RGB)
    again = embed(remembering(model, "cache", "b.tif"), RGB.copy())
    assert len(model.seen) == 1
    assert (
        (again.image_shape, again.input_shape)
        == (first.image_shape, first.input_shape)
        == ((40, 60), (21, 32))
    )
    for one, other in zip((first.features, *first.skips), (again.features, *again.skips), strict=True):
        assert torch.equal(one, other)
    assert again.dense is None
    assert len(again.skips) == 2


def test_what_was_just_made_is_as_it_will_be_found() -> None:
    exact = embed(Counting(), RGB).features
    kept = embed(remembering(Counting(), "cache", "a"), RGB).features
    assert kept.dtype == torch.float32
    assert torch.equal(kept, exact.half().float())
    assert not torch.equal(kept, exact)


def test_who_only_recalls_finds_what_is_there_and_keeps_nothing() -> None:
    model = Counting()
    assert recalling(model, "cache") is model, "there is no cache"
    kept = embed(remembering(model, "cache", "a"), RGB).features
    finds = recalling(model, "cache")
    assert torch.equal(embed(finds, RGB).features, kept)
    assert len(model.seen) == 1
    other = embed(finds, RGB[:, ::-1]).features
    assert torch.equal(other, embed(Counting(), RGB[:, ::-1]).features), "in full precision"
    assert entry(), "there is a second one"
    assert recalling(Counting(digest=""), "cache").recall is None


@pytest.mark.parametrize(
    "other",
    [
        (Counting(), RGB[:, ::-1]),
        (Counting(), RGB.reshape(60, 40, 3)),
        (Counting(digest="d" * 64), RGB),
        (Counting(precision=torch.bfloat16), RGB),
    ],
    ids=["pixels", "shape", "weights", "precision"],
)
def test_anything_else_is_encoded_anew(other: tuple[Counting, np.ndarray]) -> None:
    embed(remembering(Counting(), "cache", "a"), RGB)
    other[0].seen.clear()
    embed(remembering(other[0], "cache", "a"), other[1])
    assert len(other[0].seen) == 1


def test_pixels_of_any_type_are_known_by_what_the_model_is_given() -> None:
    model = Counting()
    embed(remembering(model, "cache", "a"), RGB[..., 0].astype(np.uint16), limits=(0, 255))
    embed(remembering(model, "cache", "a"), np.repeat(RGB[..., :1], 3, axis=2))
    assert len(model.seen) == 1


def test_the_model_itself_stays_as_it_is() -> None:
    model = Counting()
    remembering(model, "cache", "a")
    embed(model, RGB)
    assert model.recall is None
    assert list(Cache("cache").entries()) == []


def test_a_model_without_a_file_has_no_name_to_be_kept_under() -> None:
    with pytest.raises(InputError, match="needs a model that was read from a file"):
        remembering(Counting(digest=""), "cache", "a")


def test_masks_agree_with_those_of_full_precision(nano: Sam) -> None:
    y, x = np.mgrid[:96, :128]
    pixels = np.where((y - 40) ** 2 + (x - 60) ** 2 < 500, 180, 60).astype(np.uint8)
    kept = remembering(nano, "cache", "disk")
    prompt = Prompts(points=[(40, 60)])
    embed(kept, pixels)
    exact = predict(nano, embed(nano, pixels), prompt)
    found = predict(kept, embed(kept, pixels), prompt)
    assert (kept.recall.made, kept.recall.found) == (1, 1)
    assert exact.masks.any()
    assert (exact.masks != found.masks).mean() < 0.001
    np.testing.assert_allclose(found.iou, exact.iou, atol=0.01)


# On disk -----------------------------------------------------------------------------------------------


def test_it_is_a_zarr_of_half_precision_with_one_chunk_for_each_part() -> None:
    embed(remembering(Counting(), "cache", "a.tif"), RGB)
    group = zarr.open_group("cache/embeddings.zarr", mode="r")
    arrays = {name.split("/")[-1]: node for name, node in group.members(max_depth=None) if "/" in name[17:]}
    assert set(arrays) == {"features", "skip0", "skip1"}
    assert {(str(array.dtype), array.nchunks) for array in arrays.values()} == {("float16", 1)}
    about = zarr.open_group(entry(), mode="r").attrs["samscape"]
    assert about == {
        "picture": "a.tif",
        "model": "counting",
        "model_sha256": "c" * 64,
        "picture_shape": [40, 60],
    }


@pytest.mark.parametrize("damage", ["cut", "changed", "chunk", "array", "attributes"])
def test_a_damaged_entry_is_made_again(damage: str) -> None:
    model = Counting()
    expected = embed(remembering(model, "cache", "a"), RGB)
    chunk = entry() / "features/c/0/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    harm = {
        "cut": lambda: chunk.write_bytes(content[:-5]),
        "changed": lambda: chunk.write_bytes(content),
        "chunk": chunk.unlink,
        "array": (entry() / "features/zarr.json").unlink,
        "attributes": lambda: (entry() / "zarr.json").write_text("{"),
    }
    harm[damage]()
    for calls in (2, 2):  # the second time it is found
        again = embed(remembering(model, "cache", "a"), RGB)
        assert len(model.seen) == calls
        assert torch.equal(again.features, expected.features)
    assert list(Path("cache/parts").iterdir()) == []


def test_what_half_precision_cannot_hold_is_not_kept() -> None:
    model = Counting(factor=1e6)
    for calls in (1, 2):
        assert embed(remembering(model, "cache", "a"), RGB).features.max() > 1e5
        assert len(model.seen) == calls
    assert list(Cache("cache").entries()) == []


def test_an_embedding_of_zeros_is_kept_too() -> None:
    model = Counting(factor=0.0)
    for _ in range(2):
        embed(remembering(model, "cache", "a"), RGB)
    assert len(model.seen) == 1


def test_several_may_write_the_same_at_once() -> None:
    arrays = {"features": np.ones((1, 2, 4, 4), np.float16)}
    about = {"picture": "a", "model": "m"}
    cache = Cache("cache")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Cache("cache").save("m/key", arrays, about), range(16)))
    found = cache.load("m/key")
    assert found is not None
    np.testing.assert_array_equal(found["features"], arrays["features"])
    assert list(Path("cache/parts").iterdir()) == []


WRITER = """
import sys, numpy as np
from napari_samscape.scaling.cache import Cache
about = {"picture": "a", "model": "m"}
for number in range(30):
    cache = Cache("cache")
    cache.save(f"m/{number}", {"features": np.full((1, 2, 4, 4), number, np.float16)}, about)
    assert cache.load(f"m/{number}")["features"].min() == number
"""


def test_several_processes_may_share_a_cache_from_its_first_moment_on() -> None:
    processes = [subprocess.Popen([sys.executable, "-c", WRITER]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list(Cache("cache").entries())) == 30
    assert list(Path("cache/parts").iterdir()) == []


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = remembering(Counting(), "cache", "a")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_samscape.scaling.cache._write", full)
    with pytest.raises(InputError, match="The disk is full"):
        embed(model, RGB)
    assert list(Path("cache/parts").iterdir()) == []


def test_another_folder_is_never_taken_for_a_cache() -> None:
    Path("pictures").mkdir()
    Path("pictures/a.tif").touch()
    zarr.open_group("other/embeddings.zarr", mode="w")
    for folder in ("pictures", "other"):
        with pytest.raises(InputError, match=f"{folder} is no cache of embeddings; choose an empty folder"):
            Cache(folder)
    with pytest.raises(InputError, match="There is no cache of embeddings in "):
        Cache("nowhere", make=False)


# Pruned ------------------------------------------------------------------------------------------------


def filled() -> Cache:
    """Entries of equal size: of a, by two models, used 3 and 2 days ago, and of b, used a day ago."""
    cache = Cache("cache")
    arrays = {"features": np.ones((1, 2, 4, 4), np.float16)}
    for days, (picture, model) in {3: ("/x/a.tif", "m"), 2: ("/x/a.tif", "n"), 1: ("/x/b.tif", "m")}.items():
        place = f"{model}/{days}"
        cache.save(place, arrays, {"picture": picture, "model": model})
        before = time.time() - days * 86400
        os.utime(cache.zarr / place, (before, before))
    return cache


def left(cache: Cache) -> set[str]:
    return {entry.path.name for entry in cache.entries()}


@pytest.mark.parametrize(
    ("options", "stay"),
    [
        (["--older-than", "1.5"], "1"),
        (["--picture", "a.tif"], "1"),
        (["--picture", "/x/b.tif"], "23"),
        (["--picture", "a.tif", "--model", "n"], "13"),
        (["--model", "m", "--older-than", "1.5"], "12"),
        (["--max-size", "0"], ""),
        (["--max-size", "1"], "123"),
        (["--all"], ""),
    ],
)
def test_pruning_removes_what_all_conditions_say(options: list[str], stay: str) -> None:
    cache = filled()
    printed = printed_json("cache", "prune", "--cache", "cache", *options)
    assert left(cache) == set(stay)
    assert printed["removed"] == 3 - len(stay)


def test_by_size_what_was_not_used_for_longest_goes_first() -> None:
    cache = filled()
    cache.load("m/3")  # now it is the last one used
    one = next(cache.entries()).size
    cache.prune(at_most=2 * one + 5)
    assert left(cache) == {"1", "3"}


def test_what_a_running_job_is_about_stays() -> None:
    cache = filled()
    with cache.used_for("/x/a.tif"):
        rows = printed_json("cache", "list", "--cache", "cache")["entries"]
        assert [row["in_use"] for row in rows] == [True, True, False]
        cache.prune()
        assert left(cache) == {"2", "3"}
    cache.prune()
    assert left(cache) == set()
    assert list(Path("cache/users").iterdir()) == []


def test_a_job_that_was_killed_holds_nothing() -> None:
    cache = filled()
    Path("cache/users").mkdir()
    Path("cache/users/1.json").write_text(json.dumps({"picture": "/x/a.tif"}))
    Path("cache/parts/forgotten").mkdir()
    os.utime("cache/parts/forgotten", (0, 0))
    cache.prune()
    assert left(cache) == set()
    assert list(Path("cache/users").iterdir()) == list(Path("cache/parts").iterdir()) == []


def test_the_list_says_what_there_is() -> None:
    filled()
    listed = printed_json("cache", "list", "--cache", "cache")
    rows = [(Path(row["picture"]).name, row["model"], row["embeddings"]) for row in listed["entries"]]
    assert rows == [("a.tif", "m", 1), ("a.tif", "n", 1), ("b.tif", "m", 1)]
    assert [round(row["days"]) for row in listed["entries"]] == [3, 2, 1]
    assert listed["bytes"] == sum(row["bytes"] for row in listed["entries"]) > 0
    text = samscape("cache", "list", "--cache", "cache").stdout
    assert "of /x/a.tif" in text


def test_pruning_needs_a_condition() -> None:
    filled()
    for options in ([], ["--all", "--older-than", "1"]):
        result = samscape("cache", "prune", "--cache", "cache", *options)
        assert result.exit_code == 2
        assert "Say what to remove" in result.stderr


# In jobs -----------------------------------------------------------------------------------------------


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a small model with random weights encodes, called nano; beside a picture of three tiles."""
    torch.manual_seed(3)
    model = build_nano(NanoConfig(widths=(16, 24, 32, 48), depths=(1, 1, 1, 1), fine=(20, 12, 8))).eval()
    model.image_size, model.magnifies, model.name, model.digest = 64, 1.0, "nano", "e" * 64
    monkeypatch.setattr("napari_samscape.model.weights.load_model", lambda *_, **__: model)
    seen: list[Any] = []
    encode = Sam.encode

    def noting(self: Sam, tensor: torch.Tensor) -> Encoded:
        seen.append(tensor.shape)
        return encode(self, tensor)

    monkeypatch.setattr(Sam, "encode", noting)
    tifffile.imwrite("cells.tif", spots((20, 20), (20, 90), (30, 60), shape=(40, 120)))
    return seen


LOOSE = {"points_per_side": 4, "pred_iou_thresh": 0.0}
EDGES = ["--mode", "edges", "--points-per-side", "4", "--pred-iou-thresh", "0"]


def test_what_was_embedded_ahead_is_found_by_any_mode(encoded: list[Any]) -> None:
    done = printed_json("embed", "cells.tif", "--cache", "cache", "--tile", "64")
    assert (done["tiles"], done["made"], done["found"], done["failed"]) == (3, 3, 0, [])
    assert len(encoded) == 3
    for mode in (["--mode", "everything"], EDGES):
        options = ["--tile", "64", "--cache", "cache", "--overwrite"]
        assert samscape("segment", "cells.tif", "out.ome.zarr", *mode, *options).exit_code == 0
    assert len(encoded) == 3
    assert printed_json("embed", "cells.tif", "--cache", "cache", "--tile", "64")["found"] == 3


def test_a_prompt_finds_the_whole_plane(encoded: list[Any]) -> None:
    printed_json("embed", "cells.tif", "--cache", "cache", "--tile", "120")
    before = len(encoded)
    assert samscape("segment", "cells.tif", "out.tif", "--points", "20,20", "--cache", "cache").exit_code == 0
    assert len(encoded) == before == 1


def test_a_job_gives_the_same_whether_it_finds_or_makes(nano: Sam) -> None:
    tifffile.imwrite("cells.tif", spots((20, 20), (40, 40), shape=(60, 60)))
    for name in ("made", "found"):
        run(Job("cells.tif", f"{name}.tif", mode="edges", options=LOOSE, cache="cache"), model=nano)
    assert len(list(Cache("cache").entries())) == 1
    maps = [open_image(f"{name}.tif").plane() for name in ("made", "found")]
    assert maps[0].any()
    np.testing.assert_array_equal(*maps)


def test_in_python_and_in_a_batch(encoded: list[Any]) -> None:
    from napari_samscape.model.weights import load_model

    segment("cells.tif", model=load_model(), mode="edges", options=LOOSE, cache="cache")
    assert samscape("batch", "cells.tif", "out", *EDGES, "--cache", "cache").exit_code == 0
    assert len(encoded) == 3, "one for each tile"


def test_constant_tiles_and_those_that_cannot_be_read_are_said(encoded: list[Any]) -> None:
    array = zarr.create_array("in.zarr", shape=(64, 128), dtype="u2", chunks=(64, 32))
    array[...] = 7
    array[20:30, 70:80] = 900
    Path("in.zarr/c/0/3").write_bytes(b"broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_samscape.scaling.picture.READ_SIDE", 32)
        options = ["--cache", "cache", "--tile", "32", "--halo", "0", "--json"]
        result = CliRunner().invoke(app, ["embed", "in.zarr", *options])
    assert result.exit_code == 1
    done = json.loads(result.stdout)
    assert (done["tiles"], done["made"], done["constant"], len(done["failed"])) == (8, 1, 5, 2)
    assert "samscape: tile 0/3: in.zarr cannot be read" in result.stderr


def test_half_precision_is_a_setting_of_its_own(encoded: list[Any]) -> None:
    job = Job("cells.tif", "out.tif", tile=64)
    run(job)
    with pytest.raises(InputError, match=r"made with another cache \(true instead of false\)"):
        run(Job("cells.tif", "out.tif", tile=64, cache="cache"))


def test_a_worker_uses_the_same_cache(encoded: list[Any]) -> None:
    printed_json("embed", "cells.tif", "--cache", "cache", "--tile", "64")
    job = Job("cells.tif", "out.tif", mode="edges", options=LOOSE, tile=64, cache="cache")
    from napari_samscape.scaling.picture import look_over

    limits = look_over(open_image("cells.tif")).limits
    order = Cluster(None, "").order(job, limits, Path("pieces"), "e" * 64)
    assert Path(order.job.cache or "").is_absolute()
    try:
        assert look_at(order, (), (0, 0)) is None
    finally:
        _task.cache_clear()
        _model.cache_clear()
    assert len(encoded) == 3
    assert Path("pieces/0/0/0.npz").exists()
