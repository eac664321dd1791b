"""bfloat16 products: float32 comes out, and the masks are those of float32 but for single pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from napari_samscape import InputError, Prompts, embed, load_model, predict
from napari_samscape.cli.app import app
from napari_samscape.sample_files import sample_path
from napari_samscape.scaling.batch import run
from napari_samscape.scaling.job import Job

SAMPLE = sample_path("nuclei")

CLICKS = [(119, 384), (149, 449), (179, 493), (320, 543), (365, 573), (280, 129)]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.asarray(Image.open(SAMPLE))


def test_masks_agree_with_those_of_float32(nano, pixels) -> None:
    coarse = load_model("nano", precision="bfloat16")
    seen, coarsely = embed(nano, pixels), embed(coarse, pixels)
    for click in CLICKS:
        prompts = Prompts(points=[click])
        one, other = predict(nano, seen, prompts), predict(coarse, coarsely, prompts)
        mask, again = one.masks[one.best], other.masks[one.best]
        assert (mask & again).sum() / (mask | again).sum() > 0.95
        assert np.allclose(one.iou, other.iou, atol=0.05)


def test_what_comes_out_is_float32(pixels) -> None:
    coarse = load_model("nano", precision="bfloat16")
    embedding = embed(coarse, pixels)
    tensors = (embedding.features, *embedding.skips, embedding.dense)
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert predict(coarse, embedding, Prompts(points=[CLICKS[0]])).logits.dtype == np.float32


def test_the_precision_is_really_another(nano, pixels) -> None:
    coarse = load_model("nano", precision="bfloat16")
    assert not torch.equal(embed(coarse, pixels).features, embed(nano, pixels).features)


def test_another_precision_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="no precision 'half'; there are float32 and bfloat16"):
        load_model("nano", precision="half")


def test_a_jobs_precision_is_a_setting_of_its_labels(tmp_path, pixels) -> None:
    Image.fromarray(pixels[:128, :128]).save(tmp_path / "cells.png")
    job = Job(str(tmp_path / "cells.png"), str(tmp_path / "cells.tif"), precision="bfloat16")
    assert job.settings["precision"] == "bfloat16"
    assert run(job).objects > 0


def test_the_command_line_refuses_another_precision(tmp_path, pixels) -> None:
    Image.fromarray(pixels[:32, :32]).save(tmp_path / "cells.png")
    command = ["segment", str(tmp_path / "cells.png"), str(tmp_path / "cells.tif"), "--precision", "half"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "no precision 'half'" in done.output
    assert not (tmp_path / "cells.tif").exists()
