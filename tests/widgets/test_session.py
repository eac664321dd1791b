"""What a session does, step by step, without napari, Qt or a model."""

import sys

import numpy as np
import pytest

pytest.importorskip("psygnal")

from fake_engine import FakeEngine

from napari_samscape.errors import InputError
from napari_samscape.prediction.types import Prompts
from napari_samscape.widgets.session import Session, View
from napari_samscape.widgets.turns import Turn, fit

PICTURE = np.array([[0, 0, 0, 0], [0, 5, 5, 0], [0, 5, 5, 0], [0, 0, 0, 0]])
CLICK = Prompts(points=[(1, 1)])
TWO_CLICKS = Prompts(points=[(1, 1), (2, 2)])
ELSEWHERE = Prompts(points=[(0, 0)])


class Bench:
    """Stands in for the worker: the work lies on the bench until the test does it."""

    def __init__(self):
        self.job = None
        self.was_cancelled = False

    busy = property(lambda self: self.job is not None)

    def start(self, work, done, failed, reported):
        assert not self.busy, "at most one piece of work at a time"
        self.job = (work, done, failed, reported)
        self.was_cancelled = False

    def cancel(self):
        self.was_cancelled = True

    def step(self):
        """Do the work that lies there."""
        work, done, failed, reported = self.job
        cancelled, result, error = self.was_cancelled, None, None
        try:
            result = work(reported)
        except Exception as problem:
            error = problem
        self.job = None
        if cancelled or error is not None:
            failed(None if cancelled else error)
        else:
            done(result)

    def finish(self):
        """Do all the work there is."""
        while self.busy:
            self.step()


def seen(preview):
    """What is previewed, in the picture."""
    return preview.within(PICTURE.shape)


def view(key="a", picture=PICTURE):
    return View(key, lambda: picture)


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def session(bench, engine):
    return Session(bench, engine)


def test_with_nothing_to_look_at_it_says_so(session, bench):
    assert session.state.phase == "nothing"
    assert session.state.text == "Open an image to begin."
    session.ask(CLICK)
    assert not bench.busy


def test_a_picture_is_looked_at_before_anything_is_asked(session, bench, engine):
    session.look_at(view())
    assert session.state.phase == "working"
    bench.finish()
    assert session.state.phase == "ready" and session.state.masks is None
    assert engine.knows("a") and engine.asked == []


def test_a_click_is_answered_with_three_masks_and_the_best_is_chosen(session, bench):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    assert session.state.chosen == 1
    np.testing.assert_array_equal(session.state.mask, PICTURE == 5)
    assert session.state.picture.shape == (4, 4, 3)


def test_a_click_during_the_embedding_waits_for_it(session, bench, engine):
    session.look_at(view())
    session.ask(CLICK)
    session.ask(ELSEWHERE)
    assert not bench.was_cancelled
    bench.finish()
    assert engine.asked == [ELSEWHERE], "only the latest is worth asking"


def test_the_answer_to_an_outdated_prompt_is_dropped(session, bench):
    session.look_at(view())
    bench.finish()
    session.ask(CLICK)
    session.ask(ELSEWHERE)
    bench.step()
    assert session.state.masks is None and session.pending
    bench.finish()
    np.testing.assert_array_equal(session.state.mask, PICTURE == 0)


def test_the_old_masks_stay_until_the_new_ones_are_there(session, bench):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    before = session.state.masks
    session.ask(ELSEWHERE)
    assert session.state.masks is before and session.pending
    bench.finish()
    assert session.state.masks is not before and not session.pending


def test_no_prompt_means_no_masks(session, bench):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    session.ask(None)
    assert session.state.masks is None and session.state.phase == "ready"


def test_the_users_choice_stands_until_the_object_is_done(session, bench):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    session.choose(2)
    session.ask(Prompts(points=[(2, 1)]))
    bench.finish()
    assert session.state.chosen == 2 and session.state.picked
    session.ask(None)
    session.ask(CLICK)
    bench.finish()
    assert session.state.chosen == 1 and not session.state.picked


def test_a_further_point_corrects_the_chosen_mask_and_gets_one_answer(session, bench, engine):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    session.choose(2)
    chosen = session.state.masks.logits[2]
    session.ask(TWO_CLICKS)
    bench.finish()
    np.testing.assert_array_equal(engine.asked[-1].mask, chosen)
    np.testing.assert_array_equal(engine.asked[-1].points, TWO_CLICKS.points)
    assert len(session.state.masks.iou) == 1 and session.state.chosen == 0


@pytest.mark.parametrize(
    "other",
    [
        Prompts(points=[(2, 2), (1, 1)]),
        Prompts(points=[(1, 1), (2, 2)], labels=[0, 1]),
        Prompts(points=[(1, 1), (2, 2)], box=(0, 0, 3, 3)),
        Prompts(points=[(1, 1), (2, 2)], mask=PICTURE == 5),
        Prompts(points=[(2, 1)]),
    ],
    ids=["moved", "turned", "boxed", "drawn", "replaced"],
)
def test_prompts_that_do_more_than_go_on_are_a_new_question(session, bench, engine, other):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    session.ask(other)
    bench.finish()
    assert engine.asked[-1] is other


def test_several_points_at_once_get_one_answer(session, bench):
    session.look_at(view())
    session.ask(TWO_CLICKS)
    bench.finish()
    assert len(session.state.masks.iou) == 1


def test_the_masks_can_be_gone_through(session, bench):
    session.choose_next()
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    seen = []
    for _ in range(3):
        session.choose_next()
        seen.append(session.state.chosen)
    assert seen == [2, 0, 1]
    session.choose(7)
    assert session.state.chosen == 1


def test_another_plane_stops_the_work_for_the_old_one(session, bench, engine):
    session.look_at(view("a"))
    session.ask(CLICK)
    session.look_at(view("b", PICTURE.T))
    assert bench.was_cancelled
    bench.finish()
    assert engine.knows("b") and engine.asked == []


def test_a_plane_seen_before_is_not_looked_at_again(session, bench, engine):
    for key in "aba":
        session.look_at(view(key))
        bench.finish()
    reads = []
    session.look_at(View("b", lambda: reads.append(1)))
    assert session.state.phase == "ready" and not bench.busy and reads == []


def test_the_same_plane_again_keeps_prompts_and_masks(session, bench):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    session.look_at(view())
    assert session.state.masks is not None


def test_another_model_is_asked_the_same(session, bench):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    other = FakeEngine("other")
    session.use(other)
    bench.finish()
    assert other.asked == [CLICK]


def test_cancelled_work_starts_again_with_the_next_prompt(session, bench, engine):
    session.look_at(view())
    session.cancel()
    bench.finish()
    assert session.state.phase == "stopped" and not session.pending
    session.ask(CLICK)
    bench.finish()
    assert session.state.mask is not None


def test_an_error_is_told_once_and_not_tried_for_ever(session, bench):
    told = []
    session.failed.connect(told.append)
    session.look_at(view(picture=np.full((4, 4), np.nan)))
    session.ask(CLICK)
    bench.finish()
    assert [str(error) for error in told] == ["The picture holds values that are not finite."]
    assert isinstance(told[0], InputError)
    assert session.state.phase == "stopped" and session.state.text == str(told[0])


def test_an_error_about_a_plane_no_longer_shown_is_not_told(session, bench):
    told = []
    session.failed.connect(told.append)
    session.look_at(view("a", np.full((4, 4), np.nan)))
    bench.cancel = lambda: None  # it fails before it notices
    session.look_at(view("b"))
    bench.finish()
    assert told == [] and session.state.phase == "ready"


def test_masks_for_older_prompts_are_dropped_when_the_new_ones_fail(session, bench):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    session.ask(Prompts(points=[(99, 99)]))
    bench.finish()
    assert session.state.phase == "stopped" and session.state.masks is None


def test_progress_is_part_of_the_state(session, bench):
    session.look_at(view())
    bench.job[3](3, 8, "Looking at the picture…")
    assert (session.state.done, session.state.total) == (3, 8)
    bench.finish()
    assert session.state.phase == "ready"


def test_nothing_to_look_at_any_more_says_why(session, bench):
    session.look_at(view())
    bench.finish()
    session.look_at(None, "Switch to 2D.")
    assert (session.state.phase, session.state.text) == ("nothing", "Switch to 2D.")


def test_the_session_imports_neither_napari_nor_qt_nor_torch():
    import subprocess

    code = (
        "import sys, napari_samscape.widgets.session, napari_samscape.widgets.engine\n"
        "print([m for m in ('napari', 'qtpy', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- the cursor ---


def test_where_the_cursor_points_is_previewed_without_a_prompt_or_a_word(session, bench):
    session.look_at(view())
    bench.finish()
    said = []
    session.changed.connect(lambda state: said.append(state.text))
    session.point_at((1, 1))
    bench.finish()
    np.testing.assert_array_equal(seen(session.state.preview), PICTURE == 5)
    assert session.state.shown is session.state.preview
    assert session.state.masks is None and not session.has_prompts
    assert set(said) == {"Click on an object, or draw a box round it."}


def test_only_the_newest_place_of_the_cursor_is_asked_for(session, bench, engine):
    session.look_at(view())
    bench.finish()
    for place in [(1, 1), (1, 2), (2, 2), (0, 0)]:
        session.point_at(place)
    bench.finish()
    assert [prompts.points.tolist() for prompts in engine.asked] == [[[1, 1]], [[0, 0]]]
    np.testing.assert_array_equal(seen(session.state.preview), PICTURE == 0)


def test_the_preview_goes_when_the_cursor_leaves(session, bench):
    session.look_at(view())
    bench.finish()
    session.point_at((1, 1))
    bench.finish()
    session.point_at((2, 2))
    session.point_at(None)
    assert session.state.preview is None
    bench.finish()
    assert session.state.preview is None, "an answer that comes late is not shown"


def test_a_click_turns_the_preview_into_masks_without_a_gap(session, bench):
    session.look_at(view())
    bench.finish()
    session.point_at((1, 1))
    bench.finish()
    shown = []
    session.changed.connect(lambda state: shown.append(state.shown is not None))
    session.ask(CLICK)
    bench.finish()
    assert all(shown)
    assert session.state.preview is None and session.state.masks is not None


def test_beside_prompts_the_cursor_is_one_point_more_and_the_mask_is_corrected(session, bench, engine):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    session.point_at((0, 0), label=0)
    bench.finish()
    asked = engine.asked[-1]
    assert asked.points.tolist() == [[1, 1], [0, 0]] and asked.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(asked.mask, session.state.masks.logits[1])
    np.testing.assert_array_equal(session.state.mask, PICTURE == 5)  # what a commit writes has not changed
    assert session.state.shown is session.state.preview


def test_a_prompt_comes_before_the_cursor(session, bench, engine):
    session.look_at(view())
    bench.finish()
    session.point_at((0, 0))
    session.ask(CLICK)
    session.point_at((2, 2), label=0)
    bench.finish()
    assert [prompts.points.tolist() for prompts in engine.asked] == [[[0, 0]], [[1, 1]], [[1, 1], [2, 2]]]


def test_the_cursor_waits_for_the_embedding(session, bench, engine):
    session.look_at(view())
    session.point_at((1, 1))
    assert engine.asked == []
    bench.finish()
    np.testing.assert_array_equal(seen(session.state.preview), PICTURE == 5)


def test_clearing_the_prompts_clears_the_preview(session, bench):
    session.look_at(view())
    session.ask(CLICK)
    bench.finish()
    session.point_at((0, 0), label=0)
    bench.finish()
    session.ask(None)
    bench.finish()
    assert session.state.shown is None


# --- asking as it was asked before ---


def asked(engine):
    """What has been asked so far, with the corner of the mask beside it."""
    corner = [None if prompts.mask is None else prompts.mask[0, 0] for prompts in engine.asked]
    return [(len(prompts.points), mask) for prompts, mask in zip(engine.asked, corner, strict=True)]


def test_an_answer_knows_the_turns_that_led_to_it(session, bench):
    session.look_at(view())
    assert session.answer is None
    session.ask(CLICK)
    bench.finish()
    assert session.answer == (CLICK, (Turn(1, None),))
    session.choose(2)
    session.ask(TWO_CLICKS)
    bench.finish()
    assert session.answer == (TWO_CLICKS, (Turn(1, 2), Turn(2, None)))
    session.ask(ELSEWHERE)
    bench.finish()
    assert session.answer == (ELSEWHERE, (Turn(1, None),))
    session.ask(None)
    assert session.answer is None


def test_turns_are_gone_through_again_with_the_same_questions_and_choices(session, bench, engine):
    session.look_at(view())
    session.ask(TWO_CLICKS, (Turn(1, 2), Turn(2, None)))
    bench.finish()
    assert asked(engine) == [(1, None), (2, 8.0)]  # the corner of the third mask's logits
    assert session.answer == (TWO_CLICKS, (Turn(1, 2), Turn(2, None)))
    session.ask(CLICK, (Turn(1, 0),))
    bench.finish()
    assert (session.state.chosen, session.state.picked) == (0, True)
    session.ask(CLICK, (Turn(1, None),))
    bench.finish()
    assert (session.state.chosen, session.state.picked) == (1, False)


def test_what_is_asked_afterwards_goes_on_from_there(session, bench, engine):
    session.look_at(view())
    session.ask(CLICK, (Turn(1, 0),))
    bench.finish()
    session.ask(TWO_CLICKS)
    bench.finish()
    assert asked(engine)[-1] == (2, 0.0)
    assert session.answer[1] == (Turn(1, 0), Turn(2, None))


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ((Turn(2),), True),
        ((Turn(1), Turn(2)), True),
        ((), False),
        ((Turn(1),), False),
        ((Turn(2), Turn(1)), False),
        ((Turn(0), Turn(2)), False),
        ((Turn(2), Turn(2)), False),
    ],
)
def test_turns_that_cannot_have_led_there_are_told(turns, expected):
    assert fit(turns, TWO_CLICKS) is expected


def test_a_box_alone_is_a_turn_and_an_outline_has_but_one():
    assert fit((Turn(0), Turn(1)), Prompts(points=[(1, 1)], box=(0, 0, 3, 3)))
    drawn = Prompts(points=[(1, 1)], box=(0, 0, 3, 3), mask=PICTURE == 5)
    assert fit((Turn(1),), drawn) and not fit((Turn(0), Turn(1)), drawn)


# --- looking ahead ---


def test_pictures_nearby_are_looked_at_while_there_is_nothing_to_do(session, bench, engine):
    session.look_at(view())
    bench.finish()
    for key in "bc":
        session.look_ahead([view("b"), view("c")])
        assert session.state.phase == "ready", "nobody is told"
        bench.finish()
        assert engine.knows(key)
    session.look_ahead([view("b"), view("c")])
    assert not bench.busy


def test_whatever_else_is_wanted_stops_looking_ahead(session, bench, engine):
    session.look_at(view())
    bench.finish()
    session.look_ahead([view("b")])
    session.point_at((1, 1))
    assert bench.was_cancelled
    bench.finish()
    np.testing.assert_array_equal(seen(session.state.preview), PICTURE == 5)
    session.look_ahead([view("c")])
    session.ask(CLICK)
    assert bench.was_cancelled
    bench.finish()
    np.testing.assert_array_equal(session.state.mask, PICTURE == 5)


def test_what_is_being_looked_at_ahead_is_waited_for_when_it_is_wanted(session, bench, engine):
    session.look_at(view())
    bench.finish()
    session.look_ahead([view("b")])
    session.look_at(view("b"))
    assert not bench.was_cancelled and session.state.phase == "working"
    bench.step()
    assert session.state.phase == "ready" and not bench.busy
