"""Tiles on worker processes: the labels are those of one process, whatever happens to a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
from bright import spots
from test_resume import content
from test_tiled import scattered
from typer.testing import CliRunner

from napari_samscape.cli.app import app
from napari_samscape.errors import InputError
from napari_samscape.model.process import KEPT
from napari_samscape.scaling.batch import Job, run
from napari_samscape.scaling.cluster import connected
from napari_samscape.scaling.many import run_many
from napari_samscape.scaling.pictures import find_pictures
from napari_samscape.scaling.work import work_folder

pytest.importorskip("distributed", reason="dask.distributed is not installed")
HERE = Path(__file__).parent
JOB = Job("in.tif", "out.ome.zarr", tile=64, halo=12, table="out.csv")
TILES = 20


class Cluster:
    """A scheduler and two workers, processes of their own as on a real cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
        self.address = self._address()
        self.workers = [self.worker() for _ in range(2)]

    def start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self.file), *options]
        log = (self.folder / f"{what}.log").open("ab")
        with log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        self.processes.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        preload = str(HERE / "bright_worker.py")
        return self.start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", preload)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def _address(self) -> str:
        for _ in range(600):
            if self.file.exists() and self.file.read_text():
                return str(json.loads(self.file.read_text())["address"])
            time.sleep(0.1)
        raise AssertionError((self.folder / "scheduler.log").read_text())


@pytest.fixture(autouse=True)
def picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bright.install(monkeypatch)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tifffile.imwrite("in.tif", scattered((150, 190)))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, sys.path)]))
    monkeypatch.setenv("BRIGHT_LOG", str(tmp_path / "loaded"))
    monkeypatch.setenv("BRIGHT_SECONDS", "0.1")
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


def here() -> tuple[dict[str, bytes], str]:
    """What one process gives; it is moved away afterwards."""
    assert run(JOB).tiles == TILES
    Path("out.ome.zarr").rename("here.ome.zarr")
    Path("out.csv").rename("here.csv")
    return content("here.ome.zarr"), Path("here.csv").read_text()


def pieces() -> int:
    return len(list(work_folder("out.ome.zarr").rglob("*.npz")))


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    labels, table = here()
    killed = []

    def kill(done: int, total: int, text: str) -> None:
        if not killed and 4 <= pieces() < TILES - 4:
            cluster.workers[0].kill()
            killed.append(pieces())

    with connected(None, cluster.address) as joined:
        run(JOB, kill, cluster=joined)
    assert killed
    assert content("out.ome.zarr") == labels
    assert Path("out.csv").read_text() == table
    assert not work_folder("out.ome.zarr").exists()
    loaded = (tmp_path / "loaded").read_text().split()
    assert len(loaded) == len(set(loaded)) == 2, "each process loads the model once"


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_the_job_in_one_sentence_and_it_goes_on_without(cluster: Cluster) -> None:
    import dask

    labels, _ = here()

    def kill(done: int, total: int, text: str) -> None:
        if pieces() >= 4:
            cluster.processes[0].kill()

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
        connected(None, cluster.address) as joined,
        pytest.raises(InputError, match="was lost; what is done"),
    ):
        run(JOB, kill, cluster=joined)
    assert 4 <= pieces() < TILES
    run(JOB)
    assert content("out.ome.zarr") == labels


@pytest.mark.slow
def test_many_pictures_go_to_the_workers_and_give_the_same(cluster: Cluster, tmp_path: Path) -> None:
    Path("plate").mkdir()
    for name in "abcdef":
        tifffile.imwrite(f"plate/{name}.tif", spots((10, 10), (20, 40)))
    Path("plate/d.tif").write_bytes(b"II*\0 and nothing else")
    found = find_pictures("plate", Path("out"))
    run_many(found, Path("out"), {})
    expected = content("out")
    Path("out").rename("one")
    result = CliRunner().invoke(app, ["batch", "plate", "out", "--scheduler", cluster.address, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["objects"] == 10
    assert content("out") == expected
    assert len((tmp_path / "loaded").read_text().split()) == 2


@pytest.mark.slow
def test_processes_of_our_own_give_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    labels, _ = here()
    monkeypatch.setenv("BRIGHT_LOG", str(tmp_path / "loaded"))
    import dask

    with dask.config.set({"distributed.worker.preload": [str(HERE / "bright_worker.py")]}):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, sys.path)]))
        command = ["segment", "in.tif", "out.ome.zarr", "--tile", "64", "--halo", "12", "--workers", "2"]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    pixels = {name: data for name, data in labels.items() if not name.endswith("zarr.json")}
    assert {name: data for name, data in content("out.ome.zarr").items() if name in pixels} == pixels
    assert len((tmp_path / "loaded").read_text().split()) == 2


@pytest.mark.slow
def test_two_jobs_with_processes_of_their_own_do_not_meet() -> None:
    with connected(1, None) as one, connected(1, None) as other:
        assert one is not None and other is not None and one.address != other.address


def test_a_scheduler_that_is_not_there_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_samscape.scaling.cluster.CONNECT", "1s")
    result = CliRunner().invoke(app, ["segment", "in.tif", "out.tif", "--scheduler", "tcp://127.0.0.1:9"])
    assert result.exit_code == 2
    assert result.stderr.startswith("samscape: There is no dask scheduler at tcp://127.0.0.1:9: ")


def test_workers_and_a_scheduler_do_not_go_together() -> None:
    with pytest.raises(InputError, match="use one of them"), connected(2, "tcp://127.0.0.1:9"):
        pass


def test_several_workers_need_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(InputError, match=r"need dask: pip install 'napari-samscape\[dask\]'"),
        connected(2, None),
    ):
        pass


def test_by_default_there_is_no_dask() -> None:
    code = (
        "import sys, napari_samscape.scaling.cluster as c\n"
        "with c.connected(None, None) as none: assert none is None\n"
        "assert not {'dask', 'distributed'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_travels_is_names(tmp_path: Path) -> None:
    from napari_samscape.scaling.cluster import Cluster as Joined

    Path("weights.pth").touch()
    job = Job("in.tif", "out.tif", model="weights.pth")
    order: Any = Joined(None, "").order(job, (np.float64(0), np.float64(9)), Path("work"), "0" * 64)
    assert order.job.image == str(tmp_path / "here" / "in.tif")
    assert order.job.model == str(tmp_path / "here" / "weights.pth")
    assert order.folder == str(tmp_path / "here" / "work")


def test_a_worker_keeps_freed_memory_as_the_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_samscape.scaling import cluster

    kept: list[bool] = []
    monkeypatch.setattr(cluster, "keep_freed_memory", lambda: kept.append(True))
    cluster._model.cache_clear()
    for _ in range(2):
        cluster._model("nano", "cpu", "float32")
    cluster._model.cache_clear()
    assert kept == [True], "once in each process"


def test_workers_start_with_what_is_told_to_glibc() -> None:
    with connected(1, None) as cluster:
        assert cluster is not None
        (environment,) = cluster.client.run(lambda: dict(os.environ)).values()
    assert environment["MALLOC_TRIM_THRESHOLD_"] == str(KEPT), "dask's own is 64 KB"
    assert environment["MALLOC_ARENA_MAX"] == "1"


@pytest.mark.slow
def test_workers_have_loaded_torch_before_their_first_tile_and_are_not_profiled() -> None:
    import dask

    with dask.config.set({"distributed.worker.preload": ["colorsys"]}), connected(1, None) as cluster:
        assert cluster is not None
        (modules,) = cluster.client.run(lambda: set(sys.modules)).values()
        (worker,) = cluster.client.run(lambda: dask.config.get("distributed.worker")).values()
    assert "torch" in modules
    assert "colorsys" in modules, "what a user's own configuration names is loaded as well"
    assert not worker["profile"]["enabled"]
