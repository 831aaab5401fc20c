"""Stand-ins that let a test see what the sampler asks for and decide what it is told."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore
from aquasurf_optuna.surrogate import Surrogate
from aquasurf_optuna.surrogate._observations import Observations

TINY = SearchSpace(
    "binary(unary(x),unary(x))", unary=("relu", "tanh", "identity", "zero"), binary=("add", "mul")
)
"""A space of 32 graphs."""


# Where the stub cuts outputs, so high that functions stay apart.
_LARGEST = 1e30


class StubSurrogate(Surrogate):
    """Remembers what it is given, and prefers functions with a large mean output.

    Copies share one diary, since the sampler copies the surrogate that it is given.
    """

    output_bound = _LARGEST

    def __init__(
        self, diary: "Diary | None" = None, features: str = "outputs", random_state: int = 0
    ) -> None:
        self.diary = Diary() if diary is None else diary
        self.features = features
        self.random_state = random_state

    @property
    def embedding_(self) -> NDArray[np.float64]:
        return np.stack([self._parts["outputs"].mean(axis=1), np.arange(self.n_rows_)], axis=1)

    def _place(self) -> None:
        width = self._parts["fisher"].shape[1] if "fisher" in self._parts else None
        self.diary.embedded.append((self.n_rows_, width))

    def _placed_more(self, new: dict[str, NDArray[np.float32]]) -> None:
        self.diary.extended.append(len(new["outputs"]))

    def _learn(self, observations: Observations) -> None:
        values = dict(zip(observations.rows.tolist(), observations.values.tolist(), strict=True))
        self.diary.observed.append({self._key(row): value for row, value in values.items()})
        self.diary.running.append([self._key(row) for row in observations.running])
        self.diary.others.append(
            [
                {self._key(r): v for r, v in zip(o.rows, o.values.tolist(), strict=True)}
                for o in observations.others
            ]
        )

    def _predicted(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean = self._parts["outputs"][rows].astype(np.float64).mean(axis=1)
        return mean, np.full(len(rows), np.nan)

    def _key(self, row: int) -> bytes:
        return self._parts["outputs"][row].tobytes()


class Diary:
    """What a stub and its copies were given; functions are named by their outputs."""

    def __init__(self) -> None:
        self.embedded: list[tuple[int, int | None]] = []
        self.extended: list[int] = []
        self.observed: list[dict[bytes, float]] = []
        self.running: list[list[bytes]] = []
        self.others: list[list[dict[bytes, float]]] = []

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def observed_classes(self, catalogue: Catalogue) -> dict[int, float]:
        """The last observations, by class."""
        return by_class(self.observed[-1], catalogue)


def by_class(values: Mapping[bytes, float], catalogue: Catalogue) -> dict[int, float]:
    """Name functions by their class instead of by their outputs."""
    finite = np.nan_to_num(catalogue.outputs, nan=_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)
    rows = np.clip(finite, -_LARGEST, _LARGEST).astype(np.float32)
    known = {row.tobytes(): class_id for class_id, row in enumerate(rows)}
    return {known[key]: value for key, value in values.items()}


class StubFeaturizer:
    """A featurizer without networks: functions named in `invalid` have no spectrum."""

    task = "stub"

    def __init__(self, invalid: Sequence[str] = ()) -> None:
        self.invalid = frozenset(invalid)
        self.calls: list[list[str]] = []
        self.n_jobs: list[int] = []

    def many(
        self,
        expressions: Sequence[Expression],
        *,
        store: FeatureStore | None = None,
        n_jobs: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[FisherFeature]:
        self.calls.append([str(expression) for expression in expressions])
        self.n_jobs.append(n_jobs)
        if progress is not None:
            progress(len(expressions), len(expressions))
        return [self._feature(str(expression)) for expression in expressions]

    def _feature(self, text: str) -> FisherFeature:
        if text in self.invalid:
            return FisherFeature(vector=None, reason="it is on the list")
        vector = np.array([len(text), text.count("e"), text.count("u")], dtype=np.float32)
        return FisherFeature(vector=vector, reason=None)


def classes_of(study: optuna.Study, space: SearchSpace, catalogue: Catalogue) -> list[int]:
    """The class that each trial ran."""
    return [
        catalogue.class_of(space.expression_of(trial.params, "activation"))
        for trial in study.trials
    ]


def best_of(sampler: AquaSurfSampler, tried: set[int]) -> int:
    """The class that a stub likes best, of those in the pool that are not tried."""
    classes = [int(c) for c in sampler.embedding().classes if int(c) not in tried]
    outputs = sampler.catalogue().outputs[classes]
    return classes[int(np.argmax(outputs.mean(axis=1)))]


def tell(study: optuna.Study, params: dict[str, Any], space: SearchSpace, **kwargs: Any) -> None:
    """Add a finished trial, as if another sampler had made it."""
    distributions = space.distributions("activation")
    study.add_trial(optuna.create_trial(params=params, distributions=distributions, **kwargs))


def suggest(study: optuna.Study, space: SearchSpace) -> tuple[optuna.Trial, Expression]:
    """A trial that stays running, and its function."""
    trial = study.ask()
    return trial, space.suggest(trial, "activation")


@contextmanager
def optuna_log() -> Iterator[list[str]]:
    """Collect what Optuna's logger says, from INFO upwards."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("optuna")
    collector: Any = Collector()
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    logger.addHandler(collector)
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        optuna.logging.set_verbosity(verbosity)


def values_near(text: str, catalogue: Catalogue) -> NDArray[np.float64]:
    """A value for each class: minus the distance of its squashed outputs to those of `text`."""
    squashed = np.tanh(np.nan_to_num(catalogue.outputs, nan=20.0))
    target = squashed[catalogue.class_of(text)]
    values: NDArray[np.float64] = -np.sqrt(((squashed - target) ** 2).mean(axis=1))
    return values


@dataclasses.dataclass(frozen=True)
class Task:
    """A space, and values that fall with the distance to one function and one learning rate."""

    space: SearchSpace
    catalogue: Catalogue
    values: NDArray[np.float64]

    @classmethod
    def near(cls, text: str, catalogue: Catalogue) -> Self:
        """A task whose best function is `text`, with values from -1 to 0."""
        return cls(catalogue.space, catalogue, values_near(text, catalogue))

    def sampler(self, **options: Any) -> AquaSurfSampler:
        """A small sampler, without baselines unless they are given."""
        settings = {"pool_size": 60, "baselines": (), "seed": 0, **options}
        return AquaSurfSampler(self.space, catalogue=self.catalogue, **settings)

    def study(self, sampler: BaseSampler | None = None, **options: Any) -> optuna.Study:
        """A study to be maximised, with a small sampler unless another is given."""
        sampler = self.sampler() if sampler is None else sampler
        return optuna.create_study(direction="maximize", sampler=sampler, **options)

    def value(self, expression: Expression) -> float:
        """The value of a function."""
        return float(self.values[self.catalogue.class_of(expression)])

    def objective(self, trial: optuna.Trial) -> float:
        """An objective with one activation and one number."""
        rate = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        value = self.value(self.space.suggest(trial, "activation"))
        return value - 0.01 * abs(float(np.log10(rate)) + 2.0)

    def classes(self, study: optuna.Study) -> list[int]:
        """The class that each trial ran."""
        return classes_of(study, self.space, self.catalogue)

    def suggest(self, study: optuna.Study) -> tuple[optuna.Trial, Expression]:
        """A trial that stays running, and its function."""
        return suggest(study, self.space)
