"""Words: CLIP's adapter, ranking everything, models that take text, and detectors that are asked by words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import bright
import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage
from test_cli import ids, printed_json, samscape
from tiny_clip import BrightClip, as_clip, grey, parts, save_clip, words_of

from napari_samscape.errors import InputError
from napari_samscape.model.nano import NanoConfig
from napari_samscape.model.sam import PromptTensors, build_nano
from napari_samscape.model.weights import load_model, save_model
from napari_samscape.prediction.ask import ask
from napari_samscape.prediction.clip import Clip, square_crop
from napari_samscape.prediction.detections import detect
from napari_samscape.prediction.detectors import load_detector
from napari_samscape.prediction.instances import instances_from_labels
from napari_samscape.prediction.phrase import Phrase
from napari_samscape.prediction.text import likeness, segment_text
from napari_samscape.prediction.types import Instances, Prompts
from napari_samscape.prediction.views import Views
from napari_samscape.scaling.batch import Job, segment
from napari_samscape.scaling.tiles import TileOptions

pytest.importorskip("transformers", reason="the extra 'text' is not installed")

SMALL = NanoConfig(widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), fine=(8, 8, 8))
CLIP_OPTIONS = ("--clip", "bright")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small nano that takes text embeddings of 12 numbers."""
    torch.manual_seed(0)
    model = build_nano(SMALL)
    model.prompt_encoder.add_text(12)
    path = tmp_path_factory.mktemp("worded") / "worded.safetensors"
    save_model(model, path)
    return path


# CLIP


def test_crops_and_phrases_get_the_embeddings_that_the_library_gives_them(clip_folder: Path) -> None:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    clip = Clip(str(clip_folder))
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    model, tokens = AutoModel.from_pretrained(clip_folder).eval(), AutoTokenizer.from_pretrained(clip_folder)
    given = AutoImageProcessor.from_pretrained(clip_folder)(pixels, return_tensors="pt")
    with torch.no_grad():
        seen = model.get_image_features(**given).pooler_output
        said = model.get_text_features(**tokens(["a red cell"], return_tensors="pt")).pooler_output
    picture = clip.normalised(torch.from_numpy(pixels).permute(2, 0, 1))
    ours = clip.pictures(square_crop(picture, (0, 0, 16, 16), clip.size)[None])
    torch.testing.assert_close(ours, seen / seen.norm(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(clip.phrases(["a red cell"]), said / said.norm(), atol=1e-5, rtol=1e-5)
    assert (clip.width, clip.size) == (12, 16)
    assert clip.scale == pytest.approx(float(np.exp(model.config.logit_scale_init_value)), rel=1e-4)


def test_a_crop_is_a_square_round_the_object_and_zero_beyond_the_picture_or_the_mask() -> None:
    picture = torch.arange(16.0).reshape(1, 4, 4).expand(3, 4, 4) + 1
    wide = square_crop(picture, (0, 0, 1, 2), 4, 2.0)[0]  # of side 4, from (-2, -1)
    assert wide.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 2, 3], [0, 5, 6, 7]]
    alone = square_crop(picture, (1, 1, 3, 3), 4, 2.0, np.array([[True, False], [True, True]]))[0]
    assert alone.tolist() == [[0, 0, 0, 0], [0, 6, 0, 0], [0, 10, 11, 0], [0, 0, 0, 0]]


def test_without_the_library_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"^The CLIP any needs .*pip install .napari-samscape\[text\]"):
        Clip("any")


def test_a_folder_that_is_no_clip_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^The CLIP .* cannot be loaded: .*[.]$"):
        Clip(str(tmp_path))


# Everything, ranked


def everything(model: Any, pixels: np.ndarray, options: Any = None, progress: Any = None) -> Instances:
    """All that is not black."""
    return instances_from_labels(ndimage.label(pixels.max(axis=-1) > 20)[0])


@pytest.fixture
def ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all models find what is not black, and all CLIPs tell bright from dark."""
    bright.install(monkeypatch)
    monkeypatch.setattr("napari_samscape.prediction.text.everything", everything)
    monkeypatch.setattr("napari_samscape.prediction.clip.load_clip", lambda source, device: BrightClip())


def found(values: tuple[int, ...], phrase: Phrase) -> list[int]:
    """Which of the squares of these greys are found, by their number, the likeliest first."""
    items = segment_text(bright.MODEL, grey(*values), phrase, as_clip(BrightClip()))
    assert all(item.category == phrase.text and 0 <= item.score <= 1 for item in items)
    scores = [item.score for item in items]
    assert scores == sorted(scores, reverse=True)
    return [item.box[1] // 12 for item in items]


@pytest.mark.usefixtures("ranking")
class TestRanking:
    def test_what_looks_like_the_phrase_more_than_like_a_distractor_is_found(self) -> None:
        assert found((250, 40, 255), Phrase("bright", distractors=("dark",))) == [2, 0]
        assert found((250, 40, 255), Phrase("dark", distractors=("bright",))) == [1]

    def test_a_threshold_and_a_number_of_objects_leave_out_the_rest(self) -> None:
        every = Phrase("bright", distractors=("dark",), threshold=0)
        assert found((250, 40, 255, 130), every) == [2, 0, 3, 1]
        assert found((250, 40, 255, 130), replace(every, top=2)) == [2, 0]
        assert found((250, 40, 255, 130), replace(every, threshold=1)) == []

    def test_without_a_distractor_everything_is_the_phrase(self) -> None:
        picture = grey(250, 40)
        items = everything(bright.MODEL, picture)
        phrase = Phrase("bright", distractors=())
        assert likeness(picture, items, phrase, as_clip(BrightClip())).tolist() == [1, 1]

    def test_in_tiles_the_same_is_found_as_in_one_go(self) -> None:
        picture = np.concatenate([grey(*[250, 40, 200, 60] * 6)] * 8)
        phrase = Phrase("bright", "bright", ("dark",))
        whole, tiled = (
            segment(picture, model=bright.MODEL, phrase=phrase, tiles=TileOptions(size, halo))
            for size, halo in ((None, None), (96, 16))
        )
        np.testing.assert_array_equal(whole > 0, picture.max(axis=-1) > 100)
        np.testing.assert_array_equal(whole > 0, tiled > 0)
        assert len(np.unique(tiled)) == len(np.unique(whole)) == 1 + 8 * 12

    def test_a_number_of_objects_is_refused_where_the_picture_is_cut_into_tiles(self) -> None:
        picture = np.concatenate([grey(*[250, 40] * 12)] * 8)
        with pytest.raises(InputError, match="cut into .* tiles, which cannot tell what is likeliest"):
            segment(
                picture,
                model=bright.MODEL,
                phrase=Phrase("bright", "bright", top=3),
                tiles=TileOptions(96, 16),
            )

    def test_from_the_command_line_objects_come_with_score_and_phrase(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        tifffile.imwrite("p.tif", grey(250, 40, 255))
        words = ("--text", "bright", "--distractors", "dark; black", *CLIP_OPTIONS)
        done = printed_json("segment", "p.tif", "o.tif", *words, "--objects", "o.json")
        assert (done["objects"], done["note"], ids("o.tif")) == (2, None, {1, 2})
        rows = json.loads(Path("o.json").read_text())
        assert [row["name"] for row in rows["categories"]] == ["bright"]
        assert all(row["score"] > 0.5 for row in rows["annotations"])
        again = printed_json("segment", "p.tif", "o.tif", *words, "--objects", "o.json")
        assert again["note"] == "This job was finished before."
        other = samscape("segment", "p.tif", "o.tif", "--text", "dark", *CLIP_OPTIONS)
        assert (other.exit_code, "made with another phrase" in other.stderr) == (2, True)

    def test_a_phrase_that_finds_nothing_is_no_error_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        tifffile.imwrite("p.tif", grey(250, 255))
        done = printed_json(
            "segment", "p.tif", "o.tif", "--text", "dark", "--distractors", "bright", *CLIP_OPTIONS
        )
        says = "Nothing was found that looks like 'dark'; a lower threshold lets more pass."
        assert (done["objects"], done["note"]) == (0, says)

    def test_a_batch_asks_all_pictures(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name, values in {"a": (250, 40), "b": (30, 255, 255)}.items():
            tifffile.imwrite(f"{name}.tif", grey(*values))
        done = printed_json(
            "batch", "*.tif", "out", "--text", "bright", "--distractors", "dark", *CLIP_OPTIONS
        )
        assert [picture["objects"] for picture in done["pictures"]] == [1, 2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--mode", "text"], "'text' needs a text to look for"),
        (["--text", "cell"], "needs a CLIP that knows what a text looks like"),
        (["--clip", "x"], "--clip belongs to a --text, which is missing"),
        (["--text", " ", "--clip", "x"], "must be some words"),
        (["--text", "cell", "--clip", "x", "--distractors", "cell"], "among its own distractors"),
        (["--text", "cell", "--clip", "x", "--text-thresh", "2"], "threshold must be a number from 0 to 1"),
        (["--text", "cell", "--clip", "x", "--top", "0"], "top must be a whole number of at least 1"),
        (["--mode", "edges", "--text", "cell"], "'edges' takes no text; use the mode 'text'"),
        (["--mode", "boxes", "--boxes", "1,1,9,9", "--text", "cell"], "a text is for a detector"),
        (["--detector", "otsu", "--text", "cell"], "'otsu' takes no text"),
        (["--points", "1,1", "--text", "cell"], "'prompts' needs a CLIP"),
        (["--boxes", "1,1,5,5;2,2,6,6", "--text", "cell", "--clip", "x"], "prompts for 2"),
    ],
)
def test_words_that_cannot_be_asked_for_are_one_sentence(
    options: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("p.tif", grey(250, 40))
    result = samscape("segment", "p.tif", "o.tif", *options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert not Path("o.tif").exists()


def test_a_job_with_words_survives_json() -> None:
    job = Job("a", "b", mode="text", phrase=Phrase("cell", "clip", ("dirt",), 0.25, 3))
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


# Models that take text


def test_the_projection_is_read_off_the_checkpoint(worded: Path) -> None:
    model = load_model(worded)
    assert model.prompt_encoder.text_width == 12
    assert load_model("nano").prompt_encoder.text_width == 0
    tokens = model.prompt_encoder.embed_texts(torch.eye(12))
    assert tokens.shape == (12, 1, 128)
    assert float(tokens.detach().std()) == pytest.approx(1, abs=0.2), "as large as the tokens of points"


def test_a_text_is_one_more_token_and_changes_the_answer(worded: Path) -> None:
    model = load_model(worded)
    encoded = model.encode(torch.zeros(1, 3, 64, 64))
    nothing = torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.int64)
    texts = torch.eye(12)[:2]
    with torch.no_grad():
        logits, iou = model.decode(encoded, PromptTensors(*nothing, texts=texts))
    assert (logits.shape, iou.shape) == ((2, 3, 32, 32), (2, 3))
    assert not torch.allclose(logits[0], logits[1])


def test_a_text_may_be_asked_for_alone_or_with_clicks(worded: Path) -> None:
    views = Views(load_model(worded), grey(250, 40, 255))
    alone = Prompts(text=np.arange(12))
    np.testing.assert_allclose(np.linalg.norm(alone.text), 1, rtol=1e-6)
    clicked = replace(alone, points=[(6, 6)], labels=[1])
    first, second = ask(views, [alone, clicked])
    assert (len(first.masks), len(second.masks)) == (3, 1)
    assert first.view == second.view == views.whole


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a cell", r"CLIP's embedding of it, an array; .*load_clip\(NAME\).phrases"),
        (np.zeros(12), "not all 0"),
        ([1, np.nan], "finite numbers"),
    ],
)
def test_a_text_that_is_no_embedding_is_refused(text: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Prompts(text=text)


def test_a_model_without_a_projection_or_of_another_clip_says_so(worded: Path) -> None:
    picture = grey(250, 40)
    with pytest.raises(InputError, match=r"takes no text: .* samscape train --text adds one"):
        ask(Views(build_nano(SMALL).eval(), picture), [Prompts(text=np.ones(12))])
    with pytest.raises(
        InputError, match="an embedding of 7 numbers, but this model learnt from a CLIP with 12"
    ):
        ask(Views(load_model(worded), picture), [Prompts(text=np.ones(7))])


def test_from_the_command_line_a_model_is_asked_by_a_text_and_a_click(
    worded: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("p.tif", grey(250, 40))
    words = ("--mode", "prompts", "--text", "a red cell", "--clip", str(clip_folder))
    for out, more in (("o.tif", ()), ("q.tif", ("--points", "5,5"))):
        assert samscape("segment", "p.tif", out, "--model", str(worded), *words, *more).exit_code == 0
    refused = samscape("segment", "p.tif", "r.tif", *words)
    assert (refused.exit_code, "takes no text" in refused.stderr) == (2, True)


# Detectors that are asked by words


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny OWLv2, as the library stores one."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Owlv2Processor

    torch.manual_seed(0)
    tokenizer = words_of()
    model = Owlv2ForObjectDetection(Owlv2Config(**parts(tokenizer), projection_dim=16))
    folder = tmp_path_factory.mktemp("owl")
    model.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    Owlv2Processor(Owlv2ImageProcessorPil(size=size), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Grounding DINO, as the library stores one."""
    from transformers import (
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        ResNetConfig,
    )

    torch.manual_seed(0)
    tokenizer = words_of()
    stages = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "embedding_size": 8, "layer_type": "basic"}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = GroundingDinoConfig(
        backbone_config=ResNetConfig(**stages, out_features=["stage2", "stage3", "stage4"]),
        use_timm_backbone=False,
        text_config={"model_type": "bert", "vocab_size": len(tokenizer), **sizes},
        **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 16 for part in ("encoder", "decoder")},
        d_model=32,
        num_queries=4,
        max_text_len=16,
    )
    folder = tmp_path_factory.mktemp("dino")
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 128}
    GroundingDinoProcessor(GroundingDinoImageProcessorPil(size=size), tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["owl", "dino"])
def test_a_zero_shot_detector_gives_boxes_with_scores_and_the_phrase(
    kind: str, request: pytest.FixtureRequest
) -> None:
    name, phrase = f"transformers:{request.getfixturevalue(kind)}", Phrase("a red cell", threshold=0)
    every = detect(load_detector(name, phrase), grey(250, 40))
    assert len(every) == 4 and set(every.classes) == {"a red cell"}, "one for each of its four queries"
    assert (np.diff(every.scores) <= 0).all()
    best = detect(load_detector(name, replace(phrase, top=1)), grey(250, 40))
    np.testing.assert_allclose(best.boxes, every.boxes[:1], atol=1e-4)
    none = detect(load_detector(name, replace(phrase, threshold=1)), grey(250, 40))
    assert len(none) == 0


def test_from_the_command_line_its_boxes_are_segmented(
    owl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("p.tif", grey(250, 40))
    options = ("--detector", f"transformers:{owl}", "--text", "cell", "--text-thresh", "0", "--top", "2")
    done = printed_json("segment", "p.tif", "o.tif", *options, "--objects", "o.csv")
    assert done["objects"] is not None and Path("o.csv").exists()
