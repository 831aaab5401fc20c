"""How near to one AutoInit brings the variance of every weighted layer, by network and baseline.

Run with ``python -m benchmarks.autoinit_variance [--networks resnet56 ...] [--seeds 8]``; prints a
table in markdown. Inputs are independent N(0, 1) values; the networks run in training mode: batch
norms use the batch, dropout drops. A layer's variance is the mean square of its outputs, whose
mean is meant to be zero, averaged over seeds: each seed draws other weights and other inputs. A
layer with few outputs fluctuates from draw to draw, so the table also counts the layers that leave
the band of 10% by more than two standard errors of their mean.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aquasurf_optuna import BASELINES, Activation, Expression
from lightning_modules.autoinit import autoinit_
from lightning_modules.models import AllCnnC, CoAtNet, MobileViTV2, ResNet50, ResNet56

WEIGHTED = (nn.Linear, nn.Conv2d)
BAND = 0.1


class Setting(NamedTuple):
    """A network, the side of its images, the batch, and how many times it is drawn."""

    build: Callable[[Callable[..., nn.Module]], nn.Module]
    side: int
    batch: int
    seeds: int


SETTINGS: dict[str, Setting] = {
    "All-CNN-C": Setting(AllCnnC, 32, 16, 40),
    "ResNet-56": Setting(ResNet56, 32, 64, 16),
    "ResNet-50": Setting(ResNet50, 96, 32, 6),
    "MobileViTv2-0.5": Setting(MobileViTV2, 160, 64, 12),
    "CoAtNet": Setting(CoAtNet, 160, 32, 6),
}


class Spread(NamedTuple):
    """Mean over seeds of each layer's variance, and the standard error of that mean."""

    mean: dict[str, float]
    error: dict[str, float]

    def outside(self, errors: float) -> list[str]:
        """Return the layers that leave the band by more than so many standard errors."""
        return [
            name
            for name, mean in self.mean.items()
            if abs(mean - 1.0) > BAND + errors * self.error[name]
        ]


def layer_variances(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Return the mean square of every weighted layer's outputs in one forward pass."""
    found: dict[str, float] = {}

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, outputs: found.update(
            {name: float(outputs.double().square().mean())}
        )

    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, WEIGHTED)]
    handles = [layer.register_forward_hook(note(name)) for name, layer in layers]
    with torch.no_grad():
        model.train()(images)
    for handle in handles:
        handle.remove()
    return found


def measure(setting: Setting, expression: Expression, seeds: int) -> Spread:
    rows = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        shape = (3, setting.side, setting.side)
        model = autoinit_(setting.build(Activation.factory(expression)), shape)
        rows.append(layer_variances(model, torch.randn(setting.batch, *shape)))
    values = torch.tensor([list(row.values()) for row in rows], dtype=torch.float64)
    means, errors = values.mean(0), values.std(0) / math.sqrt(seeds)
    names = list(rows[0])
    return Spread(
        dict(zip(names, means.tolist(), strict=True)),
        dict(zip(names, errors.tolist(), strict=True)),
    )


def line(network: str, expression: Expression, spread: Spread) -> str:
    low, high = (pick(spread.mean, key=spread.mean.__getitem__) for pick in (min, max))
    ends = [f"{spread.mean[name]:.2f} ± {spread.error[name]:.2f} `{name}`" for name in (low, high)]
    cells = [network, f"`{expression}`", *ends]
    counts = [len(spread.outside(errors)) for errors in (0.0, 2.0)]
    return f"| {' | '.join(cells)} | {counts[0]} / {counts[1]} of {len(spread.mean)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, help="draws of each network; default: as published")
    parser.add_argument("--list", action="store_true", help="name the layers that are outside")
    options = parser.parse_args()
    print("| network | activation | smallest | largest | outside 10% / by two standard errors |")
    print("|---|---|---|---|---|")
    for network in options.networks:
        setting = SETTINGS[network]
        for expression in BASELINES:
            spread = measure(setting, expression, options.seeds or setting.seeds)
            print(line(network, expression, spread), flush=True)
            for name in spread.outside(2.0) if options.list else ():
                print(f"<!-- {name} {spread.mean[name]:.2f} ± {spread.error[name]:.2f} -->")


if __name__ == "__main__":
    main()
