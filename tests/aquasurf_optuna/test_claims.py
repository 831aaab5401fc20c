"""Claims: in whatever order workers write and read, no two get the same, and all get something."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest

from aquasurf_optuna._claims import claimed
from aquasurf_optuna._history import History
from aquasurf_optuna._search import Choice
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from tests.aquasurf_optuna.sampler_helpers import TINY
from tests.oracles.interleavings import Key, Worker, all_orders

Order = Callable[[int], Sequence[Key]]


def ours(order: Order) -> Worker:
    """A worker that wants keys in an order of its own."""

    def worker(
        number: int, claim: Callable[[Key], None], read: Callable[[], Mapping[int, Key]]
    ) -> Key | None:
        def history() -> History:
            others = read()
            return History(frozenset(others.values()), rivals=dict(others))

        choice = claimed(
            (Choice(key, (), "predicted") for key in order(number)),
            claim=lambda choice: claim(choice.key),
            read=history,
            number=number,
        )
        return None if choice is None else choice.key

    return worker


def in_one_order(n_choices: int) -> Order:
    return lambda number: [(k,) for k in range(n_choices)]


def in_opposite_orders(n_choices: int) -> Order:
    return lambda number: [(k,) for k in range(n_choices)][:: -1 if number % 2 else 1]


@pytest.mark.parametrize("order", [in_one_order, in_opposite_orders])
@pytest.mark.parametrize(("n_workers", "n_choices"), [(1, 1), (2, 3), (2, 6), (3, 5)])
def test_all_get_something_else_in_every_order(
    n_workers: int, n_choices: int, order: Callable[[int], Order]
) -> None:
    outcome = all_orders(ours(order(n_choices)), n_workers)

    assert not outcome.doubles
    assert outcome.ends
    assert not any(None in end for end in outcome.ends)


def test_who_meets_stays_near_the_best() -> None:
    assert all_orders(ours(in_one_order(8)), 2).ends == {
        ((0,), (2,)),
        ((1,), (0,)),
        ((1,), (2,)),
    }


def test_claims_of_several_activations_are_seen_half_written() -> None:
    keys = [(a, b) for a in range(2) for b in range(2)]
    outcome = all_orders(ours(lambda number: keys), 2, in_parts=True)

    assert not outcome.doubles
    assert not any(None in end for end in outcome.ends)


def test_with_too_few_choices_somebody_may_get_nothing_but_nobody_the_same() -> None:
    outcome = all_orders(ours(in_one_order(1)), 2)

    assert not outcome.doubles
    assert outcome.ends == {((0,), None), (None, (0,)), (None, None)}


def test_no_more_choices_are_drawn_than_needed() -> None:
    drawn: list[int] = []

    def choices() -> Iterator[Choice]:
        for k in range(100):
            drawn.append(k)
            yield Choice((k,), (), "predicted")

    histories = iter([History(frozenset({(0,)}), rivals={1: (0,), 2: (0,)}), History()])
    choice = claimed(choices(), claim=lambda choice: None, read=lambda: next(histories), number=5)
    # Two rivals with lower numbers go before.
    assert choice is not None
    assert choice.key == (3,)
    assert drawn == [0, 1, 2, 3]


def test_a_choice_passed_over_is_taken_if_it_is_free_at_last() -> None:
    views = [
        {0: (0,)},  # 1 is left to trial 0, so the claim is 2
        {0: (1,), 7: (2,)},  # trial 7 wants 2 as well
        {0: (1,), 7: (2,)},
    ]
    claims: list[Key] = []

    def read() -> History:
        others = views.pop(0)
        return History(frozenset(others.values()), rivals=others)

    choices = iter([Choice((k,), (), "predicted") for k in range(3)])
    choice = claimed(choices, claim=lambda c: claims.append(c.key), read=read, number=3)

    assert claims == [(0,), (2,), (0,)]
    assert choice is not None
    assert choice.key == (0,)


# The checker itself


def test_the_checker_sees_two_with_the_same() -> None:
    def looks_before_it_claims(
        number: int, claim: Callable[[Key], None], read: Callable[[], Mapping[int, Key]]
    ) -> Key:
        others = set(read().values())
        key = next((k,) for k in range(9) if (k,) not in others)
        claim(key)
        return key

    assert all_orders(looks_before_it_claims, 2).doubles


def test_the_checker_sees_a_worker_without_end() -> None:
    def waits(
        number: int, claim: Callable[[Key], None], read: Callable[[], Mapping[int, Key]]
    ) -> Key:
        claim((0,))
        while (0,) in read().values():
            claim((0,))
        return (0,)

    with pytest.raises(AssertionError, match="60 steps do not suffice"):
        all_orders(waits, 2)


def test_the_checker_tries_all_orders() -> None:
    def tells_what_it_saw(
        number: int, claim: Callable[[Key], None], read: Callable[[], Mapping[int, Key]]
    ) -> Key:
        claim((number,))
        return (number, len(read()))

    # Who comes later sees who came before; all may have written before anybody reads.
    ends = all_orders(tells_what_it_saw, 2).ends
    assert ends == {((0, 0), (1, 1)), ((0, 1), (1, 0)), ((0, 1), (1, 1))}


# By the sampler


def test_who_has_met_others_at_all_candidates_draws_more(tiny: Catalogue) -> None:
    sampler = AquaSurfSampler(TINY, catalogue=tiny, pool_size=2, baselines=(), seed=0)
    order = sampler._search.in_order(History(), ({},), np.ones(1))
    keys = [choice.key for choice in order]

    eligible = np.flatnonzero(tiny.is_finite & ~tiny.is_constant).tolist()
    assert sorted(keys) == [(class_id,) for class_id in eligible]
