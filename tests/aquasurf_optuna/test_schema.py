"""Places against what they stand for: the set of texts, written out in plain Python."""

import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquasurf_optuna._schema import (
    Place,
    contains,
    difference,
    disjoint,
    fixed,
    free_names,
    kept,
    meet,
    parse_schemas,
)
from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.expression import Expression

NAMES = {
    "unary": ("relu", "tanh", "erf"),
    "binary": ("add", "mul", "max"),
    "n_ary": ("sum_n", "max_n"),
    "constant": ("0.5", "1", "-2"),
}

Shape = tuple[str, tuple["Shape", ...]]
"""A label and the shapes of the children."""


def texts(place: Place) -> set[str]:
    """Everything that a place stands for, spelled out."""
    if not place.children:
        return set(place.names)
    arguments = [",".join(each) for each in itertools.product(*map(texts, place.children))]
    return {f"{name}({each})" for name in place.names for each in arguments}


def is_partition(pieces: list[Place], expected: set[str]) -> bool:
    """Whether places hold just these texts, each in one place only."""
    spelled = [texts(piece) for piece in pieces]
    return set().union(*spelled) == expected and sum(map(len, spelled)) == len(expected)


X: Shape = ("x", ())
NUMBER: Shape = ("constant", ())
UNARY: Shape = ("unary", (X,))
SHAPES: tuple[Shape, ...] = (
    X,
    NUMBER,
    UNARY,
    ("unary", (UNARY,)),
    ("binary", (UNARY, NUMBER)),
    ("binary", (UNARY, UNARY)),
    ("binary", (("unary", (NUMBER,)), UNARY)),
    ("n_ary", (UNARY, X)),
    ("n_ary", (UNARY, X, NUMBER)),
    ("n_ary", (NUMBER, UNARY, NUMBER)),
)


def shapes() -> st.SearchStrategy[Shape]:
    return st.sampled_from(SHAPES)


def boxes(shape: Shape) -> st.SearchStrategy[Place]:
    """Places of one shape, with some of the names at each."""
    label, children = shape
    inside = st.tuples(*map(boxes, children))
    if label == "x":
        return st.just(Place("x", ("x",)))
    some = st.lists(st.sampled_from(NAMES[label]), min_size=1, max_size=3, unique=True)
    return st.builds(lambda names, places: Place(label, tuple(names), places), some, inside)


def alike(n: int) -> st.SearchStrategy[tuple[Place, ...]]:
    """So many places of one shape, which meet often."""
    return shapes().flatmap(lambda shape: st.tuples(*[boxes(shape) for _ in range(n)]))


def any_two() -> st.SearchStrategy[tuple[Place, Place]]:
    free = shapes().flatmap(boxes)
    return alike(2) | st.tuples(free, free)


@given(shapes().flatmap(boxes))
def test_a_place_numbers_what_it_stands_for(place: Place) -> None:
    graphs = [place.build(index) for index in range(place.size)]
    assert place.size == len(texts(place))
    assert {str(graph) for graph in graphs} == texts(place)
    assert [place.index(graph) for graph in graphs] == list(range(place.size))
    for index in range(place.size):
        assert place.index_of_choices(iter(place.choices(index))) == index


@given(any_two())
def test_places_compare_as_their_sets_do(pair: tuple[Place, Place]) -> None:
    a, b = pair
    assert contains(a, b) == (texts(a) >= texts(b))
    assert meet(a, b) == (not texts(a).isdisjoint(texts(b)))


@given(any_two())
def test_a_difference_is_that_of_the_sets(pair: tuple[Place, Place]) -> None:
    a, b = pair
    assert is_partition(difference(a, b), texts(a) - texts(b))


@given(st.lists(any_two(), min_size=1, max_size=2), alike(3))
def test_disjoint_places_hold_each_graph_once(
    pairs: list[tuple[Place, Place]], three: tuple[Place, ...]
) -> None:
    places = [*itertools.chain.from_iterable(pairs), *three]
    assert is_partition(disjoint(places), set().union(*map(texts, places)))


@given(shapes().flatmap(boxes), st.sets(st.sampled_from(["relu", "add", "sum_n", "1"])))
def test_kept_places_are_a_filter(place: Place, unwanted: set[str]) -> None:
    left = kept(place, lambda _, name: name not in unwanted)
    expected = {
        text
        for text in texts(place)
        if unwanted.isdisjoint(node.operator for node in Expression.parse(text).walk())
    }
    assert (set() if left is None else texts(left)) == expected


def test_the_oracle_notices_an_overlap_and_a_gap() -> None:
    leaf = Place("x", ("x",))
    a = Place("unary", ("relu", "tanh"), (leaf,))
    b = Place("unary", ("tanh", "erf"), (leaf,))
    expected = {"relu(x)"}
    assert is_partition(difference(a, b), expected)
    assert not is_partition([a], expected)
    assert not is_partition([], expected)
    assert not is_partition([a, b], texts(a) | texts(b))


def test_places_of_more_arguments_are_others() -> None:
    two, three = parse_schemas("n_ary(unary(x),x) | n_ary(unary(x),x,x)", NAMES)
    for a, b in ((two, three), (three, two)):
        assert not contains(a, b)
        assert not meet(a, b)
        assert difference(a, b) == [a]
    assert disjoint([two, three]) == [two, three]


def test_pieces_of_a_difference_do_not_meet() -> None:
    (place,) = parse_schemas("binary(unary(x),unary(x))", NAMES)
    (corner,) = parse_schemas("add(relu(x),relu(x))", NAMES)
    pieces = difference(place, corner)
    assert len(pieces) == 3
    assert is_partition(pieces, texts(place) - {"add(relu(x),relu(x))"})


def test_the_larger_of_two_stays_whole() -> None:
    small, large = parse_schemas("relu(x) | unary(x)", NAMES)
    assert disjoint([small, large]) == [large]
    assert disjoint([large, small, large]) == [large]


def test_a_place_has_no_graph_of_another_form() -> None:
    (place,) = parse_schemas("n_ary(unary(x),unary(x))", NAMES)
    for text in ("sum_n(relu(x),relu(x),relu(x))", "add(relu(x),relu(x))", "relu(x)", "x", "1"):
        assert place.index(Expression.parse(text)) is None


def test_one_function_is_a_place() -> None:
    place = fixed(Expression.parse("mul(0.5,relu(x))"))
    assert (place.size, str(place), texts(place)) == (1, "mul(0.5,relu(x))", {"mul(0.5,relu(x))"})
    assert not any(each.is_free for each in place.walk())
    assert free_names(place) == set()


def test_free_names_are_those_of_free_places() -> None:
    (place,) = parse_schemas("tanh(binary(unary(x),constant))", NAMES)
    assert free_names(place) == {*NAMES["binary"], *NAMES["unary"], *NAMES["constant"]}


def test_what_was_built_is_not_pickled() -> None:
    (place,) = parse_schemas("binary(unary(x),unary(x))", NAMES)
    before = pickle.dumps(place)
    assert [place.build(index) for index in range(place.size)]
    assert pickle.dumps(place) == before
    assert pickle.loads(before) == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unary(x) | binary(x)", r"binary got 1 argument at position 19 .*takes two arguments"),
        ("unary(x) | binry(x,x)", "unknown operator 'binry' at position 11 .*did you mean binary"),
        ("unary(x) |", "the text is empty at position 10 "),
        ("| unary(x)", "the text is empty at position 0 "),
        ("unary(x) || x", "the text is empty at position 10 "),
        ("unary(x) unary(x)", "found 'u' after the end of the function at position 9 "),
        ("x | constant(x)", r"found '\(' after the end of the function at position 12 "),
        ("x | n_ary(x)", "n_ary got 1 argument at position 11 .*takes two or more arguments"),
        ("x | unary(1e999)", "1e999 is not a finite number .*at position 10 "),
        ("x | unary(ü)", "found 'ü' at position 10 .*ASCII characters only"),
    ],
)
def test_a_bad_schema_is_located_in_the_whole_text(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=f"not a schema: .*{message}"):
        parse_schemas(text, NAMES)
