"""The page about the networks says what is true of them."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from aquasurf_optuna.activation import Activation
from lightning_modules import models
from lightning_modules.models import activation_modules
from tests.lightning_modules.models.helpers import histogram_length, parameter_count, weight_counts

PAGE = Path(__file__).parents[3] / "docs" / "networks.md"
NETWORKS = sorted(set(models.__all__) - {"TimmClassifier", "activation_modules"})


def rows(text: str) -> dict[str, list[int]]:
    """The numbers of each row that begins with a class, by the class."""
    found = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, flags=re.MULTILINE)
    return {
        name: [int(cell.replace(",", "")) for cell in cells.split("|")] for name, cells in found
    }


def figures(model: nn.Module) -> list[int]:
    """The same numbers of a network: sites, kept, layers, histogram length, parameters."""
    kinds = [isinstance(m, Activation) for m in activation_modules(model).values()]
    return [
        kinds.count(True),
        kinds.count(False),
        len(weight_counts(model)),
        histogram_length(model),
        parameter_count(model),
    ]


def test_the_table_has_every_network() -> None:
    assert sorted(rows(PAGE.read_text())) == NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_the_table_tells_the_truth(name: str) -> None:
    with torch.device("meta"):
        model = getattr(models, name)("relu(x)")
    assert rows(PAGE.read_text())[name] == figures(model)


def test_a_wrong_figure_is_noticed() -> None:
    model = models.AllCnnC("relu(x)")
    assert rows("| `AllCnnC` | 9 | 0 | 9 | 13,692 | 1,369,739 |")["AllCnnC"] != figures(model)


def test_the_code_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], str(PAGE), "exec"), {})
