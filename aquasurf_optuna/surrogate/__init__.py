"""Surrogates: performance predicted from features. They know arrays, not expressions."""

from aquasurf_optuna.surrogate._base import Surrogate
from aquasurf_optuna.surrogate._umap_knn import UmapKnnSurrogate

__all__ = ["Surrogate", "UmapKnnSurrogate"]
