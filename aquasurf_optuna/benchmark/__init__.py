"""Act-Bench: tables of trained functions, how they are built, and searches compared on them."""

from aquasurf_optuna.benchmark._bench import DEFAULT_METRIC, ActBench, TableFeatures
from aquasurf_optuna.benchmark._build import BuildPlan, BuildResult, build_table
from aquasurf_optuna.benchmark._comparison import (
    compare,
    comparison_markdown,
    curves_of,
    summaries,
)
from aquasurf_optuna.benchmark._metrics import (
    CHECKPOINTS,
    Interval,
    Reached,
    Summary,
    interval,
    reached,
)
from aquasurf_optuna.benchmark._published import PUBLISHED, fetch
from aquasurf_optuna.benchmark._samplers import SAMPLERS
from aquasurf_optuna.benchmark._searched_table import STARTS, SearchedTable
from aquasurf_optuna.benchmark._searches import Search, search
from aquasurf_optuna.benchmark._shipped import SHIPPED

__all__ = [
    "CHECKPOINTS",
    "DEFAULT_METRIC",
    "PUBLISHED",
    "SAMPLERS",
    "SHIPPED",
    "STARTS",
    "ActBench",
    "BuildPlan",
    "BuildResult",
    "Interval",
    "Reached",
    "Search",
    "SearchedTable",
    "Summary",
    "TableFeatures",
    "build_table",
    "compare",
    "comparison_markdown",
    "curves_of",
    "fetch",
    "interval",
    "reached",
    "search",
    "summaries",
]
