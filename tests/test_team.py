"""Training by several processes: they average their gradients, share the crops, and one of them writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from napari_samscape import InputError
from napari_samscape.model.weights import load_model
from napari_samscape.training.team import Team

AVERAGE = """
import torch
from torch import nn
from napari_samscape.training.team import Team

team = Team.join()
model = nn.Linear(2, 1)
model.weight.grad = torch.tensor([[1.0, 2.0]]) * (1 + 2 * team.rank)  # the bias has none
team.average_gradients(model)
assert model.weight.grad.tolist() == [[2.0, 4.0]] and model.bias.grad is None
assert team.as_leader(7.0 + team.rank) == 7.0
assert team.leads == (team.rank == 0)
team.leave()
"""


def start_two(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=200)


def test_alone_nothing_is_averaged_or_shared() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.ones(1, 2)
    team = Team.join()
    team.average_gradients(model)
    assert model.weight.grad.tolist() == [[1.0, 1.0]]
    assert (team.share(5), team.as_leader(3.0), team.leads) == (5, 3.0, True)


def test_crops_that_cannot_be_shared_evenly_are_refused() -> None:
    assert Team(1, 4).share(8) == 2
    with pytest.raises(InputError, match="3 processes cannot share batch = 8 crops evenly"):
        Team(0, 3).share(8)


def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    (tmp_path / "average.py").write_text(AVERAGE)
    done = start_two(tmp_path / "average.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_train_one_model_and_the_leader_tells_and_writes(tmp_path: Path) -> None:
    settings = "batch = 2\ncrop = 64\nobjects = 2\nthreads = 1\nsynthetic = 2\ndevice = 'cpu'\nout = 'run'\n"
    (tmp_path / "c.toml").write_text(settings)
    done = start_two("-m", "napari_samscape.cli", "train", tmp_path / "c.toml", "--minutes", 0.005)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 pictures from 1 sources") == 1
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] > 0
    assert load_model(tmp_path / "run" / "nano.safetensors").image_size == 512
