"""Twins of the figures that Optuna draws with matplotlib too, for papers and notebooks.

Each `plot_*` takes what its namesake in `aquasurf_optuna.visualization` takes, and returns
matplotlib's `Axes`: new ones of pyplot's, or those given as `ax`.
"""

from aquasurf_optuna.visualization.matplotlib._operator_importances import plot_operator_importances
from aquasurf_optuna.visualization.matplotlib._pareto import plot_pareto
from aquasurf_optuna.visualization.matplotlib._search_progress import plot_search_progress

__all__ = ["plot_operator_importances", "plot_pareto", "plot_search_progress"]
