"""Layouts without UMAP, for tests of what searches in them."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna.surrogate import _umap


def lay_out_by_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out by distances alone: UMAP takes half a minute to come, and is tested elsewhere."""

    def laid_out(parts: Any, seed: int, n_components: int) -> NDArray[np.float64]:
        return _umap._classical_scaling(parts, n_components)

    monkeypatch.setattr(_umap, "_embedded", laid_out)
    _umap.forget_layouts()
