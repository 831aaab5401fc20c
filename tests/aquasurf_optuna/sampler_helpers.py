"""Stand-ins that let a test see what the sampler asks for and decide what it is told."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import optuna
from numpy.typing import ArrayLike, NDArray
from optuna.samplers import BaseSampler

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore


class StubSurrogate:
    """Remembers what it is given, and prefers functions with a large mean output.

    Copies share one diary, since the sampler copies the surrogate that it is given.
    """

    def __init__(self) -> None:
        self.embedded: list[tuple[int, int | None]] = []
        self.extended: list[int] = []
        self.observed: list[dict[int, float]] = []
        self.outputs = np.zeros((0, 1000))
        self.embedding_ = np.zeros((0, 2))

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def embed(self, outputs: ArrayLike | None = None, fisher: ArrayLike | None = None) -> Self:
        self.outputs = np.array(outputs)
        self.embedding_ = np.zeros((len(self.outputs), 2))
        width = None if fisher is None else np.asarray(fisher).shape[1]
        self.embedded.append((len(self.outputs), width))
        return self

    def extend(self, outputs: ArrayLike | None = None, fisher: ArrayLike | None = None) -> Self:
        self.outputs = np.vstack([self.outputs, np.array(outputs)])
        self.embedding_ = np.zeros((len(self.outputs), 2))
        self.extended.append(len(np.array(outputs)))
        return self

    def fit(self, rows: ArrayLike, values: ArrayLike) -> Self:
        pairs = zip(np.asarray(rows).tolist(), np.asarray(values).tolist(), strict=True)
        self.observed.append(dict(pairs))
        return self

    def predict(self, rows: ArrayLike) -> NDArray[np.float64]:
        return self.outputs[np.asarray(rows)].mean(axis=1)

    def observed_classes(self, catalogue: Catalogue) -> dict[int, float]:
        """The last observations, by class instead of by row."""
        known = {row.tobytes(): class_id for class_id, row in enumerate(catalogue.outputs)}
        return {
            known[self.outputs[row].tobytes()]: value for row, value in self.observed[-1].items()
        }


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
