"""Segment the sample pictures with the bundled model; what `make demo` runs.

Labels and an overlay of each go to demo_output/, or to the folder given as the first argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.progress import Progress

from napari_samscape import load_model
from napari_samscape.sample_files import PICTURES, sample_path
from napari_samscape.scaling.batch import Job, Result, run


def segment_samples(folder: Path) -> list[Result]:
    """Segment every sample picture into ``folder``; results of an earlier run are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model("nano", device="auto")
    results = []
    with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
        for name in PICTURES:
            task = bar.add_task(name, total=None)
            job = Job(
                image=str(sample_path(name)),
                output=str(folder / f"{name}.ome.zarr"),
                overlay=str(folder / f"{name}_overlay.png"),
                overwrite=True,
            )
            results.append(
                run(
                    job,
                    lambda done, total, _, task=task: bar.update(task, completed=done, total=total),
                    model=model,
                )
            )
    return results


def main() -> None:
    """Run the demo and say where the results are."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output")
    for name, result in zip(PICTURES, segment_samples(folder), strict=True):
        print(f"{name}: {result.objects} objects in {result.seconds:.1f} s")
        print(f"  labels   {result.output}")
        print(f"  overlay  {result.overlay}")
    print(f"Open a picture and its labels in napari, or look at {folder}/*_overlay.png.")


if __name__ == "__main__":
    main()
