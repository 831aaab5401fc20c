"""Random expressions for hypothesis."""

from hypothesis import strategies as st

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import LEAF, N_ARY, OPERATORS

X = Expression(LEAF)


def _extend(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    def nodes(name: str) -> st.SearchStrategy[Expression]:
        arity = OPERATORS[name].arity
        smallest, largest = (2, 4) if arity == N_ARY else (arity, arity)
        arguments = st.lists(children, min_size=smallest, max_size=largest)
        return arguments.map(lambda found: Expression(name, tuple(found)))

    return st.sampled_from(sorted(OPERATORS)).flatmap(nodes)


def constants() -> st.SearchStrategy[Expression]:
    """Any number that an expression may hold, tiny and huge ones included."""
    whole = st.integers(-10, 10).map(float)
    numbers = whole | st.floats(allow_nan=False, allow_infinity=False)
    return numbers.map(Expression.constant)


def moderate_constants() -> st.SearchStrategy[Expression]:
    """Numbers as a user writes them, with which arithmetic stays within the range of doubles."""
    return st.integers(-40, 40).map(lambda tenths: Expression.constant(tenths / 10))


def expressions(
    max_leaves: int = 6, numbers: st.SearchStrategy[Expression] | None = None
) -> st.SearchStrategy[Expression]:
    """Random trees over `x` and numbers, moderate ones unless told otherwise."""
    others = moderate_constants() if numbers is None else numbers
    return st.recursive(st.just(X) | others, _extend, max_leaves=max_leaves)
