"""``samscape info``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from napari_samscape.cli.app import AsJson, app, print_json

PACKAGES = ("torch", "numpy", "zarr", "tifffile", "napari")


@app.command()
def info(
    image: Annotated[
        str | None, typer.Argument(metavar="[IMAGE]", help="A picture to describe, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what runs here, and what a picture holds.

    samscape info

    samscape info cells.ome.zarr --json
    """
    facts: dict[str, Any] = {}
    if image is not None:
        facts["image"] = _image_facts(image)
    else:
        facts |= _machine_facts()
    if as_json:
        print_json(facts)
        return
    for name, value in facts.get("image", facts).items():
        typer.echo(f"{name + ':':10} {value if not isinstance(value, list) else ', '.join(map(str, value))}")


def _image_facts(path: str) -> dict[str, Any]:
    from napari_samscape.io import open_image

    image = open_image(path)
    return {
        "path": str(image),
        "axes": image.axes,
        "shape": list(image.shape),
        "dtype": str(image.dtype),
        "scale": list(image.scale),
        "units": list(image.units),
        "levels": [list(map(int, level.shape)) for level in image.levels],
    }


def _machine_facts() -> dict[str, Any]:
    import torch

    from napari_samscape.model import registry
    from napari_samscape.model.weights import choose_device

    facts: dict[str, Any] = {"samscape": version("napari-samscape"), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = None
    device = choose_device("auto")
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    here = [name for name in registry.KNOWN if registry.local_path(name)]
    return facts | {
        "system": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "cache": str(registry.cache_dir()),
        "models": here,
    }
