"""A line of steps that can be gone back and forth, without napari or Qt."""

import subprocess
import sys

import pytest

pytest.importorskip("psygnal")

from napari_samscape.widgets.history import History, Step


class Page:
    """A list of words; writing on it is a step."""

    def __init__(self, history):
        self.history = history
        self.words = []

    def write(self, word, *about):
        self.words.append(word)
        self.history.add(Step(word, self.words.pop, lambda: self.words.append(word), about))


@pytest.fixture
def history():
    return History()


@pytest.fixture
def page(history):
    return Page(history)


def test_steps_are_undone_and_done_again_in_order(history, page):
    for word in "abc":
        page.write(word)
    assert (history.undo(), history.undo()) == (True, True)
    assert page.words == ["a"] and (history.to_undo, history.to_redo) == ("a", "b")
    assert history.redo() and page.words == ["a", "b"]


def test_at_the_ends_nothing_happens(history):
    assert (history.undo(), history.redo()) == (False, False)
    assert (history.to_undo, history.to_redo) == (None, None)


def test_something_new_ends_what_was_undone(history, page):
    page.write("a")
    history.undo()
    page.write("b")
    assert not history.redo() and page.words == ["b"]


def test_what_is_done_together_is_undone_together(history, page):
    page.write("a")
    with history.together("sentence"):
        page.write("b")
        with history.together("part"):
            page.write("c")
    assert history.to_undo == "sentence"
    history.undo()
    assert page.words == ["a"]
    history.redo()
    assert page.words == ["a", "b", "c"]


def test_what_was_done_before_an_error_can_be_undone(history, page):
    with pytest.raises(ZeroDivisionError), history.together("sentence"):
        page.write("a")
        _ = 1 / 0
    history.undo()
    assert page.words == []


def test_doing_nothing_together_is_no_step(history):
    with history.together("nothing"):
        pass
    assert not history.undo()


def test_what_changes_while_undoing_is_no_step(history, page):
    page.write("a")
    history.add(Step("echo", lambda: page.write("undone"), lambda: None))
    history.undo()
    assert page.words == ["a", "undone"] and history.to_undo == "a"


def test_one_can_go_back_to_the_last_step_about_a_thing(history, page):
    layer, other = object(), object()
    for word, about in (("a", layer), ("b", other), ("c", None)):
        page.write(word, about)
    assert history.undo(about=layer) and page.words == []
    assert history.redo(about=other) and page.words == ["a", "b"]
    assert not history.redo(about=layer) and page.words == ["a", "b"]


def test_a_step_that_is_impossible_by_now_is_passed_over(history, page):
    page.write("a")
    history.add(Step("gone", lambda: False, lambda: False))
    assert history.undo() and page.words == []
    history.redo()
    assert not history.redo()


def test_no_more_is_kept_than_the_things_keep_themselves():
    history = History(limit=100, limit_each=2)
    page, layer = Page(history), object()
    for word in "abcd":
        page.write(word, layer)
        page.write(word.upper())
    while history.undo():
        pass
    assert page.words == ["a", "A", "b"]  # with its step, all before it is beyond recall


def test_there_is_a_limit_to_all():
    history = History(limit=3)
    page = Page(history)
    for word in "abcde":
        page.write(word)
    while history.undo():
        pass
    assert page.words == ["a", "b"]


def test_what_was_undone_elsewhere_can_be_done_again(history, page):
    history.add_undone(Step("a", page.words.pop, lambda: page.words.append("a")))
    assert history.redo() and page.words == ["a"]
    assert history.undo() and page.words == []


def test_a_step_that_came_to_nothing_leaves_no_trace(history, page):
    page.write("a")
    page.write("b")
    history.cancel()
    assert page.words == ["a"] and (history.to_undo, history.to_redo) == ("a", None)


def test_every_change_is_told(history, page):
    told = []
    history.changed.connect(lambda: told.append(history.to_undo))
    page.write("a")
    history.undo()
    assert told == ["a", None]
    page.write("b")
    history.clear()
    assert told[-1] is None and not history.undo()


def test_it_needs_neither_napari_nor_qt():
    code = (
        "import sys, napari_samscape.widgets.history\n"
        "print([m for m in ('napari', 'qtpy', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
