"""Surrogates: performance predicted from features. They know arrays, not expressions."""

from aquasurf_optuna.surrogate._base import Surrogate
from aquasurf_optuna.surrogate._ensemble import EnsembleSurrogate
from aquasurf_optuna.surrogate._failures import FailureAwareSurrogate
from aquasurf_optuna.surrogate._gaussian_process import GaussianProcessSurrogate
from aquasurf_optuna.surrogate._names import (
    DEFAULT_SURROGATE,
    SURROGATES,
    check_features,
    make_surrogate,
)
from aquasurf_optuna.surrogate._novelty import NoveltySurrogate, diversified, novelty
from aquasurf_optuna.surrogate._umap_gp import UmapGpSurrogate
from aquasurf_optuna.surrogate._umap_knn import UmapKnnSurrogate
from aquasurf_optuna.surrogate._umap_regressors import UmapForestSurrogate, UmapSvrSurrogate

__all__ = [
    "DEFAULT_SURROGATE",
    "SURROGATES",
    "EnsembleSurrogate",
    "FailureAwareSurrogate",
    "GaussianProcessSurrogate",
    "NoveltySurrogate",
    "Surrogate",
    "UmapForestSurrogate",
    "UmapGpSurrogate",
    "UmapKnnSurrogate",
    "UmapSvrSurrogate",
    "check_features",
    "diversified",
    "make_surrogate",
    "novelty",
]
