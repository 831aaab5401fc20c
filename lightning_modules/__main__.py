"""`python -m lightning_modules fit --config ...`: train one network from the command line."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from lightning.pytorch.cli import LightningCLI

from aquasurf_optuna.exceptions import AquaSurfError
from lightning_modules.classifier import Classifier
from lightning_modules.data.digits import DigitsDataModule


def main(args: Sequence[str] | None = None) -> LightningCLI:
    """Run LightningCLI for `Classifier` and `DigitsDataModule`.

    The network is described by `NetworkOptions`, its activation by a text.
    The configuration is not saved beside the run: that dies at the second run in one directory, and
    `--print_config` gives it to whoever wants it.

    Args:
        args: The arguments; None takes them from the command line.

    Raises:
        SystemExit: If the arguments are bad, an activation that cannot be read or used among them.
    """
    try:
        with warnings.catch_warnings():
            # Lightning calls functions of jsonargparse that will be renamed;
            # https://github.com/Lightning-AI/pytorch-lightning/issues/21900
            warnings.filterwarnings(
                "ignore", category=DeprecationWarning, module=r"lightning\.pytorch\.cli"
            )
            return LightningCLI(
                Classifier,
                DigitsDataModule,
                save_config_callback=None,
                seed_everything_default=0,
                parser_kwargs={"prog": "python -m lightning_modules"},
                args=None if args is None else list(args),
            )
    except AquaSurfError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
