"""The data engine: a project on disk, what the model fills in, when it learns, and what comes out."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_samscape import InputError, open_image
from napari_samscape.annotation import loop, simulate, stages
from napari_samscape.annotation.loop import accept_labels, export, finish_automatically, next_picture, train
from napari_samscape.annotation.project import FILE, Accepted, Project
from napari_samscape.annotation.simulate import TARGET, annotate
from napari_samscape.annotation.stages import Confidence, Proposal, propose
from napari_samscape.cli.app import app
from napari_samscape.io import read_objects, write_labels
from napari_samscape.prediction.instances import instance_from_mask, instances_from_labels, mask_iou
from napari_samscape.prediction.types import Instance, Instances


def square(y: int, x: int, side: int = 10, iou: float = 0.9, stability: float = 0.9) -> Instance:
    mask = np.ones((side, side), bool)
    return instance_from_mask(mask, offset=(y, x), predicted_iou=iou, stability=stability)


def same(one: Instance, other: Instance) -> bool:
    return one.box == other.box and np.array_equal(one.bits, other.bits)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures with two bright squares each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        pixels = np.full((64, 64), 20, np.uint8)
        pixels[8:24, 8:24] = pixels[36:56, 30 + number : 50 + number] = 200
        Image.fromarray(pixels).save(folder / f"p{number}.png")
    return folder


@pytest.fixture
def labels() -> np.ndarray:
    """What is in the first of them."""
    labels = np.zeros((64, 64), np.uint16)
    labels[8:24, 8:24], labels[36:56, 30:50] = 1, 2
    return labels


@pytest.fixture
def project(pictures: Path, tmp_path: Path) -> Project:
    return Project.create(tmp_path / "project", str(pictures), every=4)


class TestProject:
    def test_a_project_lists_its_pictures_and_is_found_again(self, project: Project) -> None:
        again = Project.open(project.folder)
        assert again.state == project.state
        assert [entry.name for entry in again.left()] == ["p0", "p1", "p2"]
        assert again.stage == "assisted" and again.model_path(again.newest) == "nano"

    def test_every_plane_of_a_stack_is_a_picture(self, tmp_path: Path) -> None:
        write_labels(tmp_path / "s.ome.zarr", np.arange(2 * 8 * 9, dtype=np.uint16).reshape(2, 8, 9))
        project = Project.create(tmp_path / "project", str(tmp_path / "s.ome.zarr"))
        assert [(entry.name, entry.z) for entry in project.state.pictures] == [("s_t0_z0", 0), ("s_t0_z1", 1)]
        assert project.state.pictures[1].read()[0, 0] == 72

    def test_objects_come_back_as_they_were_accepted(self, project: Project) -> None:
        one = Accepted(square(3, 4, iou=0.75), "clicked", "ann", 2, 3)
        project.put("p1", [one], done=False)
        (back,) = Project.open(project.folder).accepted("p1")
        assert same(back.item, one.item) and back.item.predicted_iou == 0.75
        assert (back.how, back.by, back.version, back.clicks) == ("clicked", "ann", 2, 3)
        assert not project.is_done("p1") and project.count() == 0

    def test_only_finished_pictures_are_learned_from(self, project: Project) -> None:
        project.put("p0", [Accepted(square(3, 4))], done=True)
        project.put("p1", [Accepted(square(3, 4))], done=False)
        assert [sample.name for sample in project.samples()] == ["p0"]
        assert project.count() == 1 and len(project.left()) == 2

    def test_the_model_learns_after_so_many_new_objects_and_not_again_before_as_many(
        self, project: Project
    ) -> None:
        project.put("p0", [Accepted(square(3, y)) for y in (0, 12, 24)], done=True)
        assert not project.is_due()
        project.put("p1", [Accepted(square(3, 4))], done=True)
        assert project.is_due()
        project.note_training(4, None)  # in vain
        assert not Project.open(project.folder).is_due() and project.newest.number == 0

    def test_an_interrupted_write_leaves_the_objects_as_they_were(
        self, project: Project, monkeypatch
    ) -> None:
        project.put("p0", [Accepted(square(3, 4))], done=True)

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("napari_samscape.annotation.project.json.dump", fail)
        with pytest.raises(KeyboardInterrupt):
            project.put("p0", [], done=False)
        assert len(project.accepted("p0")) == 1 and project.is_done("p0")
        assert [path.name for path in (project.folder / "accepted").iterdir()] == ["p0.json"]

    def test_a_project_of_a_newer_version_is_refused(self, project: Project) -> None:
        path = project.folder / FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
        with pytest.raises(InputError, match=r"made by a newer version of samscape \(form 2; .* up to 1\)"):
            Project.open(project.folder)

    @pytest.mark.parametrize(
        ("text", "says"), [("{", "no JSON"), ('{"version": 1}', "damaged"), (None, "no annotation")]
    )
    def test_a_folder_that_holds_no_project_is_refused(self, project: Project, text: str, says: str) -> None:
        path = project.folder / FILE
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(InputError, match=says):
            Project.open(project.folder)

    def test_a_folder_that_is_not_empty_and_a_picture_that_is_not_there_are_refused(
        self, project: Project, pictures: Path
    ) -> None:
        with pytest.raises(InputError, match="is not empty"):
            Project.create(project.folder, str(pictures))
        with pytest.raises(InputError, match="no picture 'p9'"):
            project.entry("p9")


class TestStages:
    def found(self, monkeypatch, *items: Instance) -> None:
        monkeypatch.setattr(stages, "everything", lambda *_, **__: Instances(items, (64, 64)))

    def test_what_the_model_is_sure_of_is_filled_in_once(self, monkeypatch) -> None:
        sure, unsure, shaky = square(0, 0, iou=0.95), square(20, 0, iou=0.7), square(40, 0, stability=0.5)
        double = square(1, 1, iou=0.85)
        self.found(monkeypatch, sure, double, unsure, shaky)
        proposal = propose(None, np.zeros((64, 64)))  # type: ignore[arg-type]
        assert list(proposal.filled) == [sure]
        assert proposal.uncertainty == pytest.approx(np.mean([0.05, 0.15, 0.3, 0.1]))

    def test_nothing_is_filled_in_over_what_is_there(self, monkeypatch) -> None:
        self.found(monkeypatch, square(0, 0), square(20, 0))
        proposal = propose(None, np.zeros((64, 64)), [square(2, 2)])  # type: ignore[arg-type]
        assert [item.box[0] for item in proposal.filled] == [20]

    def test_a_picture_in_which_nothing_was_found_is_the_most_uncertain(self, monkeypatch) -> None:
        self.found(monkeypatch)
        assert propose(None, np.zeros((64, 64))).uncertainty == 1  # type: ignore[arg-type]

    def test_a_confidence_out_of_range_is_refused(self) -> None:
        with pytest.raises(InputError, match="predicted_iou must be from 0 to 1"):
            Confidence(1.5)


class TestLoop:
    def unsure(self, monkeypatch, **by_first_pixel: float) -> None:
        """Let the model be unsure of pictures p0, p1 and p2, which differ in one column."""

        def propose(model, pixels, there=(), confidence=None, progress=None) -> Proposal:
            name = f"p{np.flatnonzero(pixels[40] > 100)[0] - 30}"
            return Proposal((square(0, 40),), by_first_pixel[name])

        monkeypatch.setattr(loop, "propose", propose)

    def test_in_the_first_stage_pictures_come_in_order_and_empty(self, project: Project) -> None:
        entry, proposal = next_picture(project, None)  # type: ignore[arg-type, misc]
        assert entry.name == "p0" and proposal.filled == ()

    def test_then_the_most_uncertain_one_comes_first_and_pre_segmented(
        self, project: Project, tmp_path: Path, monkeypatch
    ) -> None:
        self.unsure(monkeypatch, p0=0.2, p1=0.6, p2=0.4)
        project.note_training(2, project.new_path())
        entry, proposal = next_picture(project, None)  # type: ignore[arg-type, misc]
        assert project.stage == "semi" and entry.name == "p1" and len(proposal.filled) == 1

    def test_a_picture_that_was_begun_is_gone_on_with(self, project: Project, monkeypatch) -> None:
        self.unsure(monkeypatch, p0=0.2, p1=0.6, p2=0.4)
        project.note_training(2, project.new_path())
        project.put("p2", [Accepted(square(0, 0))], done=False)
        assert next_picture(project, None)[0].name == "p2"  # type: ignore[arg-type, index]

    def test_objects_of_labels_keep_their_story_where_they_were_left_alone(
        self, project: Project, labels: np.ndarray
    ) -> None:
        first = instances_from_labels(labels)[0]
        project.put("p0", [Accepted(first, "filled", "", 1)], done=False)
        assert accept_labels(project, "p0", labels, "ann", True) == 2
        stories = [(one.how, one.by) for one in project.accepted("p0")]
        assert stories == [("filled", ""), ("drawn", "ann")] and project.is_done("p0")

    def test_labels_of_another_size_are_refused(self, project: Project, labels: np.ndarray) -> None:
        with pytest.raises(InputError, match="labels are 50 x 64 pixels, but the picture 'p0' is 64 x 64"):
            accept_labels(project, "p0", labels[:50], "", True)

    def test_the_last_stage_does_what_is_left_and_says_so(self, project: Project, monkeypatch) -> None:
        self.unsure(monkeypatch, p0=0.2, p1=0.6, p2=0.4)
        project.put("p0", [Accepted(square(0, 0), "clicked")], done=True)
        assert finish_automatically(project, None) == 2  # type: ignore[arg-type]
        assert project.stage == "done"
        hows = [[one.how for one in project.accepted(f"p{k}")] for k in range(3)]
        assert hows == [["clicked"], ["automatic"], ["automatic"]]

    def test_a_new_version_is_made_and_noted(self, project: Project, labels: np.ndarray, monkeypatch) -> None:
        accept_labels(project, "p0", labels, "", True)

        def tune(parent, material, out, settings, **_: object):
            assert material.objects == 2 and parent.name == "nano"
            # Nothing but the project's own pictures need be known.
            assert (settings.method, settings.share, settings.rehearsal) == ("full", 1, 0)
            out.write_bytes(b"weights")
            return type("Outcome", (), {"path": out})

        monkeypatch.setattr(loop, "tune", tune)
        version = train(project)
        assert version is not None and (version.number, version.objects) == (1, 2)
        again = Project.open(project.folder)
        assert Path(again.model_path(again.newest)).read_bytes() == b"weights"

    def test_a_training_under_way_is_not_begun_twice(self, project: Project, labels: np.ndarray) -> None:
        accept_labels(project, "p0", labels, "", True)
        with loop._learning(project):
            with pytest.raises(InputError, match="is learning already"):
                train(Project.open(project.folder))
            assert not loop.train_in_background(project)

    def test_objects_are_exported_with_their_story(
        self, project: Project, labels: np.ndarray, tmp_path: Path
    ) -> None:
        accept_labels(project, "p0", labels, "ann", True)
        written = export(project, tmp_path / "out")
        assert [path.name for path in written] == ["p0.json", "p0.ome.zarr"]
        assert [row.area for row in read_objects(written[0])] == [256, 400]
        assert np.array_equal(open_image(written[1]).plane() > 0, labels > 0)
        assert '"by": "ann"' in written[0].read_text()

    def test_a_project_without_objects_exports_nothing(self, project: Project, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="Nothing was accepted yet"):
            export(project, tmp_path / "out")


class TestAnnotator:
    def test_it_clicks_until_every_object_is_right(self, nano, pictures: Path, labels: np.ndarray) -> None:
        pixels = open_image(pictures / "p0.png").plane()
        objects = instances_from_labels(labels).items
        accepted, wrong = annotate(nano, pixels, objects)
        assert wrong == 0 and len(accepted) == 2
        for one, true in zip(accepted, objects, strict=True):
            assert mask_iou(one.item, true) >= TARGET and one.clicks >= 1 and one.how == "clicked"

    def test_what_is_filled_in_rightly_needs_no_click_and_what_is_wrong_costs_one(
        self, nano, pictures: Path, labels: np.ndarray
    ) -> None:
        pixels = open_image(pictures / "p0.png").plane()
        objects = instances_from_labels(labels).items
        accepted, wrong = annotate(nano, pixels, objects, [*objects, square(0, 50)])
        assert [(one.how, one.clicks) for one in accepted] == [("filled", 0)] * 2 and wrong == 1

    def test_what_is_filled_in_nearly_right_is_corrected_by_clicks(
        self, nano, pictures: Path, labels: np.ndarray
    ) -> None:
        pixels = open_image(pictures / "p0.png").plane()
        objects = instances_from_labels(labels).items
        short = square(8, 8, 13)  # of 16 pixels: IoU 0.66
        (one, _), wrong = annotate(nano, pixels, objects, [short])
        assert wrong == 0 and one.how == "clicked" and mask_iou(one.item, objects[0]) >= TARGET

    def test_all_pictures_are_done_and_counted(
        self, project: Project, labels: np.ndarray, monkeypatch
    ) -> None:
        truth = {f"p{k}": instances_from_labels(labels).items for k in range(3)}
        clicked = [
            Accepted(square(0, 0), "clicked", "script", 0, 2),
            Accepted(square(9, 9), "drawn", "s", 0, 9),
        ]
        monkeypatch.setattr(simulate, "annotate", lambda *_: (copy.copy(clicked), 1))
        monkeypatch.setattr(simulate, "train", lambda *_: pytest.fail("it was told not to learn"))
        efforts = simulate.simulate(project, truth, learns=False)
        assert [effort.clicks for effort in efforts] == [12, 12, 12]
        assert [effort.unreached for effort in efforts] == [1, 1, 1] and project.stage == "done"


class TestCommand:
    def run(self, *arguments: object):
        return CliRunner().invoke(app, ["engine", *map(str, arguments)])

    def test_a_project_goes_from_its_first_picture_to_its_export(
        self, pictures: Path, labels: np.ndarray, tmp_path: Path
    ) -> None:
        folder = tmp_path / "project"
        begun = json.loads(self.run("init", folder, pictures, "--json").stdout)
        assert (begun["pictures"], begun["done"], begun["stage"]) == (3, 0, "assisted")
        said = json.loads(self.run("next", folder, "--proposal", tmp_path / "next.tif", "--json").stdout)
        assert said["picture"] == "p0" and not open_image(tmp_path / "next.tif").plane().any()
        write_labels(tmp_path / "mine.tif", labels)
        done = self.run("accept", folder, "p0", tmp_path / "mine.tif", "--by", "ann")
        assert done.exit_code == 0, done.output
        assert "1 of 3 pictures done; objects: 2 drawn; model version 0" in done.stdout
        assert self.run("export", folder, tmp_path / "out").exit_code == 0
        assert (tmp_path / "out" / "p0.json").exists()

    def test_what_is_no_project_is_said_with_exit_code_2(self, tmp_path: Path) -> None:
        done = self.run("status", tmp_path)
        assert done.exit_code == 2 and "is no annotation project" in done.stderr
