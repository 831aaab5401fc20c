import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import optuna
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI

from aquasurf_optuna.exceptions import AquaSurfError, DatasetError, ExpressionError, SettingsError
from lightning_modules.classifier import Classifier
from lightning_modules.cli import main, run
from lightning_modules.data.digits import SPLIT_SIZES
from lightning_modules.digits_recipe import DIGITS_RECIPE

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples" / "configs" / "all_cnn_c_digits.yaml"
QUIET = ["--trainer.enable_progress_bar", "false"]
# Lightning warns when a checkpoint is read without the callback that made it.
AS_BEFORE = ["--config", "logging.yaml"]
TEXT = "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))"


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


def arguments(subcommand: str, *more: str, activation: str = TEXT) -> list[str]:
    return [
        subcommand, "--config", str(CONFIG), "--model.activation", activation, *QUIET, *more
    ]  # fmt: skip


def fit(activation: str, *more: str) -> LightningCLI:
    return run(arguments("fit", "--trainer.fast_dev_run", "true", *more, activation=activation))


def test_a_graph_text_trains(tmp_path: Path) -> None:
    for _ in range(2):
        cli = fit(TEXT)
        assert cli.trainer.global_step == 1
        assert str(cli.model.network.act1.expression) == TEXT
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


def test_any_network_and_setting_can_be_chosen_by_arguments() -> None:
    network = "--model.network"
    cli = fit(
        "tanh(x)",
        f"{network}.name", "resnet56", f"{network}.width", "0.1", f"{network}.options.blocks", "1",
        f"{network}.dropout", "null", f"{network}.activate_last", "null",
        "--model.training.optimizer", "adamw", "--model.training.decay", "cosine",
        "--trainer.precision", "bf16-mixed", "--data.init_args.task.noise", "0.5",
    )  # fmt: skip
    assert type(cli.model.network).__name__ == "ResNet56"
    assert isinstance(cli.trainer.optimizers[0], torch.optim.AdamW)
    assert cli.trainer.precision == "bf16-mixed"
    assert cli.datamodule.task.noise == 0.5


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    saved = tmp_path / "checkpoints"
    loggers = [
        {"class_path": f"lightning.pytorch.loggers.{name}", "init_args": {"save_dir": "logs"}}
        for name in ("CSVLogger", "TensorBoardLogger")
    ]
    (tmp_path / "logging.yaml").write_text(
        yaml.safe_dump(
            {
                "trainer": {
                    "logger": loggers,
                    "log_every_n_steps": 1,
                    "enable_checkpointing": True,
                    "callbacks": [
                        {
                            "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                            "init_args": {"dirpath": str(saved), "filename": "last"},
                        }
                    ],
                }
            }
        )
    )
    run(arguments("fit", "--config", "logging.yaml", "--trainer.max_epochs", "2"))
    return saved / "last.ckpt"


def test_logs_go_to_a_table_and_to_tensorboard(checkpoint: Path, tmp_path: Path) -> None:
    assert checkpoint.exists()
    (table,) = (tmp_path / "logs").rglob("metrics.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["val_accuracy"] for row in rows if row["val_accuracy"]]
    assert [row["train_loss"] for row in rows if row["train_loss"]]
    (hyperparameters,) = {p.read_text() for p in (tmp_path / "logs").rglob("hparams.yaml")}
    assert yaml.safe_load(hyperparameters)["activation"] == TEXT
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))


def test_a_checkpoint_is_evaluated_with_its_own_activation(checkpoint: Path) -> None:
    measured = {}
    for subcommand in ("validate", "test"):
        cli = run(arguments(subcommand, *AS_BEFORE, "--ckpt_path", str(checkpoint)))
        measured |= {key: value.item() for key, value in cli.trainer.callback_metrics.items()}
    assert set(measured) == {"val_loss", "val_accuracy", "test_loss", "test_accuracy"}
    # Without the command line, the checkpoint alone says what to build.
    again = Classifier.load_from_checkpoint(checkpoint)
    assert str(again.network.act1.expression) == TEXT
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    data = DIGITS_RECIPE.data(seed=0)
    (tested,) = trainer.test(again, datamodule=data, verbose=False)
    assert tested["test_accuracy"] == pytest.approx(measured["test_accuracy"])


def test_predictions_are_written_as_a_table(checkpoint: Path, tmp_path: Path) -> None:
    more = [*AS_BEFORE, "--ckpt_path", str(checkpoint), "--predictions", "mine.csv"]
    cli = run(arguments("predict", *more))
    rows = list(csv.DictReader((tmp_path / "mine.csv").read_text().splitlines()))
    assert [int(row["image"]) for row in rows] == list(range(5 * SPLIT_SIZES["test"]))
    images, _ = cli.datamodule.evaluation_images("test")
    with torch.no_grad():
        probabilities = cli.model.eval()(images).softmax(1)
    assert [int(row["predicted_class"]) for row in rows] == probabilities.argmax(1).tolist()
    assert float(rows[7]["probability"]) == pytest.approx(probabilities[7].max().item(), rel=1e-4)
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(SystemExit, match=r"error: .*the folder nowhere of p\.csv does not exist"):
        main(arguments("predict", "--predictions", "nowhere/p.csv"))


def test_the_configuration_that_is_printed_runs_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run([*arguments("fit", "--trainer.max_steps", "1"), "--print_config"])
    printed = capsys.readouterr().out
    settings: dict[str, Any] = yaml.safe_load(printed)
    assert settings["model"]["activation"] == TEXT
    assert settings["model"]["training"]["decay"] == "linear"
    (tmp_path / "printed.yaml").write_text(printed)
    cli = run(["fit", "--config", "printed.yaml"])
    assert cli.trainer.global_step == 1
    assert str(cli.model.network.act1.expression) == TEXT


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model.activation", "mull(x,elu(x))"], "error: unknown operator 'mull' .*mul"),
        (["--model.activation", "zero(x)"], "error: layer 'act1'"),
        (["--model.network.name", "resnet65"], "error: .*got 'resnet65'; did you mean resnet56"),
        (["--model.network.name", "timm/resnet18"], "error: .*width, dropout, .* timm/resnet18"),
        (["--data.init_args.batch_size", "0"], "error: .*batch_size must be .* got 0"),
        (["--ckpt_path", "missing.ckpt"], "error: .*missing.ckpt"),
    ],
)
def test_what_cannot_be_used_ends_with_one_clear_line(more: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message) as caught:
        main(arguments("fit", "--trainer.fast_dev_run", "true", *more, activation="relu(x)"))
    assert "\n" not in str(caught.value)


def test_a_script_gets_the_errors_themselves() -> None:
    with pytest.raises(ExpressionError, match="did you mean"):
        fit("reluu(x)")
    with pytest.raises(SettingsError, match="resnet65"):
        fit("relu(x)", "--model.network.name", "resnet65")
    assert issubclass(SettingsError, AquaSurfError)
    assert issubclass(DatasetError, AquaSurfError)


@pytest.mark.parametrize("strategy", ["auto", "ddp_fork"])
def test_invalid_eigenvalues_end_a_run_with_one_line(strategy: str, tmp_path: Path) -> None:
    (tmp_path / "callback.yaml").write_text(
        "trainer: {callbacks: [{class_path: lightning_modules.callbacks.FisherEigenvalues}]}"
    )
    more = ["--model.network.initialization", "torch", "--config", "callback.yaml"]
    if strategy != "auto":
        more += ["--trainer.strategy", strategy, "--trainer.devices", "2"]
    with pytest.raises(SystemExit, match="error: layer 'conv") as caught:
        main(arguments("fit", *more, activation="zero(x)"))
    assert "\n" not in str(caught.value)


def test_the_command_line_shows_no_traceback() -> None:
    command = [sys.executable, "-W", "error", "-m", "lightning_modules", "fit"]
    done = subprocess.run(
        [*command, "--config", str(CONFIG), "--model.activation", "rellu(x)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "did you mean relu or elu" in line
    assert "Traceback" not in done.stderr


def test_the_seed_of_the_configuration_decides() -> None:
    first, again = fit("tanh(x)"), fit("tanh(x)")
    other = fit("tanh(x)", "--seed_everything", "1")
    assert torch.equal(first.model.network.conv9.weight, again.model.network.conv9.weight)
    assert not torch.equal(first.model.network.conv9.weight, other.model.network.conv9.weight)


def test_runs_are_the_trials_of_a_study() -> None:
    class Epochs(L.Callback):
        def __init__(self) -> None:
            self.seen = 0

        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.seen += 1

    def objective(trial: optuna.Trial) -> float:
        callback = Epochs()
        rate = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        more = ["--model.training.learning_rate", str(rate), "--trainer.max_epochs", "1"]
        cli = run(arguments("fit", *more), callbacks=[callback])
        assert callback.seen == 1
        assert cli.model.training_options.learning_rate == rate
        return cli.trainer.callback_metrics["val_accuracy"].item()

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=2)
    assert all(0 <= trial.value <= 1 for trial in study.trials)
