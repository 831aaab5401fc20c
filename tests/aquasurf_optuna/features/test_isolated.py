"""Measuring within limits: what a function may not do, and what the network may not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest
from torch import nn

from aquasurf_optuna.exceptions import PrecomputeError, UnsupportedModelError
from aquasurf_optuna.features._child import Child, EndedError
from aquasurf_optuna.features._feature import StoppedError
from aquasurf_optuna.features._isolated import Limits, Measurer
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from tests.aquasurf_optuna.features import troubles
from tests.aquasurf_optuna.features.networks import batch, small_cnn
from tests.aquasurf_optuna.features.troubles import broken, hanging, troubled_cnn

IMAGES = batch(8, 2, 6, 6)


def featurizer(build: Callable[..., nn.Module] = troubled_cnn) -> FisherFeaturizer:
    return FisherFeaturizer(build, IMAGES, task="troubles")


@pytest.fixture(scope="module")
def isolated() -> Iterator[Measurer]:
    with Measurer(featurizer(), Limits(timeout=3.0)) as measurer:
        yield measurer


def test_a_feature_is_the_same_in_another_process(isolated: Measurer) -> None:
    feature = isolated("relu(x)")
    assert feature.vector is not None
    np.testing.assert_allclose(feature.vector, featurizer()("relu(x)").vector, rtol=1e-4, atol=1e-3)
    assert isolated("zero(x)").reason == featurizer()("zero(x)").reason


def test_an_error_is_the_functions_and_costs_no_process(isolated: Measurer) -> None:
    isolated("relu(x)")
    before = isolated._child
    assert isolated(troubles.RAISES).reason == "RuntimeError: no network with tanh(x)"
    assert isolated._child is before


def test_errors_of_this_project_end_the_run(isolated: Measurer) -> None:
    with pytest.raises(UnsupportedModelError, match="^not with arctan$"):
        isolated(troubles.UNSUPPORTED)


def test_a_function_that_hangs_is_invalid(isolated: Measurer) -> None:
    isolated("relu(x)")
    assert isolated._child is not None
    pid = isolated._child.pid
    assert isolated(troubles.HANGS).reason == "took longer than 3 s"
    assert not psutil.pid_exists(pid)
    assert isolated("relu(x)").valid


@pytest.mark.slow
def test_a_function_that_needs_too_much_memory_is_invalid() -> None:
    with Measurer(featurizer(), Limits(memory=troubles.GIB)) as measurer:
        assert measurer(troubles.HOARDS).reason == "needed more than 1 GiB of memory"
        assert measurer("relu(x)").valid


@pytest.mark.slow
def test_a_function_that_ends_its_process_twice_is_invalid() -> None:
    with Measurer(featurizer(), Limits(timeout=600.0)) as measurer:
        expected = "the process died of signal 9 (SIGKILL), as when memory runs out"
        assert measurer(troubles.DIES).reason == expected
        assert measurer("relu(x)").valid


@pytest.mark.slow
def test_a_process_killed_by_a_stranger_is_no_fault_of_the_function() -> None:
    with Measurer(featurizer(), Limits(timeout=600.0)) as measurer:
        measurer("relu(x)")
        assert measurer._child is not None
        os.kill(measurer._child.pid, signal.SIGKILL)
        assert measurer("swish(x)").valid


@pytest.mark.slow
def test_the_process_ends_with_its_parent() -> None:
    child = Child(hanging)
    assert child._process.stdin is not None
    threading.Thread(target=pytest.raises, args=(EndedError, child, "x"), daemon=True).start()
    child._process.stdin.close()  # as the system closes it when the parent dies
    assert child._process.wait(timeout=60) == 0
    child.close()


@pytest.mark.slow
def test_limits_too_low_for_relu_end_the_run() -> None:
    with (
        Measurer(featurizer(hanging), Limits(timeout=1.0)) as measurer,
        pytest.raises(UnsupportedModelError, match=r"with tanh\(x\): took .* with relu\(x\) too"),
    ):
        measurer("tanh(x)")


def test_without_limits_nothing_is_started() -> None:
    measurer = Measurer(featurizer(), Limits())
    assert measurer("relu(x)").valid
    assert measurer(troubles.RAISES).reason == "RuntimeError: no network with tanh(x)"
    assert measurer(troubles.LACKS_MEMORY).reason == "MemoryError"
    assert measurer._child is None
    with pytest.raises(UnsupportedModelError, match="not with arctan"):
        measurer(troubles.UNSUPPORTED)


@pytest.mark.parametrize("text", ["relu(x)", "tanh(x)"])
def test_a_broken_network_ends_the_run(text: str) -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"and with relu\(x\) too: RuntimeError: no net"
    ):
        Measurer(featurizer(broken), Limits())(text)


def test_a_call_can_be_given_up() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        Measurer(featurizer(), Limits(timeout=600.0), stop)("relu(x)")


class NotForProcesses:
    """A builder that can be pickled, but not made again."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (_refuse, ("x",))

    def __call__(self, factory: Callable[[], nn.Module]) -> nn.Module:
        return small_cnn(factory)


def _refuse(text: str) -> None:
    raise PrecomputeError(f"{text} cannot be made again")


@pytest.mark.slow
def test_what_cannot_reach_the_process_is_told() -> None:
    with pytest.raises(PrecomputeError, match="x cannot be made again"):
        Measurer(featurizer(NotForProcesses()), Limits(timeout=600.0))("relu(x)")
