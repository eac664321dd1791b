"""Prompts in files: Points and Shapes layers as GeoJSON, and other programs' GeoJSON as such layers.

Places are in pixels (x, y) from the picture's upper left corner, half a pixel off napari's, for QuPath and
QGIS; beside them stands exactly what the layer holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samscape import io
from napari_samscape.io.geojson import features_of
from napari_samscape.io.text import replacing_text
from napari_samscape.widgets.canvas import BOX_COLOUR, SYMBOLS
from napari_samscape.widgets.drawn import FEATURE, FOREGROUND, OPEN
from napari_samscape.widgets.saved import arguments, place_of, plain_table

LayerData = tuple[Any, dict[str, Any], str]
KEY = "prompts"


def write_prompts(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write Points and Shapes layers as one GeoJSON file."""
    from napari.layers import Layer

    made: list[Any] = [Layer.create(data, dict(meta), kind) for data, meta, kind in layers]
    states = [
        {"type": layer._type_string, "name": layer.name, "ndim": layer.ndim, "place": place_of(layer),
         "features": plain_table({name: layer.features[name].tolist() for name in layer.features})}
        for layer in made
    ]  # fmt: skip
    features = [feature for number, layer in enumerate(made) for feature in _features(layer, number)]
    content = {"type": "FeatureCollection", "samscape": {KEY: states}, "features": features}
    io.check_output(path, endings=(".geojson", ".json"), overwrite=True)
    with replacing_text(Path(path), True) as file:
        json.dump(content, file, allow_nan=False)
    return [path]


def _features(layer: Any, number: int) -> Iterator[dict[str, Any]]:
    if layer._type_string == "points":
        for place, size in zip(layer.data, layer.size, strict=True):
            geometry = {"type": "Point", "coordinates": _outside(place[None])[0]}
            yield _feature(geometry, {"layer": number, "data": place.tolist(), "size": float(np.mean(size))})
        return
    for kind, vertices, width in zip(layer.shape_type, layer.data, layer.edge_width, strict=True):
        outline = _outside(vertices)
        geometry = {"type": "LineString", "coordinates": outline}
        if kind not in OPEN:
            geometry = {"type": "Polygon", "coordinates": [[*outline, outline[0]]]}
        own = {"layer": number, "data": vertices.tolist(), "shape_type": str(kind), "width": float(width)}
        yield _feature(geometry, own)


def _feature(geometry: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {"objectType": "annotation", "samscape": own},
    }


def _outside(places: NDArray[Any]) -> list[list[float]]:
    """(x, y) in pixels from the corner, of data coordinates (n, ndim)."""
    return (np.asarray(places, float)[:, :-3:-1] + 0.5).tolist()


def is_prompts(path: Path) -> bool:
    """Whether a GeoJSON file holds prompts that were saved here."""
    return KEY in (io.read_about(path) or {})


def read_prompts(path: Path) -> list[LayerData]:
    """Read the layers of a GeoJSON file; other programs' points and polygons become one layer each."""
    features = features_of(path)
    states = (io.read_about(path) or {}).get(KEY)
    if states is None:
        return _foreign(features, path.stem)
    layers = []
    for number, state in enumerate(states):
        own = [each for feature in features if (each := feature["properties"]["samscape"])["layer"] == number]
        layers.append(_points(state, own) if state["type"] == "points" else _shapes(state, own))
    return layers


def _points(state: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> LayerData:
    data = np.array([each["data"] for each in own], float).reshape(-1, state["ndim"])
    options = arguments({**state, "records": None})
    names = state["features"].get(FEATURE)
    if names:
        options["symbol"] = [SYMBOLS.get(name, SYMBOLS[FOREGROUND]) for name in names]
    if own:
        options["size"] = [each["size"] for each in own]
    return data, {**options, "ndim": state["ndim"]}, "points"


def _shapes(state: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> LayerData:
    options = arguments({**state, "records": None})
    options |= {"ndim": state["ndim"], "edge_color": BOX_COLOUR, "face_color": "transparent"}
    if own:
        options |= {"shape_type": [each["shape_type"] for each in own]}
        options |= {"edge_width": [each["width"] for each in own]}
    return [np.array(each["data"]) for each in own], options, "shapes"


def _foreign(features: Sequence[Mapping[str, Any]], name: str) -> list[LayerData]:
    """Points, and the outer rings of polygons with their class, in (y, x)."""
    points: list[Any] = []
    rings: list[NDArray[Any]] = []
    classes: list[str] = []
    for feature in features:
        geometry = feature.get("geometry") or {}
        kind, coordinates = str(geometry.get("type")), list(geometry.get("coordinates") or ())
        about = feature.get("properties") or {}
        text = about.get("class", (about.get("classification") or {}).get("name"))
        if kind == "Point":
            points.append(_inside([coordinates])[0])
        elif kind in ("Polygon", "MultiPolygon"):
            for polygon in [coordinates] if kind == "Polygon" else coordinates:
                rings.append(_inside(polygon[0][:-1]))
                classes.append("" if text is None else str(text))
    layers: list[LayerData] = []
    if rings:
        shown = {"edge_color": BOX_COLOUR, "face_color": "transparent", "features": {"class": classes}}
        layers.append((rings, {"name": name, "shape_type": "polygon", **shown}, "shapes"))
    if points:
        layers.append((np.array(points), {"name": f"{name} points"}, "points"))
    return layers


def _inside(places: Sequence[Any]) -> NDArray[Any]:
    return np.asarray(places, float)[:, 1::-1] - 0.5
