"""Unions of schemas, spaces with graphs left out, and spaces too large to enumerate."""

import collections
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import ExpressionError, SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.space import COATNET_BASELINES, SearchSpace

FOUR_NODE = SearchSpace.four_node()
COATNET = SearchSpace.coatnet()
LEFT_OUT = tuple(map(FOUR_NODE.__getitem__, random.Random(0).sample(range(FOUR_NODE.size), 40)))
FOUR_NODE_LESS = FOUR_NODE.without(*LEFT_OUT)

UNARY = ("relu", "tanh", "erf")
BINARY = ("add", "max")
SMALL = SearchSpace(
    "unary(x) | binary(unary(x),constant) | mul(0.5,unary(x))",
    unary=UNARY,
    binary=BINARY,
    constants=(1, 0.25),
)
HUGE = SearchSpace("n_ary(" + ",".join(["binary(unary(unary(x)),unary(x))"] * 7) + ")")


def texts(space: SearchSpace) -> set[str]:
    return set(map(str, space))


def is_each_once(space: SearchSpace, expected: set[str]) -> bool:
    return texts(space) == expected and space.size == len(expected)


def test_the_spaces_of_the_paper_have_its_sizes() -> None:
    assert [part.size for part in FOUR_NODE.parts] == [137_781, 137_781, 78_732, 137_781, 531_441]
    assert len(FOUR_NODE) == FOUR_NODE.size == 1_023_516
    assert [part.size for part in COATNET.parts] == [31 * 31 * 7 * 31, 31**3, 13]
    assert len(COATNET) == 238_341
    assert {f"{name}(x)" for name in COATNET_BASELINES} == {str(COATNET[-k]) for k in range(1, 14)}


@pytest.mark.parametrize(
    "space",
    [FOUR_NODE, COATNET, FOUR_NODE_LESS, SMALL, HUGE, HUGE | COATNET],
    ids=["four_node", "coatnet", "four_node_less", "small", "huge", "huge_union"],
)
def test_index_and_graph_are_inverse(space: SearchSpace) -> None:
    rng = random.Random(1)
    indices = [0, space.size - 1, *(rng.randrange(space.size) for _ in range(300))]
    for index in indices:
        graph = space[index]
        assert space.index(graph) == space.find(graph) == index
        assert space.index(str(graph)) == index
        assert space.expression_of(space.params_of(graph, "f"), "f") == graph
    assert space[-1] == space[space.size - 1]


def test_graphs_left_out_shift_the_others() -> None:
    assert FOUR_NODE_LESS.size == FOUR_NODE.size - 40
    left = [graph for graph in FOUR_NODE.sample(500, seed=3) if graph not in LEFT_OUT]
    for graph in left:
        before = sum(FOUR_NODE.index(each) < FOUR_NODE.index(graph) for each in LEFT_OUT)
        assert FOUR_NODE_LESS.index(graph) == FOUR_NODE.index(graph) - before
    for graph in LEFT_OUT:
        assert graph not in FOUR_NODE_LESS
        with pytest.raises(SpaceError, match="is not a graph of"):
            FOUR_NODE_LESS.index(graph)


def test_a_space_need_not_be_enumerable() -> None:
    # 4 * (7 * 27**3)**7: anything that went through the graphs, or named them all, would not end.
    size = 4 * 137_781**7
    assert HUGE.size == size > 10**30
    with pytest.raises(OverflowError, match="cannot fit"):
        len(HUGE)
    with pytest.raises(IndexError, match=f"outside a space of {size} graphs"):
        HUGE[size]
    drawn = HUGE.sample(50, seed=0)
    assert len(set(drawn)) == 50
    assert all(graph in HUGE for graph in drawn)
    assert drawn == HUGE.sample(50, seed=0) != HUGE.sample(50, seed=1)
    assert (HUGE | "relu(x)").size == size + 1
    assert HUGE.without(*drawn).size == size - 50
    assert HUGE.restrict(n_ary=["sum_n"]).size == size // 4
    assert pickle.loads(pickle.dumps(HUGE)) == HUGE
    with pytest.raises(SpaceError, match=r"at most 2,147,483,647 graphs, and this space has 3,7"):
        Catalogue.of(HUGE)


def test_a_union_counts_each_graph_once() -> None:
    a = SearchSpace("binary(unary(x),unary(x))", unary=UNARY, binary=BINARY)
    b = SearchSpace("binary(unary(x),unary(x))", unary=("tanh", "elu"), binary=("max", "min"))
    c = SearchSpace("binary(relu(x),unary(x))", unary=("relu", "erf"), binary=BINARY)
    assert is_each_once(a | b, texts(a) | texts(b))
    assert is_each_once(a | c, texts(a))
    assert is_each_once(c | b | a, texts(a) | texts(b))
    assert a | c == a == c | a == a | a
    assert (a | b).parts[0] == a.parts[0]
    assert not is_each_once(a, texts(a) | texts(b))


def test_one_text_and_a_sequence_are_the_same_union() -> None:
    texts_of_schemas = ["unary(x)", "binary(unary(x),x)", "unary(x)", "relu(x)"]
    union = SearchSpace(" | ".join(texts_of_schemas))
    assert union == SearchSpace(texts_of_schemas) == SearchSpace(tuple(texts_of_schemas))
    assert union.schema == "unary(x) | binary(unary(x),x)"
    assert union.size == 27 + 7 * 27
    assert SearchSpace("unary(x)") | "relu(x)" == SearchSpace("unary(x)")
    assert (SearchSpace("unary(x)") | "x").schema == "unary(x) | x"


@given(st.permutations(range(4)))
def test_the_order_of_schemas_changes_no_set(order: list[int]) -> None:
    schemas = ["binary(unary(x),x)", "add(unary(x),x)", "binary(relu(x),x)", "max(tanh(x),x)"]
    space = SearchSpace([schemas[place] for place in order], unary=UNARY, binary=BINARY)
    assert is_each_once(space, texts(SearchSpace(schemas[0], unary=UNARY, binary=BINARY)))


def test_what_a_union_leaves_out_is_what_neither_has() -> None:
    a = SearchSpace("unary(x)", unary=UNARY).without("relu(x)", "erf(x)")
    b = SearchSpace("unary(x)", unary=("relu", "elu")).without("elu(x)")
    assert texts(a | b) == {"tanh(x)", "relu(x)"} == texts(b | a)
    assert (a | "erf(x)").size == 2
    with pytest.raises(TypeError, match="unsupported operand"):
        a | 3  # type: ignore[operator] # the wrong type is the test
    with pytest.raises(ExpressionError, match="did you mean relu"):
        a | "rellu(x)"


def test_restricting_a_union() -> None:
    restricted = SMALL.restrict(unary=("tanh",), binary=("add",))
    assert texts(restricted) == {
        "tanh(x)",
        "add(tanh(x),1)",
        "add(tanh(x),0.25)",
        "mul(0.5,tanh(x))",
    }
    # A schema without an operator for one of its places is dropped; `mul` is not a free one.
    assert SMALL.restrict(binary=("mul",)).schema == "unary(x) | mul(0.5,unary(x))"
    assert SMALL.restrict() == SMALL
    with pytest.raises(SpaceError, match="nothing is left of unary"):
        SMALL.restrict(unary=("elu",))
    with pytest.raises(SpaceError, match="unary needs one or more different unary operators"):
        SMALL.restrict(unary=("max",))


def test_leaving_out_operators_and_graphs() -> None:
    less = SMALL.without("relu", "max", "tanh(x)", "mul(0.5,relu(x))")
    expected = {
        text
        for text in texts(SMALL)
        if not any(name in text for name in ("relu", "max")) and text != "tanh(x)"
    }
    assert is_each_once(less, expected)
    assert is_each_once(SMALL.without("0.25"), {t for t in texts(SMALL) if "0.25" not in t})
    assert SMALL.without("tanh(x)").without("tanh") == SMALL.without("tanh")
    assert SMALL.without() == SMALL
    assert less.without(Expression.parse("erf(x)")).size == less.size - 1


def test_a_schema_that_is_left_out_wholly_goes() -> None:
    assert (SMALL | "gelu(x)").without("gelu(x)") == SMALL
    less = SMALL.without("mul(0.5,tanh(x))", *(f"{name}(x)" for name in UNARY))
    assert less.schema == "binary(unary(x),constant) | mul(0.5,unary(x))"
    assert is_each_once(less, {t for t in texts(SMALL) if "," in t} - {"mul(0.5,tanh(x))"})
    assert [less.index(graph) for graph in less] == list(range(less.size))


def test_leaving_out_everything_or_what_is_not_there_is_refused() -> None:
    unary = SearchSpace("unary(x)", unary=("relu", "tanh"))
    with pytest.raises(SpaceError, match=r"nothing is left of unary\(x\)"):
        unary.without("relu", "tanh")
    with pytest.raises(SpaceError, match=r"nothing is left of unary\(x\)"):
        unary.without("relu(x)", "tanh(x)")
    with pytest.raises(SpaceError, match=r"nothing is left of unary\(x\)"):
        unary.without("relu", "tanh(x)")
    with pytest.raises(SpaceError, match=r"nothing is left of unary\(x\)"):
        unary.without("relu(x)").restrict(unary=["relu"])
    with pytest.raises(SpaceError, match="'erf' stands at no free place of unary"):
        unary.without("erf")
    with pytest.raises(SpaceError, match="'mul' stands at no free place of"):
        SMALL.without("mul")
    with pytest.raises(SpaceError, match=r"erf\(x\) is not a graph of unary\(x\)"):
        unary.without("erf(x)")
    with pytest.raises(SpaceError, match=r"relu\(x\) is not a graph of unary\(x\)"):
        unary.without("relu(x)").without("relu(x)")
    for wrong in (3, ["relu"]):
        with pytest.raises(ExpressionError, match="pass a str such as"):
            unary.without(wrong)  # type: ignore[arg-type] # the wrong type is the test


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ((), "constant needs one or more different numbers, got"),
        ((0.5, 0.50), r"got \['0.5', '0.5'\]; pass them as constants="),
        ((0.5, float("nan")), "constants are finite numbers .* got nan among them"),
        (("0.5",), "constants are finite numbers .* got '0.5' among them"),
        ((True,), "constants are finite numbers .* got True among them"),
    ],
)
def test_bad_constants_are_refused(constants: tuple[float, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace("mul(constant,unary(x))", constants=constants)


def test_constants_are_choices_of_their_own() -> None:
    space = SearchSpace("add(constant,mul(2.50,constant))", constants=(1, -0.0, 1e-3))
    assert space.schema == "add(constant,mul(2.5,constant))"
    assert space.size == 9
    assert str(space[5]) == "add(0,mul(2.5,0.001))"
    assert space.distributions("f")["f.0"].choices == ("1", "0", "0.001")
    assert space.without("0").size == 4


def frequencies(drawn: list[Expression]) -> collections.Counter[str]:
    return collections.Counter(map(str, drawn))


def is_uniform(counts: collections.Counter[str], n: int) -> bool:
    """Whether `n` things look drawn alike; of fair draws one in a thousand does not."""
    observed = [*counts.values(), *[0] * (n - len(counts))]
    return bool(chisquare(observed).pvalue > 1e-3)


def test_graphs_of_all_schemas_are_drawn_alike() -> None:
    # Schemas with 3, 12 and 1 graphs: draws of a schema first would not be uniform.
    union = SearchSpace("binary(unary(x),constant) | unary(x)", unary=UNARY, constants=(1, 2))
    space = (union | "x").without("add(relu(x),1)")
    drawn = space.sample(4000, seed=0, replace=True)
    assert is_uniform(frequencies(drawn), space.size)
    by_schema = [space.parts[seed % 3].build(0) for seed in range(4000)]
    assert not is_uniform(frequencies(by_schema), space.size)
    without = [each for seed in range(400) for each in space.sample(10, seed=seed)]
    assert is_uniform(frequencies(without), space.size)
    most = [each for seed in range(200) for each in space.sample(space.size - 1, seed=seed)]
    assert is_uniform(frequencies(most), space.size)


def test_classes_are_drawn_alike_however_many_graphs_they_have() -> None:
    catalogue = Catalogue.of(
        SearchSpace("binary(unary(x),unary(x))", unary=("zero", "one", "relu"))
    )
    sizes = [len(catalogue.members(class_id)) for class_id in range(len(catalogue))]
    assert max(sizes) > 3 * min(sizes)
    drawn = frequencies(catalogue.sample(5000, seed=0, replace=True))
    assert is_uniform(drawn, len(catalogue))
    classes = [
        catalogue.class_of(graph) for graph in catalogue.space.sample(5000, seed=0, replace=True)
    ]
    assert not is_uniform(collections.Counter(map(str, classes)), len(catalogue))


def test_drawing_too_many_is_refused() -> None:
    assert len(set(SMALL.sample(SMALL.size, seed=0))) == SMALL.size
    for n in (-1, SMALL.size + 1):
        with pytest.raises(SpaceError, match=f"between 0 and {SMALL.size}, the number of graphs"):
            SMALL.sample(n)
    assert len(SMALL.sample(SMALL.size + 1, replace=True)) == SMALL.size + 1


def test_equality_hash_and_pickle_of_unions() -> None:
    for space in (FOUR_NODE, FOUR_NODE_LESS, COATNET, SMALL):
        again = pickle.loads(pickle.dumps(space))
        assert again == space
        assert hash(again) == hash(space)
        assert again.schema == space.schema
        assert again[space.size // 2] == space[space.size // 2]
    assert FOUR_NODE != FOUR_NODE_LESS
    assert SMALL.without("tanh(x)") != SMALL
    assert repr(FOUR_NODE_LESS).endswith("1,023,476 graphs)")
