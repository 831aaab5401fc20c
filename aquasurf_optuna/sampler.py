"""AQuaSurF as an Optuna sampler (Section 6).

The sampler speaks Optuna's protocol and decides in what order functions are tried; the mathematics
is in the surrogate, the reading of trials in ``_history``, the candidates in ``_candidates``, their
order in ``_activation_search``, the checks of the arguments in ``_sampler_arguments``.

Which function a trial gets, for each activation of the study:

1. the baselines, in their order, as long as one is neither tried, running nor waiting in the queue;
2. then the candidate with the best predicted value that is neither;
3. in a space where everything has been tried, the best function known, once more.

The parameters that are no activation's nodes go to ``base_sampler``.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection

from aquasurf_optuna._activation_search import ActivationSearch
from aquasurf_optuna._candidates import FisherSource
from aquasurf_optuna._sampler_arguments import catalogues_at_hand, check_options, check_spaces
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial, TrialState

    from aquasurf_optuna._candidates import Progress, Surrogate
    from aquasurf_optuna._history import History
    from aquasurf_optuna.expression import Expression
    from aquasurf_optuna.features.featurizer import FisherFeaturizer

_SEED_LIMIT = 2**31 - 1
# Processes that claim the same function move aside, each to another place: twice is rare already.
_CLAIM_ATTEMPTS = 8


class Embedding(NamedTuple):
    """Where the surrogate puts the functions; data for a figure.

    Attributes:
        expressions: Representatives of the classes.
        coordinates: float64 array ``(n, 2)``.
        classes: int array ``(n,)``, their numbers in the catalogue.
    """

    expressions: tuple[Expression, ...]
    coordinates: NDArray[np.float64]
    classes: NDArray[np.intp]


class AquaSurfSampler(BaseSampler):
    """Optuna sampler for activation functions, after Bingham and Miikkulainen (2023), Section 6.

    Its objective suggests the function with :meth:`SearchSpace.suggest` under the name given here;
    every other parameter is suggested as usual and sampled by `base_sampler`. Equal functions count
    as one, whichever graph a trial used. Failed and pruned trials, and values that are not finite,
    count as the worst value so far. Threads (``n_jobs``) and processes (a shared storage) do not
    propose the same function at the same time.

    The pool is drawn, its Fisher features computed and its embedding laid out when they are first
    needed, after the baselines, or ahead of time by :meth:`prepare`.

    Args:
        space: The space of the activation named ``"activation"``, or a mapping from names to
            spaces, where every activation is searched on its own.
        features: Computes Fisher features; without it the surrogate knows outputs alone, and no
            function is ruled out for an invalid spectrum.
        store: Where Fisher features are kept: a :class:`FeatureStore` or its URL.
        surrogate: In place of ``UmapKnnSurrogate``; it is copied for each activation.
        base_sampler: For all other parameters; ``TPESampler(seed=seed)`` unless given.
        baselines: Functions to try first, expressions or their texts. One that the space cannot
            express is left out, with a line in the log.
        pool_size: How many functions each draw takes from the space. Fisher features are computed
            for all of them, and those with an invalid spectrum are never proposed. When all
            candidates are tried, as many again are drawn.
        catalogue: The catalogue of `space`, if at hand (one for each name, if there are several).
        seed: Seed of the draws, the layout and the default base sampler.

    Raises:
        SamplerError: If an argument is not as described.

    Note:
        Proposals are written to the trial's system attribute ``aquasurf:<name>``.
    """

    def __init__(
        self,
        space: SearchSpace | Mapping[str, SearchSpace],
        *,
        features: FisherFeaturizer | None = None,
        store: str | FeatureStore | None = None,
        surrogate: Surrogate | None = None,
        base_sampler: BaseSampler | None = None,
        baselines: Sequence[str | Expression] = BASELINES,
        pool_size: int = 2000,
        catalogue: Catalogue | Mapping[str, Catalogue] | None = None,
        seed: int | None = None,
    ) -> None:
        spaces = dict(space) if isinstance(space, Mapping) else {"activation": space}
        check_spaces(spaces)
        check_options(features, store, surrogate, pool_size)
        self._rng = np.random.default_rng(seed)
        self._base_sampler = TPESampler(seed=seed) if base_sampler is None else base_sampler
        self._source = FisherSource(
            features, FeatureStore(store) if isinstance(store, str) else store
        )
        catalogues = catalogues_at_hand(spaces, catalogue)
        self._activations = {
            name: ActivationSearch(
                name,
                space,
                catalogues=catalogues,
                source=self._source,
                surrogate=surrogate,
                baselines=tuple(as_expression(baseline) for baseline in baselines),
                pool_size=pool_size,
                seed=int(self._rng.integers(_SEED_LIMIT)),
            )
            for name, space in spaces.items()
        }
        self._lock = threading.RLock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the nodes of every activation, and what the base sampler wants to see together."""
        _check_single_objective(study)
        own: dict[str, BaseDistribution] = {}
        for activation in self._activations.values():
            own.update(activation.distributions)
        rest = self._base_sampler.infer_relative_search_space(study, trial)
        return {**own, **{key: value for key, value in rest.items() if key not in own}}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a function for every activation of which `search_space` has nodes."""
        _check_single_objective(study)
        rest = dict(search_space)
        params: dict[str, Any] = {}
        for activation in self._activations.values():
            nodes = [k for k, v in activation.distributions.items() if rest.get(k) == v]
            for node in nodes:
                del rest[node]
            if nodes:
                with self._lock:
                    params.update(self._propose(study, trial, activation, nodes))
        params.update(self._base_sampler.sample_relative(study, trial, rest))
        return params

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Sample any other parameter with the base sampler."""
        _check_single_objective(study)
        return self._base_sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Tell the base sampler."""
        self._base_sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the base sampler."""
        self._base_sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Reseed the random choices of this sampler and of the base sampler; the pool stays."""
        with self._lock:
            self._rng = np.random.default_rng()
            self._base_sampler.reseed_rng()

    def prepare(self, *, n_jobs: int = 1, progress: Progress | None = None) -> None:
        """Draw the pool, compute its Fisher features and lay it out, ahead of the study.

        Args:
            n_jobs: How many processes compute features.
            progress: Called as ``progress(done, total)`` as features come in.
        """
        with self._lock:
            pools = [activation.pool for activation in self._activations.values()]
            # One call for all pools, so that the progress has one total.
            missing = [expression for pool in pools for expression in pool.missing()]
            self._source.measure(missing, n_jobs=n_jobs, progress=progress)
            for pool in pools:
                pool.embedded()

    def predict(self, trial: Trial, *, name: str | None = None) -> float | None:
        """Predict the value of a running trial from the function it has suggested.

        The surrogate is fitted as for a proposal, to the finished trials of the study. Later
        proposals do not depend on predictions. A function outside the pool is embedded like a tried
        one, anew at each prediction; so is the pool where it is not laid out yet, which
        :meth:`prepare` does ahead of time.

        Args:
            trial: The trial; the activation is suggested already.
            name: Name of the activation; may be left out if there is only one.

        Returns:
            The value, in the direction of the study. None as long as no trial has finished with a
            value, or where the trial's function, or all those tried, have no valid features.

        Raises:
            SamplerError: If there is no such activation, the trial has not suggested it, or the
                study has several objectives.

        Note:
            The value is on the study's scale as far as the surrogate's predictions are on that of
            what it was fitted to, as ``UmapKnnSurrogate``'s are.
        """
        _check_single_objective(trial.study)
        activation = self._activation(name)
        with self._lock:
            history = _read(trial.study, activation, exclude=trial.number)
            value = activation.prediction(history, trial.params)
        minimize = trial.study.direction == StudyDirection.MINIMIZE
        return -value if value is not None and minimize else value

    def embedding(self, name: str | None = None) -> Embedding:
        """Return where the surrogate puts the candidates of an activation.

        Args:
            name: Name of the activation; may be left out if there is only one.

        Raises:
            SamplerError: If there is no such activation.
        """
        activation = self._activation(name)
        with self._lock:
            classes, coordinates = activation.pool.embedded()
        expressions = tuple(activation.catalogue[class_id] for class_id in classes)
        return Embedding(expressions, coordinates, np.array(classes, dtype=np.intp))

    def catalogue(self, name: str | None = None) -> Catalogue:
        """Return the catalogue of an activation's space.

        Args:
            name: Name of the activation; may be left out if there is only one.

        Raises:
            SamplerError: If there is no such activation.
        """
        activation = self._activation(name)
        with self._lock:
            return activation.catalogue

    def __getstate__(self) -> dict[str, Any]:
        """Leave the lock out: it belongs to this process."""
        with self._lock:
            return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a new lock."""
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def _activation(self, name: str | None) -> ActivationSearch:
        if name is None and len(self._activations) == 1:
            return next(iter(self._activations.values()))
        if name not in self._activations:
            raise SamplerError(
                f"name must be one of the activations {sorted(self._activations)}, but got {name!r}"
            )
        return self._activations[name]

    def _propose(
        self, study: Study, trial: FrozenTrial, activation: ActivationSearch, nodes: Sequence[str]
    ) -> dict[str, Any]:
        """Choose a function, claim it, and look again whether another process claimed it too."""
        fixed = self._fixed_nodes(study, trial, activation, nodes)
        if activation.is_settled(fixed):
            return {node: fixed[node] for node in nodes if node in fixed}
        history = _read(study, activation, exclude=trial.number)
        place = 0
        for _ in range(_CLAIM_ATTEMPTS):
            ahead = list(itertools.islice(activation.in_order(history, fixed), place + 1))
            if ahead:
                class_id, params = ahead[-1]
            else:
                class_id, params = activation.fallback(history, fixed, self._rng)
            claim = str(activation.catalogue[class_id])
            study._storage.set_trial_system_attr(
                trial._trial_id, activation.reader.claim_key, claim
            )
            history = _read(study, activation, exclude=trial.number)
            rivals = [number for number, rival in history.rivals.items() if rival == class_id]
            if not ahead or not rivals:
                break
            # Whoever claimed it may have looked before this claim was written, so it is left; those
            # who look at the same moment part ways by the order of their numbers.
            place = sum(number < trial.number for number in rivals)
        return {node: params[node] for node in nodes if node in params}

    def _fixed_nodes(
        self, study: Study, trial: FrozenTrial, activation: ActivationSearch, nodes: Sequence[str]
    ) -> dict[str, Any]:
        """Return the nodes whose operator is settled: by a user's queue, or by a sampler around us.

        PartialFixedSampler takes its parameters out of the search space; asked for one of them, as
        Optuna will ask later, it tells the value.
        """
        queued = trial.system_attrs.get("fixed_params", {})
        fixed = {key: queued[key] for key in activation.distributions if key in queued}
        for node, distribution in activation.distributions.items():
            if node not in nodes and node not in fixed and study.sampler is not self:
                fixed[node] = study.sampler.sample_independent(study, trial, node, distribution)
        return {k: v for k, v in fixed.items() if v in activation.distributions[k].choices}


def _read(study: Study, activation: ActivationSearch, *, exclude: int) -> History:
    # Past study.get_trials, which under HyperbandPruner shows the trials of one bracket only: a
    # function is tried whichever bracket tried it.
    trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
    maximize = study.direction == StudyDirection.MAXIMIZE
    return activation.reader.read(trials, maximize=maximize, exclude=exclude)


def _check_single_objective(study: Study) -> None:
    if len(study.directions) > 1:
        raise SamplerError(
            f"AquaSurfSampler needs a study with one objective, but this one has "
            f"{len(study.directions)}; combine them into one value"
        )
