"""AQuaSurF for PyTorch: find the activation function that fits a network.

After Bingham and Miikkulainen, "Efficient Activation Function Optimization through Surrogate
Modeling", NeurIPS 2023. What is exported stands here in the order in which data flows: expression,
space, features, store, surrogate, sampler.
"""

from aquasurf_optuna import discovered
from aquasurf_optuna._explanation import Explanation
from aquasurf_optuna.activation import Activation, ActivationFactory
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.derivative import derivative
from aquasurf_optuna.exceptions import (
    AquaSurfError,
    CatalogueError,
    ExpressionError,
    FeatureStoreError,
    InitializationError,
    InvalidSpectrumError,
    OperatorError,
    PrecomputeError,
    SamplerError,
    SpaceError,
    SurrogateError,
    UnsupportedModelError,
)
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.families import PiecewiseLinearFamily, RationalFamily
from aquasurf_optuna.features.featurizer import (
    FisherFeature,
    FisherFeaturizer,
    PrecomputeOptions,
    PrecomputeSummary,
)
from aquasurf_optuna.features.fisher import FisherSpectrum, fisher_log_eigenvalues
from aquasurf_optuna.features.losses import Likelihood
from aquasurf_optuna.features.outputs import output_features, standard_inputs
from aquasurf_optuna.operators import (
    BINARY_OPERATORS,
    COATNET_UNARY_OPERATORS,
    N_ARY_OPERATORS,
    UNARY_OPERATORS,
    Operator,
    register_operator,
    registered_operators,
)
from aquasurf_optuna.properties import FunctionProperties, properties_of
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.simplify import simplify
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore, FeatureStoreWarning
from aquasurf_optuna.surrogate import (
    SURROGATES,
    EnsembleSurrogate,
    FailureAwareSurrogate,
    GaussianProcessSurrogate,
    NoveltySurrogate,
    Surrogate,
    UmapForestSurrogate,
    UmapGpSurrogate,
    UmapKnnSurrogate,
    UmapSvrSurrogate,
    make_surrogate,
)

__all__ = [
    "BASELINES",
    "BINARY_OPERATORS",
    "COATNET_UNARY_OPERATORS",
    "N_ARY_OPERATORS",
    "SURROGATES",
    "UNARY_OPERATORS",
    "Activation",
    "ActivationFactory",
    "AquaSurfError",
    "AquaSurfSampler",
    "Catalogue",
    "CatalogueError",
    "EnsembleSurrogate",
    "Explanation",
    "Expression",
    "ExpressionError",
    "FailureAwareSurrogate",
    "FeatureStore",
    "FeatureStoreError",
    "FeatureStoreWarning",
    "FisherFeature",
    "FisherFeaturizer",
    "FisherSpectrum",
    "FunctionProperties",
    "GaussianProcessSurrogate",
    "InitializationError",
    "InvalidSpectrumError",
    "Likelihood",
    "NoveltySurrogate",
    "Operator",
    "OperatorError",
    "PiecewiseLinearFamily",
    "PrecomputeError",
    "PrecomputeOptions",
    "PrecomputeSummary",
    "RationalFamily",
    "SamplerError",
    "SearchSpace",
    "SpaceError",
    "Surrogate",
    "SurrogateError",
    "UmapForestSurrogate",
    "UmapGpSurrogate",
    "UmapKnnSurrogate",
    "UmapSvrSurrogate",
    "UnsupportedModelError",
    "derivative",
    "discovered",
    "fisher_log_eigenvalues",
    "make_surrogate",
    "output_features",
    "properties_of",
    "register_operator",
    "registered_operators",
    "simplify",
    "standard_inputs",
]
