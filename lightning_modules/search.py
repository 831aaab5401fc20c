"""A whole search over a LightningCLI configuration: every trial is one run of it.

`aquasurf search --config FILE` is this from the command line.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import optuna
from lightning.pytorch.cli import LightningArgumentParser
from optuna.trial import TrialState

from aquasurf_optuna._command_line import HelpFormatter, add_debug
from aquasurf_optuna._pruning import PRUNED_KEY
from aquasurf_optuna._search_options import SearchOptions
from aquasurf_optuna.exceptions import InitializationError, SettingsError
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
_FILES = ("-c", "--config", "-h", "--help")


class _SearchCli(cli.Cli):
    """LightningCLI with the options of a search before its own."""

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add them."""
        parser.add_class_arguments(SearchOptions, None)
        add_debug(parser)
        super().add_default_arguments_to_parser(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let files have no activation, which is what is searched."""
        super().add_arguments_to_parser(parser)
        parser.set_defaults({"model.activation": "relu(x)"})


@dataclasses.dataclass(frozen=True)
class ConfiguredSearch:
    """A search as one command line describes it.

    Attributes:
        options: What it is.
        configuration: YAML, as for `python -m lightning_modules fit --config`.
    """

    options: SearchOptions
    configuration: str


def read_search(words: Sequence[str], *, description: str, epilog: str) -> ConfiguredSearch:
    """Read the command line of `aquasurf search`.

    Args:
        words: What follows the command's name: options of :class:`SearchOptions` and of
            LightningCLI; files given with `--config` may hold both.
        description: What `--help` begins with.
        epilog: What it ends with.

    Raises:
        AquaSurfError: If an option, a file or a data set cannot be used.
        SystemExit: After `--help` and `--print_config`.
    """
    if not any(word.split("=")[0] in _FILES for word in words):
        raise SettingsError(
            "what is to be trained? Say --config FILE, as for `python -m lightning_modules fit`"
        )
    with cli.reading("the command line"):
        command = cli.read(
            words,
            kind=_SearchCli,
            prog="aquasurf search",
            usage="aquasurf search --config FILE [options]",
            description=description,
            epilog=epilog,
            formatter_class=HelpFormatter,
        )
    rest = command.config.clone()
    rest.pop("config")
    own = {field.name: rest.pop(field.name) for field in dataclasses.fields(SearchOptions)}
    text = command.parser.dump(rest, skip_none=False, skip_validation=True)
    return ConfiguredSearch(SearchOptions(**own), text)


def search_configured(configured: ConfiguredSearch) -> optuna.Study:
    """Search as `search` does; it documents what comes of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "search.yaml"
        file.write_text(configured.configuration, encoding="utf-8")
        return search(file, configured.options)


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
        raise SettingsError(
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
        raise SettingsError(
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


__all__ = [
    "NAME",
    "ConfiguredSearch",
    "SearchOptions",
    "read_search",
    "search",
    "search_configured",
    "told",
]
