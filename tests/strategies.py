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


def expressions(max_leaves: int = 6) -> st.SearchStrategy[Expression]:
    return st.recursive(st.just(X), _extend, max_leaves=max_leaves)
