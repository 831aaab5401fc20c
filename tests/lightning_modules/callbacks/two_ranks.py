"""Trainings on two ranks, in processes of their own; `test_two_ranks.py` reads what they report.

Run as `python -m tests.lightning_modules.callbacks.two_ranks <directory> fork scripts`: a process
of its own, with one thread, because forking one whose threads have worked can hang.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import optuna
import torch
from lightning.pytorch.loggers import CSVLogger
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna_integration import PyTorchLightningPruningCallback, TorchDistributedTrial
from torch import nn

from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.callbacks._network import alone_and_eager
from tests.lightning_modules.callbacks.helpers import (
    classifier_of,
    images,
    loader,
    small_network,
    weights,
)

Report = dict[str, Any]


def fit(
    callbacks: list[L.Callback],
    *,
    strategy: str,
    activation: str = "tanh(x)",
    network: nn.Module | None = None,
    logger: CSVLogger | bool = False,
) -> Report:
    """Train for two epochs; tell whether the weights moved, and what was raised."""
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        min_epochs=2,
        max_epochs=2,
        min_steps=2,
        limit_val_batches=0,
        log_every_n_steps=1,
        callbacks=callbacks,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = classifier_of(small_network(activation) if network is None else network)
    before = weights(module)
    report = raised(lambda: trainer.fit(module, loader(images())))
    return {**report, "moved": not torch.equal(before, weights(module))}


def raised(action: Callable[[], object]) -> Report:
    try:
        action()
    except Exception as error:
        return {"raised": type(error).__name__, "message": str(error)}
    return {"raised": None, "message": ""}


# The main process starts the ranks


def in_a_study(
    storage: str | JournalStorage, strategy: str, activation: str, **settings: Any
) -> Report:
    """Run one trial with both callbacks, as an objective would."""
    study = optuna.create_study(direction="maximize", storage=storage)
    report: Report = {}

    def objective(trial: optuna.Trial) -> float:
        ours = FisherEigenvalues(trial, **settings)
        theirs = PyTorchLightningPruningCallback(trial, monitor="train_loss")
        callbacks = [ours, theirs] if isinstance(storage, str) else [ours]
        report.update(fit(callbacks, strategy=strategy, activation=activation))
        theirs.check_pruned()
        ours.check_pruned()
        return 1.0

    caught = raised(lambda: study.optimize(objective, n_trials=1))
    (trial,) = study.trials
    report["study"] = caught["raised"]
    return report | {"state": trial.state.name, "attributes": trial.user_attrs}


def without_a_trial(strategy: str, directory: Path) -> Report:
    callback = FisherEigenvalues()
    logger = CSVLogger(directory, name="", version=f"log_{strategy}")
    report = fit([callback], strategy=strategy, activation="zero(x)", logger=logger)
    table = Path(logger.log_dir) / "metrics.csv"
    return report | {"checked": raised(callback.check_pruned), "table": table.read_text()}


def url(directory: Path, name: str) -> str:
    return f"sqlite:///{directory / name}.db"


def in_forked_workers(directory: Path) -> dict[str, Report]:
    strategy = "ddp_fork"
    journal = JournalStorage(JournalFileBackend(str(directory / "journal.log")))
    in_memory = FisherEigenvalues(optuna.create_study().ask())
    nowhere = FisherEigenvalues(path=directory / "nowhere" / "eigenvalues.npz")
    expects_little: dict[str, Any] = {"predict": lambda _: 0.125, "worse_than": 0.5}
    return {
        "valid": in_a_study(url(directory, "valid"), strategy, "tanh(x)"),
        "invalid": in_a_study(url(directory, "invalid"), strategy, "zero(x)"),
        "invalid, journal": in_a_study(journal, strategy, "zero(x)"),
        "bad prediction": in_a_study(
            url(directory, "prediction"), strategy, "tanh(x)", **expects_little
        ),
        "no trial": without_a_trial(strategy, directory),
        "in memory": fit([in_memory], strategy=strategy),
        "rank zero fails": fit([nowhere], strategy=strategy),
    }


def in_spawned_workers(directory: Path) -> dict[str, Report]:
    """Each worker imports everything anew, which takes a while."""
    return {
        "invalid": in_a_study(url(directory, "spawned"), "ddp_spawn", "zero(x)"),
        "no trial": without_a_trial("ddp_spawn", directory),
    }


# Each rank runs the script


def trained_by_script(activation: str, callback: FisherEigenvalues) -> Report:
    report = fit([callback], strategy="ddp", activation=activation)
    has_eigenvalues = callback.eigenvalues is not None
    return report | {"reason": callback.reason, "eigenvalues": has_eigenvalues}


def trial_on_rank_zero(rank: int) -> Report:
    trial = optuna.create_study().ask() if rank == 0 else None
    report = trained_by_script("zero(x)", FisherEigenvalues(trial))
    return report | {"attributes": None if trial is None else trial.user_attrs}


def trial_of_all_ranks(rank: int) -> Report:
    trial = TorchDistributedTrial(optuna.create_study().ask() if rank == 0 else None)
    report = trained_by_script("zero(x)", FisherEigenvalues(trial))
    return report | {"attributes": trial.user_attrs}


def untold_error(rank: int) -> Report:
    """Rank zero raises what cannot be pickled."""

    class LocalError(Exception):
        pass

    def predict(trial: optuna.Trial) -> float:
        raise LocalError("no idea")

    callback = FisherEigenvalues()
    if rank == 0:
        callback = FisherEigenvalues(optuna.create_study().ask(), predict=predict, worse_than=0.5)
    return trained_by_script("tanh(x)", callback)


def synchronised() -> Report:
    """A normalisation that waits for the other ranks; on a CPU it refuses to."""
    network = nn.Sequential(nn.SyncBatchNorm(1), small_network())
    together = raised(lambda: fisher_log_eigenvalues(network, images(8)))
    with alone_and_eager(network):
        return {
            "together": together,
            "alone": raised(lambda: fisher_log_eigenvalues(network, images(8))),
        }


def run_script(rank: int, directory: Path, port: int) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    nowhere = FisherEigenvalues(path=directory / "nowhere" / "eigenvalues.npz")
    reports = {
        "valid": trained_by_script("tanh(x)", FisherEigenvalues()),
        "no trial": trained_by_script("zero(x)", FisherEigenvalues()),
        "trial on rank zero": trial_on_rank_zero(rank),
        "trial of all ranks": trial_of_all_ranks(rank),
        "rank zero fails": trained_by_script("tanh(x)", nowhere),
        "rank zero fails untold": untold_error(rank),
        "synchronised": synchronised(),
    }
    (directory / f"rank_{rank}.json").write_text(json.dumps(reports))


def in_scripts(directory: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(
        run_script, args=(directory, port), nprocs=2, start_method="fork"
    )


def main(way: str, directory: Path) -> None:
    if way == "scripts":
        in_scripts(directory)
        return
    reports = (in_forked_workers if way == "fork" else in_spawned_workers)(directory)
    (directory / f"{way}.json").write_text(json.dumps(reports))


if __name__ == "__main__":
    for argument in sys.argv[2:]:
        main(argument, Path(sys.argv[1]))
