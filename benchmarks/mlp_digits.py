"""A second table: a small multilayer perceptron on the harder digits, every function trained.

The network is of another kind than the quickstart's, and so is the training (few renderings,
large batches, Adam), so that a surrogate that wins on both tables does not owe it to one. A
training takes some tenths of a second, so the table holds all 2,791 functions of the three-node
space, those with an invalid spectrum included.

    python -m benchmarks.mlp_digits [--jobs 2]
"""

from __future__ import annotations

import argparse
import functools
import random
from dataclasses import dataclass
from typing import NamedTuple

import joblib
import torch
from torch import Tensor, nn

from aquasurf_optuna import BASELINES, Activation, Catalogue, FeatureStore, FisherFeaturizer
from aquasurf_optuna.activation import ActivationFactory
from benchmarks.tables import SPACE, Table, default_store, read_table
from benchmarks.trainings import RESULTS, Trainings
from lightning_modules.autoinit import autoinit_
from lightning_modules.digits_recipe import DIGITS_RECIPE

N_PIXELS = 100
N_RENDERINGS = 8
FEATURE_IMAGES = 128


@dataclass(frozen=True)
class MlpRecipe:
    """Network and training.

    Attributes:
        widths: Of the hidden layers.
        steps: Of Adam.
        batch: Training images of a step.
        learning_rate: Its peak; it rises over the first tenth of the steps and then falls to 0.
        seeds: Trainings of each function; the accuracy is their mean.
    """

    widths: tuple[int, ...] = (32, 32)
    steps: int = 60
    batch: int = 300
    learning_rate: float = 0.01
    seeds: tuple[int, ...] = (0, 1)


MLP_RECIPE = MlpRecipe()
MLP_TRAININGS = RESULTS / "mlp_trainings.jsonl"


class Digits(NamedTuple):
    """Images `(renderings, n, 100)` and their classes `(renderings, n)`; and those to validate.

    Attributes:
        images: Training images, each rendering disturbed anew.
        classes: Their classes.
        held_out: Validation images, `(m, 100)`.
        held_out_classes: Their classes, `(m,)`.
    """

    images: Tensor
    classes: Tensor
    held_out: Tensor
    held_out_classes: Tensor


@functools.cache
def digits() -> Digits:
    """Return the quickstart's images."""
    data = DIGITS_RECIPE.data(seed=0)
    parts = [data.training_images(epoch) for epoch in range(N_RENDERINGS)]
    held_out = data.evaluation_images("validation")
    return Digits(
        torch.stack([part.images.flatten(1) for part in parts]),
        torch.stack([part.labels for part in parts]),
        held_out.images.flatten(1),
        held_out.labels,
    )


def build_mlp(activation: ActivationFactory) -> nn.Module:
    """Build the network with AutoInit's weights, from torch's global generator.

    Raises:
        InitializationError: If AutoInit finds no weights for this function.
    """
    layers: list[nn.Module] = []
    width = N_PIXELS
    for wider in MLP_RECIPE.widths:
        layers += [nn.Linear(width, wider), activation()]
        width = wider
    return autoinit_(nn.Sequential(*layers, nn.Linear(width, 10)), (N_PIXELS,))


def train_mlp(function: str, recipe: MlpRecipe = MLP_RECIPE) -> float:
    """Return the mean validation accuracy over the recipe's seeds.

    Raises:
        InitializationError: If AutoInit finds no weights for this function.
    """
    accuracies = [_trained(function, seed, recipe) for seed in recipe.seeds]
    return sum(accuracies) / len(accuracies)


def _trained(function: str, seed: int, recipe: MlpRecipe) -> float:
    data = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_mlp(Activation.factory(function))
    optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1
    )
    for step in range(recipe.steps):
        images, classes = _batch(data, step, recipe.batch)
        loss = nn.functional.cross_entropy(network(images), classes)
        if not torch.isfinite(loss):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = network(data.held_out).nan_to_num().argmax(dim=1)
    return float((found == data.held_out_classes).float().mean())


def _batch(data: Digits, step: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the images of a step: one rendering after another, each from its beginning."""
    per_rendering = data.images.shape[1] // size
    rendering = step // per_rendering % N_RENDERINGS
    part = slice(step % per_rendering * size, (step % per_rendering + 1) * size)
    return data.images[rendering, part], data.classes[rendering, part]


def mlp_featurizer() -> FisherFeaturizer:
    """Return the featurizer of this task."""
    return FisherFeaturizer(build_mlp, digits().images[0, :FEATURE_IMAGES])


def mlp_trainings() -> Trainings:
    """Return what is trained."""
    return Trainings(MLP_TRAININGS, MLP_RECIPE, train_mlp)


def train_some(functions: list[str]) -> None:
    """Train what is not in the file yet."""
    torch.set_num_threads(1)
    trainings = mlp_trainings()
    for function in functions:
        trainings.accuracy(function)


def main() -> None:
    """Measure every function of the three-node space and train it, those with a spectrum first."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--store", default=default_store(), help="URL of the store of features")
    options = parser.parse_args()
    catalogue = Catalogue.of(SPACE)
    functions = [str(catalogue[row]) for row in range(len(catalogue))]
    with FeatureStore(options.store) as store:
        features = mlp_featurizer().many(functions, store=store)
    valid = [text for text, feature in zip(functions, features, strict=True) if feature.valid]
    # In a random order, so that what is trained of an unfinished table is a fair sample.
    random.Random(0).shuffle(valid)
    ordered = list(dict.fromkeys([*map(str, BASELINES), *valid, *functions]))
    joblib.Parallel(n_jobs=options.jobs, verbose=5)(
        joblib.delayed(train_some)(ordered[start :: options.jobs]) for start in range(options.jobs)
    )


def mlp_table(store: str) -> Table:
    """Return the table, as far as it is trained."""
    return read_table("multilayer perceptron", mlp_trainings(), mlp_featurizer(), store)


if __name__ == "__main__":
    main()
