"""AQuaSurF as an Optuna sampler (Section 6).

The sampler speaks Optuna's protocol and holds no mathematics: the surrogates predict, `_search`
orders, `_combinations` and `_drawing` say what is a candidate, `_history` reads the trials,
`_sampler_arguments` checks what came.

Which functions a trial gets, one for each activation of the study:

1. the baselines, in their order, the same at every site, as long as one is neither tried, running
   nor waiting in the queue;
2. then the candidate that the surrogate ranks best and that is neither;
3. in a space where everything has been tried, the best one known, once more.

With several objectives "best" is by the rule of `_objectives`, with weights drawn for each trial.
The parameters that are no activation's nodes go to ``base_sampler``.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from aquasurf_optuna._assembly import make_search, make_sites
from aquasurf_optuna._claims import claimed
from aquasurf_optuna._explanation import EXPLANATION_KEY, Explanation
from aquasurf_optuna._feature_worker import measure_beside
from aquasurf_optuna._front import FrontMember, front_of
from aquasurf_optuna._history import FAILED_KEY, History, HistoryReader
from aquasurf_optuna._map import Embedding, Maps
from aquasurf_optuna._objectives import drawn_weights
from aquasurf_optuna._other_study import read_other_study
from aquasurf_optuna._sampler_arguments import (
    Options,
    catalogues_at_hand,
    check_options,
    check_spaces,
    featurizers_by_name,
)
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.features.featurizer import PrecomputeOptions
from aquasurf_optuna.store import FeatureStore

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from aquasurf_optuna._fisher_source import FisherSource, Progress
    from aquasurf_optuna._search import Choice
    from aquasurf_optuna._site import Site
    from aquasurf_optuna.catalogue import Catalogue
    from aquasurf_optuna.expression import Expression
    from aquasurf_optuna.features._feature import FeatureSource
    from aquasurf_optuna.space import SearchSpace
    from aquasurf_optuna.surrogate import Surrogate

    Fixed = tuple[dict[str, Any], ...]

_logger = optuna.logging.get_logger(f"optuna.{__name__}")

_SEED_LIMIT = 2**31 - 1
_OPTIONS = PrecomputeOptions()


class AquaSurfSampler(BaseSampler):
    """Optuna sampler for activation functions, after Bingham and Miikkulainen (2023), Section 6.

    Its objective suggests the function with :meth:`SearchSpace.suggest` under the name given here;
    every other parameter is suggested as usual and sampled by `base_sampler`. Equal functions count
    as one, whichever graph a trial used. Failed trials, and values that are not finite, count as
    failures; a pruned one as the finished trial that stood nearest at the same step. Threads
    (``n_jobs``) and processes (a shared storage) do not propose the same function at the same time.
    A worker that dies gives its function back: at once where the storage's heartbeat marks its
    trial as failed, or after `running_timeout`.

    The pool is drawn, its Fisher features computed and its candidates placed when they are first
    needed, after the baselines, or ahead of time by :meth:`prepare`.

    Args:
        space: The space of the activation named ``"activation"``, or a mapping from names to
            spaces, of activations that are searched together: candidates are combinations, and
            their features are concatenated (Appendix F).
        features: Computes Fisher features; without it the surrogate knows outputs alone, and no
            function is ruled out for an invalid spectrum. With several activations one for all, or
            a mapping from names: each measures the network with this function at that site.
        store: Where Fisher features are kept: a :class:`FeatureStore` or its URL.
        surrogate: A name of :data:`aquasurf_optuna.SURROGATES` (``"paper"`` is the paper's), or a
            :class:`Surrogate`, which is copied. The default is the one that wins on the benchmark.
        diversity: From 0 to 1, how much unlikeness to everything tried counts in the order of the
            candidates, beside the surrogate.
        base_sampler: For all other parameters; ``TPESampler(seed=seed)`` unless given.
        baselines: Functions to try first, expressions or their texts. One that the space cannot
            express is left out, with a line in the log.
        pool_size: How many functions each draw takes from the space. Fisher features are computed
            for all of them, and those with an invalid spectrum are never proposed. When all
            candidates are tried, as many again are drawn.
        pool: ``"random"`` draws `pool_size` functions at once; ``"following"`` a third of them,
            and the others while the search goes on, where the outputs of what was tried point to
            in the whole space; ``"stored"`` takes what `store` holds, reads on while other
            processes measure (:meth:`measure`), and measures nothing itself.
        running_timeout: After how many seconds a running trial counts as that of a dead worker,
            and its function is free again. None leaves it to the storage's heartbeat.
        catalogue: The catalogue of `space`, if at hand (one for each name, if there are several).
        seed: Seed of the draws, the surrogate and the default base sampler.

    Raises:
        SamplerError: If an argument is not as described.
        SurrogateError: If there is no such surrogate, or it needs features that are not there.

    Note:
        A proposal is written to the trial's system attribute ``aquasurf:<name>``, and what it rests
        on to ``aquasurf:explanation``. For a study with one worker the functions proposed depend
        on the seed, the arguments and the trials alone, so another process goes on as this one.
    """

    def __init__(
        self,
        space: SearchSpace | Mapping[str, SearchSpace],
        *,
        features: FeatureSource | Mapping[str, FeatureSource] | None = None,
        store: str | FeatureStore | None = None,
        surrogate: str | Surrogate | None = None,
        diversity: float = 0.0,
        base_sampler: BaseSampler | None = None,
        baselines: Sequence[str | Expression] = BASELINES,
        pool_size: int = 2000,
        pool: str = "random",
        running_timeout: float | None = None,
        catalogue: Catalogue | Mapping[str, Catalogue] | None = None,
        seed: int | None = None,
    ) -> None:
        spaces = dict(space) if isinstance(space, Mapping) else {"activation": space}
        check_spaces(spaces)
        featurizers = featurizers_by_name(features, tuple(spaces))
        options = Options(store, surrogate, diversity, pool_size, pool, running_timeout)
        check_options(options, has_features=any(each is not None for each in featurizers.values()))
        self._rng = np.random.default_rng(seed)
        self._base_sampler = TPESampler(seed=seed) if base_sampler is None else base_sampler
        self._running_timeout = running_timeout
        self._sites = make_sites(
            spaces,
            featurizers=featurizers,
            store=FeatureStore(store) if isinstance(store, str) else store,
            measures=pool != "stored",
            catalogues=catalogues_at_hand(spaces, catalogue),
            baselines=baselines,
            rng=self._rng,
        )
        self._search = make_search(self._sites, options)
        self._maps = Maps(self._search, self._sites)
        self._seed = int(self._rng.integers(_SEED_LIMIT))
        self._told_exhausted = False
        self._told_unnamed = False
        self._lock = threading.RLock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the nodes of every activation, and what the base sampler wants to see together."""
        own: dict[str, BaseDistribution] = {}
        for site in self._sites:
            own.update(site.distributions)
        rest = self._base_sampler.infer_relative_search_space(study, trial)
        return {**own, **{key: value for key, value in rest.items() if key not in own}}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a function for every activation, as far as `search_space` has its nodes."""
        rest = dict(search_space)
        nodes = {
            node
            for site in self._sites
            for node, distribution in site.distributions.items()
            if rest.get(node) == distribution
        }
        for node in nodes:
            del rest[node]
        params: dict[str, Any] = {}
        if nodes:
            with self._lock:
                proposed = self._propose(study, trial, nodes)
            params.update({node: value for node, value in proposed.items() if node in nodes})
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
        """Tell the base sampler; mark a failure, to tell it from a worker that died.

        Warn once of a trial that asked for no function of this sampler's: its objective may have
        used another name.
        """
        if state == TrialState.COMPLETE:
            self._tell_unnamed(trial)
        if state == TrialState.FAIL:
            study._storage.set_trial_system_attr(trial._trial_id, FAILED_KEY, True)
        self._base_sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Reseed the random choices of this sampler and of the base sampler; the pool stays."""
        with self._lock:
            self._rng = np.random.default_rng()
            self._base_sampler.reseed_rng()

    def prepare(
        self,
        study: Study | None = None,
        *,
        n_jobs: int = 1,
        progress: Progress | None = None,
    ) -> None:
        """Draw the pool, compute its Fisher features and place it, ahead of the study.

        Args:
            study: A study that has trials already: what its first proposal needs of them is
                computed as well.
            n_jobs: How many processes compute features.
            progress: Called as ``progress(done, total)`` as features come in.
        """
        with self._lock:
            candidates = self._search.combinations.all(History())
            missing = self._search.pool.missing(candidates)
            by_source: dict[int, tuple[FisherSource, list[Expression]]] = {}
            for site, expressions in zip(self._sites, missing, strict=True):
                by_source.setdefault(id(site.source), (site.source, []))[1].extend(expressions)
            # Counted together, so that the progress has one total.
            total = sum(len(dict.fromkeys(some)) for _, some in by_source.values())
            done = 0
            for source, expressions in by_source.values():
                source.measure(expressions, n_jobs=n_jobs, progress=_shifted(progress, done, total))
                done += len(dict.fromkeys(expressions))
            self._search.warm_up(History() if study is None else self._read(study))

    def measure(
        self,
        study: Study,
        n: int | None = None,
        *,
        n_jobs: int = 1,
        follow: bool = True,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
        options: PrecomputeOptions = _OPTIONS,
    ) -> int:
        """Be a feature worker: fill the store for those who train with ``pool="stored"``.

        First come the baselines and the functions tried so far, then candidates, the first third
        of them (1,000 at most) at random. Study and store are read anew as the work goes on. Any
        number of feature workers divide the functions; one that is interrupted, or killed, loses
        none but those at work, which others take over.

        Args:
            study: The search.
            n: How many candidates of each activation to measure, by all workers together; None
                for all there are.
            n_jobs: How many functions to measure at a time here; -1 for as many as there are cores.
            follow: Whether candidates are chosen where the outputs of what was tried point to in
                the whole space; if not, all are drawn at random.
            stop: Ends the work when it is set, within the time of one function at most.
            progress: Called now and then as ``progress(measured, of)``, counting candidates.
            options: Its limits for one function, its lease and its threads count.

        Returns:
            How many functions were measured here.

        Raises:
            SamplerError: If there are no features, or no store to keep them, or `n` or `n_jobs` is
                not as described.
            AquaSurfError: What measuring raises, see :meth:`FisherFeaturizer.precompute`.
        """

        def read() -> History:
            with self._lock:
                return self._read(study)

        return measure_beside(
            self._sites,
            read,
            n=n,
            n_jobs=n_jobs,
            follow=follow,
            stop=stop,
            progress=progress,
            options=options,
        )

    def learn_from(self, study: Study, *, names: Mapping[str, str] | None = None) -> None:
        """Let proposals start from what another study, perhaps on another task, has shown.

        Its trials are read now. How much they count is learned from how well they agree with those
        of the study that is sampled, on a scale of ranks; before it has any, they alone decide.
        Functions outside this sampler's spaces are passed over. Objectives are matched by number.

        Args:
            study: The other study.
            names: The other study's name of each activation that has another one there.

        Raises:
            SamplerError: If `names` names no activation of this sampler, or the study has no trial
                of any of their functions that ended.
        """
        with self._lock:
            self._search.transfers.append(read_other_study(study, self._sites, names or {}))

    def predict(self, trial: Trial, *, name: str | None = None) -> float | None:
        """Predict the value of a running trial from the functions it has suggested.

        The surrogate is fitted as for a proposal, to the ended trials of the study. Later
        proposals do not depend on predictions. A function outside the pool is placed like a tried
        one, anew at each prediction; so is the pool where it is not placed yet, which
        :meth:`prepare` does ahead of time.

        Args:
            trial: The trial; its activations are suggested already.
            name: An activation that must be among those suggested; may be left out.

        Returns:
            The value, in the direction of the study. None as long as no trial has finished with a
            value, or where the trial's function, or all those tried, have no valid features.

        Raises:
            SamplerError: If there is no such activation, the trial has not suggested it, or the
                study has several objectives.
        """
        study = trial.study
        if len(study.directions) > 1:
            raise SamplerError(
                f"predict() tells one value, but this study has {len(study.directions)} "
                "objectives; explain() tells the prediction of each"
            )
        wanted = None if name is None else self._site(name)
        with self._lock:
            key = tuple(site.reader.class_of_params(trial.params) for site in self._sites)
            for site, class_id in zip(self._sites, key, strict=True):
                if class_id is None and (site is wanted or len(self._sites) == 1):
                    raise SamplerError(
                        f"the parameters {trial.params} name no function of {site.space}; before "
                        f"the prediction, the trial must suggest one, by suggest(trial, "
                        f"{site.name!r})"
                    )
            predicted = self._search.predicted(self._read(study, exclude=trial.number), key)
        if predicted is None:
            return None
        return float(predicted[0][0]) * _signs(study)[0]

    def explain(self, trial: Trial | FrozenTrial) -> Explanation | None:
        """Tell why a trial got its functions: from what was kept with it, so in any process.

        Args:
            trial: A trial of this sampler, running or ended.

        Returns:
            Predicted values, their spread, the nearest tried functions, and the reason; ``str()``
            of it tells them in words. None for a trial that another sampler proposed.
        """
        if isinstance(trial, optuna.Trial):
            storage = trial.study._storage
            attributes = storage.get_trial_system_attrs(trial._trial_id)
        else:
            attributes = trial.system_attrs
        kept = attributes.get(EXPLANATION_KEY)
        claims = {site.name: attributes.get(site.claim_key) for site in self._sites}
        functions = {name: claim for name, claim in claims.items() if claim is not None}
        return None if kept is None else Explanation.of_attribute(kept, functions)

    def front(self, study: Study) -> tuple[FrontMember, ...]:
        """Return the Pareto front of a study as functions, the best in the first objective first.

        Trials that ran no function of this sampler's are left out.
        """
        with self._lock:
            return front_of(study, self._sites)

    def embedding(self, name: str | None = None) -> Embedding:
        """Return where the functions of an activation lie on a map.

        It is the surrogate's own map where it has one and there is one activation; else that of
        the paper, a UMAP of both features, made for this: anew where candidates have joined.

        Args:
            name: Name of the activation; may be left out if there is only one.

        Raises:
            SamplerError: If there is no such activation.
        """
        site = self._site(name)
        with self._lock:
            return self._maps.of(site)

    def ruled_out(self, name: str | None = None) -> dict[Expression, str]:
        """Return the functions that are never proposed, since their spectrum is invalid, and why.

        Args:
            name: Name of the activation; may be left out if there is only one.

        Raises:
            SamplerError: If there is no such activation.
        """
        site = self._site(name)
        with self._lock:
            return site.source.invalid()

    def catalogue(self, name: str | None = None) -> Catalogue:
        """Return the catalogue of an activation's space.

        Args:
            name: Name of the activation; may be left out if there is only one.

        Raises:
            SamplerError: If there is no such activation.
        """
        site = self._site(name)
        with self._lock:
            return site.catalogue

    def __getstate__(self) -> dict[str, Any]:
        """Leave the lock out: it belongs to this process."""
        with self._lock:
            return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a new lock."""
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def _propose(self, study: Study, trial: FrozenTrial, asked: set[str]) -> dict[str, Any]:
        """Choose a combination, claim it, and write down why."""
        fixed = tuple(self._fixed_nodes(study, trial, site, asked) for site in self._sites)
        if all(site.is_settled(nodes) for site, nodes in zip(self._sites, fixed, strict=True)):
            return {node: value for nodes in fixed for node, value in nodes.items()}
        rng = np.random.default_rng([self._seed, trial.number])
        weights = drawn_weights(len(study.directions), rng)
        history = self._read(study, exclude=trial.number)
        choice = claimed(
            self._search.in_order(history, fixed, weights),
            claim=functools.partial(self._claim, study, trial),
            read=functools.partial(self._read, study, exclude=trial.number),
            number=trial.number,
        )
        if choice is None:
            self._tell_exhausted(fixed)
            choice = self._search.repeated(history, fixed, rng)
            self._claim(study, trial, choice)
        explanation = self._search.explanation(choice, history, weights)
        told = explanation.in_directions(_signs(study)).as_attribute()
        study._storage.set_trial_system_attr(trial._trial_id, EXPLANATION_KEY, told)
        return {node: value for params in choice.params for node, value in params.items()}

    def _claim(self, study: Study, trial: FrozenTrial, choice: Choice) -> None:
        for site, class_id in zip(self._sites, choice.key, strict=True):
            if class_id is not None:
                study._storage.set_trial_system_attr(
                    trial._trial_id, site.claim_key, str(site.expression(class_id))
                )

    def _fixed_nodes(
        self, study: Study, trial: FrozenTrial, site: Site, asked: set[str]
    ) -> dict[str, Any]:
        """Return the nodes whose operator is settled: by a user's queue, or by a sampler around us.

        PartialFixedSampler takes its parameters out of the search space; asked for one of them, as
        Optuna will ask later, it tells the value.
        """
        # A trial that is tried again keeps what its dead worker had suggested of it.
        settled = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        fixed = {key: settled[key] for key in site.distributions if key in settled}
        for node, distribution in site.distributions.items():
            if node not in asked and node not in fixed and study.sampler is not self:
                fixed[node] = study.sampler.sample_independent(study, trial, node, distribution)
        return {k: v for k, v in fixed.items() if v in site.distributions[k].choices}

    def _read(self, study: Study, *, exclude: int | None = None) -> History:
        # Past study.get_trials, which under HyperbandPruner shows the trials of one bracket only: a
        # function is tried whichever bracket tried it.
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        reader = HistoryReader([site.reader for site in self._sites], self._running_timeout)
        return reader.read(trials, study.directions, exclude=exclude)

    def _tell_unnamed(self, trial: FrozenTrial) -> None:
        known = any(site.space.is_suggested(trial.params, site.name) for site in self._sites)
        if not known and not self._told_unnamed:
            self._told_unnamed = True
            names = " or ".join(repr(site.name) for site in self._sites)
            _logger.warning(
                f"trial {trial.number} has no function of the name {names}; its parameters are "
                f"{sorted(trial.params)}. If its objective suggests a space under another name, "
                "AquaSurfSampler({name: space}) is told of it"
            )

    def _tell_exhausted(self, fixed: Fixed) -> None:
        if not any(fixed) and not self._told_exhausted:
            self._told_exhausted = True
            spaces = " and ".join(f"{site.space} ({site.name})" for site in self._sites)
            _logger.warning(
                f"every function of {spaces} is tried, running or invalid; from here on the best "
                "one known is proposed again"
            )

    def _site(self, name: str | None) -> Site:
        if name is None and len(self._sites) == 1:
            return self._sites[0]
        for site in self._sites:
            if site.name == name:
                return site
        names = sorted(site.name for site in self._sites)
        raise SamplerError(f"name must be one of the activations {names}, but got {name!r}")


def _signs(study: Study) -> list[float]:
    return [1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in study.directions]


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    return None if progress is None else (lambda some, _: progress(done + some, total))
