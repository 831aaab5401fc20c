"""The Fisher eigenvalues of a network at initialisation, as a callback that ends hopeless trials.

The AQuaSurF paper finds that activation functions whose Fisher eigenvalues are invalid fail in
training (Section 4), so such a trial can end before its first optimiser step. So can one for which
a surrogate predicts too little.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import optuna
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.callbacks import _verdict
from lightning_modules.callbacks._batch import first_inputs
from lightning_modules.callbacks._network import (
    alone_and_eager,
    counted,
    network_of,
)
from lightning_modules.callbacks._ranks import (
    Mailbox,
    check_storage,
    check_strategy,
    end_fit,
    from_rank_zero,
    in_worker,
)

_PRUNED, _INVALID = "pruned", "invalid"


class FisherEigenvalues(L.Callback):
    """Compute the Fisher eigenvalues from the first training batch, before any optimiser step.

    That is in `on_train_start`; in `on_fit_start` there is no training data yet. The labels are
    sampled from the network's own prediction, and everything is computed in the precision of the
    weights, without autocast. Network, random state and the order of the training data stay as they
    were. For a `Classifier` the layer names are those of its network, for any other module its own.
    A run that resumes after its first step computes nothing.

    The loggers get the metrics `fisher/invalid` (0 or 1), `fisher/count`, `fisher/min`,
    `fisher/median`, `fisher/max` (logarithms, all layers together) and `fisher/predicted`, as far
    as they exist.

    Of several ranks, rank zero computes while the others wait, and all leave in the same way. Where
    the main process starts the ranks ("ddp_spawn", "ddp_fork", "ddp_notebook"), the study must be
    in a database, and `check_pruned` must be called after `fit`. Where each rank runs the script
    ("ddp", torchrun), ranks without the trial take a callback without it.

    Args:
        trial: The Optuna trial that the training belongs to; it gets a summary as user attributes
            and is pruned when the eigenvalues are invalid. Without one, invalid eigenvalues end the
            fit with `InvalidSpectrumError`.
        seed: Decides the sampled labels.
        path: Where to keep all eigenvalues, as a NumPy archive (`.npz`) with an array a layer.
        skip: Kinds of modules whose own parameters are left out, as in `fisher_log_eigenvalues`.
        predict: Predicts the value of a trial, or returns None as long as it cannot;
            `AquaSurfSampler.predict` does. Called on rank zero.
        worse_than: The trial is pruned when the predicted value is worse than this, in the
            direction of its study.

    Attributes:
        eigenvalues: Layer name -> logarithms of its eigenvalues, float64, one a weight. None before
            the fit, where they are invalid, and on other ranks than zero.
        not_covered: Name of each parameter that no layer stands for -> reason; on rank zero.
        reason: Why the eigenvalues are invalid, or None.
        prediction: What `predict` returned.

    Where the main process starts the ranks, these attributes stay with them; the trial and the
    file at `path` have what was found.

    Raises:
        ValueError: If `predict` and `worse_than` do not come together with an `optuna.Trial`, or
            `worse_than` is not finite.
    """

    eigenvalues: dict[str, Tensor] | None
    not_covered: dict[str, str]
    reason: str | None
    prediction: float | None

    def __init__(
        self,
        trial: optuna.trial.BaseTrial | None = None,
        *,
        seed: int = 0,
        path: str | Path | None = None,
        skip: tuple[type[nn.Module], ...] = (),
        predict: Callable[[optuna.Trial], float | None] | None = None,
        worse_than: float | None = None,
    ) -> None:
        _check_prediction(trial, predict, worse_than)
        self.trial = trial
        self.seed = seed
        self.path = None if path is None else Path(path)
        self.skip = skip
        self.predict = predict
        self.worse_than = worse_than
        self._mailbox = Mailbox()
        self._forget()

    def setup(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002  # Lightning passes it
        stage: str,
    ) -> None:
        """Refuse what cannot work in several processes.

        Raises:
            ValueError: If worker processes cannot write to the trial.
            UnsupportedModelError: If no rank holds the whole network.
        """
        if stage != "fit":
            return
        check_strategy(trainer.strategy)
        if in_worker(trainer) and self.trial is not None:
            check_storage(self.trial)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compute, keep, tell and judge the eigenvalues.

        Raises:
            optuna.TrialPruned: If they are invalid, or the prediction is worse than allowed, and
                there is a trial; not in worker processes, where the fit ends without a step.
            InvalidSpectrumError: If they are invalid and there is no trial; likewise.
            UnsupportedModelError: If Fisher eigenvalues are not defined for this network.
            TypeError: If a training batch does not start with a tensor of inputs.
        """
        self._forget()
        if trainer.global_step > 0:
            return
        work = functools.partial(self._work, trainer, network_of(pl_module))
        verdict = from_rank_zero(trainer.strategy, work)
        self.reason, self.prediction = verdict.reason, verdict.prediction
        if not _is_local(self.trial):
            self._keep_on_trial(verdict)
        if verdict.stop is None:
            return
        if not in_worker(trainer):
            raise verdict.stop
        rank_zero_info(f"FisherEigenvalues: the fit ends before its first step: {verdict.stop}")
        end_fit(trainer)

    def check_pruned(self) -> None:
        """Raise what ended a fit in worker processes; to be called after `fit`.

        Where there are no workers, `fit` itself has raised it, and this does nothing.

        Raises:
            optuna.TrialPruned: If the trial is pruned.
            InvalidSpectrumError: If the eigenvalues are invalid and there is no trial.
        """
        kind, *details = self._mailbox.read() or [None]
        if kind == _PRUNED:
            raise optuna.TrialPruned(details[0])
        if kind == _INVALID:
            reason, layer = details
            raise InvalidSpectrumError(str(reason), layer)

    def _forget(self) -> None:
        self.eigenvalues = None
        self.not_covered = {}
        self.reason = None
        self.prediction = None

    def _work(self, trainer: L.Trainer, network: nn.Module) -> _verdict.Verdict:
        """Do all that is rank zero's: what fails here, fails on every rank."""
        verdict = self._judge(trainer, network)
        if _is_local(self.trial):
            self._keep_on_trial(verdict)
        for logger in trainer.loggers:
            logger.log_metrics(verdict.metrics, step=trainer.global_step)
        self._post(verdict.stop if in_worker(trainer) else None)
        return verdict

    def _judge(self, trainer: L.Trainer, network: nn.Module) -> _verdict.Verdict:
        start = time.perf_counter()
        try:
            self.eigenvalues = self._compute(trainer, network)
        except InvalidSpectrumError as error:
            seconds = time.perf_counter() - start
            rank_zero_info(f"FisherEigenvalues: invalid, found in {seconds:.1f} s: {error}")
            return _verdict.invalid(error, has_trial=self.trial is not None)
        seconds = time.perf_counter() - start
        self._keep_in_file(self.eigenvalues)
        figures = _verdict.summary(self.eigenvalues)
        rank_zero_info(
            f"FisherEigenvalues: {figures['count']} eigenvalues of {len(self.eigenvalues)} layers "
            f"in {seconds:.1f} s; logarithms from {figures['min']:.1f} to {figures['max']:.1f}, "
            f"median {figures['median']:.1f}"
        )
        return self._with_prediction(_verdict.valid(figures))

    def _compute(self, trainer: L.Trainer, network: nn.Module) -> dict[str, Tensor]:
        inputs = first_inputs(trainer)
        with alone_and_eager(network):
            spectrum = fisher_log_eigenvalues(
                network, inputs, seed=self.seed, skip=tuple(self.skip)
            )
        self.not_covered = spectrum.not_covered
        if self.not_covered:
            rank_zero_info(f"FisherEigenvalues: does not cover {counted(self.not_covered)}")
        return spectrum

    def _with_prediction(self, verdict: _verdict.Verdict) -> _verdict.Verdict:
        if self.predict is None or self.worse_than is None:
            return verdict
        assert isinstance(self.trial, optuna.Trial)  # the constructor has seen to it
        value = self.predict(self.trial)
        return _verdict.predicted(verdict, value, self.worse_than, self.trial.study.direction)

    def _keep_in_file(self, eigenvalues: dict[str, Tensor]) -> None:
        if self.path is not None:
            # The prefix keeps a layer's name apart from the names of savez's own parameters.
            arrays: dict[str, Any] = {f"layer:{k}": v.numpy() for k, v in eigenvalues.items()}
            np.savez(self.path, **arrays)

    def _keep_on_trial(self, verdict: _verdict.Verdict) -> None:
        if self.trial is not None:
            for key, value in verdict.attributes.items():
                self.trial.set_user_attr(key, value)

    def _post(self, stop: _verdict.Stop | None) -> None:
        if stop is None:
            self._mailbox.write()
        elif isinstance(stop, InvalidSpectrumError):
            self._mailbox.write(_INVALID, stop.reason, stop.layer)
        else:
            self._mailbox.write(_PRUNED, str(stop))


def _is_local(trial: optuna.trial.BaseTrial | None) -> bool:
    """Whether rank zero writes to the trial by itself.

    A trial that is not Optuna's own may be one to which all ranks must speak at once, as
    optuna_integration's TorchDistributedTrial.
    """
    return trial is None or isinstance(trial, optuna.Trial)


def _check_prediction(
    trial: optuna.trial.BaseTrial | None,
    predict: Callable[[optuna.Trial], float | None] | None,
    worse_than: float | None,
) -> None:
    if predict is None and worse_than is None:
        return
    if predict is None or worse_than is None or not isinstance(trial, optuna.Trial):
        raise ValueError(
            "FisherEigenvalues: to prune by prediction, give all of trial (an optuna.Trial), "
            f"predict and worse_than, got trial={trial!r}, predict={predict!r} and "
            f"worse_than={worse_than!r}"
        )
    if not math.isfinite(worse_than):
        raise ValueError(f"FisherEigenvalues: worse_than must be finite, got {worse_than!r}")
