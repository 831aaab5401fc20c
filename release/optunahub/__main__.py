"""The command: ``python -m release.optunahub OUTPUT [--force]``, or ``--check FOLDER``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from release.optunahub._errors import PackageError
from release.optunahub._rules import problems
from release.optunahub._writing import write_package


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check a package; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m release.optunahub",
        description="Write the OptunaHub package of the sampler, checked against its registry's "
        "rules.",
        epilog="example: python -m release.optunahub ../optunahub-registry --force",
    )
    parser.add_argument("folder", help="where package/samplers/aquasurf goes; with --check, it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--force", action="store_true", help="replace an earlier package there")
    what.add_argument("--check", action="store_true", help="check a package, and write nothing")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            return _check(options.folder)
        print(write_package(options.folder, force=options.force))
    except (PackageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _check(folder: str) -> int:
    found = problems(folder)
    print("\n".join(found) if found else "no problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
