"""Muon: orthogonal updates of matrices, and which weights get them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_samscape.model.sam import build_nano
from napari_samscape.training.muon import RMS, Muon, is_matrix, orthogonal
from napari_samscape.training.train import make_optimizers


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_singular_values_end_near_one_and_directions_stay(shape) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(-1, 0, shape[1])
    made = orthogonal(matrix)
    values = torch.linalg.svdvals(made)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert made.shape == shape
    assert values.min() > 0.5 and values.max() < 1.3
    assert (torch.diagonal(u.T @ made @ v.T) > 0.5).all()


def test_a_step_has_the_length_that_adamw_would_give() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(32, 64))
    weight.grad = torch.randn(32, 64) * 1e-4  # how large the gradient is does not matter
    Muon([weight], lr=0.01).step()
    rms = weight.detach().square().mean().sqrt()
    assert rms == pytest.approx(0.01 * RMS, rel=0.2)


def test_a_convolution_is_a_matrix_from_all_its_inputs_to_its_outputs() -> None:
    torch.manual_seed(0)
    conv, flat = nn.Parameter(torch.zeros(8, 6, 3, 3)), nn.Parameter(torch.zeros(8, 54))
    conv.grad = torch.randn(8, 6, 3, 3)
    flat.grad = conv.grad.reshape(8, 54).clone()
    Muon([conv, flat], lr=0.1).step()
    assert torch.equal(conv.reshape(8, 54), flat)


def test_a_weight_without_gradient_rests() -> None:
    weight = nn.Parameter(torch.ones(8, 8))
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, torch.ones(8, 8))


def test_a_valley_that_is_steep_one_way_is_walked_down_both_ways() -> None:
    weight = nn.Parameter(torch.eye(8))
    steepness = torch.logspace(0, -4, 8)[:, None]
    optimizer = Muon([weight], lr=0.05, weight_decay=0)
    for _ in range(200):
        optimizer.zero_grad()
        (steepness * weight.square()).sum().backward()
        optimizer.step()
    assert weight.abs().max() < 0.2


def test_biases_tokens_norms_first_and_last_layers_are_left_to_adamw() -> None:
    names = {name for name, weight in build_nano().named_parameters() if is_matrix(weight)}
    assert "image_encoder.stages.0.0.body.0.weight" in names
    assert "mask_decoder.transformer.layers.0.self_attn.q_proj.weight" in names
    for other in (
        "image_encoder.downs.0.0.weight",
        "image_encoder.dense_head.2.weight",
        "image_encoder.neck.2.weight",
        "mask_decoder.mask_tokens.weight",
        "mask_decoder.iou_token.weight",
    ):
        assert other not in names


def test_each_weight_has_one_optimizer() -> None:
    weights = [nn.Parameter(torch.zeros(8, 8)), nn.Parameter(torch.zeros(8))]
    muon, adamw = make_optimizers(weights, 0.01)
    assert muon.param_groups[0]["params"] == [weights[0]]
    assert adamw.param_groups[0]["params"] == [weights[1]]
    assert len(make_optimizers(weights[1:], 0.01)) == 1
