"""Planes of a layer followed by an engine: as `propagate` does it, and nothing is asked twice."""

import numpy as np
import pytest

pytest.importorskip("napari")

from fake_engine import FakeEngine
from napari.components import ViewerModel

from napari_samscape import Prompts, propagate
from napari_samscape.scaling.propagate import PropagateOptions
from napari_samscape.widgets.engine import LocalEngine
from napari_samscape.widgets.layers import plane_of
from napari_samscape.widgets.stack import KEPT, Request, Stack

PIXELS = np.random.default_rng(0).integers(0, 4000, (3, 48, 64)).astype(np.uint16)
CLICK = Prompts(points=[(10, 20)])
ANYTHING = PropagateOptions(min_iou=0, min_overlap=0)


def silent(done, total, text):
    pass


def stack_of(pixels, **place):
    viewer = ViewerModel()
    image = viewer.add_image(pixels, **place)
    return Stack(image, plane_of(image, viewer.dims), 0, "key")


def followed(stack, engine, prompts, known=None, options=ANYTHING, progress=silent):
    steps = []
    stack.follow(engine, Request(prompts, known or {}, options), steps, progress)
    return steps


def test_an_engine_finds_what_propagate_finds(tmp_path):
    import torch

    from napari_samscape import load_model
    from napari_samscape.model.sam import build_nano
    from napari_samscape.model.weights import save_model

    torch.manual_seed(0)
    path = tmp_path / "random.safetensors"
    save_model(build_nano(), path)
    ours = followed(stack_of(PIXELS), LocalEngine(str(path)), {1: CLICK})
    theirs = list(propagate(PIXELS, {1: CLICK}, model=load_model(path), options=ANYTHING))
    assert [step.index for step in ours] == [step.index for step in theirs] == [1, 0, 2]
    for one, other in zip(ours, theirs, strict=True):
        assert one.item.box == other.item.box and one.item.area == other.item.area
        np.testing.assert_array_equal(one.item.bits, other.item.bits)


def bars(count):
    volume = np.zeros((count, 20, 30), np.uint8)
    volume[:, 5:15, 10:25] = 100
    return volume


def test_a_further_start_changes_only_what_is_nearer_to_it():
    stack, engine = stack_of(bars(12)), FakeEngine()
    followed(stack, engine, {2: CLICK})
    assert [key[1].position[0] for key in engine.followed] == [2, 1, 3, 0, *range(4, 12)]
    engine.followed.clear()
    steps = followed(stack, engine, {2: CLICK, 10: CLICK})
    assert [key[1].position[0] for key in engine.followed] == [10, 9, 11, 8, 7]
    assert sorted(step.index for step in steps) == list(range(12))
    engine.followed.clear()
    followed(stack, engine, {2: CLICK})
    assert engine.followed == [], "it was known before"


def test_what_is_remembered_has_an_end():
    stack, engine = stack_of(bars(5)), FakeEngine()
    for x in range(11, 24):
        followed(stack, engine, {2: Prompts(points=[(10, x)])})
    assert len(stack._answers) == KEPT * 5


def test_one_way_leaves_the_other_alone_and_says_how_many_planes_there_are():
    stack, engine, heard = stack_of(bars(6)), FakeEngine(), []
    options = PropagateOptions(ways=(1,))
    steps = followed(stack, engine, {2: CLICK}, options=options, progress=lambda *what: heard.append(what))
    assert [step.index for step in steps] == [2, 3, 4, 5]
    assert heard[-1] == (4, 4, "Following the object: plane 5…")


def test_what_is_given_for_a_plane_is_not_asked():
    stack, engine = stack_of(bars(3)), FakeEngine()
    first = followed(stack, engine, {1: CLICK})[0]
    engine.followed.clear()
    other = stack_of(bars(3))
    followed(other, engine, {1: CLICK}, known={1: first.found})
    assert [key[1].position[0] for key in engine.followed] == [0, 2]


def test_intensities_are_stretched_alike_on_all_planes_and_planes_of_one_value_are_not_looked_at():
    volume = bars(4).astype(np.uint16)
    volume[2] *= 3
    volume[3] = 7
    engine = FakeEngine()
    steps = followed(stack_of(volume), engine, {0: CLICK})
    brightest = {key[1].position[0]: int(seen.max()) for key, seen in engine.seen.items()}
    assert brightest == {0: 3 * 85, 1: 3 * 85, 2: 3 * 255}
    assert steps[-1].stopped == "all pixels are equal"


def test_colours_are_followed_too():
    colours = np.repeat(bars(3)[..., None], 3, axis=-1)
    steps = followed(stack_of(colours, rgb=True), FakeEngine(), {1: CLICK})
    assert [step.item.box for step in steps] == [(5, 10, 15, 25)] * 3
