"""Objects from GeoJSON: polygons in pixels (x, y) from the picture's upper left corner, as in QuPath."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_samscape.errors import InputError
from napari_samscape.io.outlines import polygon_mask
from napari_samscape.io.text import read_json

#: Where a polygon's coordinates are those of one polygon, or of several.
KINDS = {"Polygon": lambda coordinates: [coordinates], "MultiPolygon": lambda coordinates: coordinates}


def features_of(path: Path) -> list[dict[str, Any]]:
    """Read the features of a GeoJSON file.

    Raises
    ------
    InputError
        If it cannot be read or is none.
    """
    content = read_json(path, f"The objects in {path}")
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise InputError(f"{path} is no GeoJSON: it lacks a list 'features'.")
    return features


def read_polygons(path: Path) -> Iterator[dict[str, Any]]:
    """Read what an `ObjectRow` is made of, one for each feature that is a polygon.

    Raises
    ------
    InputError
        If the file cannot be read, or a feature is not as it should be; it names the feature.
    """
    for number, feature in enumerate(features_of(path), start=1):
        try:
            geometry = feature["geometry"]
            if geometry is None or geometry["type"] not in KINDS:
                continue
            mask, offset = polygon_mask(KINDS[geometry["type"]](geometry["coordinates"]))
            yield {"mask": mask, "offset": offset, **_properties(feature, number)}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"The feature number {number} of {path} is no polygon in pixels.") from error


def _properties(feature: dict[str, Any], number: int) -> dict[str, Any]:
    properties = feature.get("properties") or {}
    named = properties.get("id", feature.get("id"))
    kind = properties.get("class", (properties.get("classification") or {}).get("name"))
    return {
        "id": named if isinstance(named, int) else number,
        "plane": tuple(int(properties[axis]) for axis in "tz" if axis in properties),
        "predicted_iou": float(properties.get("predicted_iou", math.nan)),
        "stability": float(properties.get("stability_score", properties.get("stability", math.nan))),
        "score": float(properties.get("score", math.nan)),
        "category": kind if kind is None or isinstance(kind, int) else str(kind),
        "parent": properties.get("parent"),
    }
