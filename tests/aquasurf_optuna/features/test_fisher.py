"""The public door: what comes back, and that the model is left as it was."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features.fisher import FisherSpectrum, fisher_log_eigenvalues
from lightning_modules.models.all_cnn_c import AllCnnC
from tests.aquasurf_optuna.features.networks import (
    Apply,
    assert_equal_spectra,
    batch,
    dense,
    seeded,
    seeded_cnn,
)

IMAGES = batch(6, 2, 6, 6)
VECTORS = batch(6, 4)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_one_eigenvalue_for_each_weight_of_the_published_network() -> None:
    model = seeded(lambda: AllCnnC("relu(x)"))
    spectra = fisher_log_eigenvalues(model, batch(2, 3, 8, 8))
    lengths = [2688, 83040, 83040, 166080, 331968, 331968, 331968, 37056, 1930]
    assert [len(values) for values in spectra.values()] == lengths
    assert list(spectra) == [f"conv{number}" for number in range(1, 10)]


def test_the_spectra_are_ascending_finite_vectors() -> None:
    for name, values in fisher_log_eigenvalues(seeded_cnn(), IMAGES).items():
        assert values.dtype == torch.float64, name
        assert values.device.type == "cpu"
        assert not values.requires_grad
        assert values.isfinite().all()
        assert (values.diff() >= 0).all()


def test_layers_come_in_the_order_in_which_they_run() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(5, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(input=self.first(x).tanh())  # by keyword, as some code does

    assert list(fisher_log_eigenvalues(seeded(Backwards), VECTORS)) == ["first", "last"]


def test_a_single_layer_may_be_the_model() -> None:
    spectra = fisher_log_eigenvalues(seeded(lambda: nn.Linear(4, 3)), VECTORS)
    assert [(name, len(values)) for name, values in spectra.items()] == [("", 15)]


def test_equal_calls_give_equal_spectra_and_seeds_decide_the_labels() -> None:
    model = seeded_cnn()
    first = fisher_log_eigenvalues(model, IMAGES, seed=3)
    torch.rand(5)
    assert_equal_spectra(fisher_log_eigenvalues(model, IMAGES, seed=3), first)
    other = fisher_log_eigenvalues(model, IMAGES, seed=4)
    assert not torch.equal(other["0"], first["0"])


def test_given_targets_are_used() -> None:
    model, targets = seeded_cnn(), torch.tensor([0, 1, 2, 0, 1, 2])
    by_number = fisher_log_eigenvalues(model, IMAGES, targets)
    assert not torch.equal(by_number["0"], fisher_log_eigenvalues(model, IMAGES)["0"])
    small = fisher_log_eigenvalues(model, IMAGES, targets.to(torch.uint8))
    assert_equal_spectra(small, by_number)
    one_hot = nn.functional.one_hot(targets, 3).double()
    by_probability = fisher_log_eigenvalues(model, IMAGES, one_hot)
    torch.testing.assert_close(by_probability, by_number, rtol=1e-4, atol=1e-4)
    own = fisher_log_eigenvalues(
        model,
        IMAGES,
        targets,
        loss=functools.partial(nn.functional.cross_entropy, reduction="none"),
    )
    torch.testing.assert_close(own, by_number, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-4), (torch.bfloat16, 0.1), (torch.float16, 0.02)],
    ids=str,
)
def test_every_precision_gives_like_spectra(dtype: torch.dtype, tolerance: float) -> None:
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    model = seeded_cnn()
    expected = fisher_log_eigenvalues(model, IMAGES, targets)
    actual = fisher_log_eigenvalues(model.to(dtype), IMAGES.to(dtype), targets)
    for name in expected:
        assert (actual[name] - expected[name])[-1].abs() < tolerance


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_does_not_matter(context: Callable[[], object]) -> None:
    model = seeded_cnn()
    expected = fisher_log_eigenvalues(model, IMAGES)
    with context():
        inputs = IMAGES.clone()
        assert_equal_spectra(fisher_log_eigenvalues(model, inputs), expected)


def test_activations_in_place_change_nothing() -> None:
    plain = fisher_log_eigenvalues(seeded_cnn(nn.ReLU), IMAGES)
    in_place = fisher_log_eigenvalues(seeded_cnn(lambda: nn.ReLU(inplace=True)), IMAGES)
    assert_equal_spectra(in_place, plain)


def test_an_input_overwritten_later_is_counted_as_the_layer_saw_it() -> None:
    class Overwriting(nn.Module):
        def __init__(self, *, overwrite: bool) -> None:
            super().__init__()
            self.overwrite = overwrite
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)
            self.requires_grad_(False)  # so that autograd does not need the input itself

        def forward(self, x: Tensor) -> Tensor:
            hidden = x.clone()
            result = self.first(hidden)
            if self.overwrite:
                hidden.zero_()
            return self.last(result.tanh())

    spectra = [
        fisher_log_eigenvalues(seeded(lambda o=o: Overwriting(overwrite=o)), VECTORS)
        for o in (False, True)
    ]
    assert_equal_spectra(*spectra)


@pytest.mark.parametrize("frozen", [["0"], ["0", "2"], ["6"], ["0", "2", "6"]], ids=str)
@pytest.mark.parametrize("in_place", [True, False])
def test_frozen_layers_count(frozen: list[str], in_place: bool) -> None:
    model = seeded_cnn(lambda: nn.ReLU(inplace=in_place))
    expected = fisher_log_eigenvalues(model, IMAGES)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    assert_equal_spectra(fisher_log_eigenvalues(model, IMAGES), expected)


def test_hooks_of_the_callers_run_after_the_layer_is_recorded() -> None:
    model = dense(nn.Tanh())
    model.first.register_forward_hook(lambda _, args, output: 2 * output)
    expected = fisher_log_eigenvalues(dense(Apply(lambda x: 2 * x), nn.Tanh()), VECTORS)
    assert_equal_spectra(fisher_log_eigenvalues(model, VECTORS), expected)


def test_a_bias_carries_inputs_whose_squares_underflow() -> None:
    spectra = fisher_log_eigenvalues(dense().double(), VECTORS.double() * 1e-200)
    assert spectra["first"].isfinite().all()


def test_a_compiled_wrapper_is_measured_without_compiling() -> None:
    model = seeded_cnn()
    expected = fisher_log_eigenvalues(model, IMAGES)
    assert_equal_spectra(fisher_log_eigenvalues(torch.compile(model), IMAGES), expected)


class Restless(nn.Module):
    """Changes everything that a forward pass can change."""

    def __init__(self, *, fail: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last_seen", None)
        self.fail = fail

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last_seen = x.detach().mean()
        if "late" not in self._buffers:
            self.register_buffer("late", torch.ones(()))
        x = self.drop(self.norm(self.conv(x))).mean((2, 3)) + torch.rand(())
        if self.fail:
            raise RuntimeError("a fault of the model's own")
        return self.head(x)


def state_of(model: nn.Module) -> dict[str, object]:
    buffers = dict(model.named_buffers())
    return {
        "parameters": {n: (id(p), p.clone()) for n, p in model.named_parameters()},
        "versions": {n: t._version for n, t in [*model.named_parameters(), *buffers.items()]},
        "gradients": {
            n: None if p.grad is None else (id(p.grad), p.grad.clone())
            for n, p in model.named_parameters()
        },
        "trainable": {n: p.requires_grad for n, p in model.named_parameters()},
        "buffers": {n: (id(b), b.clone()) for n, b in buffers.items()},
        "buffer names": [list(m._buffers) for m in model.modules()],
        "modes": [m.training for m in model.modules()],
        "hooks": [
            [len(hooks) for key, hooks in vars(m).items() if key.endswith("_hooks")]
            for m in model.modules()
        ],
        "random": torch.get_rng_state(),
    }


def assert_same_state(actual: dict[str, object], expected: dict[str, object]) -> None:
    actual, expected = dict(actual), dict(expected)
    assert actual.pop("buffer names") == expected.pop("buffer names")
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def prepared(*, fail: bool) -> nn.Module:
    model = seeded(lambda: Restless(fail=fail))
    model.norm.eval()
    model.head.weight.requires_grad_(False)
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    model.conv.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("fail", [False, True])
def test_the_model_comes_back_as_it_was(fail: bool) -> None:
    model = prepared(fail=fail)
    before = state_of(model)
    if fail:
        with pytest.raises(RuntimeError, match="a fault of the model's own"):
            fisher_log_eigenvalues(model, IMAGES)
    else:
        fisher_log_eigenvalues(model, IMAGES)
    assert_same_state(state_of(model), before)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model(IMAGES),
        lambda model: model.norm.train(),
        lambda model: model.conv.register_forward_hook(lambda *_: None),
        lambda model: model.conv.weight.grad.add_(1),
        lambda model: model.register_buffer("more", None),
        lambda _: torch.rand(1),
    ],
    ids=["forward", "mode", "hook", "gradient", "buffer", "random"],
)
def test_the_comparison_of_states_can_fail(change: Callable[[nn.Module], object]) -> None:
    model = prepared(fail=False)
    before = state_of(model)
    change(model)
    with pytest.raises(AssertionError, match=r"not equal|mismatch|do not match|assert \["):
        assert_same_state(state_of(model), before)


class TroubleError(Exception):
    """Not of the library's family, nor of Python's."""


def raise_trouble(*_: object) -> Tensor:
    raise TroubleError("in the middle")


def steep(x: Tensor) -> Tensor:
    """Passes x on, but its derivative is not finite."""
    return x + (x - x).abs().sqrt()


def with_hook_in_backward(output: Tensor) -> Tensor:
    output.register_hook(raise_trouble)
    return output


TROUBLES: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, object], type[Exception], str]] = {
    "activations": (lambda x: x / 0, {}, InvalidSpectrumError, "activations .* are not finite"),
    "loss": (
        lambda x: x, {"loss": raise_trouble, "targets": torch.arange(6) % 3}, TroubleError,
        "in the middle"),
    "gradients": (
        steep, {}, InvalidSpectrumError, "layer 'conv': the gradients that reach it are not fin"),
    "backward": (with_hook_in_backward, {}, TroubleError, "in the middle"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"), TROUBLES.values(), ids=TROUBLES
)
def test_the_model_comes_back_as_it_was_after_any_trouble(
    change: Callable[[Tensor], Tensor],
    arguments: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    """And the exception is of the type that was raised."""
    model = prepared(fail=False)
    model.norm.register_forward_hook(lambda _, __, output: change(output))
    before = state_of(model)
    with pytest.raises(error, match=message) as caught:
        fisher_log_eigenvalues(model, IMAGES, **arguments)
    assert type(caught.value) is error
    assert_same_state(state_of(model), before)


@needs_gpu
def test_gpus_give_like_spectra_and_their_random_state_back() -> None:
    expected = fisher_log_eigenvalues(seeded_cnn(), IMAGES)
    model, inputs = seeded(lambda: Restless()).cuda(), IMAGES.cuda()
    before = torch.cuda.get_rng_state()
    fisher_log_eigenvalues(model, inputs)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    actual = fisher_log_eigenvalues(seeded_cnn().cuda(), inputs)
    for name in expected:
        assert (actual[name] - expected[name])[-1].abs() < 1e-2


def test_normalisation_uses_the_batch_and_dropout_is_off() -> None:
    def build(drop: float) -> nn.Module:
        return seeded(
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3),
                nn.BatchNorm2d(4),
                nn.Tanh(),
                nn.Flatten(),
                nn.Dropout(drop),
                nn.Linear(64, 3),
            )
        )

    model = build(0.0)
    expected = fisher_log_eigenvalues(model, IMAGES)
    model[1].running_mean.fill_(7.0)
    assert_equal_spectra(fisher_log_eigenvalues(model.eval(), IMAGES), expected)
    assert_equal_spectra(fisher_log_eigenvalues(build(0.9).train(), IMAGES), expected)
    batch_statistics = copy.deepcopy(model).eval()
    batch_statistics[1] = Apply(lambda x: x)
    assert not torch.equal(fisher_log_eigenvalues(batch_statistics, IMAGES)["0"], expected["0"])


def test_a_pending_backward_of_the_callers_stays_valid() -> None:
    model = prepared(fail=False).eval()
    loss = model(IMAGES).sum()
    fisher_log_eigenvalues(model, IMAGES)
    loss.backward()
    assert model.norm.weight.grad is not None


def test_a_spectrum_can_be_copied_and_sent_with_what_it_does_not_cover() -> None:
    spectra = fisher_log_eigenvalues(dense(nn.BatchNorm1d(5)), batch(6, 4))
    assert spectra.not_covered.keys() == {"between0.weight", "between0.bias"}
    for other in (copy.deepcopy(spectra), pickle.loads(pickle.dumps(spectra))):
        assert type(other) is FisherSpectrum
        assert_equal_spectra(other, spectra)
        assert other.not_covered == spectra.not_covered


def test_spectra_do_not_share_what_they_do_not_cover() -> None:
    first, second = FisherSpectrum(), FisherSpectrum()
    first.not_covered["weight"] = "why"
    assert second.not_covered == {}
    assert first == second == {}
