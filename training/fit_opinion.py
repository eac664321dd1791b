"""Fit the last step of nano's predicted IoU, by which one of its three masks is chosen.

    python training/fit_opinion.py WEIGHTS OUT

Six numbers (`napari_samscape.model.opinion.Opinion`) are fitted to clicks on pictures to train on, asked as
users ask: what is small is looked at closer. Every data set counts alike. What is printed was fitted on other
pictures than it is measured on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from napari_samscape.evaluation.datasets import open_dataset
from napari_samscape.evaluation.protocols import interior_point, mask_iou
from napari_samscape.model.weights import load_model, save_model
from napari_samscape.prediction.ask import ask
from napari_samscape.prediction.types import Prompts
from napari_samscape.prediction.views import Views
from napari_samscape.training.train import read_config

PICTURES = 40  # of each data set, at most
OBJECTS = 8  # of each picture
FOLDS = 5


def main(weights: Path, out: Path) -> None:
    """Read weights, fit, print what it brings, write."""
    model = load_model(weights)
    opinion = model.mask_decoder.opinion
    config = read_config(Path(__file__).with_name("nano.toml"))
    paths = [config.folder / source.path for source in config.sources if source.path.endswith(".zip")]
    rows = [row for number, path in enumerate(paths) for row in answers(model, path, number)]
    signs, true = torch.stack([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    source, picture = (np.array([row[k] for row in rows]) for k in (2, 3))
    share = torch.tensor([1 / (source == number).sum() for number in source], dtype=torch.float32)
    before = opinion(signs).detach()
    after = torch.zeros_like(before)
    for fold in range(FOLDS):
        held = torch.from_numpy(picture % FOLDS == fold)
        fit(opinion, signs[~held], true[~held], share[~held])
        after[held] = opinion(signs[held]).detach()
    for number, path in enumerate(paths):
        own = source == number
        told = "  ".join(
            f"{name} {describe(said[own], true[own])}"
            for name, said in (("before", before), ("after", after))
        )
        print(f"{path.parent.name}/{path.stem}, {own.sum()} objects: {told}")
    fit(opinion, signs, true, share)
    print(f"weight {opinion.weight.tolist()}, bias {opinion.bias.tolist()}")
    save_model(model, out)


def answers(model, path: Path, number: int):
    """For every click: signs (3, 3), true IoU of the three masks, the data set's number, the picture's."""
    heard: list[Tensor] = []
    hook = model.mask_decoder.opinion.register_forward_hook(lambda _, given, __: heard.append(given[0]))
    rng = np.random.default_rng(0)
    readers = list(open_dataset(path).readers)
    for place in rng.permutation(len(readers))[:PICTURES].tolist():
        sample = readers[place]()
        views = Views(model, sample.pixels)
        objects = [sample.objects[k] for k in rng.permutation(len(sample.objects))[:OBJECTS].tolist()]
        for thing in objects:
            answer = ask(views, [Prompts(points=[interior_point(thing)])])[0]
            yield heard[-1][0].clone(), [mask_iou(thing, mask) for mask in answer.masks], number, place
    hook.remove()


def fit(opinion, signs: Tensor, true: Tensor, share: Tensor) -> None:
    """Least squares between predicted and true IoU, drawn a little towards the sum of the first two signs."""
    start = torch.tensor([1.0, 1.0, 0.0])
    with torch.no_grad():
        opinion.weight.copy_(start)
        opinion.bias.zero_()
    optimizer = torch.optim.LBFGS(opinion.parameters(), max_iter=200)

    def loss() -> Tensor:
        optimizer.zero_grad()
        error = ((opinion(signs).sigmoid() - true) ** 2).mean(1)
        drawn = 1e-3 * ((opinion.weight - start).square().sum() + opinion.bias.square().sum())
        total = (share * error).sum() / share.sum() + drawn
        total.backward()
        return total

    optimizer.step(loss)


def describe(said: Tensor, true: Tensor) -> str:
    """Mean IoU of the chosen masks, and the rank correlation of predicted and true IoU."""
    chosen = true.gather(1, said.argmax(1, keepdim=True))[:, 0]
    return f"{chosen.mean():.3f} (rank correlation {spearmanr(said.amax(1), chosen).statistic:.2f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
