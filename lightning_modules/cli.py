"""LightningCLI for `Classifier`: one training described by files and arguments.

`main` is `python -m lightning_modules`; `run` is the same for a script, an Optuna objective for
example, where errors stay exceptions and callbacks can be added.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import lightning_modules.data  # noqa: F401 - registers the data modules under their short names
from aquasurf_optuna._command_line import plain
from aquasurf_optuna.exceptions import AquaSurfError, SettingsError
from lightning_modules._quiet import quiet_lightning
from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.classifier import Classifier
from lightning_modules.predictions import CsvPredictions

PROGRAM = "python -m lightning_modules"


class Cli(LightningCLI):
    """LightningCLI whose bad settings have an error of their own, and which keeps predictions."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what `predict` writes."""
        parser.add_argument(
            "--predictions",
            type=str,
            default="predictions.csv",
            help="the table that predict writes (default: %(default)s)",
        )

    def before_predict(self) -> None:
        """Let `predict` write its table."""
        path = self.config[self.config.subcommand].predictions
        self.trainer.callbacks.append(CsvPredictions(path))  # type: ignore[attr-defined] # Lightning sets it

    def instantiate_classes(self) -> None:
        """Make model, data and trainer.

        Raises:
            SettingsError: If one of them refuses its settings.
        """
        try:
            super().instantiate_classes()
        except AquaSurfError:
            raise
        except (TypeError, ValueError) as error:
            # jsonargparse wraps what a class says into lines about the types it tried.
            raise SettingsError(str(_root(error))) from error


def _root(error: BaseException) -> BaseException:
    """Return the error from which another one was made."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def run(arguments: Sequence[str] | None, *, callbacks: Sequence[L.Callback] = ()) -> LightningCLI:
    """Run one subcommand of LightningCLI: `fit`, `validate`, `test` or `predict`.

    The configuration is not saved beside the run: that dies at the second run in one directory, and
    `--print_config` gives it to whoever wants it.

    Args:
        arguments: The subcommand and its arguments, as on the command line; None takes them from
            the command line itself.
        callbacks: Callbacks beside those of the configuration.

    Returns:
        The command line that has run; `trainer.callback_metrics` holds what was measured.

    Raises:
        AquaSurfError: If a function, a network, a setting or a data set cannot be used.
        optuna.TrialPruned: If one of `callbacks` prunes its trial.
        SystemExit: If the arguments cannot be parsed; the message is on standard error.
    """
    cli = _command_line(arguments, callbacks, Cli, {"prog": PROGRAM})
    for callback in cli.trainer.callbacks:  # type: ignore[attr-defined] # Lightning sets it
        if isinstance(callback, FisherEigenvalues):
            # Worker processes cannot raise here; the callback knows what they found.
            callback.check_pruned()
    return cli


def read(
    arguments: Sequence[str], *, kind: type[Cli] = Cli, prog: str = PROGRAM, **parser: Any
) -> LightningCLI:
    """Read arguments without a subcommand, and run nothing.

    Args:
        arguments: As on the command line, after the subcommand.
        kind: What reads them.
        prog: The program, as `--help` names it.
        **parser: More arguments of the parser.

    Returns:
        The command line, with its `config` and the `parser` that makes model and data of it.

    Raises:
        AquaSurfError: If a function, a network, a setting or a data set cannot be used.
        SystemExit: If the arguments cannot be parsed; the message is on standard error.
    """
    return _command_line(arguments, (), kind, {"prog": prog, **parser}, run=False)


@contextlib.contextmanager
def reading(config: str) -> Iterator[None]:
    """Hold back what is said while a configuration is read, and tell its faults as errors.

    Args:
        config: The file, for the message.

    Raises:
        SettingsError: If the command line inside cannot be parsed.
        SystemExit: With code 0, after `--help` and `--print_config`.
    """
    said = io.StringIO()
    try:
        with quiet_lightning(), contextlib.redirect_stderr(said):
            yield
    except SystemExit as error:
        if not error.code:
            raise
        # jsonargparse ends the program, and says last what is amiss.
        *_, told = re.split(r"^error: ", said.getvalue(), maxsplit=1, flags=re.MULTILINE)
        raise SettingsError(f"{config} cannot be used: {plain(told)}") from error


def _command_line(
    arguments: Sequence[str] | None,
    callbacks: Sequence[L.Callback],
    kind: type[Cli],
    parser: dict[str, Any],
    *,
    run: bool = True,
) -> LightningCLI:
    with warnings.catch_warnings():
        # Lightning calls functions of jsonargparse that will be renamed;
        # https://github.com/Lightning-AI/pytorch-lightning/issues/21900
        warnings.filterwarnings(
            "ignore", category=DeprecationWarning, module=r"lightning\.pytorch\.cli"
        )
        return kind(
            Classifier,
            L.LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={"callbacks": list(callbacks)},
            parser_kwargs=parser,
            args=None if arguments is None else list(arguments),
            run=run,
        )


def main(arguments: Sequence[str] | None = None) -> LightningCLI:
    """Do what `run` does, with every error of ours as one line.

    Raises:
        SystemExit: If anything of the user's cannot be used, an activation that cannot be read for
            example, or its Fisher eigenvalues are invalid.
    """
    try:
        return run(arguments)
    except (AquaSurfError, FileNotFoundError) as error:
        # From a loader's worker process, torch brings the whole traceback with the message last.
        *_, message = str(error).strip().splitlines()
        raise SystemExit(f"error: {message}") from error
