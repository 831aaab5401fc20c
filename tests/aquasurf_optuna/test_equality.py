"""Links and fingerprints of hard rows, against one number at a time in plain Python."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna.equality import (
    RELATIVE_TOLERANCE,
    STEP,
    WINDOW,
    Equality,
    Fingerprints,
    digests,
    first_of_each,
    linked,
)
from aquasurf_optuna.exceptions import SpaceError
from tests.oracles import equality_oracle

Rows = NDArray[np.float64]
EQUALITIES = [
    Equality("tolerance"),
    Equality("identical"),
    Equality("tolerance", "sign"),
    Equality("identical", "sign"),
    Equality("tolerance", "affine"),
]
# In units of the tolerance; _LAST is the last that is linked, since the larger value counts.
_LAST = 1 / (1 - RELATIVE_TOLERANCE)
FACTORS = (0.0, 0.5, _LAST * (1 - 1e-9), _LAST, _LAST * (1 + 1e-9), 1.001, 2.0)
HARD = (0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1e-310, 2.3e-308, 1.7e308, -1.7e308, 1.0, 0.5)


def hard_values(rng: np.random.Generator) -> Rows:
    """1,000 values of all sizes, many beside a power of two or a boundary of a fingerprint."""
    sizes = rng.choice([-1, 1], 1000) * 10.0 ** rng.uniform(-300, 300, 1000)
    powers = 2.0 ** rng.integers(-40, 40, 1000) * (1 + rng.integers(-4, 5, 1000) * 2.0**-52)
    # Where the upper 32 bits change, with the offset that equality.py adds.
    upper = rng.integers(0x3F000000, 0x40800000, 1000, dtype=np.int64) << 32
    boundaries = (upper - 0x5A5A5A5A + rng.integers(-2, 3, 1000)).view(np.float64)
    kinds = np.stack([sizes, powers, boundaries, rng.standard_normal(1000)])
    return kinds[rng.integers(0, 4, 1000), np.arange(1000)]


def hard_rows(seed: int, n_families: int = 4) -> Rows:
    """Families of rows that are near each other in many ways, `(n, 1000)`."""
    rng = np.random.default_rng(seed)
    rows = []
    for family in range(n_families):
        base = hard_values(rng)
        if family % 2:
            places = rng.choice(1000, 40, replace=False)
            base[places] = rng.choice(HARD, 40)
        for factor in FACTORS:
            signs = rng.choice([-1.0, 1.0], 1000) if factor < 1 else np.ones(1000)
            with np.errstate(over="ignore", invalid="ignore"):
                rows.append(base * (1 + factor * RELATIVE_TOLERANCE * signs))
        one = base.copy()
        one[rng.integers(1000)] *= 1 + 1.5 * RELATIVE_TOLERANCE
        rows += [one, -base, -one]
    return np.stack(rows)


def plain_rule(equality: Equality) -> equality_oracle.Linked:
    tolerance = RELATIVE_TOLERANCE if equality.rule == "tolerance" else 0.0
    oracle = {
        "none": equality_oracle.linked,
        "sign": equality_oracle.linked_up_to_sign,
    }[equality.invariance]
    return lambda a, b: oracle(a, b, tolerance)


def pairs_of(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    a, b = np.array(list(itertools.product(range(n), repeat=2))).T
    return a, b


def canonical(rows: Rows, equality: Equality) -> tuple[NDArray[np.floating], Fingerprints]:
    with np.errstate(over="ignore"):  # float32 has no 1e300
        found = equality.rows(rows)
    return found, equality.fingerprints(found)


def disagreements(
    rows: NDArray[np.floating], equality: Equality, rule: equality_oracle.Linked
) -> int:
    """How many pairs are linked by one and not by the other."""
    a, b = pairs_of(len(rows))
    found = equality.linked(rows[a], rows[b])
    expected = [rule(rows[i], rows[j]) for i, j in zip(a, b, strict=True)]
    return int((found != np.array(expected)).sum())


@pytest.mark.parametrize("equality", EQUALITIES[:4], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_links_are_those_of_plain_python(equality: Equality, seed: int) -> None:
    rows, _ = canonical(hard_rows(seed, n_families=2), equality)
    assert disagreements(rows, equality, plain_rule(equality)) == 0


def test_the_oracle_notices_another_tolerance() -> None:
    equality = Equality()
    rows, _ = canonical(hard_rows(0, n_families=2), equality)
    for wrong in (0.99999 * RELATIVE_TOLERANCE, 1.00001 * RELATIVE_TOLERANCE):
        assert disagreements(
            rows, equality, lambda a, b, wrong=wrong: equality_oracle.linked(a, b, wrong)
        )
    assert disagreements(rows, Equality("tolerance", "sign"), plain_rule(equality))


@pytest.mark.parametrize("equality", EQUALITIES, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_links_are_symmetric_and_of_oneself(equality: Equality, seed: int) -> None:
    rows, _ = canonical(hard_rows(seed), equality)
    a, b = pairs_of(len(rows))
    np.testing.assert_array_equal(
        equality.linked(rows[a], rows[b]), equality.linked(rows[b], rows[a])
    )
    assert equality.linked(rows, rows).all()


@pytest.mark.parametrize("equality", EQUALITIES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_fingerprints_keep_their_word(equality: Equality, seed: int) -> None:
    rows, prints = canonical(hard_rows(seed), equality)
    a, b = pairs_of(len(rows))
    is_linked = equality.linked(rows[a], rows[b])
    same = {
        name: (getattr(prints, name)[a] == getattr(prints, name)[b]).all(axis=1)
        for name in ("exact", "coarse")
    }
    equal_bytes = [rows[i].tobytes() == rows[j].tobytes() for i, j in zip(a, b, strict=True)]
    np.testing.assert_array_equal(same["exact"], equal_bytes)
    assert is_linked[same["coarse"]].all()
    close = (np.abs(prints.sums[a] - prints.sums[b]) <= WINDOW).all(axis=1)
    probes = prints.probes.astype(np.int64)
    alike = (np.abs(probes[a] - probes[b]) <= STEP).all(axis=1)
    assert close[is_linked].all()
    assert alike[is_linked].all()
    # Both would be empty words if every pair were linked, or none but oneself.
    assert len(rows) < is_linked.sum() < len(a)
    assert close.sum() < len(a)
    assert alike.sum() < len(a)


def test_the_window_is_reached_and_not_passed() -> None:
    equality = Equality()
    below_two = np.nextafter(2.0, 0) - np.arange(4000) * 1e-9
    pairs = np.stack([below_two, below_two * (1 - RELATIVE_TOLERANCE)])
    pairs[1] = np.nextafter(pairs[1], 2)  # within, whatever was rounded
    rows = np.repeat(pairs.T.reshape(-1, 1), 1000, axis=1)
    prints = equality.fingerprints(equality.rows(rows))
    assert equality.linked(rows[::2], rows[1::2]).all()
    assert np.abs(prints.sums[::2] - prints.sums[1::2]).max() == WINDOW
    assert np.abs(prints.probes[::2] - prints.probes[1::2]).max() == STEP


def test_an_exact_link_at_the_tolerance() -> None:
    a, b = np.full(1000, 1.0), np.full(1000, 1.0)
    b[17] = 1 - RELATIVE_TOLERANCE
    assert linked(a, b) == linked(b, a) == (1 - b[17] <= RELATIVE_TOLERANCE)
    b[17] = 1 - 1.0001 * RELATIVE_TOLERANCE
    assert not linked(a, b)
    b[17] = np.nan
    assert not linked(a, b)
    a[17] = np.nan
    assert linked(a, b)


@pytest.mark.parametrize("equality", [Equality(), Equality("tolerance", "affine")], ids=str)
def test_rows_of_one_coarse_digest_are_linked(equality: Equality) -> None:
    # One value in many places beside the boundaries of steps, and another within two tolerances.
    rng = np.random.default_rng(0)
    base = equality.rows(np.tanh(rng.standard_normal((1, 1000))))[0]
    rows = np.repeat(base[None], 2000, axis=0)
    rows[::2, 400] = rng.uniform(0.5, 0.9, 1000)
    rows[1::2, 400] = rows[::2, 400] + rng.uniform(0, 2 * RELATIVE_TOLERANCE, 1000)
    coarse = equality.fingerprints(rows).coarse
    same = (coarse[::2] == coarse[1::2]).all(axis=1)
    is_linked = equality.linked(rows[::2], rows[1::2])
    assert is_linked[same].all()
    assert 50 < same.sum() < is_linked.sum() < 900


def test_rows_are_in_one_form() -> None:
    values = np.ones((1, 1000))
    values[0, :6] = -0.0, 1e-310, -5e-324, -np.nan, np.inf, -np.inf
    row = Equality().rows(values)[0]
    np.testing.assert_array_equal(row[:6], [0, 0, 0, np.nan, np.inf, -np.inf])
    assert not np.signbit(row[:3]).any()
    assert row[3:4].tobytes() == np.array([np.nan]).tobytes()
    assert np.signbit(values[0, 0])
    single = Equality("identical").rows(np.full((1, 1000), 1e-40))
    # Bit for bit: numbers below the normal ones stay what they are.
    assert single.dtype == np.float32
    assert (single > 0).all()


def ambiguous(rng: np.random.Generator) -> Rows:
    """A row whose sign hangs on a digit: what comes first is a tenth of the largest, or not."""
    row = 0.05 * rng.uniform(-1, 1, 1000)
    row[3], row[500], row[900] = 0.1, -0.7, 1.0
    return row


@pytest.mark.parametrize("invariance", ["sign", "affine"])
@pytest.mark.parametrize("hard", [(), (np.nan,), (np.inf, -np.inf, np.nan), (np.inf,)])
def test_a_sign_that_hangs_on_rounding(invariance: str, hard: tuple[float, ...]) -> None:
    equality = Equality("tolerance", invariance)  # type: ignore[arg-type] # one of those allowed
    rng = np.random.default_rng(0)
    row = ambiguous(rng)
    if invariance == "affine":
        row -= row.mean()
        row[3] = 0.1 * row[900]
        row[901] -= row.sum()
    row[600 : 600 + len(hard)] = hard
    near = np.stack([row, row, -row, -row])
    near[::2, 3] *= 1 + 4e-7
    near[1::2, 3] *= 1 - 4e-7
    rows, prints = canonical(near, equality)
    signs = np.sign(rows[:, 500])
    if not np.isinf(hard).any():
        assert set(signs.tolist()) == {-1.0, 1.0}, "the row is not what it is meant to be"
    a, b = pairs_of(4)
    assert equality.linked(rows[a], rows[b]).all()
    assert np.abs(prints.sums[a] - prints.sums[b]).max() <= WINDOW
    probes = prints.probes.astype(np.int64)
    assert np.abs(probes[a] - probes[b]).max() <= STEP


def bounded_rows(seed: int) -> Rows:
    """Functions of moderate size, c f + d of them, and such with a little noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(1000)
    bases = [np.tanh(x), x**3, np.maximum(x, 0), np.exp(x), np.ones(1000), ambiguous(rng), x % 0.1]
    rows = []
    for base in bases:
        for noise in (0.0, 1e-10, 1e-5, 1e-2):
            c = rng.choice([-1, 1]) * 10 ** rng.uniform(-3, 3)
            d = rng.choice([0, 1, -1]) * c * 10 ** rng.uniform(-2, 2)
            moved = c * base + d
            rows.append(moved + noise * abs(c) * rng.standard_normal(1000) * (np.ptp(base) > 0))
        rows += [base, -base]
    rows.append(np.zeros(1000))
    return np.stack(rows)


def wrong_affine_links(links: Callable[[int, int], bool], rows: Rows) -> list[tuple[int, int]]:
    """Pairs that are told to be linked and fit badly, or not linked and fit well."""
    wrong = []
    for i, j in itertools.product(range(len(rows)), repeat=2):
        misfit = max(
            equality_oracle.misfit(rows[i], rows[j]), equality_oracle.misfit(rows[j], rows[i])
        )
        # A fit is not quite the division by the largest value: near the tolerance, no verdict.
        if links(i, j) and misfit > 4 * RELATIVE_TOLERANCE:
            wrong.append((i, j))
        if not links(i, j) and misfit < RELATIVE_TOLERANCE / 4:
            wrong.append((i, j))
    return wrong


@pytest.mark.parametrize("seed", range(2))
def test_affine_links_are_those_of_fitted_lines(seed: int) -> None:
    equality = Equality("tolerance", "affine")
    values = bounded_rows(seed)
    rows, _ = canonical(values, equality)
    a, b = pairs_of(len(rows))
    found = equality.linked(rows[a], rows[b]).reshape(len(rows), -1)
    assert wrong_affine_links(lambda i, j: bool(found[i, j]), values) == []
    # Of seven bases with three equal forms at least, and no two bases alike.
    assert 7 * 9 <= found.sum() < len(a) / 2


def test_the_affine_oracle_notices_wrong_links() -> None:
    values = bounded_rows(0)
    assert wrong_affine_links(lambda _, __: True, values)
    assert wrong_affine_links(lambda i, j: i == j, values)
    plain = Equality()
    rows, _ = canonical(values, plain)
    assert wrong_affine_links(lambda i, j: linked(rows[i], rows[j]), values)


def test_constants_are_one_function_up_to_affine_maps() -> None:
    equality = Equality("tolerance", "affine")
    level = np.array([0.0, 1.0, -3e5, 1e-200, 1e300])
    values = np.repeat(level[:, None], 1000, axis=1)
    values[1, 7] += 5e-7
    rows, prints = canonical(values, equality)
    assert (rows == 0).all()
    assert prints.is_constant.all()
    moved = values.copy()
    moved[1, 7] += 1e-3
    _, prints = canonical(moved, equality)
    assert prints.is_constant.tolist() == [True, False, True, True, True]
    sign, prints = canonical(values, Equality("tolerance", "sign"))
    assert prints.is_constant.all()
    assert (sign >= 0).all()


def test_what_is_not_finite_is_compared_up_to_sign_alone() -> None:
    equality = Equality("tolerance", "affine")
    base = np.linspace(-1, 2, 1000)
    base[10], base[20] = np.nan, np.inf
    rows, _ = canonical(np.stack([base, -base, 2 * base, base + 1]), equality)
    a, b = pairs_of(4)
    assert equality.linked(rows[a], rows[b]).reshape(4, 4).tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


def test_affine_rows_have_mean_0_and_largest_size_1() -> None:
    rows, _ = canonical(bounded_rows(1), Equality("tolerance", "affine"))
    moving = rows[(rows != 0).any(axis=1)]
    assert len(moving) > 30
    np.testing.assert_allclose(moving.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(moving).max(axis=1), 1, rtol=1e-15)
    huge = 1.7e308 * np.linspace(-1, 1, 1000)[None]
    np.testing.assert_allclose(
        Equality("tolerance", "affine").rows(huge), [np.linspace(1, -1, 1000)], atol=1e-12
    )


def test_first_of_each_keeps_the_order_of_appearance() -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 50):
        keys = rng.integers(0, 3, (n, 2)).astype(np.uint64)
        first, group = first_of_each(keys)
        known: dict[tuple[int, ...], int] = {}
        expected = [known.setdefault(tuple(key), len(known)) for key in keys.tolist()]
        assert group.tolist() == expected
        assert first.tolist() == [expected.index(number) for number in range(len(known))]


def test_only_equal_bytes_share_a_digest() -> None:
    rows = np.zeros((3, 1000))
    rows[1, 999] = -0.0
    keys = digests(rows)
    assert keys.shape == (3, 2)
    assert keys[0].tolist() == keys[2].tolist() != keys[1].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exact",), "rule must be 'tolerance' or 'identical', got 'exact'"),
        (("tolerance", "scale"), "invariance must be 'none', 'sign' or 'affine', got 'scale'"),
        (("identical", "affine"), "'identical' does not go with invariance 'affine'"),
    ],
)
def test_unknown_equalities_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Equality(*arguments)  # type: ignore[arg-type] # wrong values are the test


def test_the_oracle_of_one_number() -> None:
    agree = equality_oracle.agree
    assert agree(math.nan, math.nan, 0)
    assert agree(math.inf, math.inf, 0)
    assert not agree(math.inf, -math.inf, 1e300)
    assert not agree(math.nan, 1.0, 1.0)
    assert not agree(1.0, 1.1, 1e-6)
    assert equality_oracle.components(4, lambda i, j: j - i == 2) == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }
