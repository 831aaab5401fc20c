"""Why a function was proposed: kept on its trial in one short attribute, and told in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXPLANATION_KEY = "aquasurf:explanation"

REASONS = {
    "baseline": "a standard function, tried before the search begins",
    "first": "drawn at random, since nothing is known yet",
    "predicted": "ranked best by the surrogate among the candidates that are free",
    "unranked": "a function that fits what is fixed, outside the candidates",
    "unmeasured": "drawn at random, since no function with stored features is left to try",
    "repeated": "the best known function once more, since nothing is left to try",
    "chance": "any function that fits what is fixed, since nothing is left to try",
}
"""Why a function was proposed, in words."""


@dataclass(frozen=True)
class Neighbour:
    """A tried combination near the one proposed.

    Attributes:
        functions: Text of the function of each activation, by name.
        values: Its mean value in each objective, in the study's directions; None for a failure.
        distance: In the features; 1 is the usual distance of two candidates.
    """

    functions: dict[str, str]
    values: tuple[float | None, ...]
    distance: float

    def in_directions(self, signs: Sequence[float]) -> Neighbour:
        """Turn values that are higher the better into those of a study."""
        pairs = zip(self.values, signs, strict=True)
        return replace(self, values=tuple(None if v is None else v * sign for v, sign in pairs))


@dataclass(frozen=True)
class Explanation:
    """What a proposal rests on; ``str()`` tells it in words.

    Attributes:
        functions: Text of the function of each activation, by name.
        reason: A key of :data:`REASONS`.
        surrogate: Name of the surrogate's class.
        predicted: Predicted value of each objective, in the study's directions; empty without one.
        spread: Standard deviation of each; None where the surrogate knows none.
        weights: Of the objectives in this proposal; empty where there is one objective.
        rank: The place among the free candidates, from 1; above 1 where other workers are at those
            before it. None where there was no ranking.
        n_candidates: How many were ranked.
        n_observed: How many tried combinations the surrogate knew.
        nearest: Up to three tried combinations, the nearest first.
    """

    functions: dict[str, str]
    reason: str
    surrogate: str = ""
    predicted: tuple[float, ...] = ()
    spread: tuple[float | None, ...] = ()
    weights: tuple[float, ...] = ()
    rank: int | None = None
    n_candidates: int = 0
    n_observed: int = 0
    nearest: tuple[Neighbour, ...] = ()

    def in_directions(self, signs: Sequence[float]) -> Explanation:
        """Turn values that are higher the better into those of a study, by 1 or -1 for each."""
        return replace(
            self,
            predicted=tuple(v * sign for v, sign in zip(self.predicted, signs, strict=False)),
            nearest=tuple(near.in_directions(signs) for near in self.nearest),
        )

    def as_attribute(self) -> dict[str, Any]:
        """Return what is written to the trial, as short as it can be.

        The functions stand in the claims already. Numbers have four digits.
        """
        near = [
            [list(each.functions.values()), _short(each.values), *_short((each.distance,))]
            for each in self.nearest
        ]
        found = {
            "why": self.reason,
            "by": self.surrogate,
            "value": _short(self.predicted),
            "sd": _short(self.spread),
            "weights": _short(self.weights),
            "rank": [self.rank, self.n_candidates, self.n_observed] if self.rank else [],
            "near": near,
        }
        return {key: value for key, value in found.items() if value}

    @classmethod
    def of_attribute(cls, attribute: Mapping[str, Any], functions: dict[str, str]) -> Explanation:
        """Return what was written, given the functions of the trial."""
        rank, n_candidates, n_observed = attribute.get("rank", (None, 0, 0))
        nearest = tuple(
            Neighbour(dict(zip(functions, texts, strict=False)), tuple(values), distance)
            for texts, values, distance in attribute.get("near", ())
        )
        return cls(
            functions,
            attribute["why"],
            surrogate=attribute.get("by", ""),
            predicted=tuple(attribute.get("value", ())),
            spread=tuple(attribute.get("sd", ())),
            weights=tuple(attribute.get("weights", ())),
            rank=rank,
            n_candidates=n_candidates,
            n_observed=n_observed,
            nearest=nearest,
        )

    def __str__(self) -> str:
        names = ", ".join(f"{name} = {text}" for name, text in self.functions.items())
        lines = [f"{names}: {REASONS[self.reason]}"]
        if self.rank is not None:
            lines.append(
                f"  number {self.rank} of {self.n_candidates} candidates, by {self.surrogate} on "
                f"{self.n_observed} tried"
            )
        if self.weights:
            lines.append("  weights of the objectives: " + _numbers(self.weights))
        if self.predicted:
            spreads = zip(self.predicted, self.spread, strict=True)
            told = [f"{v:.4g}" + ("" if s is None else f" ± {s:.2g}") for v, s in spreads]
            lines.append("  predicted: " + ", ".join(told))
        for near in self.nearest:
            texts = ", ".join(near.functions.values())
            values = _numbers(near.values)
            lines.append(f"  near, at {near.distance:.2g}: {texts}, which gave {values}")
        return "\n".join(lines)


def _numbers(values: tuple[float | None, ...]) -> str:
    return ", ".join("a failure" if value is None else f"{value:.4g}" for value in values)


def _short(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.4g}") for value in values]
