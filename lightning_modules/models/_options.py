"""What the networks share: refusing an option out of its range, and scaling the channels."""

from __future__ import annotations


def require(holds: bool, owner: str, name: str, value: object, allowed: str) -> None:
    """Refuse an option that is out of its range.

    Args:
        holds: Whether it is within its range.
        owner: The class that was given the option.
        name: The option.
        value: What came.
        allowed: What would have been allowed.

    Raises:
        ValueError: Unless `holds`.
    """
    if not holds:
        raise ValueError(f"{owner}: {name} must be {allowed}, got {value!r}")


def require_sizes(owner: str, *, num_classes: int, in_channels: int) -> None:
    """Refuse a number of classes or of image channels below one.

    Raises:
        ValueError: If one of them is.
    """
    require(num_classes >= 1, owner, "num_classes", num_classes, "1 or more")
    require(in_channels >= 1, owner, "in_channels", in_channels, "1 or more")


def scaled(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded, at least 1."""
    return max(1, round(width * channels))
