"""Figures of a search: each `plot_*` returns a `plotly.graph_objects.Figure`."""

from aquasurf_optuna.visualization._comparison import plot_comparison
from aquasurf_optuna.visualization._embedding import plot_embedding
from aquasurf_optuna.visualization._functions import plot_functions
from aquasurf_optuna.visualization._search_progress import plot_search_progress

__all__ = ["plot_comparison", "plot_embedding", "plot_functions", "plot_search_progress"]
