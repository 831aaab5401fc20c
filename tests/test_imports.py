"""Imports go one way: each file imports only from files to its left in the flow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
AQUASURF = (
    "exceptions",
    "_whole_file",
    "_pruning",
    "_wrapped",
    "_hyperbolic",
    "_operator_checks",
    "operators",
    "_shipping",
    "parallel",
    "_parser",
    "_latex",
    "_source_tables",
    "_source",
    "expression",
    "kernels._plan",
    "kernels._polynomials",
    "kernels._vectorised",
    "kernels._slopes",
    "kernels._chain",
    "kernels._fused",
    "kernels._function",
    "kernels._choice",
    "kernels",
    "activation",
    "features.outputs",
    "equality",
    "_identities",
    "_rewriting",
    "simplify",
    "_naming",
    "derivative",
    "_limits",
    "_moments",
    "properties",
    "_schema",
    "_parameters",
    "space",
    "families",
    "_parameter_legend",
    "catalogue._levels",
    "catalogue._grouping",
    "catalogue._simplest",
    "catalogue._classes",
    "catalogue._all_outputs",
    "catalogue._file",
    "discovered",
    "catalogue._catalogue",
    "catalogue",
    "features._kfac",
    "features._patches",
    "features._calls",
    "features._sums",
    "features._batch",
    "features.layers",
    "features._capture",
    "features._likelihoods",
    "features.losses",
    "features.spectra",
    "features.fisher",
    "features._feature",
    "features._owner",
    "features._child",
    "features._isolated",
    "features._worker",
    "features._precompute",
    "features.featurizer",
    "_store_bytes",
    "_store_schema",
    "_store_database",
    "_store_rows",
    "_store_claims",
    "_store_files",
    "store",
    "surrogate._growing",
    "surrogate._distances",
    "surrogate._checks",
    "surrogate._observations",
    "surrogate._base",
    "surrogate._acquisition",
    "surrogate._targets",
    "surrogate._gp_fit",
    "surrogate._gaussian_process",
    "surrogate._transfer",
    "surrogate._umap",
    "surrogate._umap_plane",
    "surrogate._umap_knn",
    "surrogate._umap_regressors",
    "surrogate._umap_gp",
    "surrogate._novelty",
    "surrogate._wrapping",
    "surrogate._ensemble",
    "surrogate._failures",
    "surrogate._names",
    "surrogate",
    "_history",
    "_fisher_source",
    "_site",
    "_stored",
    "_objectives",
    "_explanation",
    "_compressed_outputs",
    "_whole_space",
    "_candidates",
    "_drawing",
    "_combinations",
    "_agenda",
    "_feature_worker",
    "_search",
    "_claims",
    "_front",
    "_map",
    "_other_study",
    "_sampler_arguments",
    "_assembly",
    "sampler",
    "visualization",
    "_front_report",
    "_search_report",
    "_pruning_report",
    "report",
    "_dashboard_notes",
    "_dashboard_kept",
    "_dashboard_figures",
    "dashboard",
    "_stored_study",
    "_command_line",
    "_report_command",
    "_dashboard_command",
    "_discovered_command",
    "_described",
    "_beside_command",
    "_features_command",
    "_search_options",
    "_search_command",
    "_show_command",
    "benchmark._published",
    "benchmark._reader",
    "benchmark._shipped",
    "benchmark._bench",
    "benchmark._runs",
    "benchmark._rows",
    "benchmark._build",
    "benchmark._metrics",
    "benchmark._searched_table",
    "benchmark._samplers",
    "benchmark._searches",
    "benchmark._kept_searches",
    "benchmark._comparison",
    "benchmark",
    "_bench_command",
    "cli",
)
LIGHTNING = (
    "_quiet",
    "models",
    "autoinit",
    "networks",
    "digits_network",
    "training",
    "classifier",
    "callbacks",
    "predictions",
    "data",
    "digits_recipe",
    "recipes",
    "cli",
    "features",
    "configured_training",
    "search",
    "__main__",
)
FLOWS = {"aquasurf_optuna": AQUASURF, "lightning_modules": LIGHTNING}
PACKAGES = tuple(FLOWS)
"""Each may import from those before it."""


def place(module: str) -> tuple[int, int] | None:
    """Position of a module: that of its package, and that of its longest known prefix within."""
    package, _, name = module.partition(".")
    flow = FLOWS[package]
    matches = [i for i, step in enumerate(flow) if name == step or name.startswith(step + ".")]
    longest = max(matches, key=lambda i: len(flow[i]), default=None)
    return None if longest is None else (PACKAGES.index(package), longest)


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def imports(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    found = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            module = node.module or ""
            # `from package import module` names the module only in its second half.
            whole = [f"{module}.{alias.name}" for alias in node.names]
            found += [name if is_module(name) else module for name in whole]
    return found


def violations(module: str, imported: list[str]) -> list[str]:
    own = place(module)
    assert own is not None, f"{module} has no place in the flow; give it one in {__file__}"
    inside = [name for name in imported if name.split(".")[0] in PACKAGES]
    return [name for name in inside if (at := place(name)) is None or at > own]


def modules() -> list[tuple[str, Path]]:
    paths = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts), path)
        for path in paths
        # The front doors re-export what is behind them.
        if path.name != "__init__.py"
    ]


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: Path(str(value)).stem)
def test_imports_point_left(module: str, path: Path) -> None:
    assert violations(module, imports(path)) == []


def test_features_know_nothing_of_optuna() -> None:
    for path in (ROOT / "aquasurf_optuna" / "features").glob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] == "optuna"]


def test_a_violation_is_noticed() -> None:
    assert violations("aquasurf_optuna.space", ["aquasurf_optuna.sampler"])
    assert violations("aquasurf_optuna.space", ["lightning_modules.models"])
    assert violations("aquasurf_optuna.benchmark._reader", ["aquasurf_optuna.benchmark._build"])
    assert violations("lightning_modules.classifier", ["lightning_modules.data.digits"])
    assert not violations("aquasurf_optuna.space", ["aquasurf_optuna.expression", "optuna"])
    assert not violations("lightning_modules.models.coatnet", ["aquasurf_optuna.activation"])
