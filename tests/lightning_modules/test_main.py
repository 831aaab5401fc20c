import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import LightningCLI

from lightning_modules.__main__ import main
from lightning_modules.digits_recipe import DIGITS_RECIPE

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples" / "configs" / "all_cnn_c_digits.yaml"


@pytest.fixture(autouse=True)
def _own_directory_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning_modules"])
    seeds = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    yield
    for name, value in seeds.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def fit(activation: str, *more: str) -> LightningCLI:
    quick = ["--trainer.fast_dev_run", "true", "--trainer.enable_progress_bar", "false"]
    config = ["--config", str(CONFIG), "--model.activation", activation]
    return main(["fit", *config, *quick, *more])


def test_a_graph_text_trains(tmp_path: Path) -> None:
    text = "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))"
    for _ in range(2):
        cli = fit(text)
        assert cli.trainer.global_step == 1
        assert str(cli.model.network.act1.expression) == text
    assert list(tmp_path.iterdir()) == []


def test_the_example_configuration_is_the_recipe() -> None:
    cli = fit("relu(x)", "--trainer.fast_dev_run", "false", "--trainer.max_steps", "1")
    recipe = DIGITS_RECIPE
    assert cli.model.training_options == recipe.training
    assert str(cli.model.network) == str(recipe.network.build("relu(x)"))
    assert cli.datamodule.task == recipe.task
    assert cli.datamodule.batch_size == recipe.batch_size
    assert cli.datamodule.eval_copies == recipe.eval_copies
    assert cli.trainer.max_epochs == recipe.epochs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mull(x,elu(x))", "error: unknown operator 'mull' at position 0"),
        ("zero(x)", "error: layer 'act1'"),
    ],
)
def test_an_unusable_activation_ends_with_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        fit(text)


def test_the_command_line_shows_no_traceback() -> None:
    command = [sys.executable, "-W", "error", "-m", "lightning_modules", "fit"]
    arguments = ["--config", str(CONFIG), "--model.activation", "relu(x"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "'relu(x'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_seed_of_the_configuration_decides() -> None:
    first, again = fit("tanh(x)"), fit("tanh(x)")
    other = fit("tanh(x)", "--seed_everything", "1")
    assert torch.equal(first.model.network.conv9.weight, again.model.network.conv9.weight)
    assert not torch.equal(first.model.network.conv9.weight, other.model.network.conv9.weight)
