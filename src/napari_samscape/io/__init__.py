"""Pictures in, labels out: the only module that knows file formats; of ours it imports `errors` alone."""

from napari_samscape.io.boxes import BOX_ENDINGS, BoxList, read_boxes
from napari_samscape.io.image import PLANES, DamagedError, Image
from napari_samscape.io.objects import OBJECT_ENDINGS, ObjectRow, read_objects, write_objects
from napari_samscape.io.ome import plate_fields
from napari_samscape.io.place import LABEL_ENDINGS, check_output, make_place
from napari_samscape.io.pyramid import Pyramid
from napari_samscape.io.read import open_image
from napari_samscape.io.tables import TABLE_ENDINGS, TableRow, check_table, join_tables, write_table
from napari_samscape.io.text import read_json, read_text
from napari_samscape.io.write import move_into_place, read_about, write_labels, write_map, write_overlay

__all__ = [
    "BOX_ENDINGS",
    "LABEL_ENDINGS",
    "OBJECT_ENDINGS",
    "PLANES",
    "TABLE_ENDINGS",
    "BoxList",
    "DamagedError",
    "Image",
    "ObjectRow",
    "Pyramid",
    "TableRow",
    "check_output",
    "check_table",
    "join_tables",
    "make_place",
    "move_into_place",
    "open_image",
    "plate_fields",
    "read_about",
    "read_boxes",
    "read_json",
    "read_objects",
    "read_text",
    "write_labels",
    "write_map",
    "write_objects",
    "write_overlay",
    "write_table",
]
