"""Every configuration of the paper trains: two steps on small images in the real formats."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aquasurf_optuna.activation import Activation
from lightning_modules.cli import main, run
from lightning_modules.recipes import RECIPES
from tests.lightning_modules.data.stand_ins import write_cifar, write_imagenet, write_imagenette

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"
FILES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if "digits" not in path.stem)
TEXT = "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))"
# What the stand-in data and a test's patience ask for; the rest is the configuration's own.
SMALLER = {
    "--trainer.accelerator": "cpu",
    "--trainer.max_epochs": "1",
    "--trainer.limit_train_batches": "2",
    "--trainer.limit_val_batches": "1",
    "--trainer.enable_progress_bar": "false",
    "--trainer.log_every_n_steps": "1",
    "--data.init_args.batch_size": "4",
    "--data.init_args.eval_batch_size": "4",
    "--data.init_args.num_workers": "0",
}


def write_images(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write the data set of a configuration; return the arguments that it asks for."""
    images = name.rsplit("_", 1)[1]
    if images == "imagenette":
        write_imagenette(root, monkeypatch)
        return []
    if images == "imagenet":
        write_imagenet(root)
        return ["--data.init_args.num_classes", "3", "--model.network.num_classes", "3"]
    write_cifar(root, images, monkeypatch)
    return ["--data.init_args.validation_size", "100"]


def fit(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["lightning_modules"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    more = write_images(name, root, monkeypatch)
    more += [part for setting in SMALLER.items() for part in setting]
    more += ["--data.init_args.root", str(root), "--model.activation", TEXT]
    return run(["fit", "--config", str(CONFIGS / f"{name}.yaml"), *more])


def test_there_is_one_for_every_recipe() -> None:
    assert sorted(RECIPES) == FILES


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("name", FILES)
def test_two_steps_move_the_weights_and_are_logged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = fit(name, tmp_path, monkeypatch)
    assert cli.trainer.global_step == 2
    texts = {str(m.expression) for m in cli.model.modules() if isinstance(m, Activation)}
    assert texts == {TEXT}
    metrics = cli.trainer.callback_metrics
    assert torch.isfinite(metrics["train_loss"])
    assert torch.isfinite(metrics["val_loss"])
    recipe = RECIPES[name]
    for optimizer in cli.trainer.optimizers:
        assert type(optimizer).__name__.lower() == recipe.training.optimizer
    logged = tmp_path / "runs" / name
    assert list(logged.rglob("metrics.csv"))
    assert list(logged.rglob("events.out.tfevents.*"))
    (checkpoint,) = logged.rglob("*.ckpt")
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["hyper_parameters"]["activation"] == TEXT
    moved = cli.model.state_dict()
    assert all(torch.equal(moved[key], value) for key, value in saved["state_dict"].items())


@pytest.mark.parametrize("name", FILES)
def test_missing_images_end_with_one_line_that_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning_modules"])
    config = ["--config", str(CONFIGS / f"{name}.yaml"), "--trainer.logger", "false"]
    remedy = "train/" if name.endswith("imagenet") else "download=True"
    with pytest.raises(SystemExit, match=f"error: .*{remedy}") as caught:
        main(["fit", *config, "--trainer.accelerator", "cpu"])
    assert "\n" not in str(caught.value)


def test_a_broken_image_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning_modules"])
    root = write_imagenet(tmp_path / "images")
    for image in (root / "train").rglob("*.JPEG"):
        image.write_bytes(image.read_bytes()[:200])
    settings = SMALLER | {
        "--data.init_args.num_workers": "2",
        "--data.init_args.root": str(root),
        "--data.init_args.num_classes": "3",
        "--model.network.num_classes": "3",
        "--trainer.logger": "false",
        "--trainer.num_sanity_val_steps": "0",
    }
    config = ["--config", str(CONFIGS / "mobilevitv2_imagenet.yaml")]
    more = [part for setting in settings.items() for part in setting]
    with pytest.raises(SystemExit, match=r"error: .*images.train.*\.JPEG") as caught:
        main(["fit", *config, *more])
    assert "\n" not in str(caught.value)


def test_the_comment_of_a_file_shows_a_command_that_parses() -> None:
    for name in FILES:
        comment = [
            line.removeprefix("#").strip().removesuffix("\\")
            for line in (CONFIGS / f"{name}.yaml").read_text().splitlines()
            if line.startswith("#")
        ]
        text = " ".join(comment)
        assert f"fit --config examples/configs/{name}.yaml" in text
        function = text.split('--model.activation "')[1].split('"')[0]
        assert str(Activation(function).expression) == function
