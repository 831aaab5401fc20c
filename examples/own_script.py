"""Way in 1: a script of your own, with plain PyTorch and `study.optimize`.

A small convolutional network on scikit-learn's digits, trained by a loop as you would write it.
What the search needs of it: the network takes an activation factory, and the objective returns the
number that counts. Run it with `python examples/own_script.py`; it takes a minute or two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import optuna
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from aquasurf_optuna import Activation, AquaSurfSampler, FisherFeaturizer, SearchSpace

SPACE = SearchSpace.three_node()
EPOCHS = 3
BATCH = 50


def load_images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images `[900, 1, 8, 8]`, their labels, validation images and labels."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8)
    images = (images - images.mean()) / images.std()
    train, validation, train_labels, validation_labels = train_test_split(
        images, torch.from_numpy(labels).long(), train_size=900, stratify=labels, random_state=0
    )
    return train, train_labels, validation, validation_labels


def build_model(activation: Callable[..., nn.Module]) -> nn.Module:
    """Build the network; call `activation()` wherever you would have written `nn.ReLU()`."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        activation(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        activation(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32),
        activation(),
        nn.Linear(32, 10),
    )


def train_and_validate(model: nn.Module, learning_rate: float) -> float:
    """Train with SGD and return the validation accuracy."""
    images, labels, validation, validation_labels = load_images()
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (model(validation).argmax(1) == validation_labels).float().mean().item()


def objective(trial: optuna.Trial) -> float:
    """Train one function; the learning rate is sampled beside it."""
    expression = SPACE.suggest(trial, "activation")
    learning_rate = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    torch.manual_seed(0)
    return train_and_validate(build_model(Activation.factory(expression)), learning_rate)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=40, help="training runs, 8 baselines first")
    parser.add_argument("--pool", type=int, default=500, help="candidates with Fisher features")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the network is small: more threads would only wait for each other
    features = FisherFeaturizer(build_model, load_images()[0][:128])
    sampler = AquaSurfSampler(SPACE, features=features, pool_size=options.pool, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=options.trials)
    found = SPACE.expression_of(study.best_params, "activation")
    print(f"found {found}: validation accuracy {study.best_value:.3f}")


if __name__ == "__main__":
    main()
