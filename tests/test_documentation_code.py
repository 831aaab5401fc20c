"""The code blocks and command lines of the pages run, and the errors of the FAQ are real."""

import importlib.util
import re
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from torch import nn, zeros

from aquasurf_optuna import (
    Activation,
    AquaSurfError,
    FisherFeaturizer,
    SearchSpace,
    fisher_log_eigenvalues,
)
from aquasurf_optuna.cli import main
from aquasurf_optuna.visualization import plot_search_progress
from lightning_modules.autoinit import autoinit_
from lightning_modules.models import AllCnnC, TimmClassifier

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

ELSEWHERE = {
    "benchmarks.md": "tests/test_examples.py",
    "networks.md": "tests/lightning_modules/models/test_networks_page.py",
    "plots.md": "tests/test_examples.py",
    "sampler.md": "tests/test_examples.py",
    "spaces.md": "tests/test_examples.py",
    "training.md": "tests/test_examples.py",
}
"""Pages whose code another test runs."""

SMALL = """
import optuna, torch
from torch import nn
from aquasurf_optuna import AquaSurfSampler, Catalogue, FisherFeaturizer, SearchSpace

def build_model(activation):
    return nn.Sequential(nn.Linear(6, 5), activation(), nn.Linear(5, 3))

def objective(trial):
    return float(len(str(space.suggest(trial, "activation"))))

images = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
space = SearchSpace.three_node()
featurizer = FisherFeaturizer(build_model, images)
"""
"""What the pages about stores and workers take to be there."""

Replacements = dict[str, str]
HERE: dict[str, tuple[str, Replacements]] = {
    "autoinit.md": ("", {"(3, 32, 32)": "(3, 8, 8)"}),
    "dashboard.md": ("", {"n_trials=12": "n_trials=9"}),
    "feature-store.md": (
        SMALL
        + """
expressions, task, owner = ["relu(x)", "tanh(x)"], featurizer.task, "me"
from aquasurf_optuna import FeatureStore
other = FeatureStore("sqlite:///other.db")
""",
        {},
    ),
    "fisher.md": (
        """
import timm, torch
model = timm.create_model("resnet18", channels=(8, 8, 8, 8), num_classes=10, zero_init_last=False)
images = torch.randn(8, 3, 32, 32)
""",
        {},
    ),
    "guide-existing-study.md": ("", {}),
    "guide-lightning.md": ("", {}),
    "guide-script.md": ("", {"n_jobs=2": "n_jobs=1"}),
    "index.md": ("", {}),
    "kernels.md": ("", {}),
    "newcomer.md": ("", {"pool_size=300": "pool_size=30", "n_trials=40": "n_trials=10"}),
    "precompute.md": (
        SMALL
        + """
from aquasurf_optuna import PrecomputeOptions
catalogue = Catalogue.of(SearchSpace("unary(x)"))
HERE = PrecomputeOptions(timeout=None)  # in this process, and not in some of their own
study = optuna.create_study(direction="maximize")
""",
        {
            "2000": "12",
            "n_jobs=4": "n_jobs=1, options=HERE",
            "n_trials=100": "n_trials=3",
            'Client("tcp://scheduler:8786")': "Client(processes=False, dashboard_address=None)",
            "n_jobs=-1": "n_jobs=1, options=HERE",
        },
    ),
    "scaling.md": (
        SMALL + 'STORE = "sqlite:///features.db"\n',
        {
            "postgresql+psycopg://user@host/studies": "sqlite:///studies.db",
            "seed=0\n": "seed=0, pool_size=12\n",
            "n_trials=100": "n_trials=9",
            "optuna.storages.run_grpc_proxy_server(": "beside(",
            "0.0.0.0": "localhost",
            '"proxy"': '"localhost"',
            "13000": "PORT",
            "/shared/": "",
        },
    ),
}
"""For each page what comes before its code, and what makes it smaller."""


def code_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return int(taken.getsockname()[1])


def beside(storage: optuna.storages.BaseStorage, *, host: str, port: int) -> None:
    """Serve a storage in a thread, and return when its port is open."""
    serve, call = optuna.storages.run_grpc_proxy_server, {"host": host, "port": port}
    threading.Thread(target=serve, args=(storage,), kwargs=call, daemon=True).start()
    for _ in range(200):
        with socket.socket() as asked:
            if asked.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(port)


def run_page(page: str) -> dict[str, Any]:
    """Run the blocks of a page in order, in one namespace, and return it."""
    before, smaller = HERE[page]
    blocks = code_of(page)
    for old in smaller:
        assert any(old in block for block in blocks), f"{page} has no {old!r} any more"
    names: dict[str, Any] = {"__name__": "page", "PORT": free_port(), "beside": beside}
    exec(before, names)
    for number, block in enumerate(blocks):
        if "grpc" in block and importlib.util.find_spec("grpc") is None:
            continue
        for old, new in smaller.items():
            block = block.replace(old, new)
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


def test_every_page_with_code_is_run() -> None:
    with_code = {page.relative_to(DOCS).as_posix() for page in PAGES}
    with_code = {page for page in with_code if code_of(page)}
    assert with_code == set(HERE) | set(ELSEWHERE)
    for page, test in ELSEWHERE.items():
        assert page in (ROOT / test).read_text()


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore:.*does not have many workers",
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
    "ignore:LightningCLI's args parameter",
    "ignore:The number of training batches",
    "ignore::optuna.exceptions.ExperimentalWarning",
)
@pytest.mark.parametrize("page", sorted(HERE))
def test_the_code_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["page.py"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    names = run_page(page)
    said = capsys.readouterr().out
    if page == "newcomer.md":
        # What the page shows of step 3 is what it prints; the last digit may be another machine's.
        shown = re.findall(r"```text\n(layers.*?)```", (DOCS / page).read_text(), re.DOTALL)
        layers = re.sub(r"exp\(.*?\)", "exp", shown[0]).strip()
        assert layers in re.sub(r"exp\(.*?\)", "exp", said)
        assert len(names["study"].trials) == 10
    if page == "guide-existing-study.md":
        assert names["study"].best_value > 0.9


# The command lines of the pages.

COMMANDS = sorted(
    {
        line.removeprefix(".venv/bin/")
        for page in PAGES
        for line in re.findall(r"^    ((?:\.venv/bin/)?\w\S+ .*)$", page.read_text(), re.MULTILINE)
    }
)


def test_commands_name_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    programs = set()
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        programs.add(program)
        if program == "make":
            assert f"\n{arguments[0]}:" in makefile
        if arguments and arguments[0].endswith(".py"):
            assert (ROOT / arguments[0]).exists()
        for path in re.findall(r"examples/\S+", command):
            assert (ROOT / path).exists()
    assert programs >= {"make", "python", "aquasurf"}


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("aquasurf ")])
def test_options_of_commands_are_known(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, *words = shlex.split(command.replace("[", "").replace("]", ""))
    name = words[: 2 if words[:2] == ["bench", "build"] else 1]
    with pytest.raises(SystemExit, match="^0$"):
        main([*name, "--help"])
    known = capsys.readouterr().out
    # Options with a dot are LightningCLI's.
    for option in [word for word in words if word.startswith("--") and "." not in word]:
        assert re.search(rf"{option}\b", known), f"{option} of: {command}"


# The errors of the FAQ.


def errors() -> dict[str, Callable[[], object]]:
    """What a user does, and the beginning of what the FAQ shows for it."""
    space = SearchSpace.three_node()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: len(str(space.suggest(trial, "activation"))), n_trials=1)
    return {
        "unknown operator 'swsh'": lambda: Activation("swsh(x)"),
        "no trial has an activation": lambda: plot_search_progress(study, space, name="act"),
        "the trials have the parameters": lambda: plot_search_progress(
            study, SearchSpace("unary(unary(x))")
        ),
        "parameter 'activation.0' is missing": lambda: space.expression_of(
            {"lr": 0.1}, "activation"
        ),
        "the model LSTM": lambda: fisher_log_eigenvalues(nn.LSTM(2, 2), zeros(1, 2)),
        "layer 'act1'": lambda: autoinit_(AllCnnC("reciprocal(x)"), (3, 32, 32)),
        "a loss of your own": lambda: FisherFeaturizer(
            AllCnnC, zeros(1), zeros(1), loss=lambda f, y: f
        ),
        "timm's 'swin": lambda: TimmClassifier("swin_tiny_patch4_window7_224", "relu(x)"),
        "activation must be a text": lambda: AllCnnC(nn.ReLU()),
    }


def test_the_faq_shows_errors_as_they_are() -> None:
    blocks = re.findall(r"^```text\n(.*?)\n```", (DOCS / "faq.md").read_text(), re.M | re.DOTALL)
    for beginning, action in errors().items():
        (shown,) = [block for block in blocks if block.startswith(beginning)]
        with pytest.raises((AquaSurfError, TypeError, ValueError)) as caught:
            action()
        assert str(caught.value).startswith(shown)
