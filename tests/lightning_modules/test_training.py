import math
import pickle

import pytest
import torch
from torch import nn

from lightning_modules.training import TrainingOptions, warmup_then_decay


def rates(options: TrainingOptions, *, steps_per_epoch: int, total: int) -> list[float]:
    """Learning rates that the schedule really gives the optimiser, step by step."""
    optimizer = options.make_optimizer([nn.Parameter(torch.zeros(1))])
    schedule = options.make_schedule(optimizer, steps_per_epoch=steps_per_epoch, total=total)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_every_step_of_any_schedule_moves() -> None:
    for warmup in (0.0, 0.5, 3.0, 10.0, 99.0):
        factors = [warmup_then_decay(step, warmup=warmup, total=10) for step in range(10)]
        assert all(0 < factor <= 1 for factor in factors)
        assert warmup_then_decay(12, warmup=min(warmup, 3.0), total=10) == 0


def test_the_schedule_of_table_5_is_linear_up_and_down() -> None:
    found = rates(TrainingOptions(), steps_per_epoch=10, total=250)
    assert found[:50] == pytest.approx([0.1 * (step + 1) / 50 for step in range(50)])
    assert found[50:] == pytest.approx([0.1 * (250 - step) / 200 for step in range(50, 250)])


def test_the_schedule_of_table_6_is_linear_up_and_a_cosine_down() -> None:
    options = TrainingOptions(
        optimizer="adamw",
        learning_rate=4e-3,
        warmup_start=1e-4,
        decay="cosine",
        final_learning_rate=1e-6,
    )
    found = rates(options, steps_per_epoch=10, total=1050)
    rise = [1e-4 + (4e-3 - 1e-4) * (step + 1) / 50 for step in range(50)]
    assert found[:50] == pytest.approx(rise)
    turns = [math.pi * (step - 50) / 1000 for step in range(50, 1050)]
    fall = [1e-6 + (4e-3 - 1e-6) * (1 + math.cos(turn)) / 2 for turn in turns]
    assert found[50:] == pytest.approx(fall)
    assert found[-1] == pytest.approx(1e-6, rel=0.02)


def test_adamw_takes_off_a_share_of_the_weight_times_the_current_learning_rate() -> None:
    options = TrainingOptions(
        optimizer="adamw", learning_rate=0.5, warmup_epochs=2, weight_decay=0.02
    )
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = options.make_optimizer([weight])
    schedule = options.make_schedule(optimizer, steps_per_epoch=1, total=4)
    expected = 1.0
    for step in range(2):
        # A gradient of zero leaves nothing but the decay.
        weight.grad = torch.zeros(1)
        optimizer.step()
        schedule.step()
        expected *= 1 - 0.02 * 0.5 * (step + 1) / 2
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_a_schedule_goes_to_other_processes() -> None:
    options = TrainingOptions()
    optimizer = options.make_optimizer([nn.Parameter(torch.zeros(1))])
    schedule = options.make_schedule(optimizer, steps_per_epoch=2, total=20)
    again = pickle.loads(pickle.dumps(schedule))
    assert again.get_last_lr() == schedule.get_last_lr() == pytest.approx([0.01])


def test_sgd_has_its_momentum_and_decay() -> None:
    (group,) = TrainingOptions().make_optimizer([nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 1e-4)
    assert not group["nesterov"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"momentum": -0.9}, r"momentum must be 0 or more and finite, got -0\.9"),
        ({"learning_rate": math.nan}, "learning_rate must be 0 or more and finite, got nan"),
        ({"weight_decay": math.inf}, "weight_decay must be 0 or more and finite, got inf"),
        ({"warmup_start": 0.2}, r"warmup_start must not pass learning_rate=0\.1"),
        ({"final_learning_rate": 0.2}, r"final_learning_rate must not pass .* got 0\.2"),
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, got 'adam'"),
        ({"decay": "step"}, "decay must be one of linear, cosine, got 'step'"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**setting)  # type: ignore[arg-type]
