"""Rules on the Python files and the requirements, read and never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement

from release.optunahub._package import Package, parsed

_OWN_PLACE = ("repo_owner", "repo_name", "ref", "base_url", "registry_root")
_HOME = re.compile(r"/home/\w|/Users/\w|/root/|[A-Z]:\\")
_ALWAYS_THERE = ("optuna", "optunahub")


def python_is_python(package: Package) -> list[str]:
    """Python reads every Python file.

    Source: registry, .pre-commit-config.yaml (no linter takes another).
    """
    return [
        f"{path}: it is not Python"
        for path in package.python_files
        if parsed(package.text(path)) is None
    ]


def init_exports_the_feature(package: Package) -> list[str]:
    """``__init__.py`` has what it lists in ``__all__``, and lists something.

    Source: registry, template/__init__.py; optunahub, recipes/002_registration.py.
    """
    tree = parsed(package.text("__init__.py"))
    listed = _listed(tree)
    if not listed:
        return ["__init__.py: no __all__ with names in it; list what users need"]
    there = _defined(tree)
    return [
        f"__init__.py: __all__ lists {name!r}, which it neither imports nor defines"
        for name in listed
        if name not in there
    ]


def _listed(tree: ast.Module | None) -> list[str]:
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            values = [c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant)]
            return [value for value in values if isinstance(value, str)]
    return []


def _defined(tree: ast.Module | None) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def examples_load_the_published_package(package: Package) -> list[str]:
    """Examples load this package as users will, not from a folder or fork of its author's.

    Source: optunahub, recipes/002_registration.py.
    """
    sources = {"README.md": "\n".join(package.snippets), "example.py": package.text("example.py")}
    found = []
    for name, code in sources.items():
        found += [f"{name}: {problem}" for call in _loads(code) for problem in _odd(call, package)]
        if _HOME.search(code):
            found.append(f"{name}: it names a folder of somebody's machine")
        if code and not any(_load_name(call) == "load_module" for call in _loads(code)):
            found.append(f"{name}: it must load the package: load_module({package.address!r})")
    return found


def _loads(code: str) -> Iterator[ast.Call]:
    for node in ast.walk(parsed(code) or ast.Module([], [])):
        if isinstance(node, ast.Call) and _load_name(node) in ("load_module", "load_local_module"):
            yield node


def _load_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _loaded(call: ast.Call) -> object:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    value = call.args[0] if call.args else given.get("package")
    return value.value if isinstance(value, ast.Constant) else None


def _odd(call: ast.Call, package: Package) -> list[str]:
    found = [
        f"it passes {keyword.arg}=, which only its author needs"
        for keyword in call.keywords
        if keyword.arg in _OWN_PLACE
    ]
    if _load_name(call) == "load_local_module":
        found.append("it loads a local folder; use load_module")
    if _loaded(call) != package.address:
        found.append(f"it loads {_loaded(call)!r}; this package is {package.address!r}")
    return found


def requirements_are_additional(package: Package) -> list[str]:
    """``requirements.txt``, if there, lists what is needed besides Optuna and OptunaHub.

    Source: optunahub, recipes/002_registration.py.
    """
    if not any(str(path) == "requirements.txt" for path in package.files):
        return []
    lines = [line.split("#")[0].strip() for line in package.text("requirements.txt").splitlines()]
    found = [problem for line in lines if line for problem in _requirement_problems(line)]
    return found if any(lines) else ["requirements.txt: it is empty; leave it out"]


def _requirement_problems(line: str) -> list[str]:
    try:
        name = Requirement(line).name
    except InvalidRequirement:
        return [f"requirements.txt: {line!r} is not a requirement, as name>=1.0 is"]
    if name.lower() in _ALWAYS_THERE:
        return [f"requirements.txt: {name} is there anyway; leave it out"]
    return []


def tests_are_in_their_place(package: Package) -> list[str]:
    """Tests, if there, are ``tests/test_*.py``, and load the package that they lie in.

    Source: optunahub, recipes/009_unit_tests.py; registry, package/samplers/auto_sampler/tests.
    """
    found = [
        f"{path}: a test outside tests/, or one that pytest does not collect"
        for path in package.python_files
        if path.name.startswith("test") and path not in package.tests
    ]
    for path in package.tests:
        loaded = [_loaded(call) for call in _loads(package.text(path))]
        if package.address not in loaded:
            found.append(f"{path}: it loads {loaded}; it must load {package.address!r}")
    return found


CODE_RULES = (
    python_is_python,
    init_exports_the_feature,
    examples_load_the_published_package,
    requirements_are_additional,
    tests_are_in_their_place,
)
