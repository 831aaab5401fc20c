"""One model of each of timm's families: accepted with its sites, or refused clearly."""

import pytest
import timm
import torch

from aquasurf_optuna.exceptions import UnsupportedModelError
from lightning_modules.models import TimmClassifier
from tests.lightning_modules.models.helpers import swapped


def families() -> list[str]:
    """The first model of each file and first part of the name."""
    first: dict[tuple[str, str], str] = {}
    for file in timm.list_modules():
        for name in timm.list_models(module=file):
            first.setdefault((file, name.split("_")[0]), name)
    return sorted(first.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", families())
def test_a_family_is_accepted_or_refused(name: str) -> None:
    try:
        with torch.device("meta"):
            model = TimmClassifier(name, "tanh(x)", num_classes=10)
    except UnsupportedModelError as error:
        assert f"{name!r} does not let its activation be chosen" in str(error)
    else:
        assert set(model.sites) == set(swapped(model, "tanh(x)"))
        assert not set(model.sites) & set(model.kept)
