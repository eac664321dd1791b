"""Saves what a Prompt dock holds as it changes, and puts it back after the process has died."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_info

from napari_samscape.errors import InputError
from napari_samscape.widgets.autosave import Store, left_behind
from napari_samscape.widgets.canvas import role
from napari_samscape.widgets.dock import tell
from napari_samscape.widgets.layers import data_shape
from napari_samscape.widgets.pyramids import LARGEST, disk_path, opened, tell_state
from napari_samscape.widgets.records import record_of
from napari_samscape.widgets.saved import arguments, state_of
from napari_samscape.widgets.worker import Jobs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_samscape.widgets.prompt import PromptWidget

SOON = 500
"""Milliseconds after a change at which it is saved, with all that has changed by then."""


class Keeper:
    """Saves in a thread of its own; the window never waits for it.

    Parameters
    ----------
    dock : PromptWidget
        Whose work is saved.
    """

    def __init__(self, dock: PromptWidget) -> None:
        self._dock = dock
        self._stores = [Store()]  # our own, and those that were left behind
        self._jobs = Jobs()
        self._names: WeakKeyDictionary[Labels, str] = WeakKeyDictionary()
        self._soon = dock._timer(SOON, self.save)
        dock.history.changed.connect(self._on_change)
        dock.session.answered.connect(self._on_change)
        dock.restore.accepted.connect(self.restore)
        dock.restore.refused.connect(self.discard)
        for box in (dock.preview, dock.extend, dock.over):
            box.toggled.connect(self._on_change)
        dock.destroyed.connect(_closer(self._jobs, self._stores))

    # --- saving ---

    def _on_change(self, *_: object) -> None:
        if not self._soon.isActive():
            self._soon.start()

    @property
    def busy(self) -> bool:
        """Whether anything is still to be saved."""
        return bool(self._soon.isActive() or self._jobs.busy)

    def save(self) -> None:
        """Save what there is now, unless that is nothing."""
        if self._jobs.busy:
            self._soon.start()
            return
        dock, store = self._dock, self._stores[0]
        layers = [labels for labels in dock.ledger.layers if _savable(labels)]
        changed = any(labels in dock.ledger.changed for labels in layers)
        if not (changed or dock.session.has_prompts or store.folder.exists()):
            return
        arrays: dict[str, NDArray] = {}
        for labels in layers:
            if labels in dock.ledger.changed or labels not in self._names:
                self._names[labels] = f"labels-{uuid4().hex}"
                if disk_path(labels) is None:
                    arrays[self._names[labels]] = np.array(labels.data)  # a copy: the window goes on
        dock.ledger.changed.clear()
        document = self._document(layers)
        notes = [(path, state_of(labels)) for labels in layers if (path := disk_path(labels)) is not None]
        work = partial(_save, store, document, arrays, notes)
        self._jobs.start(lambda _: work(), lambda _: None, self._on_failed, lambda *_: None)

    def _on_failed(self, error: Exception | None) -> None:
        if error is not None:
            self._names.clear()  # nothing counts as saved
            tell(InputError(f"The session could not be saved: {error}."))

    def _document(self, layers: list[Labels]) -> dict[str, Any]:
        dock = self._dock
        image, editing = dock.image.layer, dock.recall.editing
        prompts = None
        if image is not None and dock.plane is not None:
            answer, dims = dock.session.answer, dock.viewer.dims
            turns = () if answer is None else answer[1]
            prompts = record_of(image, dock.plane, dims, dock.canvas.layers, turns, _everywhere)
        return {
            "saved": datetime.now().isoformat(timespec="seconds"),
            "image": None if image is None else {"name": image.name, "path": _path(image)},
            "prompts": prompts,
            "editing": [layers.index(editing[0]), editing[1]] if editing and editing[0] in layers else None,
            "settings": {
                "model": dock.model.currentData(),
                "preview": dock.preview.isChecked(),
                "extend": dock.extend.isChecked(),
                "over": dock.over.isChecked(),
            },
            "layers": [self._layer(labels) for labels in layers],
        }

    def _layer(self, labels: Labels) -> dict[str, Any]:
        return {
            "array": self._names[labels],
            "path": None if (path := disk_path(labels)) is None else str(path),
            "chosen": labels is self._dock.labels.layer,
            **state_of(labels),
        }

    # --- putting back ---

    def look(self) -> None:
        """Ask whether to go on with work that was left behind; where there was none in it, it goes."""
        for store in left_behind():
            if _holds_work(store.read()):
                self._stores.append(store)
            else:
                store.discard()
        self._ask()

    def _ask(self) -> None:
        if len(self._stores) == 1:
            self._dock.restore.hide()
            return
        document = self._stores[1].read()
        objects = _count(document)
        image = (document["image"] or {"name": "an image"})["name"]
        when = datetime.fromisoformat(document["saved"])
        count = "1 unsaved object" if objects == 1 else f"{objects} unsaved objects"
        self._dock.restore.ask(f"napari ended with {count} on '{image}' ({when:%d %b, %H:%M}). Restore?")

    def discard(self) -> None:
        """Remove the work that was left behind."""
        self._stores.pop(1).discard()
        self._ask()

    def restore(self) -> None:
        """Put back layers, prompts and settings, and go on saving to the same place."""
        store = self._stores.pop(1)
        dock = self._dock
        try:
            document = store.read()
            image = self._image(document["image"])
            layers = [self._add(layer, store, image) for layer in document["layers"]]
        except (OSError, ValueError, KeyError) as problem:
            store.release()
            tell(InputError(f"The session could not be restored: {problem}."))
            self._ask()
            return
        self._stores[0].discard()
        self._stores[0] = store
        self._names.clear()
        for labels, layer in zip(layers, document["layers"], strict=True):
            self._names[labels] = layer["array"]
            dock.ledger.changed.discard(labels)
        self._set(document["settings"])
        if image is not None and document["prompts"]:
            editing = document["editing"]
            dock.desk.put_on_canvas(image, document["prompts"], editing and (layers[editing[0]], editing[1]))
        elif document["prompts"]:
            show_info(f"The image '{document['image']['name']}' is not open, so its prompts were left out.")
        self._ask()

    def _image(self, wanted: dict[str, Any] | None) -> Image | None:
        """The image that the work was about, opened again if need be and possible."""
        viewer = self._dock.viewer
        if wanted is None:
            return None
        here = any(_is(layer, wanted["name"]) for layer in viewer.layers)
        if not here and wanted["path"] and Path(wanted["path"]).exists():
            viewer.open(wanted["path"], stack=False)
        return next((layer for layer in viewer.layers if _is(layer, wanted["name"])), None)

    def _add(self, layer: dict[str, Any], store: Store, image: Image | None) -> Labels:
        on_disk = layer["path"] is not None
        data = opened(Path(layer["path"])) if on_disk else store.labels(layer["array"])
        labels = Labels(data, multiscale=on_disk, **arguments(layer))
        viewer = self._dock.viewer
        if image is not None:
            self._dock._insert_above(image, labels)
        else:
            viewer.add_layer(labels)
        self._dock.ledger.follow(labels)
        self._dock.labels.refresh()
        if layer["chosen"]:
            self._dock.labels.choose(labels)
        return labels

    def _set(self, settings: dict[str, Any]) -> None:
        dock = self._dock
        for box, name in ((dock.preview, "preview"), (dock.extend, "extend"), (dock.over, "over")):
            box.setChecked(settings[name])
        model = settings["model"]
        if model != dock.model.currentData():
            dock.model.take(model)

    # --- the end ---

    def close(self) -> None:
        """The dock has been closed, and the viewer has its layers: nothing is left to be saved here."""
        _closer(self._jobs, self._stores)()


def _closer(jobs: Jobs, stores: list[Store]) -> Callable[..., None]:
    """Make a function that ends the saving, and needs no Qt object that may be gone."""

    def close(*_: object) -> None:
        jobs.close()
        own, *left = stores
        own.discard()
        for store in left:
            store.release()

    return close


def _save(store: Store, document: Any, arrays: Any, notes: list[tuple[Path, dict[str, Any]]]) -> None:
    store.save(document, arrays)
    for path, state in notes:  # labels on disk are whole without their session
        tell_state(path, state)


def _everywhere(places: NDArray) -> NDArray[np.bool_]:
    return np.ones(len(places), bool)


def _savable(labels: Labels) -> bool:
    if labels.multiscale:
        return disk_path(labels) is not None
    return isinstance(labels.data, np.ndarray) and int(np.prod(data_shape(labels))) <= LARGEST


def _holds_work(document: dict[str, Any]) -> bool:
    prompts = document["prompts"] or {"points": [], "shapes": []}
    return bool(_count(document) or prompts["points"] or prompts["shapes"])


def _count(document: dict[str, Any]) -> int:
    return sum(len(layer["features"].get("index", [])) for layer in document["layers"])


def _is(layer: Any, name: str) -> bool:
    return isinstance(layer, Image) and role(layer) is None and layer.name == name


def _path(image: Image) -> str | None:
    path = image.source.path
    return None if path is None else str(path)
