"""Figures for dark pages: the same figure in other colours."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from aquasurf_optuna.visualization._style import DARK


def dark(figure: go.Figure) -> go.Figure:
    """Return a figure of this package as it looks on a dark page.

    Reports and web pages do so by themselves where the reader's browser asks for a dark page.

    Args:
        figure: What one of the `plot_*` has returned; it stays as it is.

    Returns:
        A figure with the same data.
    """
    return go.Figure(_recoloured(figure.to_dict()))


def _recoloured(part: Any) -> Any:
    """Replace the colours of the light page; whatever is no such colour stays."""
    if isinstance(part, dict):
        return {key: _recoloured(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_recoloured(value) for value in part]
    return DARK.get(part, part) if isinstance(part, str) else part
