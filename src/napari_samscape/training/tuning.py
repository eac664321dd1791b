"""A fine-tuning from end to end: learn, compare with the parent, and write a checkpoint with its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_samscape.errors import InputError
from napari_samscape.evaluation.datasets import Sample
from napari_samscape.evaluation.methods import ModelMethod
from napari_samscape.evaluation.metrics import count_matches, iou_matrix
from napari_samscape.evaluation.protocols import ask_boxes, ask_points
from napari_samscape.io.place import check_output
from napari_samscape.io.text import replacing_text
from napari_samscape.io.write import replacing
from napari_samscape.model.progress import Progress
from napari_samscape.model.sam import Sam
from napari_samscape.model.weights import save_model
from napari_samscape.training.finetune import CLICK, Settings, Tuned, finetune
from napari_samscape.training.lesson import Manner, batch_of_crops
from napari_samscape.training.material import Material
from napari_samscape.training.watch import drawn

ENDING = ".safetensors"
LOOKED_THROUGH = 2  # pictures in which everything-mode is compared; it takes longest
#: What is compared, and what the table calls it.
SCORES = {
    "point": "one click, mean IoU",
    "box": "a box, mean IoU",
    "everything": "found in everything-mode (IoU 0.5), share",
}
Scores = dict[str, float]


class NothingGainedError(InputError):
    """No weights did better than the parent's."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A child, and how it compares.

    Attributes
    ----------
    path : Path
        The checkpoint; beside it lie its card (``.md``) and, if objects were held out, a picture (``.png``).
    tuned : Tuned
    before, after : dict
        Scores of parent and child on the objects held out, by the names in `SCORES`; empty without any.
    """

    path: Path
    tuned: Tuned
    before: Scores
    after: Scores

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Heading and rows of the table of before and after."""
        head = ("on objects held out", "before", "after", "change")
        return [head] + [
            (
                text,
                f"{self.before[key]:.3f}",
                f"{self.after[key]:.3f}",
                f"{self.after[key] - self.before[key]:+.3f}",
            )
            for key, text in SCORES.items()
            if key in self.before
        ]


def tune(
    parent: Sam,
    material: Material,
    out: Path | str,
    settings: Settings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Fine-tune, compare and write; whatever ends it before that leaves nothing behind.

    Parameters
    ----------
    parent : Sam
        It stays as it is.
    material : Material
    out : path
        Ends in ``.safetensors``.
    settings : Settings, optional
    overwrite : bool
        Whether a checkpoint that exists is replaced.
    progress : callable, optional
        Called as ``progress(done, total, text)``; raise from it to cancel.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        If the output cannot be written, or nothing can be learned.
    NothingGainedError
        If no weights did better than the parent's on what was held out.
    """
    settings = settings or Settings()
    tell = progress or (lambda done, total, text: None)
    path = check_output(out, endings=(ENDING,), overwrite=overwrite)
    tell(0, 0, "Measuring the model as it is")
    before = score(parent, material.samples)
    tuned = finetune(parent, material, settings, progress)
    if material.check and tuned.kept == 0:
        raise NothingGainedError(
            f"Nothing was gained: in {tuned.steps} steps no weights did better than the model's own on the "
            f"{material.held} objects held out, so nothing was written."
        )
    tell(0, 0, "Measuring what was learned")
    after = score(tuned.model, material.samples)
    outcome = Outcome(path, tuned, before, after)
    about = _about(parent, material, settings, outcome)
    if material.check:
        _write_picture(path.with_suffix(".png"), parent, tuned.model, material)
    with replacing_text(path.with_suffix(".md"), True) as file:
        file.write(_card(about, outcome))
    save_model(tuned.model, path, metadata={"samscape": json.dumps(about)})  # last: then all is there
    return outcome


def score(model: Sam, samples: Sequence[Sample]) -> Scores:
    """Measure a model on objects, asked as users ask; see `SCORES`."""
    if not samples:
        return {}
    method = ModelMethod(model)
    clicks = np.concatenate([ask_points(method, sample, (1,)).values["iou"][:, 0] for sample in samples])
    boxes = np.concatenate([ask_boxes(method, sample).values["iou"] for sample in samples])
    few = samples[:LOOKED_THROUGH]
    found = [method.look(sample.pixels).everything().items for sample in few]
    hits = [count_matches(iou_matrix(s.objects, f), [0.5])[0] for s, f in zip(few, found, strict=True)]
    share = sum(hits) / sum(len(sample.objects) for sample in few)
    return {"point": float(clicks.mean()), "box": float(boxes.mean()), "everything": float(share)}


def _about(parent: Sam, material: Material, settings: Settings, outcome: Outcome) -> dict[str, Any]:
    """All that a reader of the weights wants to know, in plain values."""
    tuned = outcome.tuned
    return {
        "parent": parent.name,
        "parent_sha256": parent.digest,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "pictures": [picture.name for picture in material.learn],
        "objects": material.objects,
        "held_out": material.held,
        "too_small": material.too_small,
        "settings": asdict(settings),
        "steps": tuned.steps,
        "kept": tuned.kept,
        "seconds": round(tuned.seconds),
        "before": outcome.before,
        "after": outcome.after,
    }


def _card(about: Mapping[str, Any], outcome: Outcome) -> str:
    """The model card, in Markdown."""
    settings = ", ".join(f"{key} {value}" for key, value in about["settings"].items())
    names = ", ".join(about["pictures"][:20]) + (", …" if len(about["pictures"]) > 20 else "")
    lines = [
        f"# {outcome.path.stem}: model card",
        "",
        f"`{outcome.path.name}` was fine-tuned from `{about['parent']}` (SHA-256 "
        f"{about['parent_sha256'] or 'unknown'}) on {about['date']}. Its path loads it wherever a model is "
        "asked for. The licence of its parent holds, and what the owner of the pictures allows.",
        "",
        "## Data",
        "",
        f"{len(about['pictures'])} pictures ({names}); {about['objects']} objects to learn from, "
        f"{about['held_out']} held out of these pictures, {about['too_small']} too small to learn from.",
        "",
        "## Settings",
        "",
        f"{settings}. {about['steps']} steps in {about['seconds']} s; the weights of step {about['kept']} "
        "were kept.",
        "",
        "## Scores",
        "",
    ]
    if not outcome.before:
        return "\n".join([*lines, "No objects were held out, so nothing was measured.", ""])
    head, *rows = outcome.rows()
    table = [head, ("---", "---:", "---:", "---:"), *rows]
    lines += ["| " + " | ".join(row) + " |" for row in table]
    lines += ["", f"![Before above, after below]({outcome.path.with_suffix('.png').name})", ""]
    lines += ["They say nothing of other kinds of pictures, which the parent may know better.", ""]
    return "\n".join(lines)


def _write_picture(path: Path, parent: Sam, child: Sam, material: Material) -> None:
    """Objects held out, in green, and answers to a click, in magenta: the parent's, then the child's."""
    manner = Manner.of(child, 4)
    batch = batch_of_crops(material.check, manner, np.random.default_rng(0), kind=CLICK, coloured=False)
    if batch is None:
        return
    rows: list[NDArray[np.uint8]] = [drawn(model, batch) for model in (parent, child)]
    with replacing(path, True) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary)
