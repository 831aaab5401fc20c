"""Claims: each function to one owner, alone and against other processes, on every database."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import ExpressionError, FeatureStoreError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.features.outputs import function_key
from aquasurf_optuna.store import Claim, FeatureStore, FeatureStoreWarning
from tests.aquasurf_optuna import databases

VALID = FisherFeature(vector=np.array([0.1, -3.5], dtype=np.float32), reason=None)
TEXTS = ["relu(x)", "max( x, zero(x) )", "tanh(x)", "swish(x)"]
NEEDS_FORK = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork"
)


@pytest.fixture(params=databases.KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return databases.fresh(request.param, tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[FeatureStore]:
    with FeatureStore(url) as opened:
        yield opened


def key(text: str) -> str:
    return function_key(Expression.parse(text))


def only(store: FeatureStore) -> Claim:
    (claim,) = store.claims("task").values()
    return claim


def test_a_claim_holds_off_everybody(store: FeatureStore) -> None:
    assert store.claim("task", TEXTS, "me") == ["relu(x)", "tanh(x)", "swish(x)"]

    assert store.claim("task", TEXTS, "you") == []
    assert store.claim("task", TEXTS, "me") == []
    assert store.claim("other", [Expression.parse("tanh(x)")], "you") == ["tanh(x)"]
    assert store.claims("task") == {
        key(text): Claim(text, "me", 0) for text in ("relu(x)", "tanh(x)", "swish(x)")
    }
    assert store.claims("nothing") == {}


def test_a_limit_takes_the_first_that_are_free(store: FeatureStore) -> None:
    store.put("task", "max(x,zero(x))", VALID)

    assert store.claim("task", TEXTS, "me", limit=1) == ["tanh(x)"]
    assert store.claim("task", TEXTS, "you", limit=5) == ["swish(x)"]
    assert store.claim("task", [], "you") == []
    with pytest.raises(FeatureStoreError, match="limit must be at least 1.*got 0"):
        store.claim("task", TEXTS, "me", limit=0)
    with pytest.raises(ExpressionError, match="nonsense"):
        store.claim("task", ["x", "nonsense(x)"], "me")


def test_more_than_one_statement_takes(store: FeatureStore, catalogue: Catalogue) -> None:
    functions = [catalogue[number] for number in range(450)]
    store.claim("task", functions[::2], "me")

    assert store.claim("task", functions, "you", limit=220) == [str(f) for f in functions[1:440:2]]
    assert store.release("me") == 225


def test_a_put_drops_the_claim(store: FeatureStore) -> None:
    store.claim("task", ["relu(x)", "tanh(x)"], "me")
    store.put("task", "max(x,zero(x))", VALID)

    assert list(store.claims("task")) == [key("tanh(x)")]
    assert store.claim("task", ["relu(x)"], "me") == []


def test_a_put_of_an_owner_needs_the_claim(store: FeatureStore) -> None:
    store.claim("task", ["relu(x)"], "me")

    assert store.put("task", "relu(x)", VALID, owner="you") is False
    assert store.count() == 0
    assert store.put("task", "relu(x)", VALID, owner="me") is True
    assert store.count() == 1
    # The claim is spent.
    assert store.put("task", "relu(x)", FisherFeature(None, "late"), owner="me") is False
    assert store.get("task", "relu(x)").valid


def test_a_beat_is_that_of_the_owner_alone(store: FeatureStore) -> None:
    store.claim("task", ["relu(x)"], "me")
    store.claim("task", ["tanh(x)"], "you")
    store.claim("other", ["x"], "me")
    store.beat("me")
    store.beat("me")
    store.beat("nobody")

    assert {claim.owner: claim.beat for claim in store.claims("task").values()} == {
        "me": 2,
        "you": 0,
    }
    assert store.claims("other")[key("x")].beat == 2


def test_a_claim_is_taken_over_only_as_it_was_seen(store: FeatureStore) -> None:
    store.claim("task", ["relu(x)"], "me")
    seen = only(store)
    store.beat("me")
    assert store.take_over("task", "relu(x)", seen, "you") is False

    seen = only(store)
    assert store.take_over("task", "max(x,zero(x))", seen, "you") is True
    assert only(store).owner == "you"
    # A third one who saw the same comes too late, and so does the first owner.
    assert store.take_over("task", "relu(x)", seen, "third") is False
    assert store.put("task", "relu(x)", VALID, owner="me") is False
    store.beat("me")
    assert store.put("task", "relu(x)", VALID, owner="you") is True
    assert store.take_over("task", "relu(x)", seen, "third") is False


def test_a_claim_taken_over_by_its_own_name_differs_from_the_one_seen(store: FeatureStore) -> None:
    store.claim("task", ["relu(x)"], "me")
    seen = only(store)

    assert store.take_over("task", "relu(x)", seen, "me") is True
    assert store.take_over("task", "relu(x)", seen, "you") is False


def test_release_drops_the_claims_of_one_owner(store: FeatureStore) -> None:
    store.claim("task", ["relu(x)", "tanh(x)"], "me")
    store.claim("other", ["x"], "me")
    store.claim("task", ["swish(x)"], "you")

    assert store.release("me") == 3
    assert store.release("me") == 0
    assert only(store).owner == "you"
    assert store.claim("task", ["relu(x)"], "you") == ["relu(x)"]


def test_a_damaged_row_is_claimed_and_replaced(store: FeatureStore, url: str) -> None:
    store.put("task", "relu(x)", VALID)
    databases.run(url, "update aquasurf_features set reason = 'because'")

    with pytest.warns(FeatureStoreWarning, match="checksum"):
        assert store.claim("task", ["relu(x)"], "me") == ["relu(x)"]
    assert store.put("task", "relu(x)", VALID, owner="me") is True
    assert store.get("task", "relu(x)").valid


# The processes fork, so that they need not import torch.


def run_processes(work: Callable[..., None], *arguments: object, number: int = 4) -> list[object]:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [
        context.Process(target=work, args=(results, index, *arguments)) for index in range(number)
    ]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * number
    return found


def claim_and_put(results, index: int, store: FeatureStore, texts: list[str]) -> None:
    """Measure whatever can be claimed, from another end of the list in each process."""
    mine, owner = [], f"owner {index}"
    order = texts[5 * index :] + texts[: 5 * index]
    while taken := store.claim("task", order, owner, limit=3):
        store.beat(owner)
        vector = np.full(2, index, dtype=np.float32)
        for text in taken:
            assert store.put("task", text, FisherFeature(vector, None), owner=owner)
        mine += taken
    results.put(mine)


@NEEDS_FORK
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_divide_the_work(store: FeatureStore, catalogue: Catalogue) -> None:
    texts = [str(catalogue[number]) for number in range(24)]
    store.count()  # an open connection, which the processes must not share

    claimed = run_processes(claim_and_put, store, texts)
    assert Counter(text for mine in claimed for text in mine) == Counter(texts)
    assert store.claims("task") == {}
    assert sorted(store.load("task")) == sorted(texts)
    assert store.put("task", "x", VALID)  # the parent's connection is as it was


def take_over(results, index: int, store: FeatureStore, seen: Claim) -> None:
    results.put(store.take_over("task", "relu(x)", seen, f"owner {index}"))


@NEEDS_FORK
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_one_of_several_processes_takes_a_claim_over(store: FeatureStore) -> None:
    store.claim("task", ["relu(x)"], "dead")

    assert sorted(run_processes(take_over, store, only(store))) == [False, False, False, True]


def open_and_put(results, index: int, url: str) -> None:
    with FeatureStore(url) as store:
        store.put("task", "relu(x)", VALID)
        results.put(store.count())


@NEEDS_FORK
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_make_one_database_at_once(url: str) -> None:
    assert run_processes(open_and_put, url, number=6) == [1] * 6
