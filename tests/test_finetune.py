"""Fine-tuning: what it learns from, that it learns, that it leaves the parent alone, and what it refuses."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from napari_samscape import InputError
from napari_samscape.cli.app import app
from napari_samscape.evaluation.datasets import Sample, sample_from_labels
from napari_samscape.io import write_labels
from napari_samscape.io.labelled import IGNORE
from napari_samscape.model.config import DecoderConfig, ViTConfig
from napari_samscape.model.image_encoder import ImageEncoder
from napari_samscape.model.mask_decoder import MaskDecoder
from napari_samscape.model.nano import NanoConfig
from napari_samscape.model.prompt_encoder import BOX_END, BOX_START, FOREGROUND, PADDING, PromptEncoder
from napari_samscape.model.sam import Sam, build_nano
from napari_samscape.model.weights import load_model, save_model
from napari_samscape.prediction.instances import instance_from_mask
from napari_samscape.prediction.types import Instances
from napari_samscape.sample_files import PICTURES
from napari_samscape.training import finetune as finetune_module
from napari_samscape.training import memory
from napari_samscape.training.data import make_picture
from napari_samscape.training.finetune import CLICK, Learner, Settings, _checks, finetune
from napari_samscape.training.lesson import Manner, batch_of_views, keep_views
from napari_samscape.training.lora import add_low_rank, is_low_rank, merge_low_rank
from napari_samscape.training.material import hold_out, read_labelled
from napari_samscape.training.prompts import as_asked
from napari_samscape.training.tuning import tune

FEW = Settings(steps=2, views=2, scenes=1, crops=1)


def picture(discs: int = 9, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on a grid, on black, and their labels."""
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for index in range(discs):
        row, column = 16 + 32 * (index // 3), 16 + 32 * (index % 3)
        labels[(y - row) ** 2 + (x - column) ** 2 < 90] = index + 1
    return (labels > 0).astype(np.uint8) * 180 + 20, labels


def sample(discs: int = 9) -> Sample:
    return sample_from_labels("discs", *picture(discs))


@pytest.fixture(scope="module")
def small() -> Sam:
    """nano's design with few channels and random weights."""
    torch.manual_seed(0)
    decoder = DecoderConfig(width=32, heads=2, hidden=32, inner=16, depth=1, iou_hidden=16)
    return build_nano(NanoConfig((8, 8, 16, 16), (1, 1, 1, 1), (8, 8, 8), decoder)).eval()


@pytest.fixture(scope="module")
def vit() -> Sam:
    """SAM's design with few channels and random weights, for pictures of 64 pixels."""
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=64, patch_size=16, width=32, heads=2, hidden=32, out_channels=32, windows=(2, 0)
    )
    decoder = DecoderConfig(width=32, heads=2, hidden=32, inner=16, depth=1, iou_hidden=16)
    model = Sam(ImageEncoder(config), PromptEncoder(32, 64, 4), MaskDecoder(decoder), pad=64).eval()
    model.name, model.digest = "tiny", "ab12"
    return model


def weights(model: Sam) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


class TestMaterial:
    def test_what_is_held_out_is_ignored_where_one_learns_and_the_other_way_round(self) -> None:
        material = hold_out([sample()], held_out=0.3)
        assert (material.objects, material.held) == (6, 3)
        learn, check = material.learn[0], material.check[0]
        assert learn.complete and not check.complete
        learned, held = set(learn.boxes[:, 0]), set(check.boxes[:, 0])
        assert learned.isdisjoint(held) and len(learned | held) == 9
        true = picture()[1]
        assert np.array_equal(learn.labels == IGNORE, np.isin(true, list(held)))
        assert np.array_equal(check.labels == IGNORE, np.isin(true, list(learned)))

    def test_another_seed_holds_out_others(self) -> None:
        kept = [set(hold_out([sample()], seed=seed).check[0].boxes[:, 0]) for seed in range(5)]
        assert len({frozenset(one) for one in kept}) > 1

    @pytest.mark.parametrize("discs", [1, 4])
    def test_of_a_few_objects_none_is_held_out(self, discs: int) -> None:
        material = hold_out([sample(discs)])
        assert (material.objects, material.held, material.check) == (discs, 0, ())

    def test_objects_of_three_pixels_are_left_out_and_counted(self) -> None:
        pixels, labels = picture()
        labels[0, :3] = 100
        material = hold_out([sample_from_labels("d", pixels, labels)], held_out=0)
        assert (material.objects, material.too_small) == (9, 1)
        assert (material.learn[0].labels[0, :3] == IGNORE).all()

    def test_where_all_have_three_pixels_there_is_nothing_to_learn_from(self) -> None:
        pixels, labels = picture(0)
        labels[5, 5:8] = 1
        with pytest.raises(InputError, match="too small to learn from: the largest has 3 pixels"):
            hold_out([sample_from_labels("d", pixels, labels)])

    def test_labels_without_an_object_are_refused(self) -> None:
        with pytest.raises(InputError, match="no labelled object"):
            hold_out([sample(0)])

    @pytest.mark.parametrize("suffix", ["", "_labels"])
    def test_folders_of_pictures_and_labels_go_together_by_name(self, tmp_path: Path, suffix: str) -> None:
        pixels, labels = picture()
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
        Image.fromarray(labels).save(tmp_path / "masks" / f"a{suffix}.tif")
        readers = read_labelled(tmp_path / "images", tmp_path / "masks").readers
        assert [len(read().objects) for read in readers] == [9]

    def test_a_picture_and_its_ome_zarr_labels_go_together(self, tmp_path: Path) -> None:
        pixels, labels = picture()
        Image.fromarray(pixels).save(tmp_path / "a.png")
        write_labels(tmp_path / "a_labels.ome.zarr", labels)
        readers = read_labelled(tmp_path / "a.png", tmp_path / "a_labels.ome.zarr").readers
        assert len(readers[0]().objects) == 9

    def test_coco_finds_its_pictures_in_the_folder_named(self, tmp_path: Path) -> None:
        (tmp_path / "pictures").mkdir()
        Image.fromarray(picture()[0]).save(tmp_path / "pictures" / "a.png")
        square = [[8, 8, 24, 8, 24, 24, 8, 24]]
        content = {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"id": 1, "image_id": 1, "segmentation": square, "iscrowd": 0}],
        }
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        readers = read_labelled(tmp_path / "pictures", tmp_path / "boxes.json").readers
        assert [item.area for item in readers[0]().objects] == [256]
        with pytest.raises(InputError, match=r"The picture a\.png of .* is not in"):
            read_labelled(tmp_path, tmp_path / "boxes.json")

    def test_a_picture_without_labels_is_named(self, tmp_path: Path) -> None:
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
        Image.fromarray(picture()[0]).save(tmp_path / "images" / "a.png")
        with pytest.raises(InputError, match="holds no labels for the picture 'a'"):
            read_labelled(tmp_path / "images", tmp_path / "masks")


class TestLessons:
    def test_what_was_kept_is_what_the_encoder_gives(self, small: Sam) -> None:
        images = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            whole, kept = small.encode(images), small.encode_kept(small.trunk(images))
        assert torch.equal(whole.features, kept.features) and torch.equal(whole.dense, kept.dense)

    def test_a_window_of_a_view_has_the_parts_of_its_trunk_that_belong_to_it(self, small: Sam) -> None:
        material = hold_out([sample()], held_out=0)
        views = keep_views(small, material.learn, 1, np.random.default_rng(0))
        batch = batch_of_views(views, replace(Manner.of(small, 2), window=128), np.random.default_rng(1))
        assert batch is not None
        assert [tuple(part.shape[2:]) for part in batch.trunk] == [(64, 64), (32, 32), (16, 16), (8, 8)]
        assert batch.trunk[3].shape[0] == len(batch.pixels) == 2
        # Each is somewhere in the view, at a whole cell of the embedding.
        cells = views[0].trunk[3].unfold(2, 8, 1).unfold(3, 8, 1)  # (1, c, y, x, 8, 8)
        same = (cells == batch.trunk[3][0][None, :, None, None]).flatten(4).all(-1).all(1)
        assert same.any()

    def test_sams_own_decoder_is_asked_about_whole_views(self, vit: Sam) -> None:
        manner = Manner.of(vit, 8)
        assert (manner.view, manner.window, manner.crops) == (64, 64, 1)
        views = keep_views(vit, hold_out([sample()]).learn, 2, np.random.default_rng(0))
        batch = batch_of_views(views, manner, np.random.default_rng(0))
        assert batch is not None and tuple(batch.pixels.shape[2:]) == (64, 64)

    def test_prompts_of_one_kind_are_given_without_padding(self) -> None:
        points = torch.arange(6.0).reshape(1, 3, 2)
        click = as_asked(points, torch.tensor([[FOREGROUND, PADDING, PADDING]]))
        assert click.boxes is None and click.points.tolist() == [[[0, 1]]]
        box = as_asked(points, torch.tensor([[PADDING, BOX_START, BOX_END]]))
        assert box.boxes is not None and box.boxes.tolist() == [[2, 3, 4, 5]] and box.points.shape[1] == 0
        mixed = torch.tensor([[FOREGROUND, PADDING, PADDING], [PADDING, BOX_START, BOX_END]])
        assert as_asked(points.expand(2, -1, -1), mixed).labels is mixed


class TestMemory:
    def test_of_its_own_answers_a_model_rehearses_those_it_is_sure_of(self, nano, monkeypatch) -> None:
        def found(model, pixels, options) -> Instances:
            square = np.ones((9, 9), bool)
            said = ((5, 0.9), (30, 0.5))
            items = [instance_from_mask(square, offset=(y, 5), predicted_iou=iou) for y, iou in said]
            return Instances(tuple(items), pixels.shape[:2])

        monkeypatch.setattr(memory, "everything", found)
        pictures = memory.remembered(nano)
        assert [picture.name for picture in pictures] == list(PICTURES)
        assert all(picture.boxes.tolist() == [[1, 5, 5, 14, 14]] for picture in pictures)
        assert not any(picture.complete for picture in pictures)  # what it did not find may be something


class TestLowRank:
    def test_merged_changes_give_what_they_gave_and_leave_plain_weights(self, vit: Sam) -> None:
        model = load_copy(vit)
        names = set(model.state_dict())
        images = torch.randn(1, 3, 64, 64)
        before = model.encode(images).features
        add_low_rank(model.image_encoder, 2)
        assert torch.equal(model.encode(images).features, before)  # they begin with nothing
        for name, weight in model.named_parameters():
            if is_low_rank(name):
                torch.nn.init.normal_(weight, std=0.1)
        low_rank = model.encode(images).features
        assert not torch.allclose(low_rank, before, atol=1e-3)
        merge_low_rank(model.image_encoder)
        assert torch.allclose(model.encode(images).features, low_rank, atol=1e-5)
        assert set(model.state_dict()) == names

    def test_an_encoder_without_attention_is_refused(self) -> None:
        with pytest.raises(InputError, match="no attention"):
            add_low_rank(torch.nn.Conv2d(3, 3, 1), 2)


def load_copy(model: Sam) -> Sam:
    return copy.deepcopy(model)


class TestFinetune:
    @pytest.mark.parametrize("method", ["decoder", "lora", "full"])
    def test_the_parent_stays_and_the_child_learns_what_the_method_says(
        self, small: Sam, method: str
    ) -> None:
        before = weights(small)
        material = hold_out([sample()], held_out=0)
        child = finetune(small, material, replace(FEW, steps=1, method=method)).model
        assert changed(before, weights(small)) == set()
        new = changed(before, weights(child))
        assert any(name.startswith("mask_decoder.") for name in new)
        assert any(name.startswith("image_encoder.dense_head.") for name in new)
        trunk = {name for name in new if name.startswith(("image_encoder.downs.", "image_encoder.stages."))}
        attention = {name for name in trunk if name.endswith(("qkv.weight", "proj.weight"))}
        assert trunk == {"decoder": set(), "lora": attention, "full": trunk}[method]
        assert bool(trunk) == (method != "decoder")

    @pytest.mark.parametrize("method", ["decoder", "lora"])
    def test_sams_own_design_learns_too(self, vit: Sam, method: str) -> None:
        child = finetune(vit, hold_out([sample()], held_out=0), replace(FEW, method=method)).model
        new = changed(weights(vit), weights(child))
        assert any(name.startswith("mask_decoder.") for name in new)
        assert any(name.startswith("image_encoder.") for name in new) == (method == "lora")

    def test_steps_lower_the_loss_on_what_is_shown(self, vit: Sam) -> None:
        learner = Learner(vit, replace(FEW, rate=5e-3))
        views = keep_views(vit, hold_out([sample()]).learn, 1, np.random.default_rng(0), coloured=False)
        batch = batch_of_views(views, learner.manner, np.random.default_rng(0), CLICK)
        losses = [learner.learn(batch, 0, 1.0) for _ in range(15)]
        assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])

    def test_the_same_seed_gives_the_same_child(self, vit: Sam) -> None:
        material = hold_out([sample()], held_out=0)
        one, other = (weights(finetune(vit, material, FEW).model) for _ in range(2))
        assert changed(one, other) == set()

    @pytest.mark.parametrize(
        ("looks", "kept", "steps"),
        [
            ([0.5, 0.6, 0.55, 0.5, 0.5, 0.5, 0.5, 0.9], 1, 6),  # it is over before the last
            ([0.5, 0.6, 0.59, 0.585, 0.57, 0.57, 0.57, 0.57, 0.57], 3, 8),  # as good as the best, and later
            ([0.5, 0.49, 0.5, 0.5, 0.49, 0.49], 0, 5),  # as good as the parent is no gain
        ],
    )
    def test_the_last_of_the_best_is_kept_until_nothing_is_gained(
        self, vit: Sam, monkeypatch: pytest.MonkeyPatch, looks: list[float], kept: int, steps: int
    ) -> None:
        figures = iter(looks)
        monkeypatch.setattr("napari_samscape.training.finetune.Learner.look", lambda *_: next(figures))
        tuned = finetune(vit, hold_out([sample()]), replace(FEW, steps=8, rehearsal=0))
        assert (tuned.kept, tuned.steps) == (kept, steps)

    def test_the_child_lies_between_the_parent_and_what_was_learnt(self, vit: Sam) -> None:
        material = hold_out([sample()], held_out=0)
        near, far = (finetune(vit, material, replace(FEW, share=share)).model for share in (0.5, 1.0))
        far_values = far.state_dict()
        assert changed(weights(vit), far_values)
        for name, value in weights(vit).items():
            assert torch.allclose(near.state_dict()[name], value.lerp(far_values[name], 0.5), atol=1e-6)

    @pytest.mark.parametrize(("method", "anew"), [("decoder", False), ("lora", True), ("full", True)])
    def test_an_encoder_that_learns_is_judged_as_it_is_by_then(
        self, vit: Sam, method: str, anew: bool
    ) -> None:
        learner = Learner(vit, replace(FEW, method=method))
        checks = _checks(learner, hold_out([sample()]).check)
        before = learner.look(checks)
        for name, weight in learner.child.named_parameters():
            if name.startswith("image_encoder.blocks."):
                weight.data.add_(1)
                for kept in (learner.begin, learner.average):
                    kept.get(name, weight.data).copy_(weight.data)
        assert checks and (learner.look(checks) != before) == anew

    @pytest.mark.parametrize(("known", "kept"), [(0.9, 2), (0.1, 0)])
    def test_what_forgets_too_much_is_not_kept(
        self, vit: Sam, monkeypatch: pytest.MonkeyPatch, known: float, kept: int
    ) -> None:
        looks = iter([0.5, 0.9, 0.6, known])  # objects held out, what was known; before, after
        monkeypatch.setattr(Learner, "look", lambda *_: next(looks))
        monkeypatch.setattr(finetune_module, "remembered", lambda _: [make_picture(*picture(), "known")])
        monkeypatch.setattr(finetune_module, "LOOKS", 1)
        tuned = finetune(vit, hold_out([sample()]), replace(FEW, scenes=len(PICTURES)))
        assert (tuned.kept, tuned.course) == (kept, [(0, 0.5), (2, 0.6)])

    def test_objects_that_are_never_seen_large_enough_are_refused(self, vit: Sam) -> None:
        pixels, labels = np.zeros((2000, 2000), np.uint8), np.zeros((2000, 2000), np.uint16)
        labels[1000:1003, 1000:1004] = 1
        material = hold_out([sample_from_labels("d", pixels, labels)], complete=False)
        with pytest.raises(InputError, match="No labelled object is large enough"):
            finetune(vit, material, replace(FEW, steps=60, views=1))

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"method": "all"}, "no method 'all'"),
            ({"steps": 0}, "steps must be above 0"),
            ({"minutes": -1}, "minutes must be above 0"),
            ({"rehearsal": 1}, "rehearsal must be from 0"),
            ({"share": 0}, "share must be above 0"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, wrong, says: str) -> None:
        with pytest.raises(InputError, match=says):
            Settings(**wrong)


class TestTune:
    def test_a_checkpoint_a_card_and_a_picture_are_written(
        self, vit: Sam, tmp_path: Path, monkeypatch
    ) -> None:
        figures = iter([0.1, 0.2, 0.3])
        monkeypatch.setattr("napari_samscape.training.finetune.Learner.look", lambda *_: next(figures))
        outcome = tune(vit, hold_out([sample()]), tmp_path / "mine.safetensors", FEW)
        child = load_model(tmp_path / "mine.safetensors")
        kept = outcome.tuned.model.state_dict()
        assert all(torch.allclose(v, kept[k], atol=1e-2, rtol=1e-2) for k, v in child.state_dict().items())
        card = (tmp_path / "mine.md").read_text()
        assert "`tiny` (SHA-256 ab12)" in card and "7 objects to learn from, 2 held out" in card
        assert (
            f"| one click, mean IoU | {outcome.before['point']:.3f} | {outcome.after['point']:.3f} |" in card
        )
        with Image.open(tmp_path / "mine.png") as drawn:
            assert drawn.size == (64, 2 * 64)
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_single_object_is_learned_and_nothing_is_compared(self, vit: Sam, tmp_path: Path) -> None:
        outcome = tune(vit, hold_out([sample(1)]), tmp_path / "one.safetensors", FEW)
        assert outcome.before == outcome.after == {} and load_model(outcome.path)
        assert "No objects were held out" in (tmp_path / "one.md").read_text()

    def test_an_interrupted_run_leaves_nothing_and_the_parent_as_it_was(
        self, vit: Sam, tmp_path: Path
    ) -> None:
        save_model(vit, tmp_path / "mine.safetensors")
        parent, before = (
            load_model(tmp_path / "mine.safetensors"),
            (tmp_path / "mine.safetensors").read_bytes(),
        )
        own = weights(parent)

        def stop(done: int, total: int, text: str) -> None:
            if text.startswith("Learning") and done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tune(
                parent,
                hold_out([sample(4)]),
                tmp_path / "mine.safetensors",
                FEW,
                overwrite=True,
                progress=stop,
            )
        assert [child.name for child in tmp_path.iterdir()] == ["mine.safetensors"]
        assert (tmp_path / "mine.safetensors").read_bytes() == before
        assert changed(own, weights(parent)) == set()

    def test_where_nothing_is_gained_nothing_is_written(self, vit: Sam, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr("napari_samscape.training.finetune.Learner.look", lambda *_: 0.5)
        with pytest.raises(InputError, match="Nothing was gained: in 2 steps .* 2 objects held out"):
            tune(vit, hold_out([sample()]), tmp_path / "mine.safetensors", FEW)
        assert list(tmp_path.iterdir()) == []

    def test_a_checkpoint_that_exists_is_not_replaced_unasked(self, vit: Sam, tmp_path: Path) -> None:
        (tmp_path / "mine.safetensors").write_text("precious")
        with pytest.raises(InputError, match="exists already"):
            tune(vit, hold_out([sample()]), tmp_path / "mine.safetensors", FEW)


class TestCommand:
    def run(self, *arguments: object):
        return CliRunner().invoke(app, ["finetune", *map(str, arguments)])

    def test_it_writes_and_prints_json(self, vit: Sam, tmp_path: Path, monkeypatch) -> None:
        def quick(parent, material, out, settings, **others):
            return tune(parent, material, out, replace(settings, views=2, scenes=1), **others)

        monkeypatch.setattr("napari_samscape.training.tuning.tune", quick)
        pixels, labels = picture(4)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        Image.fromarray(labels).save(tmp_path / "a_labels.png")
        save_model(vit, tmp_path / "small.safetensors")
        done = self.run(
            *("--images", tmp_path / "a.png", "--labels", tmp_path / "a_labels.png", "--steps", 1, "--json"),
            *("--model", tmp_path / "small.safetensors", "--out", tmp_path / "mine.safetensors"),
        )
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        assert load_model(said["out"]).image_size == 64 and said["steps"] == 1

    def test_labels_that_do_not_match_the_picture_are_named(self, tmp_path: Path) -> None:
        pixels, labels = picture()
        Image.fromarray(pixels).save(tmp_path / "a.png")
        Image.fromarray(labels[:50]).save(tmp_path / "b.png")
        done = self.run("--images", tmp_path / "a.png", "--labels", tmp_path / "b.png")
        assert done.exit_code == 2
        assert "the labels are 50 x 96 pixels, but the picture is 96 x 96" in done.stderr
