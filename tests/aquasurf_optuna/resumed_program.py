"""Studies that are begun in one process and go on in another; as a program, the other process.

``python -m tests.aquasurf_optuna.resumed_program FOLDER N`` brings every study whose journal lies
in a folder to N trials.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import StubFeaturizer, values_near

SPACE = SearchSpace(
    "binary(unary(x),unary(x))",
    unary=("relu", "tanh", "identity", "erf", "square", "sigmoid", "elu", "exp", "zero"),
    binary=("add", "mul", "max"),
)
INVALID = ("mul(relu(x),tanh(x))", "mul(exp(x),exp(x))", "add(exp(x),square(x))")

CASES: dict[str, dict[str, Any]] = {
    f"{pool}-{surrogate}-{sites}": {"pool": pool, "surrogate": surrogate, "sites": sites}
    for pool in ("random", "following")
    for surrogate in ("gp", "paper")
    for sites in (1, 2)
}
# Small enough that the pool is used up and must grow.
CASES["random-gp-1-grown"] = {**CASES["random-gp-1"], "pool_size": 6}
CASES["following-gp-1-grown"] = {**CASES["following-gp-1"], "pool_size": 12}
CASES["random-gp-1-diverse"] = {**CASES["random-gp-1"], "diversity": 0.5}
CASES["random-gp-2-objectives"] = {**CASES["random-gp-2"], "directions": ["maximize", "minimize"]}


def names_of(case: dict[str, Any]) -> tuple[str, ...]:
    """The activations of a case."""
    return ("stem", "head")[: case["sites"]]


def sampler_of(case: dict[str, Any], catalogue: Catalogue, seed: int | None) -> AquaSurfSampler:
    """A sampler as a process makes it when it starts."""
    representatives = [str(catalogue[catalogue.class_of(text)]) for text in INVALID]
    return AquaSurfSampler(
        dict.fromkeys(names_of(case), catalogue.space),
        features=StubFeaturizer(representatives),  # type: ignore[arg-type]  # stands in
        surrogate=case["surrogate"],
        pool=case["pool"],
        pool_size=case.get("pool_size", 40),
        diversity=case.get("diversity", 0.0),
        baselines=("relu(x)", "tanh(x)", "elu(x)"),
        # One without a memory, which no other process could have.
        base_sampler=RandomSampler(seed=0),
        catalogue=dict.fromkeys(names_of(case), catalogue),
        seed=seed,
    )


def run(
    case: dict[str, Any], path: Path, n_trials: int, catalogue: Catalogue, seed: int | None = 7
) -> None:
    """Bring the study in a journal to `n_trials`, with failures, prunings and a queue."""
    values = values_near("mul(sigmoid(x),identity(x))", catalogue)
    study = optuna.create_study(
        study_name="resumed",
        storage=JournalStorage(JournalFileBackend(str(path))),
        sampler=sampler_of(case, catalogue, seed),
        directions=case.get("directions", ["maximize"]),
        load_if_exists=True,
    )

    def objective(trial: optuna.Trial) -> Any:
        functions = [SPACE.suggest(trial, name) for name in names_of(case)]
        found = [float(values[catalogue.class_of(function)]) for function in functions]
        value = float(np.mean(found)) + 0.01 * len(str(functions[0]))
        if trial.number % 7 == 4:
            raise ValueError("it exploded")
        if "directions" in case:
            return value, float(len(str(functions)))
        trial.report(value - 0.5, 0)
        if trial.number % 5 == 3:
            raise optuna.TrialPruned
        return value

    for number in range(len(study.trials), n_trials):
        if number == 9:
            whole = SPACE.params_of("mul(square(x),erf(x))", names_of(case)[0])
            study.enqueue_trial(whole)
        if number == 12:
            study.enqueue_trial({f"{names_of(case)[0]}.0": "max"})
        if number == 14:
            study.enqueue_trial(dict(study.trials[5].params))
        study.optimize(objective, n_trials=1, catch=(ValueError,))


def what_ran(path: Path) -> list[tuple[dict[str, Any], Any]]:
    """Parameters and explanation of each trial in a journal."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="resumed", storage=storage)
    return [(t.params, t.system_attrs.get("aquasurf:explanation")) for t in study.trials]


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    of_all = Catalogue.of(SPACE)
    for journal in sorted(Path(sys.argv[1]).glob("*.log")):
        run(CASES[journal.stem.partition("@")[0]], journal, int(sys.argv[2]), of_all)
