"""What was found, plane by plane, beside the label image: each mask with its id."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral

from napari_samscape.io import ObjectRow
from napari_samscape.prediction.hierarchy import parents
from napari_samscape.prediction.types import Instances


class Account:
    """Remembers what was found in each plane, in the order of planes."""

    def __init__(self) -> None:
        self._kept: list[tuple[tuple[int, ...], Instances]] = []

    def add(self, plane: tuple[int, ...], found: Instances) -> None:
        """Note what was found in one plane."""
        self._kept.append((plane, found))

    def rows(self) -> Iterator[ObjectRow]:
        """Every kept mask that has a pixel, with its id, its plane and what is known of it.

        Ids go on from plane to plane, and masks without a pixel have theirs, as `engine.Writer` keeps them.
        """
        before = 0
        for plane, found in self._kept:
            around = parents(found)
            for index, item in enumerate(found):
                if item.area == 0:
                    continue
                parent = around[index]
                kind = item.category
                yield ObjectRow(
                    id=before + index + 1,
                    mask=item.mask,
                    offset=item.box[:2],
                    plane=plane,
                    predicted_iou=float(item.predicted_iou),
                    stability=float(item.stability),
                    score=float(item.score),
                    point=item.point,
                    category=int(kind) if isinstance(kind, Integral) else kind,
                    parent=None if parent is None else before + parent + 1,
                )
            before += len(found)
