"""The callback in a configuration of LightningCLI."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from timm.layers import LayerScale
from torch import nn

from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.cli import main, run

CONFIG = Path(__file__).parents[3] / "examples" / "configs" / "all_cnn_c_digits.yaml"


@pytest.fixture(autouse=True)
def _own_directory_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning_modules"])
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


def arguments(*more: str, **init_args: Any) -> list[str]:
    callback = {
        "class_path": "lightning_modules.callbacks.FisherEigenvalues",
        "init_args": {"path": "eigenvalues.npz", **init_args},
    }
    trainer = {"callbacks": [callback], "max_steps": 1, "enable_progress_bar": False}
    Path("with_callback.yaml").write_text(yaml.safe_dump({"trainer": trainer}))
    return [
        "fit", "--config", str(CONFIG), "--config", "with_callback.yaml",
        "--trainer.limit_val_batches", "0", *more,
    ]  # fmt: skip


def callback_of(trainer: Any) -> FisherEigenvalues:
    (callback,) = [c for c in trainer.callbacks if isinstance(c, FisherEigenvalues)]
    return callback


def test_it_parses_and_works() -> None:
    skip = ["timm.layers.LayerScale", "torch.nn.PReLU"]
    cli = run(arguments("--model.activation", "tanh(x)", seed=3, skip=skip))
    callback = callback_of(cli.trainer)
    assert callback.seed == 3
    assert callback.skip == (LayerScale, nn.PReLU)
    assert callback.eigenvalues is not None
    with np.load("eigenvalues.npz") as saved:
        assert set(saved) == {f"layer:{name}" for name in callback.eigenvalues}


@pytest.mark.parametrize("init_args", [{}, {"skip": ["timm.layers.LayerScale"]}])
def test_the_configuration_that_is_printed_runs_again(
    init_args: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(arguments("--model.activation", "tanh(x)", "--print_config", **init_args))
    printed = capsys.readouterr().out
    (settings,) = yaml.safe_load(printed)["trainer"]["callbacks"]
    assert settings["init_args"]["path"] == "eigenvalues.npz"
    assert settings["init_args"]["trial"] is None
    Path("printed.yaml").write_text(printed)
    assert callback_of(run(["fit", "--config", "printed.yaml"]).trainer).eigenvalues is not None


def test_invalid_eigenvalues_are_one_line() -> None:
    more = ("--model.activation", "zero(x)", "--model.network.initialization", "torch")
    with pytest.raises(SystemExit, match="error: layer 'conv.*vanish") as caught:
        main(arguments(*more))
    assert "\n" not in str(caught.value)


def test_a_bad_combination_is_one_line() -> None:
    with pytest.raises(SystemExit, match="error: .*give all of trial") as caught:
        main(arguments("--model.activation", "tanh(x)", worse_than=0.5))
    assert "\n" not in str(caught.value)
