import random

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.data._parts import EpochSampler, Key, Part


def noisy(value: float) -> Tensor:
    """A value beside one number of each generator that augmentations draw from."""
    drawn = [torch.rand(()).item(), np.random.random(), random.random()]  # noqa: NPY002
    return torch.tensor([value, *drawn])


def part_of(size: int, seed: int | None = 0) -> Part:
    return Part([(float(index), index % 3) for index in range(size)], noisy, seed=seed)


def states() -> list[bytes]:
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    return [
        torch.get_rng_state().numpy().tobytes(),
        repr(state).encode() + state["state"]["key"].tobytes(),
        repr(random.getstate()).encode(),
    ]


def test_an_image_has_the_same_noise_each_time_it_is_drawn_in_an_epoch() -> None:
    first, _ = part_of(5)[(2, 3)]
    random.seed(9)
    torch.manual_seed(9)
    again, label = part_of(5)[(2, 3)]
    assert torch.equal(first, again)
    assert first[0] == 3.0
    assert label == 0


@pytest.mark.parametrize("other", [(0, (3, 3)), (0, (2, 4)), (1, (2, 3))])
def test_epoch_position_and_seed_all_change_every_generator(
    other: tuple[int, tuple[int, int]],
) -> None:
    seed, key = other
    drawn, changed = part_of(5)[(2, 3)][0][1:], part_of(5, seed)[key][0][1:]
    assert (drawn != changed).all()


def test_other_random_numbers_are_left_alone() -> None:
    before = states()
    part_of(5)[(1, 2)]
    assert states() == before
    part_of(5, seed=None)[2]
    assert all(now != then for now, then in zip(states(), before, strict=True))


def test_random_numbers_are_left_alone_after_an_error_too() -> None:
    def fails(_: float) -> Tensor:
        noisy(0.0)
        raise RuntimeError("broken")

    before = states()
    with pytest.raises(RuntimeError, match="broken"):
        Part([(0.0, 0)], fails, seed=0)[0]
    assert states() == before


def test_a_part_is_a_sequence() -> None:
    part = part_of(4)
    assert [label for _, label in part] == [0, 1, 2, 0]  # type: ignore[attr-defined]
    assert torch.equal(part[-1][0], part[3][0])
    assert torch.equal(part[3][0], part[(0, 3)][0])
    with pytest.raises(IndexError, match="out of range"):
        part[4]


def order(size: int, *, seed: int, epoch: int, **share: int) -> list[Key]:
    sampler = EpochSampler(part_of(size), seed=seed, **share)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_epoch_has_every_image_once_in_its_own_order() -> None:
    orders = [order(50, seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)]
    for index, keys in enumerate(orders):
        epochs, positions = zip(*keys, strict=True)
        assert set(epochs) == {index % 3}
        assert sorted(positions) == list(range(50))
    shuffled = {tuple(position for _, position in keys) for keys in orders}
    # Neighbouring seeds and epochs share no order either.
    assert len(shuffled) == 9
    assert orders[4] == order(50, seed=1, epoch=1)


def test_processes_share_the_images_without_repeating_one() -> None:
    shares = [order(11, seed=0, epoch=1, num_replicas=3, rank=rank) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    assert len({key for share in shares for key in share}) == 9


@pytest.fixture(params=[0, 2], ids=["no workers", "two workers"])
def loader(request: pytest.FixtureRequest) -> DataLoader[tuple[Tensor, int]]:
    part = part_of(12)
    return DataLoader(
        part,
        batch_size=3,
        sampler=EpochSampler(part, seed=5),
        num_workers=request.param,
        persistent_workers=request.param > 0,
        generator=torch.Generator(),
    )


def test_batches_are_those_of_the_epoch_for_any_number_of_workers(
    loader: DataLoader[tuple[Tensor, int]],
) -> None:
    expected_of: dict[int, list[Tensor]] = {}
    for epoch in (0, 1, 0):
        assert isinstance(loader.sampler, EpochSampler)
        loader.sampler.set_epoch(epoch)
        if epoch == 1:
            next(iter(loader))  # Peeking changes nothing.
        images = torch.cat([images for images, _ in loader])
        keys = order(12, seed=5, epoch=epoch)
        assert torch.equal(images, torch.stack([part_of(12)[key][0] for key in keys]))
        expected_of.setdefault(epoch, []).append(images)
    first, again = expected_of[0]
    assert torch.equal(first, again)
