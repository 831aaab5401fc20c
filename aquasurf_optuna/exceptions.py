"""The one family of errors that this project raises on purpose.

Every class derives from :class:`AquaSurfError`, so that ``except AquaSurfError`` catches them all.
Errors about a value that the caller passed are ``ValueError`` too.
"""

from __future__ import annotations


class AquaSurfError(Exception):
    """Base of every error that AQuaSurF raises on purpose."""


class ExpressionError(AquaSurfError, ValueError):
    """A text does not name an activation function.

    Attributes:
        text: The whole text, as it came.
        position: Zero-based index of the character at which reading stopped.
        expected: What would have been allowed there.
    """

    def __init__(self, problem: str, *, text: str, position: int, expected: str) -> None:
        self.text = text
        self.position = position
        self.expected = expected
        self.problem = problem
        super().__init__(
            f"{problem} at position {position} of {_excerpt(text, position)}: {expected}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_expression_error, (self.problem, self.text, self.position, self.expected))


class OperatorError(AquaSurfError, ValueError):
    """A function cannot be registered as an operator."""


class SettingsError(AquaSurfError, ValueError):
    """A setting of the command line or of a configuration file cannot be used."""


class KernelError(AquaSurfError, ValueError):
    """An activation was asked to be computed in a way that there is not."""


class SpaceError(AquaSurfError, ValueError):
    """A schema, an index or an expression does not fit a search space."""


class CatalogueError(AquaSurfError):
    """A file of a catalogue is damaged, or does not fit the operators and inputs known here."""


class UnsupportedModelError(AquaSurfError, ValueError):
    """A model cannot be used as it stands.

    Its Fisher features are not defined, AutoInit does not know one of its operations, or it takes
    no activation.
    """


class InvalidSpectrumError(AquaSurfError):
    """The Fisher eigenvalues of a network are invalid: the function would fail in training.

    Attributes:
        reason: What is not finite, or vanishes.
        layer: Name of the first layer concerned, or None where it concerns the whole network.
    """

    def __init__(self, reason: str, layer: str | None = None) -> None:
        self.reason = reason
        self.layer = layer
        super().__init__(reason if layer is None else f"layer {layer!r}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.reason, self.layer))


class InitializationError(AquaSurfError):
    """No weights exist that give the signals of a network unit variance."""


class DatasetError(AquaSurfError):
    """A file of a data set is missing, broken or cannot be fetched; the message names it."""


class FeatureStoreError(AquaSurfError):
    """The feature store cannot be opened, or holds something that it did not write."""


class PrecomputeError(AquaSurfError):
    """Features cannot be computed ahead: no worker process stays alive, or none can start."""


class SurrogateError(AquaSurfError, ValueError):
    """The surrogate was given features or observations that do not fit together."""


class BenchmarkError(AquaSurfError, ValueError):
    """A benchmark table, or a file of training runs, cannot be read, fetched or used."""


class SamplerError(AquaSurfError, ValueError):
    """The sampler cannot work with this space, study or setting."""


def _rebuild_expression_error(
    problem: str, text: str, position: int, expected: str
) -> ExpressionError:
    return ExpressionError(problem, text=text, position=position, expected=expected)


def _excerpt(text: str, position: int, width: int = 60) -> str:
    """Quote `text`, a huge one cut to `width` characters around `position`."""
    if len(text) <= width:
        return repr(text)
    start = max(0, min(position - width // 2, len(text) - width))
    before = "..." if start > 0 else ""
    after = "..." if start + width < len(text) else ""
    return f"{before}{text[start : start + width]!r}{after}"
