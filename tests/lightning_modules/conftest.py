"""Shared by the tests of the Lightning part."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import pytest
import torch

from lightning_modules.networks import NetworkOptions

# The same filter as in the package, which pytest undoes for each test.
LEAF_SPEC = r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"

# Python 3.12 and newer warn of every fork beside other threads, and torch's threads are always
# there; a DataLoader's workers are forked.
FORK = r"ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "lightning_modules" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings(LEAF_SPEC, FORK))


@pytest.fixture
def tiny() -> NetworkOptions:
    """All-CNN-C with two and four channels, for the 1-channel digits."""
    return NetworkOptions(in_channels=1, width=1 / 48, dropout=0.0, activate_last=False)


@pytest.fixture
def make_trainer() -> Callable[..., L.Trainer]:
    """Make a silent Trainer on the CPU that validates only when asked."""

    def make(**settings: Any) -> L.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "limit_val_batches": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        return L.Trainer(**(defaults | settings))

    return make


@pytest.fixture(autouse=True)
def _same_randomness() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
