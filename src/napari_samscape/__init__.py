"""Segment Anything for pictures of any size, in napari and on the command line.

Examples
--------
>>> from napari_samscape import Prompts, embed, load_model, predict
>>> model = load_model("nano")
>>> embedding = embed(model, pixels)  # doctest: +SKIP
>>> masks = predict(model, embedding, Prompts(points=[(y, x)]))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_samscape.errors import InputError
    from napari_samscape.io import open_image
    from napari_samscape.model.weights import load_model
    from napari_samscape.prediction.ask import ask
    from napari_samscape.prediction.predict import embed, predict
    from napari_samscape.prediction.types import Prompts
    from napari_samscape.prediction.views import Views
    from napari_samscape.scaling.batch import segment
    from napari_samscape.scaling.link import LinkOptions
    from napari_samscape.scaling.propagate import propagate

    __version__: str

__all__ = [
    "InputError",
    "LinkOptions",
    "Prompts",
    "Views",
    "ask",
    "embed",
    "load_model",
    "open_image",
    "predict",
    "propagate",
    "segment",
]

# Where each public name lives. It is imported when first asked for, so that `import napari_samscape`
# (and `samscape --help`) need not wait seconds for torch.
_HOMES = {
    "InputError": "errors",
    "LinkOptions": "scaling.link",
    "Prompts": "prediction.types",
    "Views": "prediction.views",
    "ask": "prediction.ask",
    "embed": "prediction.predict",
    "load_model": "model.weights",
    "open_image": "io",
    "predict": "prediction.predict",
    "propagate": "scaling.propagate",
    "segment": "scaling.batch",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("napari-samscape")
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # asked for once only
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
