"""The decoder: what it leaves out, and in what portions it works, changes no mask."""

import pytest
import torch
from golden import golden_image, golden_model

from napari_samscape.model import sam as sam_module
from napari_samscape.model.sam import MULTI, Encoded, PromptTensors, Sam
from napari_samscape.prediction.image import to_input, to_rgb


def clicks(count: int, side: int) -> PromptTensors:
    places = torch.rand(count, 1, 2, generator=torch.manual_seed(0)) * side
    return PromptTensors(places, torch.ones(count, 1, dtype=torch.long))


@pytest.fixture(scope="module", params=["mini", "nano"])
def seen(request: pytest.FixtureRequest, shared, nano: Sam) -> tuple[Sam, Encoded]:
    """A model that knows the IoU before it draws, and one that does not; each with a picture it has seen."""
    model = nano if request.param == "nano" else golden_model(shared / "golden", "mini")
    with torch.inference_mode():
        return model, model.encode(to_input(to_rgb(golden_image(200, 256, 3)), model)[0])


@torch.inference_mode()
def test_masks_above_a_predicted_iou_are_those_that_decoding_gives(seen: tuple[Sam, Encoded]) -> None:
    model, encoded = seen
    prompts = clicks(7, 200)
    logits, iou = model.decode(encoded, prompts, MULTI)
    least = float(iou.flatten().median())
    rows, good, said = model.decode_above(encoded, prompts, least)
    assert rows.tolist() == (iou.flatten() > least).nonzero()[:, 0].tolist()
    assert 0 < len(rows) < 21
    torch.testing.assert_close(good, logits.flatten(0, 1)[rows], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said, iou.flatten()[rows])


@torch.inference_mode()
def test_where_no_mask_is_above_none_is_drawn(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden_model(shared / "golden", "mini")
    encoded = model.encode(to_input(to_rgb(golden_image(200, 256, 3)), model)[0])
    monkeypatch.setattr(model, "_draw", lambda *_: pytest.fail("drawn"))
    rows, logits, iou = model.decode_above(encoded, clicks(5, 200), 9.0)
    assert (len(rows), len(logits), len(iou)) == (0, 0, 0)
    assert logits.shape[1:] == tuple(4 * side for side in encoded.features.shape[2:])


@torch.inference_mode()
def test_prompts_are_answered_alike_together_and_in_portions(
    seen: tuple[Sam, Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoded = seen
    prompts = clicks(5, 200)
    together = model.decode_whole(encoded, prompts)
    monkeypatch.setattr(sam_module, "BYTES_AT_ONCE", 2 * encoded.features.nbytes)
    for one, other in zip(model.decode_whole(encoded, prompts), together, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
