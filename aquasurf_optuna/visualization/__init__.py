"""Figures of functions and of a search: each `plot_*` returns a `plotly.graph_objects.Figure`."""

from aquasurf_optuna.visualization._comparison import plot_comparison
from aquasurf_optuna.visualization._embedding import plot_embedding
from aquasurf_optuna.visualization._function_with_derivative import plot_function
from aquasurf_optuna.visualization._functions import plot_functions
from aquasurf_optuna.visualization._input_distribution import (
    InputHistogram,
    plot_input_distribution,
)
from aquasurf_optuna.visualization._operator_importances import plot_operator_importances
from aquasurf_optuna.visualization._pareto import plot_pareto
from aquasurf_optuna.visualization._png import write_png
from aquasurf_optuna.visualization._predictions import plot_predictions
from aquasurf_optuna.visualization._search_bands import plot_search_bands
from aquasurf_optuna.visualization._search_progress import plot_search_progress
from aquasurf_optuna.visualization._spectra import plot_spectra
from aquasurf_optuna.visualization._theme import dark
from aquasurf_optuna.visualization._value_histogram import plot_value_histogram

__all__ = [
    "InputHistogram",
    "dark",
    "plot_comparison",
    "plot_embedding",
    "plot_function",
    "plot_functions",
    "plot_input_distribution",
    "plot_operator_importances",
    "plot_pareto",
    "plot_predictions",
    "plot_search_bands",
    "plot_search_progress",
    "plot_spectra",
    "plot_value_histogram",
    "write_png",
]
