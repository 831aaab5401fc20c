"""Refusing an option that is out of its range, in the same words for every data module."""

from __future__ import annotations


def require_between(
    owner: str, name: str, value: float, low: float, high: float | None = None
) -> None:
    """Refuse a number outside `low` to `high`, both allowed; None is no upper limit.

    Raises:
        ValueError: If it is outside, or not a number.
    """
    if value >= low and (high is None or value <= high):
        return
    allowed = f"{low} or more" if high is None else f"between {low} and {high}"
    raise ValueError(f"{owner}: {name} must be {allowed}, got {value!r}")
