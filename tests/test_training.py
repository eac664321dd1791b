"""Training: what is asked of the model, that it learns, and that a run can be stopped at any moment."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_samscape import InputError
from napari_samscape.io import write_labels
from napari_samscape.io.labelled import IGNORE
from napari_samscape.model.nano import IMAGE_SIZE, OFFSET_UNIT
from napari_samscape.model.prompt_encoder import BACKGROUND, BOX_END, BOX_START, FOREGROUND, PADDING
from napari_samscape.model.sam import build_nano
from napari_samscape.model.weights import load_model
from napari_samscape.training.batches import Sampler, read_pictures
from napari_samscape.training.data import (
    Crop,
    chances_by_kind,
    cut,
    make_picture,
    object_boxes,
    random_crop,
    read_source,
)
from napari_samscape.training.loss import Targets, dense_loss, mask_losses, pixel_weights, true_iou
from napari_samscape.training.prompts import ask, collate, correction, first_prompt, interior_depth
from napari_samscape.training.synthetic import synthetic_picture
from napari_samscape.training.train import Config, State, forward, new_state, one_step, read_config, train
from napari_samscape.training.watch import TRUTH


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def write_zip(path: Path, pictures: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("index.json", json.dumps([{"name": str(i)} for i in range(len(pictures))]))
        for i, (pixels, labels) in enumerate(pictures):
            archive.writestr(f"images/{i}.png", png(pixels))
            archive.writestr(f"labels/{i}.png", png(labels.astype(np.uint16)))
    return path


@pytest.fixture
def discs() -> tuple[np.ndarray, np.ndarray]:
    """Two bright discs on black."""
    y, x = np.mgrid[:96, :96]
    labels = np.zeros((96, 96), np.uint16)
    labels[(y - 30) ** 2 + (x - 30) ** 2 < 200] = 1
    labels[(y - 66) ** 2 + (x - 60) ** 2 < 300] = 2
    return (labels > 0).astype(np.uint8) * 200, labels


@pytest.fixture
def config(tmp_path: Path, discs: tuple[np.ndarray, np.ndarray]) -> Config:
    write_zip(tmp_path / "discs.zip", [discs])
    (tmp_path / "c.toml").write_text(
        'out = "run"\nminutes = 0.001\nbatch = 2\ncrop = 64\nobjects = 2\nthreads = 1\ndevice = "cpu"\n'
        '[[sources]]\npath = "discs.zip"\n'
    )
    return read_config(tmp_path / "c.toml")


class TestData:
    def test_objects_have_half_open_boxes_and_ignored_regions_have_none(self) -> None:
        labels = np.array([[0, 2, 2, 0], [0, 0, 2, 0], [5, 0, IGNORE, IGNORE]], np.uint16)
        assert object_boxes(labels).tolist() == [[2, 0, 1, 2, 3], [5, 2, 0, 3, 1]]

    def test_cutting_without_turn_or_scale_returns_the_pixels(self, discs) -> None:
        picture = make_picture(*discs, "discs")
        crop = cut(picture, 96, np.array([47.5, 47.5]), np.eye(2))
        assert np.array_equal(crop.labels, discs[1])
        assert np.allclose(crop.pixels[0].numpy(), picture.levels[0][..., 0], atol=1e-2)

    def test_a_quarter_turn_turns_picture_and_labels_alike(self, discs) -> None:
        turn = np.array([[0.0, -1.0], [1.0, 0.0]])
        crop = cut(make_picture(*discs, "discs"), 96, np.array([47.5, 47.5]), turn)
        assert np.array_equal(crop.labels > 0, crop.pixels[0].numpy() > 100)
        assert set(np.unique(crop.labels)) == {0, 1, 2}

    def test_what_lies_outside_the_picture_is_marked(self, discs) -> None:
        crop = cut(make_picture(*discs, "discs"), 96, np.array([0.0, 47.5]), np.eye(2))
        assert crop.pixels[:, :40].isnan().all()
        assert not crop.pixels[:, 50:].isnan().any()

    def test_random_crops_hold_an_object_and_repeat_with_the_seed(self, discs) -> None:
        picture = make_picture(*discs, "discs")
        first, again = (random_crop(picture, 64, 512, np.random.default_rng(3)) for _ in range(2))
        assert (first.labels > 0).any()
        assert np.array_equal(first.labels, again.labels)

    def test_a_kind_of_pictures_is_drawn_by_the_square_root_of_its_number(self, discs) -> None:
        common = make_picture(*discs, "common")
        rare = make_picture(discs[0][:-1], discs[1][:-1], "rare")
        chances = chances_by_kind([common, common, rare, common, common])
        assert chances == pytest.approx([1 / 6, 1 / 6, 1 / 3, 1 / 6, 1 / 6])

    def test_synthetic_scenes_repeat_with_the_seed_and_differ_between_seeds(self) -> None:
        one, same, other = synthetic_picture(1, 128), synthetic_picture(1, 128), synthetic_picture(2, 128)
        assert np.array_equal(one.levels[0], same.levels[0]) and len(one.boxes)
        assert not np.array_equal(one.labels, other.labels)

    @pytest.mark.parametrize("broken", ["missing", "truncated", "no index"])
    def test_a_bad_zip_gets_one_sentence(self, tmp_path: Path, discs, broken: str) -> None:
        path = write_zip(tmp_path / "d.zip", [discs])
        if broken == "missing":
            path.unlink()
        elif broken == "truncated":
            path.write_bytes(path.read_bytes()[:-60])
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("readme.txt", "nothing")
        with pytest.raises(InputError, match="data set|zip of pictures and labels"):
            read_source(path)

    def test_labels_of_another_size_are_refused_by_name(self, tmp_path: Path, discs) -> None:
        path = write_zip(tmp_path / "d.zip", [(discs[0], discs[1][:50])])
        says = "labels/0.png: the labels are 50 x 96 pixels, but the picture is 96 x 96"
        with pytest.raises(InputError, match=says):
            read_source(path)

    def test_ome_zarr_with_labels_inside_is_a_data_set_of_its_planes(self, tmp_path: Path, discs) -> None:
        stack, labels = (np.stack([a, a * 0, a]) for a in discs)
        write_labels(tmp_path / "cells.ome.zarr", stack)  # a picture, for its arrays are like any
        (tmp_path / "cells.ome.zarr" / "labels").mkdir()
        write_labels(tmp_path / "cells.ome.zarr" / "labels" / "discs.zarr", labels)
        pictures = read_source(tmp_path / "cells.ome.zarr")
        assert [picture.name[-3:] for picture in pictures] == ["0/0", "0/2"]  # t/z of those with labels
        assert np.array_equal(pictures[1].labels, discs[1])

    def test_ome_zarr_without_labels_is_refused(self, tmp_path: Path, discs) -> None:
        write_labels(tmp_path / "cells.ome.zarr", discs[0])
        with pytest.raises(InputError, match="data set without labels"):
            read_source(tmp_path / "cells.ome.zarr")


class TestPrompts:
    def test_depth_is_counted_to_the_next_object_too(self) -> None:
        labels = np.zeros((5, 9), np.int64)
        labels[:, :5], labels[:, 5:] = 1, 2
        assert interior_depth(labels)[2].tolist() == [5, 4, 3, 2, 1, 1, 2, 3, 4]

    def test_first_prompts_lie_on_their_object(self) -> None:
        mask = np.zeros((40, 40), bool)
        mask[10:20, 5:25] = True
        depth = interior_depth(mask.astype(np.int64))
        seen = set()
        for seed in range(60):
            points, labels = first_prompt(mask, depth, np.random.default_rng(seed))
            seen.add(tuple(labels))
            if labels[0] == FOREGROUND:
                x, y = points[0]
                assert mask[int(y), int(x)]
        assert seen == {
            (FOREGROUND, PADDING, PADDING),
            (PADDING, BOX_START, BOX_END),
            (FOREGROUND, BOX_START, BOX_END),
        }

    def test_a_correction_clicks_where_the_mask_is_wrong(self) -> None:
        wanted = torch.zeros(3, 8, 8)
        wanted[:, 2:5, 2:5] = 1
        logits = torch.where(wanted > 0, 1.0, -1.0)
        logits[0, 3, 3] = -1  # missed
        logits[1, 7, 7] = 1  # too much
        weights = torch.full((3, 8, 8), 1 / 64)
        points, labels = correction(
            logits, Targets(wanted, weights, torch.ones(3, dtype=torch.bool)), np.random.default_rng(0)
        )
        assert points[:2, 0].tolist() == [[6.5, 6.5], [14.5, 14.5]]
        assert labels[:, 0].tolist() == [FOREGROUND, BACKGROUND, PADDING]

    def test_cells_point_to_the_middle_of_their_objects_box(self) -> None:
        labels = np.zeros((16, 16), np.int64)
        labels[0:8, 4:16] = 3  # box from 0 to 7 and 4 to 15: middle (3.5, 9.5)
        question = ask(Crop(torch.zeros(3, 16, 16), labels, complete=True), 1, np.random.default_rng(0))
        assert question is not None
        dy, dx, weight = question.dense[3:]
        x = np.arange(4) * 4 + 1.5
        assert (dy[:2, 1:] * OFFSET_UNIT).tolist() == [[2.0] * 3, [-2.0] * 3]
        assert (dx[0, 1:] * OFFSET_UNIT + torch.from_numpy(x[1:])).tolist() == [9.5] * 3
        assert torch.allclose(weight[:2, 1:], torch.tensor(OFFSET_UNIT / 96**0.5))
        assert not weight[2:].any() and not weight[:, 0].any()

    def test_nothing_is_asked_of_a_crop_without_objects_whose_labels_are_incomplete(self, discs) -> None:
        picture = make_picture(discs[0], discs[1] * 0, "empty", complete=False)
        crop = cut(picture, 64, np.array([47.5, 47.5]), np.eye(2))
        assert ask(crop, 4, np.random.default_rng(0)) is None


class TestLoss:
    def test_the_dense_heads_loss_is_none_for_the_truth_and_relative_to_the_objects_size(self) -> None:
        wanted = torch.zeros(1, 6, 1, 2)
        wanted[0, :, 0, 0] = torch.tensor([1, 1, 1, 0.5, -0.25, 2.0])  # in an object of 8 pixels
        dense = torch.tensor([[20.0, 20, 0.5, -0.25], [-20, -20, 9, 9]]).T.reshape(1, 4, 1, 2)
        assert dense_loss(dense, wanted) < 1e-6  # offsets do not count outside
        small, large = dense.clone(), wanted.clone()
        small[0, 2, 0, 0] += 1
        large[0, 5, 0, 0] = 1
        assert dense_loss(small, wanted) > dense_loss(small, large) > 0.5

    def test_the_truth_costs_nothing_and_its_opposite_much(self) -> None:
        mask = torch.zeros(1, 16, 16)
        mask[0, 4:9, 4:12] = 1
        targets = Targets(mask, pixel_weights(mask, torch.ones_like(mask)), torch.tensor([True]))
        truth = (mask * 2 - 1)[:, None] * 20
        right, wrong = mask_losses(torch.cat([truth, -truth], 1), targets)[0]
        assert right < 0.01 and wrong > 10
        assert true_iou(torch.cat([truth, -truth], 1), targets)[0].tolist() == [1, 0]

    def test_pixels_near_the_object_weigh_most_and_all_sum_to_one(self) -> None:
        mask = torch.zeros(1, 32, 32)
        mask[0, 10:14, 10:14] = 1
        weights = pixel_weights(mask, torch.ones_like(mask))[0]
        assert weights.sum() == pytest.approx(1)
        assert weights[12, 12] == weights[7, 7] > 10 * weights[0, 0]


class TestTraining:
    def test_a_few_steps_on_one_batch_reduce_its_loss(self, config: Config, discs) -> None:
        state = new_state(config)
        rng = np.random.default_rng(0)
        crops = [cut(make_picture(*discs, "d"), 64, np.array([45.0, 45.0]), np.eye(2)) for _ in range(2)]
        batch = collate([q for c in crops if (q := ask(c, 2, rng)) is not None])
        config = replace(config, minutes=60)
        state.step = 200  # past the warm-up
        losses = []
        for _ in range(8):
            losses.append(one_step(state, batch, config)[0])
            state.step = 200
        assert min(losses[-2:]) < 0.85 * losses[0]

    def test_every_weight_gets_a_gradient(self, config: Config, discs) -> None:
        model = build_nano()
        crop = cut(make_picture(*discs, "d"), 64, np.array([45.0, 45.0]), np.eye(2))
        rng = np.random.default_rng(1)
        batch = collate([q for i in range(6) if (q := ask(crop, 3, np.random.default_rng(i))) is not None])
        loss, _ = forward(model, batch, 2, rng)
        loss.backward()
        unused = {name for name, p in model.named_parameters() if p.grad is None}
        # A bias of keys changes nothing, softmax does not see it; and nano draws 'no mask' instead.
        biases = {name for name in unused if name.endswith("token_to_image.k_proj.bias")}
        assert unused - biases == {"prompt_encoder.no_mask_embed.weight"}

    def test_a_part_can_be_trained_alone(self, config: Config, discs) -> None:
        config = replace(config, minutes=60, parts=("mask_decoder.iou_prediction_head",))
        state = new_state(config)
        before = {k: v.clone() for k, v in state.model.state_dict().items()}
        crop = cut(make_picture(*discs, "d"), 64, np.array([45.0, 45.0]), np.eye(2))
        question = ask(crop, 2, np.random.default_rng(0))
        assert question is not None
        one_step(state, collate([question]), config)
        changed = {k for k, v in state.model.state_dict().items() if not torch.equal(v, before[k])}
        assert changed and all(k.startswith("mask_decoder.iou_prediction_head") for k in changed)

    def test_a_part_that_is_not_there_is_refused(self, config: Config) -> None:
        with pytest.raises(InputError, match="begins with image_decoder"):
            new_state(replace(config, parts=("image_decoder",)))

    def test_a_run_writes_weights_that_load_and_goes_on(self, config: Config) -> None:
        lines: list[str] = []
        path = train(config, report=lines.append)
        assert load_model(path).image_size == 512
        first = torch.load(path.parent / "state.pt", weights_only=True)
        train(replace(config, minutes=0.002), report=lines.append)
        second = torch.load(path.parent / "state.pt", weights_only=True)
        assert second["step"] > first["step"] and any("going on" in line for line in lines)
        assert not list(path.parent.glob("*.part"))

    def test_a_run_shows_its_course_and_what_it_draws(self, config: Config) -> None:
        lines: list[str] = []
        path = train(replace(config, validation=("discs.zip",)), report=lines.append)
        rows = [json.loads(line) for line in (path.parent / "log.jsonl").read_text().splitlines()]
        assert 0 <= rows[-1]["validation"] <= 1
        assert any("validation IoU" in line for line in lines)
        samples = np.asarray(Image.open(path.parent / "samples.png"))
        assert samples.shape == (64, 8 * 64, 3)
        assert (samples == TRUTH).all(-1).any()
        assert (path.parent / "curve.png").exists()

    def test_the_weights_of_the_best_validation_are_kept(self, config: Config, monkeypatch) -> None:
        figures = iter([0.5, 0.4, 0.6])
        monkeypatch.setattr("napari_samscape.training.train.Watch.look", lambda *_: next(figures))
        kept = []
        for minutes in (0.0001, 0.002, 0.004):
            path = train(replace(config, minutes=minutes), report=lambda _: None)
            kept.append(path.read_bytes())
        assert kept[0] == kept[1] != kept[2]

    def test_a_run_stopped_between_steps_ends_like_one_that_was_not(self, config: Config, tmp_path) -> None:
        config = replace(config, minutes=60)
        sampler = Sampler(*read_pictures(config), config, IMAGE_SIZE, None)

        def steps(state: State, n: int) -> State:
            for _ in range(n):
                one_step(state, sampler.batch(state.step), config)
                state.step += 1
            return state

        whole = steps(new_state(config), 3)
        part = steps(new_state(config), 2)
        part.save(tmp_path / "state.pt", config)
        resumed = new_state(config)
        resumed.load(tmp_path / "state.pt", config)
        steps(resumed, 1)
        for a, b in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-5)

    def test_a_state_of_another_version_is_refused(self, config: Config, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        torch.save({"model": {}, "step": 3}, tmp_path / "run" / "state.pt")
        with pytest.raises(InputError, match=r"state\.pt is of another version; use another output folder"):
            train(config, report=lambda text: None)

    def test_another_configuration_is_refused_by_name(self, config: Config) -> None:
        train(config, report=lambda _: None)
        with pytest.raises(InputError, match="another 'rate'"):
            train(replace(config, rate=0.5), report=lambda _: None)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("minutes = ", "no TOML"),
            ("speed = 3", "has a key 'speed'"),
            ('[[sources]]\nfile = "x"', "wrong entry"),
        ],
    )
    def test_a_bad_configuration_gets_one_sentence(self, tmp_path: Path, text: str, says: str) -> None:
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(InputError, match=says):
            read_config(tmp_path / "c.toml")

    def test_a_source_without_objects_is_refused(self, config: Config, discs) -> None:
        write_zip(config.folder / "discs.zip", [(discs[0], discs[1] * 0)])
        with pytest.raises(InputError, match="holds no labelled object"):
            train(config, report=lambda _: None)


def test_the_command_trains_and_says_where_the_weights_are(config: Config) -> None:
    from typer.testing import CliRunner

    from napari_samscape.cli.app import app

    done = CliRunner().invoke(app, ["train", str(config.folder / "c.toml"), "--minutes", "0.0001"])
    assert done.exit_code == 0, done.output
    assert load_model(done.stdout.split()[-1]).image_size == 512


def test_the_command_refuses_a_missing_configuration(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from napari_samscape.cli.app import app

    done = CliRunner().invoke(app, ["train", str(tmp_path / "none.toml")])
    assert done.exit_code == 2
    assert "There is no configuration" in done.stderr
