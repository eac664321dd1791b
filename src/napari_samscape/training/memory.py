"""What a model knew before it was fine-tuned: its own answers on the pictures that come with the package.

They are rehearsed as if they were the truth, beside made-up scenes, which are of other kinds. The true
objects of these pictures are not looked at.
"""

from __future__ import annotations

from napari_samscape.io import open_image
from napari_samscape.model.sam import Sam
from napari_samscape.prediction.automatic import default_options, everything
from napari_samscape.prediction.instances import labels_from_instances
from napari_samscape.prediction.options import changed
from napari_samscape.prediction.types import Instances
from napari_samscape.sample_files import PICTURES, sample_path
from napari_samscape.training.data import Picture, make_picture

SURE = 0.75  # predicted IoU of an answer that is worth keeping
POINTS = 8  # along each side of the grid that models without a dense head are asked at


def remembered(parent: Sam) -> list[Picture]:
    """The sample pictures, labelled by the model itself where it is sure; none where it never is."""
    has_dense = parent.magnifies > 1
    changes = {} if has_dense else {"points_per_side": POINTS}
    options = changed(default_options(has_dense), changes)
    pictures = []
    for name in PICTURES:
        pixels = open_image(sample_path(name)).plane()
        found = everything(parent, pixels, options)
        sure = Instances(tuple(item for item in found if item.predicted_iou >= SURE), found.shape)
        if len(sure):
            pictures.append(make_picture(pixels, labels_from_instances(sure), name, complete=False))
    return pictures
