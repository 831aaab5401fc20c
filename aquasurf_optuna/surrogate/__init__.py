"""Surrogates: performance predicted from features. They know arrays, not expressions."""

from aquasurf_optuna.surrogate._base import Surrogate
from aquasurf_optuna.surrogate._gaussian_process import GaussianProcessSurrogate
from aquasurf_optuna.surrogate._names import DEFAULT_SURROGATE, SURROGATES, make_surrogate
from aquasurf_optuna.surrogate._umap_gp import UmapGpSurrogate
from aquasurf_optuna.surrogate._umap_knn import UmapKnnSurrogate
from aquasurf_optuna.surrogate._umap_regressors import UmapForestSurrogate, UmapSvrSurrogate

__all__ = [
    "DEFAULT_SURROGATE",
    "SURROGATES",
    "GaussianProcessSurrogate",
    "Surrogate",
    "UmapForestSurrogate",
    "UmapGpSurrogate",
    "UmapKnnSurrogate",
    "UmapSvrSurrogate",
    "make_surrogate",
]
