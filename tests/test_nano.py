"""What nano does differently from SAM: any size, drawn prompts, finer features, a dense head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_samscape import Prompts, embed, predict
from napari_samscape.model.mask_decoder import Attention
from napari_samscape.model.nano import (
    OFFSET_UNIT,
    NanoConfig,
    NanoMaskDecoder,
    agreement,
    expected_iou,
    kinship,
)
from napari_samscape.model.prompt_encoder import BACKGROUND, BOX_END, BOX_START, FOREGROUND, PADDING
from napari_samscape.model.sam import Sam, build_model, build_nano


@pytest.fixture(scope="module")
def fresh() -> Sam:
    torch.manual_seed(0)
    return build_nano().eval()


def draw(model: Sam, points: list[tuple[float, float]], labels: list[int], grid=(2, 3)) -> torch.Tensor:
    """The drawn prompt, (4, 16, 24) for a grid of 2 x 3 cells."""
    return model.prompt_encoder.draw(
        torch.tensor([points], dtype=torch.float32), torch.tensor([labels]), None, grid
    )[0]


def test_a_picture_is_padded_to_a_multiple_of_32_not_to_a_square(fresh: Sam) -> None:
    embedding = embed(fresh, np.random.default_rng(0).integers(0, 255, (100, 256, 3), np.uint8))
    assert embedding.input_shape == (200, 512)
    assert embedding.features.shape == (1, 128, 14, 32)
    assert [tuple(s.shape[2:]) for s in embedding.skips] == [(28, 64), (56, 128), (112, 256)]
    assert embedding.dense.shape == (1, 4, 56, 128)


def test_masks_come_at_the_pictures_size_and_half_the_shown_size(fresh: Sam) -> None:
    embedding = embed(fresh, np.random.default_rng(0).integers(0, 255, (90, 128), np.uint8))
    masks = predict(fresh, embedding, Prompts([(40, 60)]))
    assert masks.masks.shape == (3, 90, 128)
    assert masks.logits.shape == (3, 184 + 8, 256)
    again = predict(fresh, embedding, Prompts([(40, 60)], mask=masks.logits[masks.best]), multimask=False)
    assert again.masks.shape == (1, 90, 128)


def test_points_are_drawn_where_they_are_each_kind_in_its_own_map(fresh: Sam) -> None:
    mask, fore, back, box = draw(
        fresh, [(10.5, 4.5), (40.5, 20.5), (0, 0)], [FOREGROUND, BACKGROUND, PADDING]
    )
    assert divmod(int(fore.argmax()), 24) == (2, 5)  # y 4.5, x 10.5 at stride 2
    assert divmod(int(back.argmax()), 24) == (10, 20)
    assert fore.max() == pytest.approx(1) and back.max() == pytest.approx(1)
    assert not mask.any() and not box.any()


def test_a_box_is_drawn_filled(fresh: Sam) -> None:
    box = draw(fresh, [(8.5, 4.5), (20.5, 12.5)], [BOX_START, BOX_END])[3]
    assert (box[3:6, 5:10] == 1).all()
    assert box.sum() == pytest.approx(6 * 4)  # 12 x 8 pixels, edges shared


def two_halves() -> torch.Tensor:
    """Maps of a dense head, (1, 4, 4, 8): all inside, pointing to the middle of a half, x 7.5 or 23.5."""
    x = torch.arange(8) * 4 + 1.5
    y = torch.arange(4) * 4 + 1.5
    dense = torch.full((1, 4, 4, 8), 20.0)
    dense[0, 2] = ((7.5 - y) / OFFSET_UNIT)[:, None]
    dense[0, 3] = (torch.where(x < 16, 7.5, 23.5) - x) / OFFSET_UNIT
    return dense


def test_kin_is_what_points_to_the_centre_that_the_click_points_to() -> None:
    points, labels = torch.tensor([[[2.0, 12.0], [30.0, 3.0]]]), torch.tensor([[FOREGROUND, BACKGROUND]])
    narrow, _, _, away = kinship(points, labels, two_halves())[0]
    assert torch.allclose(narrow[:, :4], torch.ones(4, 4)) and (narrow[:, 4:] < 1e-3).all()
    assert torch.allclose(away[:, 4:], torch.ones(4, 4))


def test_kin_of_a_box_points_to_its_middle() -> None:
    points = torch.tensor([[[0.0, 0.0], [20.0, 4.0], [27.0, 11.0]]])
    narrow, *_, away = kinship(points, torch.tensor([[PADDING, BOX_START, BOX_END]]), two_halves())[0]
    assert torch.allclose(narrow[:, 4:], torch.ones(4, 4)) and (narrow[:, :4] < 1e-3).all()
    assert not away.any()


def test_what_is_outside_of_objects_is_nobodys_kin() -> None:
    dense = two_halves()
    dense[:, 0] = -20
    assert kinship(torch.tensor([[[2.0, 12.0]]]), torch.tensor([[FOREGROUND]]), dense).max() < 1e-6


def test_the_position_of_a_crop_can_be_told(fresh: Sam) -> None:
    whole = fresh.prompt_encoder.dense_pe((8, 8))
    part = fresh.prompt_encoder.dense_pe((3, 2), torch.tensor([[5.0, 4.0]]))  # x 5, y 4
    assert torch.allclose(part, whole[..., 4:7, 5:7], atol=1e-5)


def test_a_fresh_decoder_attends_to_what_is_near(fresh: Sam) -> None:
    for module in fresh.mask_decoder.modules():
        if isinstance(module, Attention):
            assert torch.equal(module.q_proj.weight, module.k_proj.weight)


def test_the_configuration_is_read_off_the_weights() -> None:
    config = NanoConfig(widths=(16, 24, 32, 48), depths=(1, 2, 1, 1), fine=(20, 12, 8))
    state = {key: tuple(value.shape) for key, value in build_nano(config).state_dict().items()}
    rebuilt = {key: tuple(value.shape) for key, value in build_model(state).state_dict().items()}
    assert rebuilt == state


def test_a_mask_that_is_sure_of_its_pixels_expects_a_high_iou() -> None:
    disc = torch.zeros(1, 2, 32, 32)
    disc[..., 8:24, 8:24] = 1
    sure, unsure = (2 * disc[:, :1] - 1) * 12, (2 * disc[:, 1:] - 1) * 0.4
    expected = expected_iou(torch.cat([sure, unsure], dim=1))[0]
    inside, outside = torch.tensor(0.4).sigmoid() * 64, (1 - torch.tensor(0.4).sigmoid()) * (256 - 64)
    assert expected[0] > 0.99
    assert expected[1] == pytest.approx(float(inside / (64 + outside)), abs=1e-4)


def test_the_heads_output_corrects_the_expectation(fresh: Sam) -> None:
    logits = torch.full((1, 3, 16, 16), 3.0)
    low, same, high = fresh.mask_decoder.estimate(torch.tensor([[-1.0, 0.0, 1.0]]), logits)[0].tolist()
    assert low < same < high
    assert same == pytest.approx(float(torch.tensor(3.0).sigmoid()), abs=1e-4)


def test_masks_agree_by_the_pixels_they_share() -> None:
    logits = torch.full((1, 3, 8, 8), -20.0)
    logits[0, 0, :, :4] = logits[0, 1, :, :4] = logits[0, 2, :, 4:] = 20.0
    torch.testing.assert_close(agreement(logits), torch.tensor([[0.5, 0.5, 0.0]]), atol=1e-6, rtol=0)


def test_a_mask_that_the_others_agree_with_is_trusted_more(fresh: Sam) -> None:
    logits = torch.full((1, 4, 16, 16), -8.0)
    logits[0, :, :8] = 8.0
    logits[0, 3] = -logits[0, 0]
    decoder = NanoMaskDecoder(NanoConfig())
    assert decoder.estimate(torch.zeros(1, 4), logits)[0].std() < 1e-3, (
        "to begin with, agreement says nothing"
    )
    with torch.no_grad():
        decoder.opinion.weight[2] = 1.0
    alone, one, other, apart = decoder.estimate(torch.zeros(1, 4), logits)[0].tolist()
    assert one == pytest.approx(other) and one > apart
    assert alone == pytest.approx(float(expected_iou(logits)[0, 0]), abs=1e-2), (
        "the single mask has none beside it"
    )


def test_a_mask_may_be_the_only_prompt(fresh: Sam) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96), np.uint8)
    mask = np.zeros((64, 96), bool)
    mask[20:40, 30:60] = True
    assert predict(fresh, embed(fresh, pixels), Prompts(mask=mask)).masks.shape == (3, 64, 96)
