"""Tables that are made once for the tests of the paper's figures."""

import numpy as np
import pytest

from aquasurf_optuna import Catalogue, SearchSpace
from aquasurf_optuna.benchmark._bench import ActBench
from benchmarks.paper import _common as common
from benchmarks.paper import figure5
from tests.benchmarks.paper_tables import entry, vector


@pytest.fixture(scope="module")
def several() -> ActBench:
    """A table of 40 functions of the three-node space, with baselines and their negatives."""
    catalogue = Catalogue.of(SearchSpace.three_node())
    wanted = [*common.TITLES, *figure5.NEGATIVES.values()]
    rows = list(dict.fromkeys([*map(catalogue.class_of, wanted), *range(0, len(catalogue), 90)]))
    rng = np.random.default_rng(0)
    return ActBench(
        "several",
        [
            entry(
                str(catalogue[row]),
                float(rng.uniform(0.1, 0.9)),
                vector=vector(row),
                members=tuple(map(str, catalogue.members(row))),
            )
            for row in rows
        ],
    )
