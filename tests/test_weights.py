"""Checkpoints: any of the family loads by its names and shapes alone; anything else gets one sentence."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from golden import golden_weights
from safetensors.torch import save_file

from napari_samscape import InputError, load_model
from napari_samscape.model.sam import build_model, build_nano
from napari_samscape.model.weights import save_model


@pytest.fixture(scope="module")
def weights(shared: Path) -> dict[str, torch.Tensor]:
    return golden_weights(shared / "golden" / "mini.keys.json", 7)


@pytest.fixture
def checkpoint(weights: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    torch.save(weights, tmp_path / "mini.pth")
    return tmp_path / "mini.pth"


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def test_the_architecture_is_read_off_names_and_shapes(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    encoder = model.image_encoder
    assert model.image_size == 256
    assert [block.window for block in encoder.blocks] == [5, 0, 5, 0]
    assert encoder.blocks[0].attn.heads == 4
    assert not model.training


@pytest.mark.parametrize("kind", ["safetensors", "wrapped", "prefixed"])
def test_the_same_weights_load_from_other_wrappings(kind: str, weights, checkpoint: Path) -> None:
    path = checkpoint.with_name("other.pt")
    if kind == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(weights, path)
    elif kind == "wrapped":
        torch.save({"epoch": 3, "model_state": weights}, path)
    else:
        torch.save({f"module.{key}": value for key, value in weights.items()}, path)
    ours, theirs = load_model(path).state_dict(), load_model(checkpoint).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["vit_b", "vit_t"])
def test_published_key_layouts_are_complete(shared: Path, name: str) -> None:
    """Our state has exactly the official keys, so that nothing of a checkpoint is left unread."""
    official = shapes(golden_weights(shared / "golden" / f"{name}.keys.json", 0))
    ours = shapes(build_model(official).state_dict())
    counters = {key for key in official if key.endswith("num_batches_tracked")}
    assert {k: v for k, v in official.items() if k not in counters} == {
        k: v for k, v in ours.items() if k not in counters
    }


def test_nano_survives_saving_and_loading_in_half_precision(tmp_path: Path) -> None:
    model = build_nano()
    save_model(model, tmp_path / "n.safetensors")
    again = load_model(tmp_path / "n.safetensors").state_dict()
    assert all(torch.equal(v.half(), again[k].half()) for k, v in model.state_dict().items())
    assert list(tmp_path.iterdir()) == [tmp_path / "n.safetensors"]


class RunsCode:
    def __reduce__(self):
        return (open, ("pickle_ran_code.txt", "w"))


class TestWhatIsNoCheckpoint:
    def test_an_unknown_name(self) -> None:
        with pytest.raises(InputError, match="no model 'vit_x': it is neither a file nor one of nano"):
            load_model("vit_x")

    def test_a_known_name_that_is_not_here(self) -> None:
        with pytest.raises(InputError, match="samscape models --download vit_h"):
            load_model("vit_h")

    def test_a_truncated_file(self, checkpoint: Path) -> None:
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
        with pytest.raises(InputError, match="damaged or truncated"):
            load_model(checkpoint)

    def test_a_truncated_safetensors_file(self, weights, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        save_file(weights, path)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match="damaged or truncated"):
            load_model(path)

    def test_a_file_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "notes.pth").write_text("these are notes")
        with pytest.raises(InputError, match=r"notes\.pth"):
            load_model(tmp_path / "notes.pth")

    def test_a_pickle_that_runs_code_is_refused_and_does_not_run(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save({"weights": RunsCode()}, tmp_path / "evil.pth")
        (tmp_path / "bare.pth").write_bytes(pickle.dumps(RunsCode()))
        for name in ("evil.pth", "bare.pth"):
            with pytest.raises(InputError, match="may run code"):
                load_model(tmp_path / name)
        assert not (tmp_path / "pickle_ran_code.txt").exists()

    def test_another_networks_weights(self, tmp_path: Path) -> None:
        torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
        with pytest.raises(InputError, match="no Segment Anything checkpoint"):
            load_model(tmp_path / "linear.pth")

    def test_a_table_without_tensors(self, tmp_path: Path) -> None:
        torch.save([1, 2, 3], tmp_path / "list.pth")
        with pytest.raises(InputError, match="no table of tensors"):
            load_model(tmp_path / "list.pth")

    @pytest.mark.parametrize("change", ["missing", "shape", "nan"])
    def test_a_single_wrong_tensor_is_named(self, weights, tmp_path: Path, change: str) -> None:
        key = "mask_decoder.iou_prediction_head.layers.1.bias"
        state = dict(weights)
        if change == "missing":
            del state[key]
        else:
            state[key] = state[key][:-1] if change == "shape" else state[key] * float("nan")
        torch.save(state, tmp_path / "m.pth")
        with pytest.raises(InputError, match=key):
            load_model(tmp_path / "m.pth")

    def test_a_device_that_is_not_here(self, checkpoint: Path) -> None:
        with pytest.raises(InputError, match="'quantum' is not available"):
            load_model(checkpoint, device="quantum")
