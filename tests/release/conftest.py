import shutil
from pathlib import Path

import pytest

from release.optunahub.__main__ import main


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command wrote the package, having found no problem in it."""
    folder = tmp_path_factory.mktemp("output") / "registry"
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture
def folder(output: Path, tmp_path: Path) -> Path:
    """A copy of the package to break."""
    copy = tmp_path / "package" / "samplers" / "aquasurf"
    shutil.copytree(output / "package" / "samplers" / "aquasurf", copy)
    return copy
