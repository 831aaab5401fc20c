"""The networks of Table 5 in full size learn the digits, enlarged to 32x32, within two epochs."""

import pytest

from benchmarks.digits_32 import recipe
from lightning_modules.digits_recipe import train_digits


@pytest.mark.slow
@pytest.mark.parametrize("network", ["all_cnn_c", "resnet56"])
def test_two_epochs_of_digits_are_learnt(network: str) -> None:
    result = train_digits("elu(x)", seed=0, recipe=recipe(network), test=True)
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.6
