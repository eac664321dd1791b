"""The Everything dock: all objects of a plane, or of every plane, at the press of a button."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Points
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton

from napari_samscape.errors import InputError
from napari_samscape.prediction.options import EverythingOptions, default_options
from napari_samscape.widgets.choosers import LayerChooser, users
from napari_samscape.widgets.controls import Fold
from napari_samscape.widgets.drawn import points_on
from napari_samscape.widgets.features import Table
from napari_samscape.widgets.fields import Field, OptionFields, tip
from napari_samscape.widgets.objects import Answer, ObjectsDock, painted
from napari_samscape.widgets.task import Question, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QLayout, QWidget

    from napari_samscape.prediction.types import Instances
    from napari_samscape.widgets.engine import Engine

SOURCES = (("auto", "Automatic"), ("dense", "Likely objects"), ("grid", "Grid"))

SHOWN = (
    Field(
        "pred_iou_thresh",
        "Predicted IoU",
        "How sure the model has to be of a mask, as IoU from 0 to 1; lower finds more objects, and more "
        "wrong ones.",
    ),
    Field(
        "stability_score_thresh",
        "Stability",
        "How little a mask may change when it is cut off a bit higher or lower, from 0 (any) to 1 (not at "
        "all); lower finds more objects with soft edges.",
    ),
    Field(
        "min_mask_region_area",
        "Smallest area",
        "Holes and separate parts of a mask that have fewer pixels are removed; 0 leaves masks as they are.",
        unit="px",
    ),
    Field(
        "prompt_source",
        "Points from",
        "Where the model is asked: at places where its dense head sees objects (nano has one), or at a "
        "regular grid of points. Automatic takes the dense head where there is one.",
        choices=SOURCES,
    ),
    Field(
        "points_per_side",
        "Points per side",
        "The grid has this many points along each side of the picture; the time grows with its square.",
    ),
)
FURTHER = (
    Field(
        "mask_nms_thresh",
        "Mask overlap up to",
        "Of masks whose overlap (IoU, 0 to 1) is above this, the one with the best predicted IoU stays; "
        "objects that touch are spared.",
        off=True,
    ),
    Field(
        "box_nms_thresh",
        "Box overlap up to",
        "Of masks whose boxes' overlap (IoU, 0 to 1) is above this, the one with the best predicted IoU "
        "stays; 1 keeps all.",
    ),
    Field(
        "stability_score_offset",
        "Stability offset",
        "How far the cut is moved either way to measure the stability, in logits.",
        step=0.1,
    ),
    Field(
        "crop_n_layers",
        "Crop layers",
        "For small objects: the picture is looked at again in 2 x 2 crops, then in 4 x 4, and so on, up to "
        "this many times; each takes up to four times as long as the one before.",
    ),
    Field(
        "crop_where_small",
        "Crops",
        "Which crops are looked at: those in which most things are small, or all.",
        choices=((True, "Where small"), (False, "All")),
    ),
    Field(
        "crop_overlap_ratio",
        "Crop overlap",
        "How much the crops of the first layer overlap, as a fraction of the picture's shorter side.",
    ),
    Field(
        "crop_nms_thresh",
        "Between crops up to",
        "Of masks from different crops whose boxes' overlap (IoU, 0 to 1) is above this, the one from the "
        "smallest crop stays.",
    ),
    Field(
        "crop_n_points_downscale_factor",
        "Grid sparser by",
        "The grid has fewer points per side by this factor from one layer of crops to the next.",
    ),
    Field(
        "points_per_batch",
        "Points at once",
        "Points asked in one go; more is faster on a GPU and takes more memory.",
    ),
    Field(
        "dense_inside_thresh",
        "Inside from",
        "Probability (0 to 1) from which the dense head takes a place for the inside of an object.",
    ),
    Field(
        "dense_centre_thresh",
        "Centre from",
        "Probability (0 to 1) from which the dense head takes a place for the centre of an object.",
    ),
    Field(
        "dense_min_distance",
        "Points apart",
        "Two points lie further apart than this many cells of the dense head.",
        unit="cells",
    ),
    Field(
        "dense_rounds",
        "Rounds",
        "After the centres, points are laid where objects seem to be but no mask was found, up to this many "
        "rounds in all.",
    ),
    Field(
        "dense_max_points",
        "Most points",
        "No more points than this are asked, over all rounds; the likeliest first.",
        step=100,
    ),
)


class EverythingWidget(ObjectsDock):
    """Find all objects of an image."""

    ready_text = "Run finds all objects on the plane shown."
    name = "objects"

    def build(self) -> Sequence[QWidget | QLayout]:
        """Make the options and the chooser of points of one's own."""
        self.build_target()
        # Until its file is read, a model other than a known one is taken for one of SAM's.
        self.options = OptionFields((*SHOWN, *FURTHER), default_options(bool(self._engine.has_dense)))
        about = "A Points layer to ask at, instead of the grid. (point_grids)"
        self.own_points = LayerChooser(self.viewer, users(Points), "None", about)
        self.defaults_button = QPushButton("Back to the defaults")
        self.defaults_button.setToolTip(tip("Set all options to what this model's makers advise."))
        self.defaults_button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.defaults_button.clicked.connect(self.options.reset)
        self.options.editors["prompt_source"].currentIndexChanged.connect(self._show_source)
        self.options.editors["crop_n_layers"].valueChanged.connect(self._show_source)
        self.own_points.chosen.connect(self._show_source)
        further = self.options.rows(FURTHER)
        further.insertRow(0, "Own points", self.own_points)
        further.addRow(self.defaults_button)
        self._show_source()
        return (
            *(self.where(("Objects in", self.labels)), self.over, self.all_planes),
            *(QLabel("<b>Sensitivity</b>"), self.options.rows(SHOWN), Fold("More options", further)),
        )

    def choosers(self) -> list[LayerChooser]:
        """The choosers of layers, which are kept up to date."""
        return [*super().choosers(), self.own_points]

    def on_model(self) -> None:
        """Take the defaults for this kind of model, once it is known which kind it is."""
        if self._engine.has_dense is None:
            if not self._jobs.busy:
                self.begin("Loading the model…", self._engine.load, lambda _: self._on_loaded())
            return
        self.options.use_defaults(default_options(self._engine.has_dense))
        self._show_source()

    def _on_loaded(self) -> None:
        self.on_model()
        self._on_image()

    def _show_source(self, *_: object) -> None:
        """Let those options be set that count."""
        editors = self.options.editors
        source, crops = editors["prompt_source"].read(), editors["crop_n_layers"].read() > 0
        own = self.own_points.layer is not None
        dense = not own and (source == "dense" or (source == "auto" and bool(self._engine.has_dense)))
        grid = not own and not dense
        counts = {
            "prompt_source": not own,
            "points_per_side": grid,
            "crop_overlap_ratio": crops,
            "crop_where_small": crops,
            "crop_n_points_downscale_factor": grid and crops,
            **dict.fromkeys((name for name in editors if name.startswith("dense_")), dense),
        }
        for name, is_used in counts.items():
            editors[name].setEnabled(is_used)

    def question(self, engine: Engine, task: Task) -> Question:
        """Ask for everything with the options as they are set."""
        given = self.options.values()
        own = self.own_points.layer
        if own is not None:
            given["prompt_source"] = "grid"
            given["point_grids"] = [_fractions(own, task)]
            given["crop_n_layers"] = 0  # the points are places in the picture
        options = EverythingOptions(**given)
        return lambda pixels, progress: painted(engine.everything(pixels, options, progress))

    def columns(self, instances: Instances) -> Table:
        """The stability score."""
        return {"stability": [float(item.stability) for item in instances]}

    def deliver(self, task: Task, answers: list[Answer]) -> str:
        """Write the objects, and count them."""
        written = self.write(task, answers)
        count = sum(len(answer.instances) for answer in answers)
        where = f" on {len(answers)} planes" if len(answers) > 1 else ""
        if count == 0:
            text = f"No object was found{where}; lower thresholds let more pass."
            show_info(text)
            return text
        text = f"Found {count} object{'s' * (count > 1)}{where}, now in '{written.labels.name}'."
        if written.hidden:
            text += f" {written.hidden} of them lie under others."
        return text


def _fractions(points: Points, task: Task) -> Any:
    """Points on the first plane, as fractions of height and width; the same are asked on every plane."""
    plane = task.planes[0]
    places = points_on(task.image, plane, task.sight, points) / plane.shape
    inside = ((places >= 0) & (places <= 1)).all(axis=1)
    if not inside.any():
        raise InputError(f"The layer '{points.name}' has no point in the picture on this plane.")
    return places[inside]
