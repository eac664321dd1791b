"""Measure pictures larger than a model sees; each part by itself, and each writes its section of REPORT.md.

    python benchmarks/scale.py --side 4096          # memory, time, and objects on seams against those inside
    python benchmarks/scale.py --side 16384         # another row of the same table; hours
    python benchmarks/scale.py --side 4096 16384 4096   # a row of means: how the machine's speed has changed
    python benchmarks/scale.py --workers 2 --times 3    # dask's workers against processes without it, in turn
    python benchmarks/scale.py --tiles 100000       # what tiles cost besides their pixels
    python benchmarks/scale.py --kills 20           # kill -9 at random moments, start again, compare
    python benchmarks/scale.py --costs              # docs/scaling.md, from what was measured so far

The pictures are made of nuclei copied from real ones, block by block, so that their objects are known.
Figures are gathered in scale.json. ``--side 1024 --tile 512`` is enough to see that it works.

Everything runs with one thread (--threads), so that seconds are core-seconds. Processor seconds are counted
as well: on a machine that does something else, too, they are the ones to go by.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import costs  # beside this file, as the next ones
import nuclei
import simulated
import zarr
from sections import Figures, Report

from napari_samscape.io import open_image
from napari_samscape.scaling.work import work_folder

HERE = Path(__file__).resolve().parent
OUT = "found.ome.zarr"
PICTURES, WORKERS = "Pictures of any size", "Workers"
PLACES = ("inside", "seams", "middles")
TIMES = "seconds", "start_seconds", "look_seconds", "write_seconds", "cpu"
TIMES_PER_MEGAPIXEL = "seconds_per_megapixel", "cpu_per_megapixel"
TILES, KILLS = "A million tiles", "Killed and started again"


# A job in a process of its own -------------------------------------------------------------------------


def start(folder: Path, options: argparse.Namespace, **settings: Any) -> subprocess.Popen[bytes]:
    """Begin to segment the picture in a folder; the process prints what it took as JSON."""
    job = {"image": "picture.zarr", "output": OUT, "model": options.model, "tile": options.tile}
    command = [sys.executable, str(HERE / "one_job.py"), json.dumps(job | settings)]
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    return subprocess.Popen(command, cwd=folder, env=os.environ | threads, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait until it is done; gives what it took."""
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the job ended with {process.returncode}")
    figures: dict[str, Any] = json.loads(said.decode().splitlines()[-1])
    return figures


@contextmanager
def picture(side: int, options: argparse.Namespace) -> Iterator[Path]:
    """A folder with a picture of nuclei, and with their labels."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        nuclei.make_picture(Path(name), side, nuclei.read_nuclei(options.nuclei))
        yield Path(name)


def size_of(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# The parts ---------------------------------------------------------------------------------------------


def measure_side(side: int, options: argparse.Namespace) -> dict[str, Any]:
    """Memory, time and quality for a picture of this side."""
    with picture(side, options) as folder:
        row = finish(start(folder, options))
        truth = zarr.open_array(folder / "truth.zarr", mode="r")
        true, found, pairs = nuclei.compare(truth, open_image(folder / OUT).data)
        row["output_bytes"] = size_of(folder / OUT)
        row["output_files"] = sum(path.is_file() for path in (folder / OUT).rglob("*"))
    megapixels = side * side / 1e6
    counts = int((true.areas > 0).sum()), int((found.areas > 0).sum())
    return row | {
        "side": side,
        "seconds_per_megapixel": row["seconds"] / megapixels,
        "cpu_per_megapixel": row["cpu"] / megapixels,
        "true": counts[0],
        "found": counts[1],
        "count_error": abs(counts[1] - counts[0]) / counts[0],
        **{f"on_{place}": int(((true.areas > 0) & true.at(place)).sum()) for place in PLACES},
        **{f"ap50_{place}": nuclei.ap50(true, found, pairs, place) for place in PLACES},
    }


def means(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> dict[str, float]:
    """What several runs took on average."""
    return {key: fmean(row[key] for row in rows) for key in keys}


def over_runs(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the same picture measured several times: means of times, the highest peak."""
    took, each = means(rows, TIMES + TIMES_PER_MEGAPIXEL), [row["cpu_per_megapixel"] for row in rows]
    return rows[-1] | took | {"peak_mb": max(row["peak_mb"] for row in rows), "each": each}


def sides_table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown of all sides measured so far."""
    lines = [
        "Everything-mode from a Zarr of one channel to OME-Zarr labels, one thread; seconds without",
        "loading the model. Objects on seams lie in the cores of several tiles. A line meets large",
        "objects more often than small ones, so seams compare with lines through the middles of tiles, where",
        "nothing is cut. Tiles are whole chunks: how much of them is halo depends on the side.",
        "",
        "| side | tiles | peak MB | s / Mpx | processor s / Mpx | processor s / tile | Mpx / s and core "
        "| objects | found | count error | AP50 inside | on seams | objects there | on middles "
        "| objects there |",
        "|" + "---:|" * 15,
    ]
    form = (
        "| {side} | {tiles} | {peak_mb:.0f} | {seconds_per_megapixel:.2f} | {cpu_per_megapixel:.2f} "
        "| {per_tile:.2f} | {speed:.3f} | {true} | {found} | {count_error:.1%} "
        "| {ap50_inside:.3f} | {ap50_seams:.3f} | {on_seams} | {ap50_middles:.3f} | {on_middles} |"
    )
    lines += [
        form.format(**row, speed=1 / row["cpu_per_megapixel"], per_tile=row["cpu"] / row["tiles"])
        for row in rows
    ]
    for row in rows:
        if len(each := row.get("each", ())) > 1:
            lines += [
                "",
                f"Side {row['side']} was measured {len(each)} times: "
                f"{', '.join(f'{one:.2f}' for one in each)} processor s / Mpx.",
                "The table has the means of its times, and its highest peak.",
            ]
    return lines


def measure_workers(count: int, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """The same job in one process, in several that each do all of it at the same time, and on workers.

    What processes take from each other, caches and memory, they do without dask as well. The three are
    measured in turn, ``--times`` times, as the machine's speed changes within an hour.
    """
    runs: dict[str, list[dict[str, Any]]] = {"one": [], "beside": [], "many": []}
    same = True
    with picture(side, options) as folder:
        for turn in range(options.times):
            one, many = f"one{turn}.ome.zarr", f"many{turn}.ome.zarr"
            runs["one"].append(finish(start(folder, options, output=one)))
            names = [f"beside{turn}_{number}.ome.zarr" for number in range(count)]
            at_once = [start(folder, options, output=name) for name in names]
            runs["beside"] += [finish(process) for process in at_once]
            runs["many"].append(finish(start(folder, options, workers=count, output=many)))
            same &= _pixels(folder / many) == _pixels(folder / one)
    tiles = runs["one"][0]["tiles"]
    took = {name: means(rows, TIMES) for name, rows in runs.items()}
    return {"side": side, "workers": count, "tiles": tiles, "times": options.times, "same": same} | took


def workers_table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown of one process beside several, for each side measured."""
    lines = [
        "One thread a process. Times are only to be believed where there are as many free cores as workers."
    ]
    for row in rows:
        lines += ["", *_workers_of_one_side(row)]
    return lines


def _workers_of_one_side(row: dict[str, Any]) -> list[str]:
    many, count = row["many"], row["workers"]
    named = {"one process alone": row["one"], f"one of {count} processes at the same time": row["beside"]}
    lines = [
        f"Side {row['side']}: {row['tiles']} tiles, {-(-row['tiles'] // count)} rounds of {count} workers; "
        f"labels {'are the same, bit for bit' if row['same'] else 'DIFFER'}. Measured in turn, "
        f"means of {row['times']}.",
        "",
        "| | start, s | tiles, s | writing, s | processor s |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {took['start_seconds']:.1f} | {took['look_seconds']:.1f} "
        f"| {took['write_seconds']:.1f} | {took['cpu']:.1f} |"
        for name, took in (named | {f"{count} workers": many}).items()
    ]
    for name, took in named.items():
        longer, dearer = many["look_seconds"] * count / took["look_seconds"], many["cpu"] / took["cpu"]
        lines += [
            "",
            f"Overhead against {name}: {longer - 1:+.1%} of the time of the tiles (workers x",
            f"time), {dearer - 1:+.1%} of all processor seconds, the workers' start and loading among them.",
        ]
    return lines


def measure_kills(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Kill the same job so many times, each at a random moment, and finish it."""
    side = options.side[0] if options.side else 1024
    chance = random.Random(options.seed)
    with picture(side, options) as folder:
        took = finish(start(folder, options))
        (folder / OUT).rename(folder / "undisturbed.ome.zarr")
        expected, killed, same, moments = _files(folder / "undisturbed.ome.zarr"), 0, 0, []
        tiles, steps = took["tiles"], took["tiles"] + took["steps"]
        pauses = took["look_seconds"] / tiles, took["write_seconds"] / took["steps"]
        for _ in range(count):
            moment = chance.randrange(steps - 1)  # after the last step there is nothing left to kill
            process = start(folder, options)
            while process.poll() is None and _done(folder) < moment:
                time.sleep(0.002)
            time.sleep(chance.random() * pauses[moment >= tiles])  # in the middle of a step
            process.kill()
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            moments.append(moment)
            finish(start(folder, options))
            same += _files(folder / OUT) == expected
            shutil.rmtree(folder / OUT)
    return {"side": side, "kills": count, "killed": killed, "same": same, "steps": steps, "moments": moments}


def kills_table(row: dict[str, Any]) -> list[str]:
    """Say how many results were the same."""
    return [
        f"Of {row['kills']} jobs of {row['steps']} steps (tiles, then writing) each was killed once with",
        f"SIGKILL, after steps {', '.join(map(str, sorted(row['moments'])))} and a random part of one more",
        f"({row['killed']} were still running), and started again: {row['same']} results have the same",
        "files, byte for byte, as an undisturbed run.",
    ]


def _done(folder: Path) -> int:
    """Tiles that are done, and then steps of writing."""
    work = folder / work_folder(OUT)
    try:
        written = json.loads((work / "written.json").read_text())["steps"]
    except (OSError, ValueError):
        written = 0
    return len(list(work.rglob("*.npz"))) + written


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _pixels(folder: Path) -> dict[str, bytes]:
    """What is in the chunks; metadata say where the job ran."""
    return {name: data for name, data in _files(folder).items() if not name.endswith("zarr.json")}


def main() -> None:
    """Measure what is asked for, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, nargs="+", default=[], help="multiples of 1024")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--times", type=int, default=1, help="that --workers measures each, in turn")
    parser.add_argument("--tiles", type=int, default=None)
    parser.add_argument("--kills", type=int, default=None)
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--tile", type=int, default=None, help="longest side of a tile")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of --kills")
    copied = HERE.parents[1] / "shared" / "data" / "bbbc039" / "val.zip"
    parser.add_argument("--nuclei", type=Path, default=copied, help="a labelled data set to copy from")
    parser.add_argument("--scratch", type=Path, default=None, help="where pictures are made")
    parser.add_argument("--figures", type=Path, default=HERE / "scale.json")
    parser.add_argument("--out", type=Path, default=HERE / "REPORT.md")
    options = parser.parse_args()
    if any(side % nuclei.BLOCK or side <= 0 for side in options.side):
        raise SystemExit(f"sides must be multiples of {nuclei.BLOCK}")
    measured(options)


def gathered(figures: Figures, name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Keep a row in place of an earlier one of its side; gives those of all sides, the smallest first."""
    rows = figures.get().get(name, {}) | {str(row["side"]): row}
    figures.put(name, rows)
    return [rows[side] for side in sorted(rows, key=int)]


def measured(options: argparse.Namespace) -> None:
    """Do the parts asked for."""
    figures, report = Figures(options.figures), Report(options.out)
    command = " ".join(["python benchmarks/scale.py", *sys.argv[1:]])
    if options.workers is not None:
        for side in options.side or [4096]:
            rows = gathered(figures, "workers", measure_workers(options.workers, side, options))
            report.put(WORKERS, workers_table(rows), command)
    elif options.kills is not None:
        figures.put("kills", row := measure_kills(options.kills, options))
        report.put(KILLS, kills_table(row), command)
    else:
        runs: dict[int, list[dict[str, Any]]] = {}
        for side in options.side:
            runs.setdefault(side, []).append(measure_side(side, options))
            rows = gathered(figures, "sides", over_runs(runs[side]))
            report.put(PICTURES, sides_table(rows), command)
    if options.tiles is not None:
        figures.put("tiles", row := simulated.measure(options.tiles, options.scratch))
        report.put(TILES, simulated.table(row), command)
    if options.costs:
        print(costs.write(figures.get(), command))
    print(options.out)


if __name__ == "__main__":
    main()
