"""Small studies without training, and a reader of the HTML that reports are made of."""

import dataclasses
from collections.abc import Sequence
from html.parser import HTMLParser

import optuna
from optuna.trial import TrialState, create_trial

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.visualization._style import Direction

SPACE = SearchSpace.three_node()

RELU = "max(identity(x),zero(x))"
TANH = "add(tanh(x),zero(x))"
FOUND = "mul(hard_sigmoid(x),elu(x))"
OTHER = "max(tanh(x),swish(x))"

Row = tuple[str | None, float | TrialState | None]

ROWS: tuple[Row, ...] = (
    (RELU, 0.6),
    (TANH, 0.7),
    (OTHER, TrialState.PRUNED),
    (OTHER, 0.65),
    (FOUND, 0.8),
    ("sub(elu(x),cosh(x))", float("inf")),
    (None, TrialState.FAIL),
)


def study_of(
    rows: Sequence[Row] = ROWS, *, direction: Direction = "maximize", name: str = "a study"
) -> optuna.Study:
    """A study of (function, value or state); a trial without function has no parameters."""
    study = optuna.create_study(direction=direction, study_name=name)
    for text, outcome in rows:
        state = outcome if isinstance(outcome, TrialState) else TrialState.COMPLETE
        params = {} if text is None else SPACE.params_of(Expression.parse(text), "activation")
        study.add_trial(
            create_trial(
                state=state,
                value=None if isinstance(outcome, TrialState) else outcome,
                params=params,
                distributions={**SPACE.distributions("activation")} if params else {},
            )
        )
    return study


@dataclasses.dataclass(repr=False)
class Page(HTMLParser):
    """What a browser would see of a page."""

    source: str

    def __post_init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.texts.append(data)

    def loads(self) -> list[str]:
        """Addresses of everything that the page would fetch; places in itself are none."""
        names = ("src", "href", "srcset", "data", "action", "poster")
        return [
            value or ""
            for _, attributes in self.tags
            for name in names
            if (value := attributes.get(name)) is not None and not value.startswith("#")
        ]

    def text(self) -> str:
        return "\n".join(self.texts)
