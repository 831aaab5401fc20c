"""Writes the package of the OptunaHub registry, and checks one against the registry's rules.

``python -m release.optunahub OUTPUT`` leaves ``OUTPUT/package/samplers/aquasurf``, and
`docs/optunahub.md` says what to do with it.

The package is thin: its ``__init__.py`` hands on what the installed ``aquasurf`` distribution has.
To bring the code along instead would break three things. OptunaHub loads a folder under a module
name that only the process that loaded it knows, so samplers and models could not be sent to the
processes that measure features. The registry takes no binary files, and the benchmark tables are
some. And every fix would have to be published twice. Samplers of the registry that have a
distribution of their own do the same: ``package/samplers/botorch_sampler``, ``optquest`` and
``confopt_sampler`` there.

Files, in the order in which they import each other: `_errors`, `_package` (a package as read), the
rules in `_folder_rules`, `_readme_rules`, `_code_rules` and `_tool_rules`, all of them together in
`_rules`; `_arguments` (a docstring as Markdown), `_texts` (the templates, filled in), `_writing`.
A rule's docstring names the file that it comes from: "registry" is the GitHub repository
optuna/optunahub-registry, "optunahub" is optuna/optunahub.
"""

from release.optunahub._errors import PackageError
from release.optunahub._rules import RULES, problems
from release.optunahub._texts import texts
from release.optunahub._writing import write_package

__all__ = ["RULES", "PackageError", "problems", "texts", "write_package"]
