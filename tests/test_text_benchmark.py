"""The scenes and captions by which words are measured."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def scenes(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(root / "benchmarks")
    import scenes as module

    return module


def test_no_new_pair_is_in_a_scene_or_caption_of_training(scenes: ModuleType) -> None:
    rng = np.random.default_rng(0)
    made = [scenes.training_scene(seed) for seed in range(20)]
    assert not any(thing.pair in scenes.NEW_PAIRS for scene in made for thing in scene.things)
    for scene in made:
        caption = scenes.random_caption(scene.things[0], scene.things, rng)
        assert caption.is_true_of(scene.things[0], scene.things)
        assert (caption.colour, caption.shape) not in scenes.NEW_PAIRS
        assert caption.other not in scenes.NEW_PAIRS


def test_a_phrase_is_true_of_one_thing_whose_mask_is_the_first(scenes: ModuleType) -> None:
    for kind in scenes.KINDS:
        scene, caption = scenes.asked_scene(kind, 0)
        true = [caption.is_true_of(thing, scene.things) for thing in scene.things]
        assert true == [True] + [False] * (len(true) - 1)
        assert (scene.things[0].pair in scenes.NEW_PAIRS) == kind.startswith("new")
        rows, columns = np.nonzero(scene.labels == 1)
        thing = scene.things[0]
        assert abs(rows.mean() - thing.y) < 4 and abs(columns.mean() - thing.x) < 4
        again, same = scenes.asked_scene(kind, 0)
        assert str(same) == str(caption) and np.array_equal(again.pixels, scene.pixels)


def test_relations_are_told_along_the_axis_on_which_things_lie_further_apart(scenes: ModuleType) -> None:
    one, other = (scenes.Thing("red", "star", "plain", "small", y, x) for y, x in ((10, 10), (30, 15)))
    assert (one.relation_to(other), other.relation_to(one)) == ("above", "below")
    caption = scenes.Caption("red", "star", relation="left of", other=("red", "star"))
    assert str(caption) == "a red star left of a red star"
    assert not caption.is_true_of(one, (one, other))
