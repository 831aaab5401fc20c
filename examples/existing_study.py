"""Way in 2: the sampler in a study that exists already, with its database and its parameters.

First there is a study as a team may have it: SQLite, Optuna's TPE, a network with ReLU, learning
rate and weight decay to tune. Then the same study goes on with the activation function as one more
parameter, by `AquaSurfSampler`, with TPE as its base sampler for the rest. `FisherEigenvalues` ends
hopeless trials before their training, and Optuna's own callback prunes the slow ones. Run it with
`python examples/existing_study.py`; run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import optuna
import torch

from aquasurf_optuna import AquaSurfSampler, FisherFeaturizer, InitializationError, SearchSpace
from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model, train_digits

SPACE = SearchSpace.three_node()


def objective(trial: optuna.Trial, *, with_activation: bool) -> float:
    """Train once; without the activation this is the objective that the team had before."""
    training = dataclasses.replace(
        DIGITS_RECIPE.training,
        learning_rate=trial.suggest_float("lr", 5e-3, 1e-1, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-5, 1e-3, log=True),
    )
    recipe = dataclasses.replace(DIGITS_RECIPE, training=training)
    if not with_activation:
        return train_digits("relu(x)", seed=0, recipe=recipe).validation_accuracy
    expression = SPACE.suggest(trial, "activation")
    try:
        result = train_digits(
            expression, seed=0, recipe=recipe, callbacks=[FisherEigenvalues(trial)]
        )
    except InitializationError as error:
        raise optuna.TrialPruned(str(error)) from error
    return result.validation_accuracy


def open_study(storage: str, sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """Open the team's study, or begin it, with a sampler of one's choice."""
    return optuna.create_study(
        study_name="team",
        storage=storage,
        direction="maximize",
        sampler=sampler,
        load_if_exists=True,
    )


def aquasurf_sampler(storage: str, pool: int) -> AquaSurfSampler:
    """Return the sampler; the features are kept in the study's own database."""
    images = DIGITS_RECIPE.data(seed=0).training_images(epoch=0).images[:128]
    return AquaSurfSampler(
        SPACE,
        features=FisherFeaturizer(build_digits_model, images),
        store=storage,
        base_sampler=optuna.samplers.TPESampler(seed=0),
        pool_size=pool,
        seed=0,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Begin the study with TPE, go on with AquaSurfSampler, and print the best of both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--before", type=int, default=5, help="trials of the study as it was")
    parser.add_argument("--trials", type=int, default=30, help="trials with the activation")
    parser.add_argument("--pool", type=int, default=500, help="candidates with Fisher features")
    parser.add_argument("--database", type=Path, default=Path("team.db"), help="SQLite file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the network is small: more threads would only wait for each other
    storage = f"sqlite:///{options.database}"
    study = open_study(storage, optuna.samplers.TPESampler(seed=0))
    study.optimize(lambda t: objective(t, with_activation=False), n_trials=options.before)
    print(f"before: {study.best_value:.3f} with ReLU and {study.best_params}")
    sampler = aquasurf_sampler(storage, options.pool)
    study = open_study(storage, sampler)
    study.optimize(lambda t: objective(t, with_activation=True), n_trials=options.trials)
    best = study.best_trial
    function = "relu(x)"
    if any(name.startswith("activation") for name in best.params):
        function = str(SPACE.expression_of(best.params, "activation"))
    print(f"after: {best.value:.3f} with {function}, learning rate {best.params['lr']:.4f}")
    if (explanation := sampler.explain(best)) is not None:
        print(f"why it was tried: {explanation}")


if __name__ == "__main__":
    main()
