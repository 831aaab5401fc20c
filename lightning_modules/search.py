"""A whole search over a LightningCLI configuration: every trial is one run of it.

`aquasurf search --config FILE` is this from the command line.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Literal

import optuna
from optuna.trial import TrialState

from aquasurf_optuna._pruning import PRUNED_KEY
from aquasurf_optuna.exceptions import InitializationError
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from lightning_modules import cli
from lightning_modules._quiet import quiet_lightning
from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.features import featurizer_of

NAME = "activation"
"""The activation's name in the study."""

# A trial is judged by what it measures last; hundreds of checkpoints would fill the disk.
_QUIET = (
    "--trainer.enable_checkpointing=false",
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What a search is, beside its configuration.

    Attributes:
        space: Name or schema of the space, as :meth:`SearchSpace.named` takes it.
        trials: How many trials the study has in the end, the eight baselines among them.
        storage: URL of the study's database.
        study: The study's name.
        metric: What is searched: a metric that the run logs.
        direction: `"maximize"` or `"minimize"`.
        pool: How many candidates have their Fisher features computed.
        seed: The sampler's.
    """

    space: str = "three_node"
    trials: int = 100
    storage: str = "sqlite:///search.db"
    study: str = "search"
    metric: str = "val_accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"
    pool: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            SettingsError: If so.
        """
        if self.direction not in ("maximize", "minimize"):
            raise cli.SettingsError(
                f"direction must be maximize or minimize, got {self.direction!r}"
            )
        for name in ("trials", "pool"):
            if getattr(self, name) < 1:
                raise cli.SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")


def search(
    config: str | os.PathLike[str], options: SearchOptions, more: Sequence[str] = ()
) -> optuna.Study:
    """Search for the activation function with which a configuration does best.

    Each trial is what `python -m lightning_modules fit --config FILE` would do with the activation
    of the trial, without checkpoints and loggers; functions whose Fisher eigenvalues are invalid
    are pruned before their first step. A study that was interrupted goes on: trials that ended
    count. Several such searches may share a study.

    Args:
        config: A file as for `python -m lightning_modules fit --config`; its activation does not
            matter, and may be missing.
        options: What the search is.
        more: Arguments for LightningCLI, as on its command line; they go before the file.

    Returns:
        The study.

    Raises:
        SettingsError: If the file or one of its settings cannot be used, or a run logs no such
            metric; the study is not made, or keeps what it had.
        AquaSurfError: If the space or a data set cannot be used.
        KeyboardInterrupt: On Ctrl-C; the trial that ran counts as failed.
    """
    space = SearchSpace.named(options.space)
    # Reads all of the file, before there is a study.
    featurizer = featurizer_of(config, more=more)
    sampler = AquaSurfSampler(space, features=featurizer, pool_size=options.pool, seed=options.seed)
    study = optuna.create_study(
        storage=options.storage,
        study_name=options.study,
        sampler=sampler,
        direction=options.direction,
        load_if_exists=True,
    )
    if study.direction.name.lower() != options.direction:
        raise cli.SettingsError(
            f"study {options.study!r} is there already, to {study.direction.name.lower()}; give "
            "that direction, or another study"
        )
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    left = options.trials - len(ended)
    if left > 0:
        arguments = ["fit", "--config", os.fspath(config), *_QUIET, *more]
        study.optimize(lambda trial: _run(trial, space, arguments, options.metric), n_trials=left)
    return study


def _run(trial: optuna.Trial, space: SearchSpace, arguments: Sequence[str], metric: str) -> float:
    try:
        return _measured(trial, space, arguments, metric)
    except SystemExit as error:
        # So Lightning ends a training at Ctrl-C; Optuna counts the trial as failed after this.
        raise KeyboardInterrupt from error


def _measured(
    trial: optuna.Trial, space: SearchSpace, arguments: Sequence[str], metric: str
) -> float:
    expression = space.suggest(trial, NAME)
    try:
        with quiet_lightning():
            run = cli.run(
                [*arguments, "--model.activation", str(expression)],
                callbacks=[FisherEigenvalues(trial)],
            )
    except InitializationError as error:
        trial.set_user_attr(PRUNED_KEY, str(error))
        raise optuna.TrialPruned(str(error)) from error
    found = run.trainer.callback_metrics
    if metric not in found:
        raise cli.SettingsError(
            f"the run logs no metric {metric!r}; it logs {', '.join(sorted(found)) or 'none'}"
        )
    return float(found[metric])


def told(study: optuna.Study, options: SearchOptions) -> str:
    """Return what a study has come to in words.

    Raises:
        AquaSurfError: If the space is none.
    """
    trials = study.get_trials(deepcopy=False)
    states = [trial.state.name.lower() for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [f"{len(trials)} trials ({counts}) in study {study.study_name!r}"]
    try:
        best = study.best_trial
    except ValueError:
        return lines[0]
    space = SearchSpace.named(options.space)
    function = space.expression_of(best.params, NAME)
    lines.append(f"best: {function} with {options.metric} {best.value:.4g} (trial {best.number})")
    return "\n".join(lines)


__all__ = ["NAME", "SearchOptions", "search", "told"]
