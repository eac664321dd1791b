"""What a Labels layer is besides its pixels, as plain data for JSON: its place, its table, its prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_samscape.widgets.features import Table, all_rows
from napari_samscape.widgets.layers import placed_like
from napari_samscape.widgets.records import PROMPTS, records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Labels, Layer


def state_of(labels: Labels) -> dict[str, Any]:
    """Everything but the pixels."""
    return {
        "name": labels.name,
        "place": place_of(labels),
        "features": plain_table(all_rows(labels)),
        "records": [[i, record] for i, record in records(labels).items()],
    }


def place_of(layer: Layer) -> dict[str, Any]:
    """Where a layer lies, as `layers.placed_like` gives it, in lists."""
    place = placed_like(layer)
    place["affine"] = getattr(place["affine"], "affine_matrix", None)
    place["units"] = [str(unit) for unit in place["units"]]
    return {name: _listed(value) for name, value in place.items()}


def arguments(state: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that make a layer what it was, from `state_of`."""
    place = {
        name: np.asarray(value) if _is_numbers(value) else value for name, value in state["place"].items()
    }
    arguments = {"name": state["name"], **place, "features": state["features"]}
    if state["records"]:
        arguments["metadata"] = {PROMPTS: {int(i): record for i, record in state["records"]}}
    return arguments


def plain_table(table: Table) -> Table:
    """A table of values that JSON knows; what is not known is None."""
    return {name: [_plain(value) for value in column] for name, column in table.items()}


def _plain(value: Any) -> Any:
    if value is None or value != value:
        return None
    return value.item() if isinstance(value, np.generic) else value


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else np.asarray(value).tolist()


def _is_numbers(value: Any) -> bool:
    return value is not None and np.asarray(value).dtype.kind in "fiu"
