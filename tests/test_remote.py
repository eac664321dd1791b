"""Pictures behind URLs, from a real server with range requests: HTTP, and as much of S3 as reading takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
import zarr
from bright import spots
from PIL import Image as pillow
from test_plates import FIELDS, make_plate
from test_resume import content
from test_tiled import scattered

from napari_samscape.errors import InputError
from napari_samscape.io import DamagedError, Image, open_image, write_labels
from napari_samscape.io.remote import VanishedError
from napari_samscape.scaling.batch import Job, run
from napari_samscape.scaling.many import run_many
from napari_samscape.scaling.pictures import find_pictures

pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
pytest.importorskip("obstore", reason="the extra 'remote' is not installed")


class Server(ThreadingHTTPServer):
    """Serves the current folder, counts what it sends, and fails when it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent = self.failing = self.requests = 0
        self.broken = False  # fails from now on
        self.ranges = True
        self.seen: list[str] = []  # what came as Authorization
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet, which the client does not wait for
    server: Server

    def do_GET(self) -> None:
        server, path = self.server, Path(self.path.split("?")[0].lstrip("/"))
        server.requests += 1
        server.seen.append(self.headers.get("Authorization", ""))
        if server.broken or server.failing > 0:
            server.failing -= 1
            return self.answer(503, b"")
        if not path.is_file():
            return self.answer(404, b"")
        data, wanted = path.read_bytes(), self.headers.get("Range", "")
        if not wanted or not server.ranges:
            return self.answer(200, data)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else len(data) - int(last)
        stop = min(int(last) + 1, len(data)) if first and last else len(data)
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        return self.answer(206, data[start:stop], headers)

    do_HEAD = do_GET

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        standard = {
            "Content-Length": str(len(data)),
            "ETag": '"1"',
            "Last-Modified": "Tue, 24 Nov 2026 12:00:00 GMT",
        }
        ranges = {"Accept-Ranges": "bytes"} if self.server.ranges else {}
        for name, value in (standard | ranges | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.server.sent += len(data)
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    bright.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_samscape.io.remote.WAITS", (0.01, 0.01, 0.01))
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    Path("bucket").mkdir()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "MYKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return "s3://bucket"


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, shape).astype(np.uint16)


def like(image: Image) -> tuple[Any, ...]:
    return image.axes, image.shape, image.dtype, image.scale, image.name, len(image.levels)


# Formats -----------------------------------------------------------------------------------------------


def test_a_tiled_tiff_is_read_in_parts(server: Server) -> None:
    pixels = noise((2048, 2048))
    tifffile.imwrite("in.tif", pixels, tile=(256, 256))
    image = open_image(f"{server.url}/in.tif")
    assert like(image) == like(open_image("in.tif"))
    assert str(image) == f"{server.url}/in.tif"
    part = image.plane(region=(slice(300, 400), slice(500, 700)))
    np.testing.assert_array_equal(part, pixels[300:400, 500:700])
    assert server.sent < pixels.nbytes / 4


@pytest.mark.parametrize("axes", ["YX", "YXS", "CYX", "ZYX"])
def test_of_a_tiff_of_one_strip_only_rows_are_read(
    server: Server, axes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_samscape.io.contiguous.LONGEST_ROW", 10_000)
    monkeypatch.setattr("napari_samscape.io.remote.BLOCK", 1024)
    sizes = {"Y": 400, "X": 600, "S": 3, "C": 3, "Z": 4}
    pixels = noise(tuple(sizes[axis] for axis in axes))
    rgb = axes == "YXS"
    tifffile.imwrite("in.tif", pixels, metadata={"axes": axes}, photometric="rgb" if rgb else "minisblack")
    image, here = open_image(f"{server.url}/in.tif"), open_image("in.tif")
    server.sent, z = 0, sizes["Z"] - 1 if "Z" in axes else 0
    for region in [(slice(100, 120), slice(50, 90)), (slice(0, 40, 4), slice(None, None, 4))]:
        np.testing.assert_array_equal(image.plane(z=z, region=region), here.plane(z=z, region=region))
    assert server.sent <= pixels.nbytes * (60 / 400)
    np.testing.assert_array_equal(np.asarray(image.data), pixels)


def test_an_ome_tiff_has_its_axes_and_scale(server: Server) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite("in.ome.tif", noise((3, 64, 64)), compression="zlib", metadata=metadata)
    image = open_image(f"{server.url}/in.ome.tif")
    assert like(image) == like(open_image("in.ome.tif"))
    np.testing.assert_array_equal(image.plane(z=2), open_image("in.ome.tif").plane(z=2))


def test_a_png_is_read(server: Server) -> None:
    pillow.fromarray(noise((40, 50))).save("in.png")
    np.testing.assert_array_equal(open_image(f"{server.url}/in.png").plane(), noise((40, 50)))


def test_a_zarr_array_and_an_ome_zarr_are_read_in_parts(server: Server) -> None:
    pixels = noise((1024, 1024))
    zarr.create_array("in.zarr", data=pixels, chunks=(128, 128), dimension_names=("y", "x"))
    write_labels("in.ome.zarr", pixels.astype(np.int32))
    array, ome = open_image(f"{server.url}/in.zarr"), open_image(f"{server.url}/in.ome.zarr")
    assert like(ome) == like(open_image("in.ome.zarr"))
    server.sent = 0
    np.testing.assert_array_equal(array.plane(region=(slice(0, 100), slice(200, 250))), pixels[:100, 200:250])
    assert server.sent < pixels.nbytes / 16
    np.testing.assert_array_equal(ome.plane(), pixels)


def test_of_a_shard_only_the_chunks_asked_for_are_read(server: Server) -> None:
    pixels = noise((1024, 1024))
    zarr.create_array("in.zarr", data=pixels, chunks=(128, 128), shards=(1024, 1024))
    array = open_image(f"{server.url}/in.zarr")
    server.sent = 0
    np.testing.assert_array_equal(array.plane(region=(slice(0, 100), slice(200, 250))), pixels[:100, 200:250])
    assert server.sent < pixels.nbytes / 16


def test_a_missing_chunk_is_fill_value_as_in_a_folder(server: Server) -> None:
    array = zarr.create_array("in.zarr", shape=(64, 64), chunks=(32, 32), dtype="u1", fill_value=7)
    array[:32] = 1
    plane = open_image(f"{server.url}/in.zarr").plane()
    assert (plane[0, 0], plane[63, 63]) == (1, 7)


# S3 ----------------------------------------------------------------------------------------------------


def test_a_bucket_is_read_with_credentials_from_the_environment(server: Server, bucket: str) -> None:
    pixels = noise((512, 512))
    tifffile.imwrite("bucket/in.tif", pixels, tile=(64, 64))
    write_labels("bucket/in.ome.zarr", pixels.astype(np.int32))
    np.testing.assert_array_equal(open_image(f"{bucket}/in.tif").plane(), pixels)
    np.testing.assert_array_equal(open_image(f"{bucket}/in.ome.zarr").plane(), pixels)
    assert all("Credential=MYKEY/" in seen for seen in server.seen)


def test_a_public_bucket_needs_no_credentials(
    server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    tifffile.imwrite("bucket/in.tif", spots((10, 10)))
    assert open_image(f"{bucket}/in.tif").shape == (40, 60)
    assert set(server.seen) == {""}


def test_a_bucket_that_fails_is_tried_again(server: Server, bucket: str) -> None:
    tifffile.imwrite("bucket/in.tif", spots((10, 10)))
    server.failing = 2
    assert open_image(f"{bucket}/in.tif").shape == (40, 60)
    server.broken = True
    with pytest.raises(VanishedError, match=r"s3://bucket/in\.tif cannot be reached any more"):
        open_image(f"{bucket}/in.tif")


# What goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("{}/none.tif", r"There is no file http://.*/none\.tif\."),
        ("{}/none.zarr", "is no Zarr store"),
        ("ftp://x/in.tif", "of URLs, http, https and s3 are known"),
        ("https://me:secret@x/in.tif", "must not hold a name or password"),
    ],
)
def test_a_url_that_cannot_be_opened_is_said_in_one_sentence(server: Server, url: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        open_image(url.format(server.url))
    assert "secret" not in str(caught.value)


def test_a_server_without_ranges_is_refused(server: Server) -> None:
    tifffile.imwrite("in.tif", noise((512, 512)), tile=(64, 64))
    server.ranges = False
    with pytest.raises(InputError, match="range requests"):
        open_image(f"{server.url}/in.tif")


def test_without_the_extra_it_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("aiohttp", "obstore.fsspec"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    for url in (f"{server.url}/in.tif", "s3://bucket/in.zarr"):
        with pytest.raises(InputError, match=r"pip install 'napari-samscape\[remote\]'"):
            open_image(url)


@pytest.mark.parametrize("name", ["in.tif", "in.zarr"])
def test_what_fails_for_a_moment_is_tried_again(server: Server, name: str) -> None:
    tifffile.imwrite("in.tif", noise((512, 512)), tile=(64, 64))
    zarr.create_array("in.zarr", data=noise((512, 512)), chunks=(64, 64))
    image = open_image(f"{server.url}/{name}")
    server.failing = 3
    np.testing.assert_array_equal(image.plane(), noise((512, 512)))


@pytest.mark.parametrize("name", ["in.tif", "in.zarr"])
def test_a_url_that_vanishes_ends_the_job_in_one_sentence_and_it_goes_on_later(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_samscape.io.remote.BLOCK", 512)  # otherwise one request has all of the file
    pixels = scattered((150, 190))
    tifffile.imwrite("in.tif", pixels, tile=(32, 32))
    zarr.create_array("in.zarr", data=pixels, chunks=(32, 32))
    job = Job(f"{server.url}/{name}", "out.ome.zarr", tile=64, halo=12)
    run(job)
    Path("out.ome.zarr").rename("undisturbed.ome.zarr")

    def vanish(done: int, total: int, text: str) -> None:
        server.broken = "tile 9 of" in text

    with pytest.raises(InputError, match="cannot be reached any more: .* start again to go on") as caught:
        run(job, vanish)
    assert not isinstance(caught.value, DamagedError), "it was taken for a damaged tile"
    assert len(list(Path(".out.ome.zarr.samscape").rglob("*.npz"))) == 8
    server.broken = False
    run(job)
    assert content("out.ome.zarr") == content("undisturbed.ome.zarr")


def test_a_batch_may_name_urls(server: Server) -> None:
    tifffile.imwrite("in.tif", spots((10, 10)))
    Path("list.txt").write_text(f"{server.url}/in.tif\nin.tif\n")
    result = run_many(find_pictures("list.txt", Path("out")), Path("out"), {})
    assert [outcome.objects for outcome in result.outcomes] == [1, 1]
    assert len({outcome.output for outcome in result.outcomes}) == 2


def test_a_plate_behind_a_url_is_all_its_fields(server: Server) -> None:
    make_plate()
    url = f"{server.url}/p.ome.zarr"
    found = find_pictures(url, Path("out"))
    assert [picture.path for picture in found] == [f"{url}/{field}" for field in FIELDS]
    assert [outcome.objects for outcome in run_many(found, Path("out"), {}).outcomes] == [1, 2, 3]
