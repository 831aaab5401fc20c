"""Cost of a training step with ``Activation("relu(x)")``, beside ``nn.ReLU`` in the same network.

Run with ``python -m benchmarks.activation_overhead [--networks AllCnnC ...] [--repeats 15]``. A
step is forward, backward and an update by SGD. The two networks of a pair begin with the same
weights and see the same batch. Their steps alternate, each pair in the other order than the one
before, so that a machine that gets slower or faster meets both alike; what counts is the time that
the process spends on a processor, which leaves out the time that other processes took. The table
gives the medians, the median of the ratios of neighbouring steps, and its quartiles.

timm builds its activations with ``inplace=True``. ``nn.ReLU`` then overwrites its input, while
``Activation`` never does and takes memory for its result; ``--not-in-place`` builds ``nn.ReLU``
without, to tell the two effects apart.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aquasurf_optuna import Activation
from lightning_modules.models import AllCnnC, CoAtNet, MobileViTV2, ResNet50, ResNet56

Factory = Callable[..., nn.Module]


class Setting(NamedTuple):
    """A network and the batch that it is timed with."""

    build: Callable[[Factory], nn.Module]
    images: int
    side: int


CLOCKS = {"process": time.process_time, "wall": time.perf_counter}

SETTINGS = {
    "AllCnnC": Setting(AllCnnC, 16, 32),
    "ResNet56": Setting(ResNet56, 16, 32),
    "MobileViTV2": Setting(MobileViTV2, 8, 128),
    "CoAtNet": Setting(functools.partial(CoAtNet, image_size=96), 4, 96),
    "ResNet50": Setting(functools.partial(ResNet50, num_classes=10), 4, 96),
}


class Timing(NamedTuple):
    """Seconds of the steps of one network, in pairs."""

    network: str
    setting: Setting
    reference: list[float]
    activation: list[float]

    @property
    def ratios(self) -> list[float]:
        """What each pair says."""
        return [a / r for a, r in zip(self.activation, self.reference, strict=True)]


class Step:
    """A training step of one network, to be repeated."""

    def __init__(self, build: Callable[[Factory], nn.Module], factory: Factory) -> None:
        torch.manual_seed(0)
        self.model = build(factory).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    def __call__(self, images: Tensor, labels: Tensor, clock: Callable[[], float]) -> float:
        """Take a step and return its seconds."""
        start = clock()
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(images), labels).backward()
        self.optimizer.step()
        return clock() - start


def not_in_place(inplace: bool = False) -> nn.Module:  # noqa: ARG001
    """Make an ``nn.ReLU`` that leaves its input alone."""
    return nn.ReLU()


def measure(
    network: str, reference: Factory, clock: Callable[[], float], repeats: int, warmup: int = 2
) -> Timing:
    setting = SETTINGS[network]
    images = torch.randn(setting.images, 3, setting.side, setting.side)
    labels = torch.arange(setting.images) % 10
    pair = [Step(setting.build, f) for f in (reference, Activation.factory("relu(x)"))]
    seconds: list[list[float]] = [[], []]
    for repeat in range(warmup + repeats):
        for which in (0, 1) if repeat % 2 else (1, 0):
            took = pair[which](images, labels, clock)
            if repeat >= warmup:
                seconds[which].append(took)
    return Timing(network, setting, *seconds)


def table(timings: list[Timing]) -> str:
    lines = [
        "| network | batch | nn.ReLU, ms | Activation, ms | ratio | quartiles |",
        "|---|---|---|---|---|---|",
    ]
    for timing in timings:
        side = timing.setting.side
        low, ratio, high = statistics.quantiles(timing.ratios, n=4)
        lines.append(
            f"| {timing.network} | {timing.setting.images}x3x{side}x{side} "
            f"| {1e3 * statistics.median(timing.reference):.1f} "
            f"| {1e3 * statistics.median(timing.activation):.1f} "
            f"| {ratio:.3f} | {low:.3f} to {high:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--repeats", type=int, default=15, help="pairs of steps (default 15)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="process", help="time to count (default process)"
    )
    parser.add_argument(
        "--not-in-place", action="store_true", help="compare with nn.ReLU that copies its input"
    )
    arguments = parser.parse_args()
    if arguments.repeats < 2:
        parser.error(f"--repeats must be 2 or more, got {arguments.repeats}")
    torch.set_num_threads(arguments.threads)
    reference = not_in_place if arguments.not_in_place else nn.ReLU
    clock = CLOCKS[arguments.clock]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {arguments.clock} time")
    print(
        table([measure(name, reference, clock, arguments.repeats) for name in arguments.networks])
    )


if __name__ == "__main__":
    main()
