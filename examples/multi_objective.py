"""Way in 4: two objectives, accuracy and what the function costs, and the front between them.

An elementwise function does little arithmetic for each number that it reads and writes, so what it
costs on a GPU is the memory that its kernels move. That is counted here, in bytes for each element
of a tensor: exactly, and the same on every machine (for functions run as they are; a compiler that
fuses kernels brings all of them to 8). `AquaSurfSampler` predicts both objectives, each on its own,
and proposes for another weighting of the two in every trial; what comes out is the Pareto front, as
functions. Run it with `python examples/multi_objective.py`, in a minute or two; run again, it goes
on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aquasurf_optuna import (
    AquaSurfSampler,
    Expression,
    FisherFeaturizer,
    InitializationError,
    SearchSpace,
    simplify,
)
from aquasurf_optuna.report import study_report
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model, train_digits

SPACE = SearchSpace.three_node()
OBJECTIVES = ("validation accuracy", "memory moved, bytes an element")


class MemoryMoved(TorchDispatchMode):
    """Counts the bytes that torch's kernels read and write while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one kernel and count its tensors; a view moves nothing."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves = tree_leaves((args, kwargs, result))
            tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            self.n_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def memory_moved(expression: Expression) -> float:
    """Return the bytes that a function's forward pass moves for each float32 element."""
    # What can be simplified away, such as the zero of max(x, 0), would not be built.
    function = simplify(expression)
    inputs = torch.linspace(-3.0, 3.0, 64)
    with torch.no_grad(), MemoryMoved() as moved:
        function(inputs)
    return moved.n_bytes / inputs.numel()


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """Train once; return the accuracy and the cost of the function."""
    expression = SPACE.suggest(trial, "activation")
    accuracy = train_digits(expression, seed=0).validation_accuracy
    return accuracy, memory_moved(expression)


def make_sampler(folder: Path, pool: int) -> AquaSurfSampler:
    """Return the sampler; it keeps its features beside the study."""
    images = DIGITS_RECIPE.data(seed=0).training_images(epoch=0).images[:128]
    return AquaSurfSampler(
        SPACE,
        features=FisherFeaturizer(build_digits_model, images),
        store=f"sqlite:///{folder / 'features.db'}",
        pool_size=pool,
        seed=0,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, print the front as functions, and write the report with its figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=24, help="training runs, 8 baselines first")
    parser.add_argument("--pool", type=int, default=300, help="candidates with Fisher features")
    parser.add_argument(
        "--output", type=Path, default=Path("multi_objective_output"), help="folder"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the network is small: more threads would only wait for each other
    options.output.mkdir(parents=True, exist_ok=True)
    sampler = make_sampler(options.output, options.pool)
    study = optuna.create_study(
        study_name="accuracy and cost",
        storage=f"sqlite:///{options.output / 'study.db'}",
        directions=["maximize", "minimize"],
        sampler=sampler,
        load_if_exists=True,
    )
    missing = options.trials - sum(trial.state.is_finished() for trial in study.trials)
    # A function for which AutoInit finds no weights cannot train: that trial fails, the study not.
    study.optimize(objective, n_trials=max(missing, 0), catch=(InitializationError,))
    print("\nThe Pareto front:")
    for member in sampler.front(study):
        accuracy, moved = member.values
        print(f"  {accuracy:.3f}  {moved:3.0f} bytes  {simplify(member.functions['activation'])}")
    report = study_report(options.output / "report.html", study, SPACE, value_names=OBJECTIVES)
    print(f"\nReport: {report} (open it in a browser)")


if __name__ == "__main__":
    main()
