"""Masks within masks: which object is part of which.

One mask contains another if it is larger and covers at least `MIN_SHARE` of the other's pixels; a part's
outline seldom runs quite inside that of its whole. Of double masks the larger contains the other, so doubles
have to go first, as they do in everything-mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_samscape.errors import InputError
from napari_samscape.prediction.instances import overlap
from napari_samscape.prediction.types import Instance, Instances

#: What may become of masks within masks; the first is what happens where nobody says.
NESTED = ("all", "parts", "wholes")
MIN_SHARE = 0.9


def containers(items: Sequence[Instance], min_share: float = MIN_SHARE) -> list[list[int]]:
    """Which masks contain each mask.

    Parameters
    ----------
    items : sequence of Instance, length n
    min_share : float
        The share of a mask's pixels that another one must cover to contain it.

    Returns
    -------
    list of list of int, length n
        Indices, the smallest container first; of equally large ones the earlier. A mask without a pixel is
        in none.
    """
    boxes = np.array([item.box for item in items], dtype=np.int64).reshape(-1, 4)
    areas = np.array([item.area for item in items], dtype=np.int64)
    order = np.argsort(areas, kind="stable")
    found: list[list[int]] = []
    for index, area in enumerate(areas):
        larger = order[np.searchsorted(areas[order], area, side="right") :] if area else order[:0]
        # Masks share no more than their boxes do; only the few that may do are unpacked.
        sides = np.minimum(boxes[index, 2:], boxes[larger, 2:]) - np.maximum(
            boxes[index, :2], boxes[larger, :2]
        )
        larger = larger[sides.clip(min=0).prod(axis=1) >= min_share * area]
        covering = [
            other for other in larger.tolist() if overlap(items[index], items[other]) >= min_share * area
        ]
        found.append(covering)
    return found


def parents(items: Sequence[Instance], min_share: float = MIN_SHARE) -> list[int | None]:
    """The index of the smallest mask that contains each mask, None where there is none; see `containers`."""
    return [around[0] if around else None for around in containers(items, min_share)]


def choose_nested(instances: Instances, nested: str, min_share: float = MIN_SHARE) -> Instances:
    """Keep what is wanted of masks within masks.

    Parameters
    ----------
    instances : Instances
    nested : {"all", "parts", "wholes"}
        "parts" keeps the masks that contain no other, "wholes" those that no other contains, "all" keeps all.
        A mask that neither contains another nor is contained is part and whole.
    min_share : float
        See `containers`.

    Returns
    -------
    Instances
        In the same order, with ids 1, 2, ... of their own.

    Raises
    ------
    InputError
        If there is no such choice.
    """
    check_nested(nested)
    if nested == "all":
        return instances
    around = containers(instances, min_share)
    containing = {index for indices in around for index in indices}
    chosen = [
        item
        for index, item in enumerate(instances)
        if (index not in containing if nested == "parts" else not around[index])
    ]
    return Instances(tuple(chosen), instances.shape)


def check_nested(nested: str) -> None:
    """Raise InputError if `choose_nested` does not know the choice."""
    if nested not in NESTED:
        raise InputError(f"Of nested masks one can keep 'all', 'parts' or 'wholes', not '{nested}'.")
