"""Time and memory of the paper's functions: composed of torch's, and by one kernel each way.

For each function of Tables 1 to 3, forward and backward, on activations of the sizes that
All-CNN-C and ResNet-50 have: `composed` (one torch function after the other, as autograd records
them), `fused`, and beside them `nn.SiLU`, `nn.GELU` and the machine's copy bandwidth as the limit
(five streams: x in and y out, x and its gradient in and out). Ways alternate within each repeat, so
that a machine that gets slower meets all alike; medians are reported, and medians of ratios.
Compiling is not counted; how long it took is a column. On a GPU both passes are recorded as a CUDA
graph, so that the time is the device's and not that of launches. Memory is what autograd keeps
between the passes, over the size of x; on a GPU the peak of both passes as well.

    python -m benchmarks.kernels [--device cpu] [--threads 2] [--repeats 9] [--output FILE]
        [--networks]

`--networks` times whole training steps of All-CNN-C and ResNet-56 with each function over a step
with `nn.ReLU` instead, launches and all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aquasurf_optuna import Activation
from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.discovered import DISCOVERED
from aquasurf_optuna.kernels import Kernel
from lightning_modules.models import AllCnnC, ResNet56

SHAPES = {"All-CNN-C": (32, 96, 32, 32), "ResNet-50": (8, 256, 56, 56)}
NETWORKS: dict[str, Callable[..., nn.Module]] = {"All-CNN-C": AllCnnC, "ResNet-56": ResNet56}
OUTPUT = Path("benchmarks/results/kernels.md")
TITLE = "Time and memory of the paper's functions"
WARMUP = 2
IMAGES = {"cpu": 32, "cuda": 128}
RECORDED = 20  # both passes so many times make a CUDA graph

TEXTS = {each.name: str(each.expression) for each in DISCOVERED if not each.is_baseline}


class Timings(NamedTuple):
    """Milliseconds of each repeat, by way."""

    by_way: dict[str, list[float]]

    def median(self, way: str) -> float:
        """Return the median of a way."""
        return statistics.median(self.by_way[way])

    def ratio(self, way: str, over: str) -> float:
        """The median of the ratios within a repeat."""
        pairs = zip(self.by_way[way], self.by_way[over], strict=True)
        return statistics.median(one / other for one, other in pairs)


def timed(
    ways: Mapping[str, Callable[[], object]], device: str, repeats: int, times: int = 1
) -> Timings:
    """Time ways to do something `times` times, in turns."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(WARMUP + repeats):
        order = list(ways)[:: 1 if repeat % 2 else -1]
        for way in order:
            start = _now(device)
            ways[way]()
            if repeat >= WARMUP:
                found[way].append(1e3 * (_now(device) - start) / times)
    return Timings(found)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def recorded(way: Callable[[], object]) -> Callable[[], None]:
    """Return what a way does on a GPU `RECORDED` times, without launching it anew."""
    # What is recorded must have run before, and not in the stream that everything runs in.
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP):
            way()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(RECORDED):
            way()
    return graph.replay


def passes(
    activation: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor
) -> Callable[[], None]:
    """Return forward and backward of an activation."""
    leaf = x.detach().requires_grad_()

    def run() -> None:
        torch.autograd.grad(activation(leaf), leaf, gradient)

    return run


def kept(activation: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Return the memory that autograd keeps for the backward pass, over that of x."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _result = activation(x.detach().requires_grad_())
    return sum(found.values()) / (x.numel() * x.element_size())


def peak(run: Callable[[], None], x: Tensor) -> str:
    """Return the most memory that both passes need at a time on a GPU, over that of x."""
    if not x.is_cuda:
        return "-"
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    needed = torch.cuda.max_memory_allocated() - before
    return f"{needed / (x.numel() * x.element_size()):.2g}"


def copies(x: Tensor) -> Callable[[], None]:
    """Return the reading and writing that no way can do without: five streams of x."""
    targets = [torch.empty_like(x) for _ in range(2)]
    half = x.flatten()[: x.numel() // 2]
    rest = torch.empty_like(half)

    def run() -> None:
        for target in targets:
            target.copy_(x)
        rest.copy_(half)

    return run


def lines_of(size: str, device: str, repeats: int) -> Iterator[str]:
    x = torch.randn(SHAPES[size], device=device)
    gradient = torch.randn_like(x)
    composed: Kernel = "composed"
    fused: Kernel = "fused"
    for name, text in TEXTS.items():
        start = time.perf_counter()
        fast = Activation(text, kernel=fused)
        passes(fast, x, gradient)()
        seconds = time.perf_counter() - start
        slow = Activation(text, kernel=composed)
        ways = {
            "composed": passes(slow, x, gradient),
            "fused": passes(fast, x, gradient),
            "SiLU": passes(F.silu, x, gradient),
            "GELU": passes(F.gelu, x, gradient),
            "copy": copies(x),
        }
        if device == "cuda":
            runs = {way: recorded(run) for way, run in ways.items()}
            found = timed(runs, device, repeats, RECORDED)
        else:
            found = timed(ways, device, repeats)
        times = [f"{found.median(way):.3g}" for way in ways]
        yield (
            f"| {name.replace('|', '')} | {size} | {' | '.join(times)} "
            f"| {found.ratio('composed', 'fused'):.2f} | {found.ratio('fused', 'SiLU'):.2f} "
            f"| {kept(slow, x):.2g}, {kept(fast, x):.2g} "
            f"| {', '.join(peak(ways[way], x) for way in ('composed', 'fused', 'SiLU'))} "
            f"| {seconds:.1f} |"
        )


def functions_table(device: str, repeats: int) -> list[str]:
    heads = (
        "function", "size of", "composed, ms", "fused, ms", "SiLU, ms", "GELU, ms", "copy, ms",
        "composed over fused", "fused over SiLU", "kept: composed, fused",
        "peak: composed, fused, SiLU", "first call, s",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for size in SHAPES:
        for line in lines_of(size, device, repeats):
            print(line, flush=True)
            lines.append(line)
    return lines


class Step:
    """A training step of a network."""

    def __init__(
        self, build: Callable[..., nn.Module], activation: Callable[..., nn.Module], device: str
    ) -> None:
        torch.manual_seed(0)
        self.model = build(activation).to(device).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        self.images = torch.randn(IMAGES[device], 3, 32, 32, device=device)
        self.labels = torch.arange(len(self.images), device=device) % 10

    def __call__(self) -> None:
        """Take a step."""
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(self.images), self.labels).backward()
        self.optimizer.step()


def networks_table(device: str, repeats: int) -> list[str]:
    heads = ("network", "function", "ReLU, ms", "composed over ReLU", "fused over ReLU")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for network, build in NETWORKS.items():
        for name, text in TEXTS.items():
            ways = {
                "relu": Step(build, nn.ReLU, device),
                "composed": Step(build, Activation.factory(text, kernel="composed"), device),
                "fused": Step(build, Activation.factory(text, kernel="fused"), device),
            }
            found = timed(ways, device, repeats)
            line = (
                f"| {network} | {name.replace('|', '')} | {found.median('relu'):.3g} "
                f"| {found.ratio('composed', 'relu'):.2f} | {found.ratio('fused', 'relu'):.2f} |"
            )
            print(line, flush=True)
            lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--networks", action="store_true", help="whole training steps")
    parser.add_argument("--output", type=Path, default=None, help="write the table there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    make = networks_table if options.networks else functions_table
    where = options.device if options.device == "cuda" else f"{options.threads} threads"
    title = "Training steps with the paper's functions" if options.networks else TITLE
    again = "python -m benchmarks.kernels"
    again += " --device cuda" if options.device == "cuda" else ""
    again += " --networks" if options.networks else ""
    text = f"# {title}\n\nTo make this again: `{again}`. "
    text += f"torch {torch.__version__}, {where}, medians of {options.repeats} repeats.\n\n"
    text += "\n".join(make(options.device, options.repeats)) + "\n"
    if options.output is not None:
        write_whole(options.output, text.encode(), what="a table")


if __name__ == "__main__":
    main()
