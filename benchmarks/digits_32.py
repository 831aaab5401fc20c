"""Do the full-size networks of Table 5 learn? Two epochs on the digits, enlarged to 32x32.

All-CNN-C and ResNet-56 as published, 900 training images, no augmentation, a few functions and
seeds. It shows that network, initialisation and training fit together, not which function is best:
for that the training is too short and the images are too easy.

    python -m benchmarks.digits_32
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time

import torch

from lightning_modules.data import LARGE
from lightning_modules.digits_recipe import DIGITS_RECIPE, DigitsRecipe, train_digits
from lightning_modules.networks import NetworkOptions
from lightning_modules.training import TrainingOptions


def recipe(network: str) -> DigitsRecipe:
    """Return two epochs of a full-size network, on batches small enough for many steps."""
    return dataclasses.replace(
        DIGITS_RECIPE,
        network=NetworkOptions(network, in_channels=1),
        training=TrainingOptions(learning_rate=0.01, warmup_epochs=0.3),
        task=LARGE,
        batch_size=10,
        epochs=2,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--networks", nargs="*", default=["all_cnn_c", "resnet56"])
    parser.add_argument("--functions", nargs="*", default=["relu(x)", "elu(x)"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| network | function | test accuracy of each seed | mean | seconds a run |\n"
          "|---|---|---|---|---|")  # fmt: skip
    for network in options.networks:
        for function in options.functions:
            started = time.perf_counter()
            accuracies = [
                train_digits(function, seed=seed, recipe=recipe(network), test=True).test_accuracy
                or 0.0
                for seed in options.seeds
            ]
            seconds = (time.perf_counter() - started) / len(options.seeds)
            each = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
            print(f"| {network} | {function} | {each} | {statistics.mean(accuracies):.3f} "
                  f"| {seconds:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
