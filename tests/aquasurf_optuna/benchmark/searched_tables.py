"""Small tables to search, in the published form: no training, and values that features foretell."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from aquasurf_optuna import Catalogue, SearchSpace
from aquasurf_optuna.benchmark import ActBench
from aquasurf_optuna.benchmark._reader import ABOUT, MEASURES, VECTORS, Entry

SCHEMA = "unary(x) | max(unary(x),relu(x))"
_N_FEATURES = 12


@functools.cache
def small_entries(schema: str = SCHEMA) -> dict[str, dict[str, Any]]:
    """Every class of a space; accuracies follow from a smooth measure of the outputs."""
    catalogue = Catalogue.of(SearchSpace(schema))
    rng = np.random.default_rng(0)
    entries: dict[str, dict[str, Any]] = {}
    for class_id in range(len(catalogue)):
        outputs = np.clip(np.nan_to_num(catalogue.outputs_of([class_id])[0]), -5, 5)
        spectrum = np.quantile(outputs, np.linspace(0, 1, _N_FEATURES))
        invalid = not catalogue.is_finite[class_id] or bool(catalogue.is_constant[class_id])
        trained = not invalid
        accuracy = 0.9 - 0.05 * abs(spectrum.mean() - 0.7) - 0.02 * abs(spectrum[2] + 1.0)
        accuracy = round(float(accuracy + 0.002 * rng.normal()), 6)
        text = str(catalogue[class_id])
        members = [str(m) for m in catalogue.members(class_id) if str(m) != text]
        entry: dict[str, Any] = {
            key: (accuracy if "Accuracy" in key else round(2 - accuracy, 6)) if trained else None
            for key in MEASURES.values()
        }
        entry["Equivalent Activation Functions"] = members
        entry[VECTORS["quantiles"]] = [] if invalid else [round(float(v), 5) for v in spectrum]
        entries[text] = entry
    return entries


def small_table(path: Path, schema: str = SCHEMA) -> Path:
    """Write the table to a file."""
    path.write_text(json.dumps({ABOUT: {"space": schema}, **small_entries(schema)}))
    return path


def small_bench(schema: str = SCHEMA, *, without: tuple[str, ...] = ()) -> ActBench:
    """Return the table, or what is left of it."""
    entries = []
    for text, entry in small_entries(schema).items():
        vector = np.array(entry[VECTORS["quantiles"]], dtype=np.float32)
        entries.append(
            Entry(
                name=text,
                measured={
                    field: float("nan") if entry[key] is None else entry[key]
                    for field, key in MEASURES.items()
                },
                members=tuple(entry["Equivalent Activation Functions"]),
                vectors={"quantiles": vector} if len(vector) else {},
                invalid=None if len(vector) else "its vector is empty",
                runs={},
                seeds=(),
                training_failure=None,
            )
        )
    kept = [entry for entry in entries if entry.name not in without]
    return ActBench("small", kept, about={"space": schema})
