"""Spectra layer by layer: the right share at every eigenvalue, and a word where there is none."""

import numpy as np
import pytest
import torch
from torch import nn

from aquasurf_optuna import Activation, fisher_log_eigenvalues
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.visualization import plot_spectra
from aquasurf_optuna.visualization._spectra import _get_spectra_info

SPECTRA = {
    "relu(x)": {"conv<1>": [3.0, 1.0, 2.0, 2.0], "fc": [0.5]},
    "erf(x)": {"conv<1>": [5.0, 4.0, 4.5, 4.5], "fc": [1.5]},
}


def test_the_height_is_the_share_at_or_below() -> None:
    info = _get_spectra_info(SPECTRA)
    assert (info.names, info.layers, info.invalid) == (["ReLU", "erf(x)"], ["conv<1>", "fc"], [])
    first = info.lines[0]
    for value, share in zip(first.log_eigenvalues, first.shares, strict=True):
        below = [each <= value for each in SPECTRA["relu(x)"]["conv<1>"]]
        # Of equals the last one has the share of all of them.
        assert share <= np.mean(below)
    assert first.log_eigenvalues.tolist() == [1.0, 2.0, 2.0, 3.0]
    assert first.shares.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_many_eigenvalues_are_drawn_through_quantiles() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    (line,) = _get_spectra_info({"erf(x)": {"fc": values}}).lines
    assert len(line.log_eigenvalues) == 200
    shares = [np.mean(values <= each) for each in line.log_eigenvalues]
    np.testing.assert_allclose(line.shares, shares)
    assert np.diff(line.shares).max() < 0.006
    assert (line.log_eigenvalues[0], line.log_eigenvalues[-1]) == (values.min(), values.max())


def test_the_figure_has_a_panel_for_each_layer() -> None:
    figure = plot_spectra(SPECTRA)
    titles = [each.text for each in figure.layout.annotations]
    assert titles[:2] == ["conv&lt;1&gt;", "fc"]
    assert titles[2:] == ["log eigenvalue", "share of the layer's eigenvalues"]
    assert [each.showlegend for each in figure.data] == [True, False, True, False]
    assert len({each.line.color for each in figure.data}) == 2
    assert len({each.line.dash for each in figure.data}) == 2
    assert {each.xaxis for each in figure.data} == {"x", "x2"}


def test_spectra_of_a_network() -> None:
    def network(text: str) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), Activation(text), nn.Linear(8, 3))

    images = torch.randn(32, 6)
    spectra = {
        text: fisher_log_eigenvalues(network(text), images, seed=0)
        for text in ("tanh(x)", "negative(tanh(x))")
    }
    figure = plot_spectra({**spectra, "max(identity(x),zero(x))": {}})
    assert len(figure.data) == 4
    assert (
        figure.layout.annotations[-1].text == "invalid, and so not drawn: max(identity(x),zero(x))"
    )


def test_nothing_to_draw() -> None:
    assert plot_spectra({}).layout.annotations[0].text == "There are no spectra."
    figure = plot_spectra({"relu(x)": {}, "erf(x)": {}})
    assert figure.layout.annotations[0].text == "No spectrum is valid: ReLU, erf(x)."


@pytest.mark.parametrize(
    ("spectra", "message"),
    [
        (
            {"erf(x)": {"fc": [1.0]}, "tanh(x)": {"out": [1.0]}},
            r"the layers \['fc'\], those of 'erf\(x\)', but 'Tanh'",
        ),
        ({"erf(x)": {"fc": [1.0, np.nan]}}, r"shape \(2,\) with 1 that are not finite"),
        (
            {"erf(x)": {"fc": []}},
            r"of 'erf\(x\)' in layer 'fc' must be finite numbers in one dimension",
        ),
        ({"erf(x)": {"fc": [[1.0]]}}, r"got shape \(1, 1\)"),
    ],
)
def test_spectra_that_cannot_be_drawn(
    spectra: dict[str, dict[str, list[float]]], message: str
) -> None:
    with pytest.raises(AquaSurfError, match=message):
        plot_spectra(spectra)


def test_columns_are_checked() -> None:
    with pytest.raises(AquaSurfError, match="columns must be at least 1, got 0"):
        plot_spectra(SPECTRA, columns=0)
