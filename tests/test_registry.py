"""Known checkpoints come from a real HTTP server, complete and verified, whatever the network does."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_samscape.errors import InputError
from napari_samscape.model import download as download_module
from napari_samscape.model import registry
from napari_samscape.model.registry import KNOWN, KnownModel, cache_dir, download, local_path
from napari_samscape.model.weights import find_checkpoint

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT = 1_000_000


@dataclass
class Server:
    """A file server on 127.0.0.1 that misbehaves as told: one word per request, then "fine"."""

    plan: list[str] = field(default_factory=list)
    content: bytes = CONTENT
    etag: str | None = '"first"'
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # bytes of content per request
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.state.requests.append(dict(self.headers))
        mood = self.state.plan.pop(0) if self.state.plan else "fine"
        if mood.isdigit():
            self.send_error(int(mood))
            return
        body, start = self.state.content, self._start(mood)
        if start is not None and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200 if start is None else 206)
        if start is not None:
            told = start + 7 if mood == "wrong range" else start
            self.send_header("Content-Range", f"bytes {told}-{len(body) - 1}/{len(body)}")
        if self.state.etag is not None:
            self.send_header("ETag", self.state.etag)
        self.send_header("Content-Type", "text/html" if mood == "login" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body) - (start or 0)))
        self.end_headers()
        self._send(body[start or 0 :], mood)

    def _start(self, mood: str) -> int | None:
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or mood == "no ranges" or self.headers.get("If-Range") != self.state.etag:
            return None
        return int(asked[1])

    def _send(self, body: bytes, mood: str) -> None:
        body = body[:CUT] if mood in ("cut", "stall") else body
        self.state.sent.append(len(body))
        if mood == "slow":
            time.sleep(0.5)
        self.wfile.write(body)
        if mood == "stall":
            self.wfile.flush()
            time.sleep(1)
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("StatefulHandler", (Handler,), {"state": state}))
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_port}/model.pt"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, short pauses, no proxy, and a known model "small" whose content is ours."""
    monkeypatch.setenv("SAMSCAPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download_module, "PAUSE", 0.01)
    monkeypatch.setattr(download_module, "TIMEOUT", (0.5, 0.5))
    monkeypatch.setattr(download_module, "CHUNK", 1 << 14)
    _know(monkeypatch, sha256=SHA256)


def _know(monkeypatch: pytest.MonkeyPatch, **digests: str | None) -> None:
    model = KnownModel(
        name="small",
        filename="small.pt",
        url="http://127.0.0.1:9/small.pt",
        licence="Apache-2.0",
        about="",
        source="",
        **digests,
    )
    monkeypatch.setitem(registry.KNOWN, "small", model)


def _files() -> set[str]:
    """What lies in the cache, but for the lock."""
    folder = cache_dir() / "models"
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


class Cancelled(Exception):
    pass


def _cancel_after(number: int) -> Any:
    def progress(done: int, total: int, text: str) -> None:
        if done >= number:
            raise Cancelled

    return progress


# What is known


def test_every_published_model_names_its_address_licence_and_source() -> None:
    for name, model in KNOWN.items():
        if name in ("nano", "small"):
            continue
        assert model.name == name
        assert model.url is not None and model.url.startswith("https://")
        assert model.source.startswith("https://")
        assert model.licence in ("Apache-2.0", "CC-BY-4.0")
        assert model.sha256 is None or re.fullmatch("[0-9a-f]{64}", model.sha256)
        assert model.xxh128 is None or re.fullmatch("[0-9a-f]{32}", model.xxh128)
        assert model.digest is not None


def test_no_two_models_share_a_file_or_an_address() -> None:
    models = KNOWN.values()
    assert len({model.filename for model in models}) == len({model.url for model in models}) == len(models)


@pytest.mark.parametrize(
    "name", ["nano", "vit_b", "vit_l", "vit_h", "vit_t", "vit_b_lm", "vit_t_lm", "vit_b_em_organelles"]
)
def test_the_names_users_know_are_there(name: str) -> None:
    assert name in KNOWN


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no model named 'vit_x'; known are nano, vit_b"):
        local_path("vit_x")


def test_cache_is_the_users_unless_the_environment_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("SAMSCAPE_CACHE")
    assert cache_dir().name.lower() == "samscape"


def test_bundled_model_needs_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BUNDLED", tmp_path)
    assert local_path("nano") is None
    with pytest.raises(InputError, match="bundled model 'nano' is missing"):
        download("nano")
    (tmp_path / "nano.safetensors").write_bytes(b"weights")
    assert download("nano") == local_path("nano") == tmp_path / "nano.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nano.safetensors"]


# A good network


def test_download_brings_the_file_and_says_how_far_it_is(server: Server) -> None:
    calls: list[tuple[int, int, str]] = []
    path = download("small", url=server.url, progress=lambda *call: calls.append(call))
    assert path == local_path("small") == cache_dir() / "models" / "small.pt"
    assert path.read_bytes() == CONTENT
    assert _files() == {"small.pt", "small.pt.json"}
    loading = [done for done, _, text in calls if text == "Downloading small.pt"]
    assert loading == sorted(loading) and loading[0] == 0 and loading[-1] == len(CONTENT)
    assert {total for _, total, _ in calls} == {len(CONTENT)}
    assert calls[-1] == (len(CONTENT), len(CONTENT), "Downloaded small.pt")


def test_second_call_asks_nobody(server: Server) -> None:
    first = download("small", url=server.url)
    assert download("small", url=server.url) == first
    assert len(server.requests) == 1


def test_nothing_is_here_before() -> None:
    assert local_path("small") is None


# A bad network


def test_broken_connection_is_mended_by_asking_for_the_missing_bytes_only(server: Server) -> None:
    server.plan = ["cut", "cut"]
    assert download("small", url=server.url).read_bytes() == CONTENT
    starts = [int(request["Range"][6:-1]) for request in server.requests[1:]]
    assert [server.sent[1], server.sent[2]] == [CUT, len(CONTENT) - starts[1]]
    # What was under way when the line broke is lost, less than a chunk each time.
    assert CUT - download_module.CHUNK <= starts[0] <= CUT
    assert all(request["If-Range"] == '"first"' for request in server.requests[1:])


def test_stalled_connection_counts_as_broken(server: Server) -> None:
    server.plan = ["stall"]
    assert download("small", url=server.url).read_bytes() == CONTENT
    assert "Range" in server.requests[1]


def test_passing_server_errors_are_waited_out(server: Server) -> None:
    server.plan = ["503", "429"]
    assert download("small", url=server.url).read_bytes() == CONTENT


def test_cancelling_keeps_what_has_come_and_the_next_call_continues(server: Server) -> None:
    with pytest.raises(Cancelled):
        download("small", url=server.url, progress=_cancel_after(CUT))
    assert local_path("small") is None
    have = (cache_dir() / "models" / "small.pt.part").stat().st_size
    assert have >= CUT
    assert download("small", url=server.url).read_bytes() == CONTENT
    assert server.requests[1]["Range"] == f"bytes={have}-"
    assert server.sent[1] == len(CONTENT) - have


def test_server_without_ranges_sends_all_again(server: Server) -> None:
    server.plan = ["cut", "no ranges"]
    assert download("small", url=server.url).read_bytes() == CONTENT
    assert server.sent == [CUT, len(CONTENT)]


def test_file_that_changed_on_the_server_meanwhile_is_begun_anew(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Cancelled):
        download("small", url=server.url, progress=_cancel_after(CUT))
    server.content, server.etag = CONTENT[::-1], '"second"'
    _know(monkeypatch, sha256=hashlib.sha256(server.content).hexdigest())
    assert download("small", url=server.url).read_bytes() == server.content


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_beginning_of_unknown_version_is_not_continued(server: Server, etag: str | None) -> None:
    server.etag, server.plan = etag, ["cut"]
    assert download("small", url=server.url).read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


def test_beginning_from_another_address_is_not_continued(server: Server) -> None:
    with pytest.raises(Cancelled):
        download("small", url=server.url, progress=_cancel_after(CUT))
    assert download("small", url=server.url + "?mirror").read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


def test_range_that_was_not_asked_for_is_refused_and_begun_anew(server: Server) -> None:
    server.plan = ["cut", "wrong range"]
    assert download("small", url=server.url).read_bytes() == CONTENT
    assert "Range" not in server.requests[2]


def test_run_killed_after_the_last_byte_needs_no_byte_more(server: Server) -> None:
    with pytest.raises(Cancelled):
        download("small", url=server.url, progress=_cancel_after(len(CONTENT)))
    assert download("small", url=server.url).read_bytes() == CONTENT
    assert server.sent == [len(CONTENT)]


def test_connection_that_always_breaks_ends_in_a_sentence_and_keeps_what_has_come(server: Server) -> None:
    server.etag, server.plan = None, ["cut"] * 20  # without an ETag no attempt gets further than the first
    with pytest.raises(InputError, match=r"failed \(.*\): try again .*, or fetch http"):
        download("small", url=server.url)
    assert len(server.requests) == 1 + download_module.TRIES
    assert _files() == {"small.pt.part", "small.pt.part.json"}


def test_no_connection_says_where_to_put_the_file_by_hand() -> None:
    """Port 9 of this machine has no server."""
    with pytest.raises(InputError) as caught:
        download("small")
    sentence = str(caught.value)
    assert "from 127.0.0.1:9 failed (no connection)" in sentence
    place = cache_dir() / "models" / "small.pt"
    assert sentence.endswith(f"fetch http://127.0.0.1:9/small.pt by other means and put it at '{place}'.")
    assert _files() == set()


def test_missing_file_is_final(server: Server) -> None:
    server.plan = ["404"]
    with pytest.raises(InputError, match=r"answered 404 Not Found for http.*/model\.pt"):
        download("small", url=server.url)
    assert len(server.requests) == 1
    assert _files() == set()


def test_login_page_of_a_network_is_no_model(server: Server) -> None:
    server.plan = ["login"]
    with pytest.raises(InputError, match="sent a web page instead of the file"):
        download("small", url=server.url)
    assert _files() == set()


# Is it the right file?


def test_wrong_content_leaves_nothing(server: Server) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match=f"not the file that was published .* instead of {SHA256}"):
        download("small", url=server.url)
    assert _files() == set()


def test_file_without_published_hash_is_taken_with_a_warning_that_gives_its_hash(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _know(monkeypatch)
    texts: list[str] = []
    path = download("small", url=server.url, progress=lambda done, total, text: texts.append(text))
    assert "could not be verified (no SHA-256 is published for it)" in texts[-1]
    assert SHA256 in texts[-1] and SHA256 in caplog.text
    note = json.loads((path.parent / "small.pt.json").read_text())
    assert (note["sha256"], note["verified"], note["url"]) == (SHA256, False, server.url)


def _stand_in_for_xxhash(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(xxh128=lambda: hashlib.md5(usedforsecurity=False), __spec__=object())
    monkeypatch.setitem(sys.modules, "xxhash", module)  # type: ignore[arg-type]


def test_xxh128_is_checked_where_the_package_is_there(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in_for_xxhash(monkeypatch)
    _know(monkeypatch, xxh128="0" * 32)
    with pytest.raises(InputError, match="its xxh128 is"):
        download("small", url=server.url)
    _know(monkeypatch, xxh128=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
    path = download("small", url=server.url)
    assert json.loads((path.parent / "small.pt.json").read_text())["verified"] is True


def test_xxh128_without_the_package_warns(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "xxhash", None)  # as if not installed
    _know(monkeypatch, xxh128="0" * 32)
    assert download("small", url=server.url).read_bytes() == CONTENT
    assert "checking its xxh128 needs the package xxhash" in caplog.text


@pytest.mark.parametrize("published", [True, False])
def test_file_that_changed_on_disk_is_noticed(
    server: Server, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    _know(monkeypatch, sha256=SHA256 if published else None)
    path = download("small", url=server.url)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(InputError, match="delete it, and it will be downloaded anew"):
        download("small", url=server.url)


def test_file_put_there_by_hand_is_checked_once() -> None:
    path = cache_dir() / "models" / "small.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="is not the file that was published under this name"):
        download("small")
    path.write_bytes(CONTENT)
    assert download("small") == path
    assert json.loads((path.parent / "small.pt.json").read_text())["sha256"] == SHA256


def test_loading_a_model_by_name_checks_its_file(server: Server) -> None:
    path = download("small", url=server.url)
    assert find_checkpoint("small") == path
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="is not the file that was published"):
        find_checkpoint("small")


# Several at once, and the disk


def test_downloads_of_the_same_file_at_once_wait_for_the_first(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "TIMEOUT", (10.0, 10.0))  # nothing is to be asked for twice
    server.plan = ["slow"]
    texts: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        paths = list(
            pool.map(
                lambda _: download("small", url=server.url, progress=lambda *call: texts.append(call[2])),
                range(4),
            )
        )
    assert {path.read_bytes() == CONTENT for path in paths} == {True}
    assert server.sent == [len(CONTENT)]
    assert "Waiting for another download of small.pt" in texts


def test_download_that_does_not_fit_is_not_begun(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(InputError, match=r"disk is full: 'mobile_sam\.pt' needs 40\.7 MB in all"):
        download("vit_t", url=server.url)
    assert server.requests == []


def test_disk_that_fills_up_on_the_way_keeps_what_has_come(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_module.os, "fsync", full)
    with pytest.raises(InputError, match="The disk is full: 'small.pt' needs .* SAMSCAPE_CACHE"):
        download("small", url=server.url)
    assert "small.pt.part" in _files()
    assert local_path("small") is None


def test_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAMSCAPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"folder '.*file/models' cannot be written .*SAMSCAPE_CACHE"):
        download("small")
