"""The README's code and the examples run as they stand, only smaller."""

import dataclasses
import functools
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from torch import nn

import aquasurf_optuna
from aquasurf_optuna import SURROGATES, AquaSurfSampler, Expression, SearchSpace, visualization
from aquasurf_optuna._drawing import POOLS
from aquasurf_optuna.benchmark import ActBench
from aquasurf_optuna.cli import main
from aquasurf_optuna.surrogate import DEFAULT_SURROGATE
from examples import existing_study, lightning_study, multi_objective, own_script, quickstart
from lightning_modules.cli import run
from lightning_modules.digits_recipe import DIGITS_RECIPE
from tests.lightning_modules.data.stand_ins import write_cifar

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = re.findall(r"^    (\S.*)$", README, flags=re.MULTILINE)

# Trainings here are short, so functions may fail; Lightning and UMAP are noisy in other processes.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
    r"ignore:.*does not have many workers",
)


def test_the_fixed_names_are_there() -> None:
    fixed = """
        Activation Expression SearchSpace Catalogue fisher_log_eigenvalues FisherFeaturizer
        FeatureStore UmapKnnSurrogate AquaSurfSampler BASELINES
    """
    for name in fixed.split():
        assert name in aquasurf_optuna.__all__
    assert all(hasattr(aquasurf_optuna, name) for name in aquasurf_optuna.__all__)


def test_the_readme_opens_with_a_script_of_twelve_lines_that_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = CODE[0]
    assert len([line for line in script.splitlines() if line.strip()]) <= 12
    assert "pool_size=500" in script
    assert "n_trials=40" in script
    smaller = script.replace("pool_size=500", "pool_size=12").replace("n_trials=40", "n_trials=9")
    exec(smaller, {"__name__": "readme"})
    assert re.fullmatch(r"\w+\(\w+\(x\),\w+\(x\)\)", capsys.readouterr().out.strip())


def test_the_readmes_objective_runs() -> None:
    factories: list[Any] = []

    def build_model(activation: Any) -> nn.Module:
        factories.append(activation)
        return nn.Sequential(nn.Linear(2, 2), activation(inplace=True))

    names: dict[str, Any] = {
        "space": SearchSpace.three_node(),
        "build_model": build_model,
        "train_and_validate": lambda model, learning_rate: learning_rate,
    }
    exec(CODE[1], names)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(names["objective"], n_trials=2)
    assert [trial.value for trial in study.trials] == [t.params["lr"] for t in study.trials]
    assert len({str(factory.expression) for factory in factories}) == 2


def test_the_readmes_activation_is_a_module() -> None:
    names: dict[str, Any] = {}
    exec(CODE[2], names)
    assert isinstance(names["activation"], nn.Module)


def test_the_readmes_space_is_one() -> None:
    names: dict[str, Any] = {"SearchSpace": SearchSpace}
    exec(CODE[3], names)
    assert len(names["space"]) == 7 * 27**3 + 2 * 27


def said_by_page(name: str, folder: Path) -> str:
    """Run the code of a page from top to bottom, and return what it prints."""
    page = (ROOT / name).read_text()
    script = "\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))
    # In a process of its own, as a reader would run it: one page registers an operator.
    command = [sys.executable, "-W", "error::UserWarning", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_about_spaces_runs(tmp_path: Path) -> None:
    said = said_by_page("docs/spaces.md", tmp_path)
    assert "175 add(relu(x),mul(0.1,tanh(x))) 17" in said
    assert r"swish(mul(-2,x)) \text{Swish}(-2x)" in said
    assert (tmp_path / "three_node.safetensors").exists()


def test_the_code_about_the_sampler_runs(tmp_path: Path) -> None:
    said = said_by_page("docs/sampler.md", tmp_path)
    assert "'stem': '" in said
    assert "ranked best by the surrogate among the candidates that are free" in said
    assert (tmp_path / "report.html").exists()


def test_the_code_about_plots_runs(tmp_path: Path) -> None:
    said_by_page("docs/plots.md", tmp_path)
    drawn = {path.stem for path in tmp_path.glob("*.html")}
    assert drawn == {
        "plot_search_progress", "plot_value_histogram", "plot_operator_importances",
        "plot_predictions", "report", "function", "functions", "spectra", "inputs", "dark",
    }  # fmt: skip
    page = (ROOT / "docs/plots.md").read_text()
    of_their_own = {"plot_comparison", "plot_embedding", "plot_search_bands"}
    for name in set(visualization.__all__) - of_their_own - {"InputHistogram", "write_png"}:
        assert name in page


def test_the_code_about_benchmarks_runs(tmp_path: Path) -> None:
    said = said_by_page("docs/benchmarks.md", tmp_path)
    table, function = said.splitlines()[0], said.splitlines()[-1]
    assert table.startswith("ActBench('act-bench-digits-cnn': 2791 functions")
    # After thirty evaluations it is better than the best standard function.
    bench = ActBench.load("act-bench-digits-cnn")
    best = bench.measured["validation_accuracy"][list(bench.baselines.values())].max()
    assert float(function.split()[-1]) > best


def test_the_page_about_the_sampler_names_every_surrogate_and_pool() -> None:
    page = (ROOT / "docs/sampler.md").read_text()
    for name in (*SURROGATES, *POOLS):
        assert re.search(rf'^\|.*`"{name}"`', page, flags=re.MULTILINE)
    assert f'`"{DEFAULT_SURROGATE}"` | the default' in page


def test_the_readmes_recipe_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path / "data", "cifar100", monkeypatch)
    small = "limit_train_batches=1, limit_val_batches=1, accelerator='cpu', logger=False, "
    loading = "download=True, eval_batch_size=20, num_workers=0"
    script = CODE[4].replace("callbacks=", small + "callbacks=").replace("download=True", loading)
    script = script.replace("max_epochs=recipe.search_epochs", "max_epochs=1")
    script = script.replace("recipe =", "from dataclasses import replace\nrecipe =")
    script += "images = replace(recipe.images, batch_size=20, validation_size=100)\n"
    script += "recipe = replace(recipe, images=images)\n"
    space = SearchSpace.three_node()
    names: dict[str, Any] = {"space": space}
    exec(script, names)
    study = optuna.create_study(direction="maximize")
    found = Expression.parse("add(elu(x),swish(x))")
    study.enqueue_trial(space.params_of(found, "activation"))
    study.optimize(names["train"], n_trials=1)
    assert 0 <= study.best_value <= 1
    assert study.best_trial.user_attrs["aquasurf:fisher"]["count"] > 1_000_000


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study.py"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    config = ROOT / "examples/configs/all_cnn_c_digits.yaml"
    quick = ["--config", str(config), "--trainer.max_steps", "1", "--trainer.num_sanity_val_steps"]
    page = (ROOT / "docs/training.md").read_text()
    (settings,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    Path("callback.yaml").write_text(settings)
    cli = run(["fit", *quick, "0", "--config", "callback.yaml"])
    assert len(np.load("eigenvalues.npz").files) == 9
    cli.trainer.save_checkpoint("run.ckpt")
    names: dict[str, Any] = {"checkpoint": "run.ckpt", "config": str(config)}
    names["space"] = space = SearchSpace.three_node()
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(code, names)
    assert str(names["classifier"].network.act1.expression) == "relu(x)"
    sampler = AquaSurfSampler(space, seed=0, pool_size=12)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    assert names["callback_of"](study.ask(), sampler).worse_than == 0.6
    study.optimize(names["objective"], n_trials=1)
    assert study.best_value > 0.1


def test_the_readmes_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        if program == "make":
            assert f"\n{arguments[0]}:" in makefile
        if arguments and arguments[0].endswith(".py"):
            assert (ROOT / arguments[0]).exists()
    assert [c for c in COMMANDS if c.startswith(".venv/bin/aquasurf show")]


def test_the_commands_about_functions_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/spaces.md").read_text()
    commands = [*COMMANDS, *re.findall(r"^    (aquasurf .*)$", page, flags=re.MULTILINE)]
    quick = [c for c in commands if re.match(r"(\.venv/bin/)?aquasurf (show|discovered)", c)]
    assert len(quick) == 6
    for command in quick:
        assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    assert "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))" in printed
    assert "import numpy as np" in printed
    assert "0.6990" in printed
    assert Path("function.png").stat().st_size > 10_000


def test_the_configuration_is_the_recipe() -> None:
    settings = yaml.safe_load((ROOT / "examples/configs/all_cnn_c_digits.yaml").read_text())
    network, training = DIGITS_RECIPE.network, DIGITS_RECIPE.training
    for options, recipe in (
        (settings["model"]["network"], network),
        (settings["model"]["training"], training),
        (settings["data"]["init_args"]["task"], DIGITS_RECIPE.task),
    ):
        assert options == {key: getattr(recipe, key) for key in options}
    assert settings["trainer"]["max_epochs"] == DIGITS_RECIPE.epochs
    assert settings["data"]["init_args"]["batch_size"] == DIGITS_RECIPE.batch_size


def test_the_quickstart_finishes_writes_its_report_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "FRESH_SEEDS", (101, 102))
    monkeypatch.setattr(quickstart, "N_CONFIRMED", 1)
    short = dataclasses.replace(DIGITS_RECIPE, epochs=2)
    train = functools.partial(quickstart.train_digits, recipe=short)
    monkeypatch.setattr(quickstart, "train_digits", train)
    arguments = ["--pool", "16", "--jobs", "1", "--output", str(tmp_path)]
    quickstart.main([*arguments, "--trials", "9"])
    first = capsys.readouterr().out
    assert "Test accuracy on 2 fresh seeds" in first
    assert "<- found by the search" in first
    assert (tmp_path / "report.html").stat().st_size > 1_000_000
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    assert len(comparison) == 2 * 9

    trained: list[str] = []

    def counted(text: Any, **settings: Any) -> Any:
        trained.append(str(text))
        return train(text, **settings)

    monkeypatch.setattr(quickstart, "train_digits", counted)
    quickstart.main([*arguments, "--trials", "10"])
    again = capsys.readouterr().out
    assert len(trained) <= 1 + 4 + 2  # one trial, and what a new leader needs
    assert "Report: " in again


def test_the_own_script_searches(capsys: pytest.CaptureFixture[str]) -> None:
    own_script.main(["--trials", "9", "--pool", "12"])
    found = re.search(r"found (\S+): validation accuracy (\S+)", capsys.readouterr().out)
    assert found is not None
    assert found[1] in map(str, SearchSpace.three_node())
    assert float(found[2]) > 0.5


def test_an_existing_study_goes_on_with_the_activation_as_one_more_parameter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "team.db"
    arguments = ["--before", "2", "--trials", "9", "--pool", "12", "--database", str(database)]
    existing_study.main(arguments)
    printed = capsys.readouterr().out
    assert re.search(r"before: 0\.\d+ with ReLU.*\nafter: 0\.\d+ with", printed)
    assert "why it was tried: activation = " in printed
    study = optuna.load_study(study_name="team", storage=f"sqlite:///{database}")
    assert [sorted(t.params) for t in study.trials[:2]] == [["lr", "weight_decay"]] * 2
    functions = {
        str(existing_study.SPACE.expression_of(t.params, "activation")) for t in study.trials[2:]
    }
    assert len(functions) == 9
    assert all("lr" in t.params for t in study.trials)
    features = sqlite3.connect(database).execute("select count(*) from sqlite_master").fetchone()
    assert features[0] > 1


def test_two_objectives_make_a_front_of_functions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = dataclasses.replace(DIGITS_RECIPE, epochs=1)
    train = functools.partial(multi_objective.train_digits, recipe=short)
    monkeypatch.setattr(multi_objective, "train_digits", train)
    arguments = ["--trials", "10", "--pool", "12", "--output", str(tmp_path)]
    multi_objective.main(arguments)
    printed = capsys.readouterr().out
    study = optuna.load_study(
        study_name="accuracy and cost", storage=f"sqlite:///{tmp_path / 'study.db'}"
    )
    front = re.findall(r"^  (0\.\d+) +(\d+) bytes  (\S+)$", printed, flags=re.MULTILINE)
    assert len(study.trials) == 10
    assert len(front) == len(study.best_trials)
    assert sorted(float(accuracy) for accuracy, _, _ in front) == pytest.approx(
        sorted(trial.values[0] for trial in study.best_trials), abs=1e-3
    )
    assert "<figure " in (tmp_path / "report.html").read_text()
    # Again, and there is nothing left to train.
    multi_objective.main(arguments)
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        # One kernel reads four bytes and writes four; each other one of these adds its own.
        ("relu(x)", 8),
        ("max(identity(x),zero(x))", 8),
        ("add(tanh(x),relu(x))", 8 + 8 + 12),
        ("identity(x)", 0),
    ],
)
def test_the_memory_that_a_function_moves(text: str, n_bytes: int) -> None:
    assert multi_objective.memory_moved(Expression.parse(text)) == n_bytes


def test_lightning_runs_are_trials(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lightning_study.py"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    small = ["--trials", "9", "--pool", "12", "--trainer.max_epochs", "1"]
    lightning_study.main([*small, "--trainer.enable_progress_bar", "false"])
    out = capsys.readouterr().out
    assert re.search(r"best: 0\.\d+ with .*'lr'", out)
