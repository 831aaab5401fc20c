"""Way in 3: LightningCLI runs as the trials of a study.

Each trial is what `python -m lightning_modules fit --config ...` would do, with the activation and
the learning rate of the trial in place of those of the file. Any of the configurations beside this
script will do; the digits need no download and no GPU. Run it with `python
examples/lightning_study.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import optuna
import torch

from aquasurf_optuna import AquaSurfSampler, FisherFeaturizer, InitializationError, SearchSpace
from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.cli import run
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model

CONFIG = Path(__file__).parent / "configs" / "all_cnn_c_digits.yaml"
SPACE = SearchSpace.three_node()


def objective(trial: optuna.Trial, config: Path, more: Sequence[str]) -> float:
    """Run LightningCLI once and return the validation accuracy of its last epoch."""
    expression = SPACE.suggest(trial, "activation")
    learning_rate = trial.suggest_float("lr", 5e-3, 1e-1, log=True)
    arguments = ["fit", "--config", str(config), "--model.activation", str(expression)]
    arguments += ["--model.training.learning_rate", str(learning_rate), *more]
    try:
        cli = run(arguments, callbacks=[FisherEigenvalues(trial)])
    except InitializationError as error:
        raise optuna.TrialPruned(str(error)) from error
    return cli.trainer.callback_metrics["val_accuracy"].item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Search with LightningCLI; arguments that this script does not know go to LightningCLI."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=20, help="training runs, 8 baselines first")
    parser.add_argument("--pool", type=int, default=500, help="candidates with Fisher features")
    options, more = parser.parse_known_args(arguments)
    torch.set_num_threads(1)  # the network is small: more threads would only wait for each other
    images = DIGITS_RECIPE.data(seed=0).training_images(epoch=0).images[:128]
    sampler = AquaSurfSampler(
        SPACE,
        features=FisherFeaturizer(build_digits_model, images),
        pool_size=options.pool,
        seed=0,
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: objective(trial, CONFIG, more), n_trials=options.trials)
    print(f"best: {study.best_value:.3f} with {study.best_params}")


if __name__ == "__main__":
    main()
