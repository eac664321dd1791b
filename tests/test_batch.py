"""`segment` and `run`, with a stand-in that finds bright spots instead of a model."""

from __future__ import annotations

import json
from pathlib import Path

import bright
import numpy as np
import pytest
import tifffile
import zarr
from bright import MODEL, spots
from PIL import Image as pillow

from napari_samscape.errors import InputError
from napari_samscape.io import Image, open_image
from napari_samscape.model import weights
from napari_samscape.prediction.types import Prompts
from napari_samscape.scaling.batch import Job, run, segment


@pytest.fixture(autouse=True)
def bright_model(monkeypatch: pytest.MonkeyPatch) -> None:
    bright.install(monkeypatch)


# segment -----------------------------------------------------------------------------------------------


def test_everything_in_a_plane_gets_an_id() -> None:
    labels = segment(spots((10, 10), (20, 40)), model=MODEL)
    expected = np.zeros((40, 60), np.int32)
    expected[8:13, 8:13] = 1
    expected[18:23, 38:43] = 2
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "float64", ">u2", ">f8"])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_any_type_and_number_of_channels_is_segmented(dtype: str, channels: int) -> None:
    pixels = np.repeat((spots((10, 10), dtype="bool") * 200).astype(dtype)[..., None], channels, axis=-1)
    assert segment(pixels, model=MODEL).max() == 1


def test_a_model_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"bright": MODEL, Path("bright.pth"): MODEL}
    monkeypatch.setattr(weights, "load_model", names.__getitem__)
    assert [segment(spots((10, 10)), model=name).max() for name in names] == [1, 1]
    monkeypatch.undo()
    with pytest.raises(InputError, match="abacus"):
        segment(spots((10, 10)), model="abacus")


def test_ids_go_on_from_plane_to_plane() -> None:
    stack = np.stack([spots((10, 10), (20, 40)), spots(), spots((30, 30))])
    labels = segment(stack, model=MODEL)
    assert labels.shape == stack.shape
    assert [sorted(set(np.unique(plane)) - {0}) for plane in labels] == [[1, 2], [], [3]]


def test_channels_are_looked_at_together_and_leave_no_axis() -> None:
    stack = np.stack([spots((10, 10)), spots((20, 40))])
    labels = segment(open_image(stack, axes="cyx"), model=MODEL)
    assert labels.shape == (40, 60)
    assert labels.max() == 2


def test_all_planes_share_the_intensity_limits() -> None:
    # Noise in a dim plane must not be stretched to full brightness and taken for objects.
    dim = spots((30, 30)) // 50
    assert segment(dim, model=MODEL).max() == 1
    assert segment(np.stack([spots((10, 10)), dim]), model=MODEL)[1].max() == 0


def test_the_limits_of_a_pyramid_come_from_its_coarsest_level() -> None:
    full = spots((10, 10), (20, 40))

    class Unread:
        shape, dtype = full.shape, full.dtype
        reads = 0

        def __getitem__(self, index: object) -> np.ndarray:
            type(self).reads += 1
            return full[index]

    labels = segment(Image((Unread(), full[::2, ::2]), "yx"), model=MODEL)
    assert labels.max() == 2
    assert Unread.reads == 1, "full resolution was read for more than the segmentation"


def test_each_prompt_is_an_object_and_keeps_its_number() -> None:
    pixels = spots((10, 10), (20, 40), (30, 20))
    prompts = [Prompts(points=[(20, 40)]), Prompts(points=[(0, 0)]), Prompts(box=(5, 5, 15, 15))]
    labels = segment(pixels, model=MODEL, prompts=prompts)
    assert (labels[20, 40], labels[10, 10], labels[30, 20]) == (1, 3, 0)
    assert set(np.unique(labels)) == {0, 1, 3}
    nothing_first = segment(pixels, model=MODEL, prompts=prompts[1:])
    assert set(np.unique(nothing_first)) == {0, 2}


def test_a_single_prompt_needs_no_list() -> None:
    labels = segment(spots((10, 10)), model=MODEL, prompts=Prompts(points=[(10, 10)]))
    assert set(np.unique(labels)) == {0, 1}


def test_where_prompted_objects_overlap_the_smaller_lies_on_top() -> None:
    pixels = spots((10, 10), (10, 30))
    both, one = Prompts(box=(5, 5, 15, 35)), Prompts(box=(5, 5, 15, 15))
    for prompts, expected in (([both, one], [2, 1]), ([one, both], [1, 2])):
        labels = segment(pixels, model=MODEL, prompts=prompts)
        assert [labels[10, 10], labels[10, 30]] == expected


@pytest.mark.parametrize("colour", [0, 7, (255, 255, 255), (0, 0, 200)])
@pytest.mark.parametrize("prompts", [None, Prompts(box=(1, 1, 9, 9))])
def test_a_constant_picture_has_no_objects(colour: int | tuple[int, ...], prompts: Prompts | None) -> None:
    pixels = np.full((40, 60, *np.shape(colour)), colour, np.uint8)
    labels = segment(pixels, model=MODEL, prompts=prompts)
    np.testing.assert_array_equal(labels, np.zeros((40, 60), np.int32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_picture_with_nan_or_infinity_is_refused_and_they_are_counted(bad: float) -> None:
    pixels = spots((10, 10), dtype="float64")
    pixels[0, :3] = bad
    with pytest.raises(InputError, match="NaN or infinite values in 3 of 2400 pixels"):
        segment(pixels, model=MODEL)
    with pytest.raises(InputError, match=r"in 2400 of 2400 pixels"):
        segment(np.full((40, 60), bad), model=MODEL)
    with pytest.raises(InputError, match=r"in 3 of 2400 pixels in plane \("):
        segment(np.stack([spots((10, 10), dtype="float64"), pixels]), model=MODEL)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "magic"}, "no mode 'magic'"),
        ({"mode": "prompts"}, "needs at least one prompt"),
        ({"mode": "prompts", "prompts": []}, "needs at least one prompt"),
        ({"mode": "everything", "prompts": Prompts(points=[(1, 1)])}, "takes no prompts"),
        ({"prompts": Prompts(points=[(40, 1)])}, r"point \(y=40, x=1\) lies outside the picture of 40 x 60"),
        ({"prompts": Prompts(box=(50, 1, 60, 2))}, r"box \(50, 1, 60, 2\) lies outside"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        segment(spots((10, 10)), model=MODEL, **options)


def test_prompts_are_about_one_plane() -> None:
    with pytest.raises(InputError, match=r"about one plane, but .* several \(z=7\)"):
        segment(np.zeros((7, 40, 60)), model=MODEL, prompts=Prompts(points=[(1, 1)]))


def test_progress_rises_to_its_end_over_all_planes() -> None:
    seen: list[tuple[int, int, str]] = []
    stack = np.stack([spots((10, 10), (20, 40)), spots((30, 30), (10, 50))])
    segment(stack, model=MODEL, progress=lambda *report: seen.append(report))
    fractions = [done / total for done, total, _ in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert [text for _, _, text in seen[:3]] == [
        "plane 1 of 2: looking",
        "plane 1 of 2: bright spots",
        "plane 1 of 2: bright spots",
    ]
    assert [text for _, _, text in seen[-2:]] == ["writing", "done"]


def test_raising_from_progress_cancels() -> None:
    def cancel(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(spots((10, 10)), model=MODEL, progress=cancel)


# run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, spots((10, 10), (20, 40)))
    return path


def test_a_job_writes_labels_that_say_how_they_were_made(tmp_path: Path, picture: Path) -> None:
    job = Job(str(picture), str(tmp_path / "out.ome.zarr"), overlay=str(tmp_path / "out.png"))
    result = run(job)
    labels = open_image(result.output)
    np.testing.assert_array_equal(labels.plane(), segment(picture, model=MODEL))
    about = dict(zarr.open_group(result.output, mode="r").attrs["samscape"])
    assert Job.from_json(about["job"]) == job
    assert about["model_sha256"] == MODEL.digest
    with pillow.open(tmp_path / "out.png") as overlay:
        assert overlay.size == (60, 40)
    assert (result.objects, result.planes, result.shape) == (2, 1, (40, 60))
    assert (result.model, result.device, result.note) == ("nano", "cpu", None)
    json.dumps(result.to_json())


def test_a_constant_picture_is_a_result_with_a_note(tmp_path: Path) -> None:
    pillow.new("L", (60, 40), 7).save(tmp_path / "grey.png")
    result = run(Job(str(tmp_path / "grey.png"), str(tmp_path / "out.png")))
    assert result.objects == 0
    assert result.note == "The picture is constant, so there are no objects."
    assert open_image(result.output).plane().max() == 0


def test_the_overlay_of_a_stack_shows_its_middle(tmp_path: Path) -> None:
    stack = np.stack([spots((y, 10)) for y in (5, 15, 25, 35)] + [spots((5, 50))])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    run(Job(str(tmp_path / "stack.tif"), str(tmp_path / "out.tif"), overlay=str(tmp_path / "out.png")))
    overlay = np.asarray(pillow.open(tmp_path / "out.png"))
    tinted = np.ptp(overlay.astype(int), axis=-1) > 0
    np.testing.assert_array_equal(tinted, spots((25, 10)) > 0)


def test_what_can_be_checked_is_checked_before_the_model_is_loaded(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_model(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("napari_samscape.model.weights.load_model", load_model)
    (tmp_path / "there.png").write_bytes(b"precious")
    out = str(tmp_path / "out.png")
    for job in (
        Job(str(tmp_path / "missing.png"), out),
        Job(str(picture), str(tmp_path / "there.png")),
        Job(str(picture), str(tmp_path / "missing" / "out.png")),
        Job(str(picture), out, overlay=str(tmp_path / "there.png")),
        Job(str(picture), out, overlay=out),
        Job(str(picture), out, mode="prompts", prompts=(Prompts(points=[(400, 1)]),)),
    ):
        with pytest.raises(InputError):
            run(job)
    assert bright.contents(tmp_path) == ["cells.tif", "there.png"]


def test_a_cancelled_job_leaves_nothing(tmp_path: Path, picture: Path) -> None:
    def cancel(done: int, total: int, text: str) -> None:
        if total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Job(str(picture), str(tmp_path / "out.ome.zarr")), cancel)
    assert bright.contents(tmp_path) == ["cells.tif"]


def test_a_job_survives_json() -> None:
    prompts = (Prompts(points=[(1, 2), (3, 4)], labels=[1, 0]), Prompts(box=(1, 2, 3, 4)))
    job = Job("in.tif", "out.tif", model="vit_b", mode="prompts", prompts=prompts, device="cpu")
    text = json.dumps(job.to_json())
    again = Job.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text
    np.testing.assert_array_equal(again.prompts[0].labels, [1, 0])
    np.testing.assert_array_equal(again.prompts[1].box, [1, 2, 3, 4])


@pytest.mark.parametrize("values", [{}, {"image": "a", "output": "b", "colour": 1}, {"prompts": [1]}])
def test_what_is_no_job_is_refused(values: dict) -> None:
    with pytest.raises(InputError, match="This is no job"):
        Job.from_json(values)


def test_a_job_cannot_carry_mask_prompts() -> None:
    with pytest.raises(InputError, match="points and boxes only"):
        Job("a", "b", mode="prompts", prompts=(Prompts(mask=np.ones((4, 4), bool)),))
