"""Search spaces at full scale: from nothing to classes, files, indices and draws.

Run with ``python -m benchmarks.spaces [--spaces three_node coatnet four_node] [--threads 2]``.
Every space and rule has a process of its own, one after the other; the peak memory is that of the
whole process, libraries included. Beside the time to the classes stands what it would take to
evaluate the same graphs one by one and to name each by `function_key`, measured on 2,000 random
graphs in the same process and scaled up. ``--instructions`` repeats the counts for each set of
vector instructions that torch has here, whose rounding differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aquasurf_optuna import Catalogue, SearchSpace
from aquasurf_optuna.features.outputs import function_key

SPACES: dict[str, Callable[[], SearchSpace]] = {
    "three_node": SearchSpace.three_node,
    "coatnet": SearchSpace.coatnet,
    "four_node": SearchSpace.four_node,
}
PUBLISHED = {"three_node": 2913, "coatnet": 146_779, "four_node": 425_896}
RULES = ("tolerance", "identical")
INSTRUCTIONS = ("default", "avx2", "avx512")
N_ONE_BY_ONE = 2000
N_INDICES = 20_000
N_SAMPLE = 1000
COLUMNS = (
    "space",
    "graphs",
    "rule",
    "classes",
    "against the paper",
    "to classes",
    "one by one",
    "peak memory",
    "file",
    "save",
    "load",
    "1,000 classes",
    "space[i]",
    "space.index",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="*", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--instructions", action="store_true", help="counts only, for each set")
    parser.add_argument("--one", nargs=2, metavar=("SPACE", "RULE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(*options.one, threads=options.threads)))
    elif options.instructions:
        print_counts(options.spaces, options.threads)
    else:
        print_table(options.spaces, options.threads)


def print_table(spaces: list[str], threads: int) -> None:
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for name in spaces:
        for rule in RULES:
            m = in_own_process(name, rule, threads)
            against = f"{m['classes'] / PUBLISHED[name] - 1:+.2%}" if rule == "identical" else ""
            print(
                f"| {name} | {m['graphs']:,} | {rule} | {m['classes']:,} | {against} "
                f"| {m['seconds']:.2f} s | {m['one_by_one'] / m['seconds']:.0f} times as long "
                f"| {m['peak_mb']:,.0f} MB | {m['file_mb']:.1f} MB | {m['save']:.2f} s "
                f"| {m['load']:.3f} s | {1e3 * m['sample']:.0f} ms | {1e6 * m['getitem']:.1f} µs "
                f"| {1e6 * m['index']:.1f} µs |",
                flush=True,
            )


def print_counts(spaces: list[str], threads: int) -> None:
    print("| space | rule | " + " | ".join(INSTRUCTIONS) + " |")
    print("|---" * (2 + len(INSTRUCTIONS)) + "|")
    for name in spaces:
        for rule in RULES:
            runs = [in_own_process(name, rule, threads, kind) for kind in INSTRUCTIONS]
            # A processor that lacks a set falls back to another, which then is named.
            cells = " | ".join(f"{m['classes']:,} ({m['instructions']})" for m in runs)
            print(f"| {name} | {rule} | {cells} |", flush=True)


def in_own_process(
    name: str, rule: str, threads: int, instructions: str | None = None
) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.spaces", "--one", name, rule]
    command += ["--threads", str(threads)]
    environment = dict(os.environ)
    if instructions is not None:
        environment["ATEN_CPU_CAPABILITY"] = instructions
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    measurements: dict[str, Any] = json.loads(found.stdout)
    return measurements


def measured(name: str, rule: Any, *, threads: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    space = SPACES[name]()
    # Libraries load more of themselves at their first use.
    Catalogue.of(SearchSpace("unary(x)"), rule)
    seconds, catalogue = timed(lambda: Catalogue.of(space, rule, n_threads=threads))
    peak_mb = resident("VmHWM") / 1024
    graphs = space.sample(min(N_ONE_BY_ONE, len(space)), seed=0)
    one_by_one, _ = timed(lambda: [function_key(graph) for graph in graphs])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalogue.safetensors")
        save, _ = timed(lambda: catalogue.save(path))
        file_mb = path.stat().st_size / 2**20
        load, loaded = timed(lambda: Catalogue.load(path))
        sample, _ = timed(lambda: loaded.sample(N_SAMPLE, seed=0))
    fresh = SPACES[name]()
    numbers = [fresh.index(graph) for graph in fresh.sample(N_INDICES, seed=1, replace=True)]
    fresh = SPACES[name]()
    getitem, drawn = timed(lambda: [fresh[number] for number in numbers])
    index, found = timed(lambda: [fresh.index(graph) for graph in drawn])
    assert found == numbers
    return {
        "graphs": len(space),
        "classes": len(catalogue),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "seconds": seconds,
        "one_by_one": one_by_one / len(graphs) * len(space),
        "peak_mb": peak_mb,
        "file_mb": file_mb,
        "save": save,
        "load": load,
        "sample": sample,
        "getitem": getitem / len(numbers),
        "index": index / len(numbers),
    }


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def resident(field: str) -> int:
    """Return a figure of this process from Linux, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
