"""Do one job in this process and print what it took as JSON; `scale.py` starts it.

Its argument is a `Job` as JSON, with ``workers`` in it if there are to be some.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from napari_samscape.model.process import keep_freed_memory
from napari_samscape.model.weights import load_model
from napari_samscape.scaling.batch import run
from napari_samscape.scaling.cluster import connected
from napari_samscape.scaling.job import Job
from napari_samscape.scaling.work import work_folder


def cpu_seconds() -> float:
    """Of this process and of all that it has waited for."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def main() -> None:
    """Do it."""
    keep_freed_memory()  # as the command samscape does
    settings = json.loads(sys.argv[1])
    workers = settings.pop("workers", None)
    job = Job(**settings)
    model = load_model(job.model)
    used, begun = cpu_seconds(), time.perf_counter()
    writing: list[float] = []
    kept: list[int] = []

    def progress(done: int, total: int, text: str) -> None:
        if text == "writing":
            if not kept:
                pieces = work_folder(job.output).rglob("*.npz")
                kept.append(sum(path.stat().st_size for path in pieces))
            writing.append(time.perf_counter())

    with connected(workers, None) as cluster:
        started = time.perf_counter()
        result = run(job, progress, model=model, cluster=cluster)
        ended = time.perf_counter()
    written = writing[0] if writing else ended
    figures = {
        "objects": result.objects,
        "tiles": result.tiles,
        "steps": len(writing) + 1,
        "pieces_bytes": sum(kept),
        "seconds": result.seconds,
        "start_seconds": started - begun,
        "look_seconds": written - started,
        "write_seconds": ended - written,
        "cpu": cpu_seconds() - used,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
