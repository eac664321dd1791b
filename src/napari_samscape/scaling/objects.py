"""What was found, plane by plane, beside the label image: how much, what was left empty, and each mask."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral

from napari_samscape.io import ObjectRow
from napari_samscape.prediction.hierarchy import parents
from napari_samscape.prediction.types import Instances


class Account:
    """Hands out ids from plane to plane, and remembers what got them.

    Parameters
    ----------
    keep : bool
        Whether the masks themselves are kept, for `rows`.

    Attributes
    ----------
    count : int
        How many ids were given, those of masks without a pixel among them.
    empty : list of int
        The ids of masks without a pixel.
    """

    def __init__(self, keep: bool = False) -> None:
        self.keep = keep
        self.count = 0
        self.empty: list[int] = []
        self._kept: list[tuple[tuple[int, ...], int, Instances]] = []

    def add(self, plane: tuple[int, ...], found: Instances) -> int:
        """Note what was found in one plane; gives the number of ids given before, to which its own add."""
        before = self.count
        self.count += len(found)
        self.empty += [before + number for number, item in enumerate(found, start=1) if item.area == 0]
        if self.keep:
            self._kept.append((plane, before, found))
        return before

    def rows(self) -> Iterator[ObjectRow]:
        """Every kept mask that has a pixel, with its id, its plane and what is known of it."""
        for plane, before, found in self._kept:
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
