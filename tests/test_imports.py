"""Imports go one way: each file imports only from files to its left in the flow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOW = (
    "exceptions",
    "operators",
    "_parser",
    "expression",
    "activation",
    "features.outputs",
    "space",
    "catalogue",
    "features._kfac",
    "features.layers",
    "features._capture",
    "features._loss",
    "features.spectra",
    "features.fisher",
    "store",
    "_umap",
    "surrogate",
    "_history",
    "_candidates",
    "_activation_search",
    "_sampler_arguments",
    "sampler",
    "visualization",
    "report",
    "cli",
)


def place(module: str) -> int | None:
    """Position in the flow of a module of the package, by its longest known prefix."""
    name = module.removeprefix("aquasurf_optuna").removeprefix(".")
    if not name:
        return None
    matches = [i for i, step in enumerate(FLOW) if name == step or name.startswith(step + ".")]
    return matches[-1] if matches else None


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
    inside = [name for name in imported if name.split(".")[0] == "aquasurf_optuna"]
    wrong = [name for name in inside if (at := place(name)) is None or at > own]
    return wrong + [name for name in imported if name.split(".")[0] == "lightning_modules"]


def modules() -> list[tuple[str, Path]]:
    package = ROOT / "aquasurf_optuna"
    paths = [path for path in sorted(package.rglob("*.py")) if path.name != "__init__.py"]
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts), path) for path in paths]


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: Path(str(value)).stem)
def test_imports_point_left(module: str, path: Path) -> None:
    assert violations(module, imports(path)) == []


def test_features_know_nothing_of_optuna() -> None:
    for path in (ROOT / "aquasurf_optuna" / "features").glob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] == "optuna"]


def test_a_violation_is_noticed() -> None:
    assert violations("aquasurf_optuna.space", ["aquasurf_optuna.sampler"])
    assert violations("aquasurf_optuna.space", ["lightning_modules.models"])
    assert not violations("aquasurf_optuna.space", ["aquasurf_optuna.expression", "optuna"])
