"""One method, one data set, one protocol: the figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.evaluation.boundaries import Counts, boundary_figures, ods_interval, thresholds
from napari_samscape.evaluation.coco import coco_ap
from napari_samscape.evaluation.datasets import Dataset, Sample
from napari_samscape.evaluation.methods import EdgeMethod, Method
from napari_samscape.evaluation.metrics import (
    THRESHOLDS,
    bootstrap_interval,
    calibration,
    precision,
    rank_correlation,
)
from napari_samscape.evaluation.protocols import (
    CLICKS,
    Record,
    ask_boxes,
    ask_points,
    draw_edges,
    find_everything,
)
from napari_samscape.model.progress import Progress

PROTOCOLS = ("point", "box", "everything", "edges")


def evaluate(
    dataset: Dataset,
    method: Method | EdgeMethod,
    protocol: str = "point",
    *,
    clicks: int = max(CLICKS),
    levels: int = 99,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a method on a data set.

    Parameters
    ----------
    dataset : Dataset
    method : Method or EdgeMethod
        A model or a baseline.
    protocol : str
        "point": a click on each object, then corrections. "box": each object's box. "everything": no prompts.
        "edges": an edge map, against boundaries that humans drew.
    clicks : int
        Protocol "point" stops after so many (1, 2, 3, 5 or 9 are reported).
    levels : int
        Protocol "edges" cuts the maps at so many thresholds; BSDS500 has 99, fewer take less time.
    progress : callable, optional
        Called as ``progress(done, total, text)``; raise from it to cancel.

    Returns
    -------
    dict
        Plain values, as JSON has them. Always: ``dataset``, ``model``, ``protocol``, ``pictures``, ``n``
        (objects), ``ci95``, ``ci95_over``, ``seconds_per_image``, ``peak_mb``. Point and box: ``mean_iou``,
        the mean over all objects, to which ``ci95`` belongs; ``rank_correlation`` (Spearman) of predicted
        and true IoU; ``calibration``. Point: ``oracle_iou``, ``iou_clicks``. Box: ``jittered_iou``.
        Everything: ``ap50`` (to which ``ci95`` belongs), ``ap75`` and ``ap``, the mean over IoU .5 to .95, of
        TP / (TP + FP + FN) with counts of all pictures together, as StarDist has it; the same with a mean
        over the pictures, as DSB 2018 had it, in ``ap50_per_picture`` and so on; ``recall50``, TP / (TP + FN)
        at IoU .5; ``coco_ap``; ``aji``, the mean aggregated Jaccard index; ``count_error``, the mean absolute
        difference of the numbers of objects in a picture, and ``count_error_relative``, their sum over the
        number of objects.
        Edges: ``ods`` (to which ``ci95`` belongs), ``ois``, ``ap``, ``r50`` and more, see
        `boundaries.boundary_figures`; ``n`` counts the humans' drawings, ``thresholds`` the cuts.
        A figure that cannot be had is None.

    Raises
    ------
    InputError
        If there is no such protocol, the method does not know it, or the data set cannot be read, or holds
        no object, or no boundaries.

    Notes
    -----
    ``ci95`` comes from 1000 seeded resamples of the pictures, or of the objects where there is one picture
    only. ``seconds_per_image`` is the time to look at a picture and answer one prompt for each object in it.
    ``peak_mb`` is the most memory of the process since the evaluation began, where the system can tell, else
    since its start.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"There is no protocol '{protocol}'; there are {', '.join(PROTOCOLS)}.")
    counts = tuple(count for count in CLICKS if count <= clicks)
    if not counts:
        raise InputError(f"At least one click is needed; {clicks} are none.")
    cuts = thresholds(levels)
    ask = _edge_asker(method, cuts) if protocol == "edges" else _asker(method, protocol, counts)
    records = []
    _forget_peak()
    for done, read in enumerate(dataset.readers):
        if progress is not None:
            progress(done, len(dataset), f"{dataset.name}, {protocol}, {method.name}")
        records.append(ask(read()))
    result = {
        "dataset": dataset.name,
        "model": method.name,
        "protocol": protocol,
        "pictures": len(records),
        "n": 0,
    }
    if protocol == "edges":
        result |= _edge_figures(records, cuts)
    else:
        result |= _everything_figures(records) if protocol == "everything" else _iou_figures(records)
    if result["n"] == 0:
        raise InputError(f"The data set {dataset.name} has pictures but no labelled object.")
    if protocol == "point":
        together = _joined(records, "iou").mean(axis=0)
        result["oracle_iou"] = float(_joined(records, "oracle").mean())
        result["iou_clicks"] = {str(k): float(v) for k, v in zip(counts, together, strict=True)}
    elif protocol == "box":
        result["jittered_iou"] = float(_joined(records, "jittered").mean())
    result["seconds_per_image"] = float(np.mean([record.seconds for record in records]))
    result["peak_mb"] = _peak_mb()
    return result


def _edge_asker(method: Method | EdgeMethod, cuts: NDArray[np.float64]) -> Callable[[Sample], Record]:
    if not isinstance(method, EdgeMethod):
        raise InputError(f"The method '{method.name}' draws no edges.")
    return lambda sample: draw_edges(method, sample, cuts)


def _asker(method: Method | EdgeMethod, protocol: str, counts: Sequence[int]) -> Callable[[Sample], Record]:
    if not isinstance(method, Method):
        raise InputError(f"The method '{method.name}' finds no objects.")
    if protocol == "point":
        return lambda sample: ask_points(method, sample, counts)
    if protocol == "box":
        return lambda sample: ask_boxes(method, sample)
    return lambda sample: find_everything(method, sample)


def _joined(records: Sequence[Record], key: str) -> Any:
    """Rows of all pictures."""
    return np.concatenate([record.values[key] for record in records])


def _iou_figures(records: Sequence[Record]) -> dict[str, Any]:
    # After the first click, where there are several.
    judged = [record.values["iou"] for record in records]
    first = [iou if iou.ndim == 1 else iou[:, 0] for iou in judged]
    true, predicted = np.concatenate(first), _joined(records, "predicted")
    if len(true) == 0:
        return {"n": 0}
    knows = bool(np.isfinite(predicted).all())
    units = first if len(first) > 1 else true[:, None]
    return {
        "n": len(true),
        "mean_iou": float(true.mean()),
        **_interval(len(records), [unit.sum() for unit in units], [len(unit) for unit in units]),
        "rank_correlation": rank_correlation(predicted, true) if knows else None,
        "calibration": calibration(predicted, true) if knows else None,
    }


def _everything_figures(records: Sequence[Record]) -> dict[str, Any]:
    matches = np.stack([record.values["matches"] for record in records])  # (pictures, thresholds)
    true, found = (np.stack([record.values[key] for record in records]) for key in ("true", "found"))
    if true.sum() == 0:
        return {"n": 0}
    pooled = precision(matches.sum(0), true.sum(), found.sum())
    mean = precision(matches, true, found).mean(axis=0)
    at75 = int(np.flatnonzero(np.isclose(THRESHOLDS, 0.75))[0])
    hits, union = matches[:, 0], (true + found)[:, 0] - matches[:, 0]
    if len(records) == 1:
        hits, union = np.arange(union[0]) < hits[0], np.ones(union[0])
    return {
        "n": int(true.sum()),
        "ap50": float(pooled[0]),
        "ap75": float(pooled[at75]),
        "ap": float(pooled.mean()),
        "recall50": float(matches[:, 0].sum() / true.sum()),
        **_interval(len(records), hits, union),
        "ap50_per_picture": float(mean[0]),
        "ap75_per_picture": float(mean[at75]),
        "ap_per_picture": float(mean.mean()),
        "coco_ap": coco_ap([record.extra for record in records]),
        "aji": float(_joined(records, "aji").mean()),
        "count_error": float(np.abs(found - true).mean()),
        "count_error_relative": float(np.abs(found - true).sum() / true.sum()),
    }


def _edge_figures(records: Sequence[Record], cuts: NDArray[np.float64]) -> dict[str, Any]:
    counts = Counts(*np.stack([record.values["counts"] for record in records], axis=1))
    interval = ods_interval(counts, cuts)
    return {
        "n": int(_joined(records, "humans").sum()),
        **boundary_figures(counts, cuts),
        "ci95": None if interval is None else list(interval),
        "ci95_over": "pictures",
        "thresholds": len(cuts),
    }


def _interval(pictures: int, numerators: Any, denominators: Any) -> dict[str, Any]:
    interval = bootstrap_interval(numerators, denominators)
    return {
        "ci95": None if interval is None else list(interval),
        "ci95_over": "pictures" if pictures > 1 else "objects",
    }


def _forget_peak() -> None:
    """Let the system's record of the most memory begin anew; Linux alone can do so."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS, in kB elsewhere
    return most / 2**20 if sys.platform == "darwin" else most / 2**10
