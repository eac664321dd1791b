"""Tables of the objects of label images: one for each picture, and one of many pictures."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_samscape.errors import InputError
from napari_samscape.io.place import check_output
from napari_samscape.io.text import replacing_text
from napari_samscape.io.write import replacing

TABLE_ENDINGS = (".csv", ".parquet")
REAL = ("predicted_iou", "stability", "score")


@dataclass(frozen=True)
class TableRow:
    """One object of a label image.

    Attributes
    ----------
    id : int
    plane : tuple of int
        Where it lies along t and along the slices' axis (z), as far as the label image has these axes.
    box : tuple of int
        First row and column (y0, x0), and those after the last (y1, x1).
    area : int
        Its pixels.
    scores : tuple of float
        Predicted IoU, stability and a detector's score; NaN where unknown.
    """

    id: int
    plane: tuple[int, ...]
    box: tuple[int, int, int, int]
    area: int
    scores: tuple[float, float, float]


def write_table(path: str | os.PathLike[str], rows: Iterable[TableRow], axes: str = "yx") -> Path:
    """Write a CSV with one line for each object; a file that is there is replaced.

    Parameters
    ----------
    path : path
        It ends in ``.csv``. The columns are id, t, z, y0, x0, y1, x1, area, predicted_iou, stability and
        score; a value that is unknown or that the picture does not have is empty.
    rows : iterable of TableRow
    axes : str
        Of the label image: t, where there is one, the slices' axis, their rows, their columns. Where slices
        are not planes (y, x), columns are called after the axes they are about: t, y, z0, x0, z1, x1 for
        "yzx".

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    InputError
        As `check_output`.
    """
    whole = _whole(axes)
    path = check_output(path, endings=(".csv",), overwrite=True)
    with replacing_text(path, True) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow((*whole, *REAL))
        for row in rows:
            place = dict(zip(axes[:-2], row.plane, strict=True))
            scores = ("" if math.isnan(score) else f"{score:.6g}" for score in row.scores)
            where = (place.get(axis) for axis in whole[1:3])
            table.writerow((row.id, *where, *row.box, row.area, *scores))
    return path


def _whole(axes: str) -> tuple[str, ...]:
    """What the columns of whole numbers are called."""
    rows, columns = axes[-2], axes[-1]
    along = next(axis for axis in "zyx" if axis not in (rows, columns))
    return ("id", "t", along, f"{rows}0", f"{columns}0", f"{rows}1", f"{columns}1", "area")


def join_tables(path: str | os.PathLike[str], tables: Iterable[tuple[str, Path]], axes: str = "yx") -> Path:
    """Join the tables of many pictures, with a first column that says which; a file there is replaced.

    Parameters
    ----------
    path : path
        It ends in ``.csv`` or ``.parquet``.
    tables : iterable of (name, path)
        What to call each picture, and its table, as `write_table` makes it. One at a time is read.
    axes : str
        Of slices, as in `write_table`.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    InputError
        As `check_output` and `check_table`; or if a table cannot be read.
    """
    path = check_table(path)
    if path.suffix.lower() == ".csv":
        _join(path, tables, axes)
        return path
    with replacing(path, True) as temporary:
        joined = temporary.with_suffix(".csv")
        _join(joined, tables, axes)
        _to_parquet(joined, temporary, axes)
    return path


def check_table(path: str | os.PathLike[str]) -> Path:
    """Say, before any work is done, whether `join_tables` may write there.

    Raises
    ------
    InputError
        As `check_output`; or if it is a Parquet file and pyarrow is not installed.
    """
    path = check_output(path, endings=TABLE_ENDINGS, overwrite=True)
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise InputError(
                "A Parquet table needs pyarrow: pip install 'napari-samscape[parquet]', or choose .csv."
            ) from None
    return path


def _join(path: Path, tables: Iterable[tuple[str, Path]], axes: str) -> None:
    with replacing_text(path, True) as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("picture", *_whole(axes), *REAL))
        for name, table in tables:
            with table.open(encoding="utf-8", newline="") as lines:
                out.writerows((name, *row) for row in list(csv.reader(lines))[1:])


def _to_parquet(source: Path, path: Path, axes: str) -> None:
    """Turn a joined CSV into Parquet, block by block."""
    import pyarrow as arrow
    import pyarrow.csv
    import pyarrow.parquet

    columns: list[tuple[str, Any]] = [("picture", arrow.string())]
    columns += [(name, arrow.int64()) for name in _whole(axes)] + [(name, arrow.float64()) for name in REAL]
    schema = arrow.schema(columns)
    options = pyarrow.csv.ConvertOptions(column_types=schema)
    with (
        pyarrow.csv.open_csv(source, convert_options=options) as blocks,
        pyarrow.parquet.ParquetWriter(path, schema) as out,
    ):
        for block in blocks:
            out.write_batch(block)
