import numpy as np
import pytest

from aquasurf_optuna.visualization._curves import Array, curve

LIMITS = (-6.0, 6.0)


def breaks(found: tuple[Array, Array]) -> list[float]:
    """Inputs at which a curve is broken."""
    x, y = found
    return sorted({round(float(each), 6) + 0.0 for each in x[np.isnan(y)]})


def test_a_continuous_curve_is_whole_however_steep() -> None:
    for f in (np.tanh, np.abs, lambda x: np.tanh(1e6 * x), lambda x: np.sqrt(np.abs(x))):
        x, y = curve(f, LIMITS)
        assert breaks((x, y)) == []
        np.testing.assert_array_equal(y, f(x))
        assert (x[0], x[-1]) == (-5.0, 5.0)


@pytest.mark.parametrize("place", [0.0, 0.123, -2.5, 4.9999])
def test_a_jump_is_broken_where_it_is(place: float) -> None:
    x, y = curve(lambda x: np.where(x < place, -1.0, 2.0), LIMITS)
    assert breaks((x, y)) == pytest.approx([place], abs=1e-6)
    # The curve reaches the jump from both sides, and no two neighbours cross it.
    [middle] = np.flatnonzero(np.isnan(y))
    assert x[middle - 1] == pytest.approx(x[middle + 1], abs=1e-9)
    assert (y[middle - 1], y[middle + 1]) == (-1.0, 2.0)
    assert (np.diff(x) >= 0).all()


@pytest.mark.parametrize("place", [0.0, 0.12345])
def test_a_pole_is_broken_and_leaves_the_panel(place: float) -> None:
    def pole(x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return 1.0 / (x - place)

    x, y = curve(pole, LIMITS)
    assert breaks((x, y)) == pytest.approx([place], abs=1e-6)
    assert y[x < place - 1e-9].min() == -18.0  # one height of the panel below it
    assert y[x > place + 1e-9].max() == 18.0
    strokes = np.abs(np.diff(y)) > 20
    assert not strokes.any()


def test_without_the_break_a_stroke_would_be_drawn() -> None:
    x = np.linspace(-5, 5, 1001)
    y = np.clip(1.0 / (x - 0.12345), -18, 18)
    assert (np.abs(np.diff(y)) > 20).any()


def test_values_that_are_not_finite_break_the_curve() -> None:
    with np.errstate(invalid="ignore"):
        x, y = curve(lambda x: np.where(x < 0, np.nan, np.sqrt(np.abs(x))), LIMITS)
    assert np.isnan(y[x < 0]).all()
    assert not np.isnan(y[x >= 0]).any()
    x, y = curve(lambda x: np.where(x > 1, np.inf, 0.0), LIMITS)
    assert np.isnan(y[x > 1.01]).all()


def test_a_step_that_nobody_sees_is_let_be() -> None:
    assert breaks(curve(lambda x: np.where(x < 0.123, 0.0, 0.01), LIMITS)) == []
