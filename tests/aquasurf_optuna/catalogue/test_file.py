"""Catalogues as files: what comes back, what is refused, and what others read."""

import dataclasses
import json
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aquasurf_optuna import operators
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.catalogue._classes import Classes
from aquasurf_optuna.catalogue._file import VERSION, CatalogueFile, _header_digest
from aquasurf_optuna.equality import Equality
from aquasurf_optuna.exceptions import CatalogueError
from aquasurf_optuna.features.outputs import function_key
from aquasurf_optuna.operators import OPERATORS, register_operator
from aquasurf_optuna.space import SearchSpace

pytestmark = pytest.mark.usefixtures("forgotten_operators")

UNARY = ("zero", "one", "relu", "erf", "negative", "reciprocal")
SPACES = {
    "one": SearchSpace("binary(unary(x),unary(x))", unary=UNARY, binary=("add", "div")),
    "union": SearchSpace(
        "n_ary(unary(x),x,unary(x)) | tanh(binary(unary(x),constant)) | unary(x)",
        unary=(*UNARY, "exp", "sinh", "arctan"),
        constants=(0.5, -1e300),
    )
    | "gelu(x)",
    "tiny": SearchSpace("unary(x)", unary=("relu",)),
}
SPACES["less"] = SPACES["union"].without("relu(x)", SPACES["union"][7], "one")
EQUALITIES = [
    Equality("tolerance"),
    Equality("identical"),
    Equality("identical", "sign"),
    Equality("tolerance", "affine"),
]
FIELDS = tuple(field.name for field in dataclasses.fields(Classes))


@pytest.fixture(scope="module")
def made() -> Catalogue:
    return Catalogue.of(SPACES["less"])


@pytest.fixture
def saved(made: Catalogue, tmp_path: Path) -> Path:
    """A file with outputs, of several blocks."""
    assert len(made) > 2 * 64
    return made.save(tmp_path / "saved.catalogue", outputs=True)


def same(a: Catalogue, b: Catalogue) -> bool:
    return (
        a.space == b.space
        and a.equality == b.equality
        and all(
            np.array_equal(getattr(a._classes, name), getattr(b._classes, name)) for name in FIELDS
        )
    )


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    return header


def body_start(path: Path) -> int:
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    return 8 + int(length)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], *, sign: bool = True) -> None:
    """Change the header of a file, and its checksum with it."""
    header, body = header_of(path), path.read_bytes()[body_start(path) :]
    change(header)
    if sign:
        header["__metadata__"]["digest"] = _header_digest(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def place_of(path: Path, name: str) -> range:
    """Where an array stands in a file."""
    start, stop = header_of(path)[name]["data_offsets"]
    return range(body_start(path) + start, body_start(path) + stop)


@pytest.mark.parametrize("outputs", [False, True])
@pytest.mark.parametrize("equality", EQUALITIES, ids=str)
@pytest.mark.parametrize("name", SPACES)
def test_what_was_saved_comes_back(
    name: str, equality: Equality, outputs: bool, tmp_path: Path
) -> None:
    catalogue = Catalogue.of(SPACES[name], equality.rule, invariance=equality.invariance)
    path = tmp_path / "new" / "folder" / "a.catalogue"
    assert catalogue.save(str(path), outputs=outputs) == path
    loaded = Catalogue.load(str(path))
    assert same(loaded, catalogue)
    assert repr(loaded) == repr(catalogue)
    assert len(loaded) == len(catalogue)
    np.testing.assert_array_equal(loaded.outputs, catalogue.outputs)
    for class_id in range(len(catalogue)):
        assert loaded[class_id] == catalogue[class_id]
        assert loaded.members(class_id) == catalogue.members(class_id)
        assert loaded.class_of(catalogue[class_id]) == class_id
    assert loaded.shuffled(0) == catalogue.shuffled(0)
    # A graph of another form is found by its values.
    assert loaded.class_of("max(x,zero(x))") == catalogue.class_of("relu(x)")


def test_another_catalogue_is_noticed(made: Catalogue) -> None:
    assert same(made, made)
    assert not same(made, Catalogue.of(SPACES["union"]))
    assert not same(made, Catalogue.of(SPACES["less"], invariance="sign"))


def test_arrays_are_mapped_and_read_only(saved: Path) -> None:
    loaded = Catalogue.load(saved)
    for name in FIELDS:
        array = getattr(loaded._classes, name)
        assert isinstance(array, np.memmap)
        assert array.offset % array.itemsize == 0
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0
    file = CatalogueFile.open(saved)
    assert isinstance(file._outputs, np.memmap)


def test_outputs_are_read_from_the_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Catalogue.load(saved)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("functions were evaluated")

    monkeypatch.setattr("aquasurf_optuna.catalogue._catalogue.output_features", never)
    classes = [70, 3, -1, 3]
    found = loaded.outputs_of(classes)
    assert (found.shape, found.dtype) == ((4, 1000), np.dtype(np.float64))
    np.testing.assert_array_equal(found, loaded.outputs[classes])
    assert loaded.outputs_of([]).shape == (0, 1000)
    with pytest.raises(IndexError, match="outside a catalogue of"):
        loaded.outputs_of([len(loaded)])


def test_a_copy_of_a_loaded_catalogue_is_whole(saved: Path, made: Catalogue) -> None:
    again = pickle.loads(pickle.dumps(Catalogue.load(saved)))
    assert same(again, made)
    np.testing.assert_array_equal(again.outputs_of([0, 70]), made.outputs_of([0, 70]))


def test_a_file_may_replace_itself(saved: Path, made: Catalogue) -> None:
    loaded = Catalogue.load(saved)
    before = saved.read_bytes()
    loaded.save(saved, outputs=True)
    assert saved.read_bytes() == before
    assert same(loaded, made)


def test_files_are_the_same_every_time(saved: Path, made: Catalogue, tmp_path: Path) -> None:
    again = Catalogue.of(made.space, n_threads=1).save(tmp_path / "again", outputs=True)
    assert again.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("name", [*FIELDS, "excluded", "outputs_digests"])
@pytest.mark.parametrize("where", [0, -1])
def test_a_flipped_bit_in_an_array_is_refused(saved: Path, name: str, where: int) -> None:
    flip(saved, place_of(saved, name)[where], bit=3)
    with pytest.raises(CatalogueError, match=f"is damaged: the checksum of {name} is wrong; make"):
        Catalogue.load(saved)


def test_a_flipped_bit_in_outputs_is_refused_when_they_are_read(
    saved: Path, made: Catalogue
) -> None:
    flip(saved, place_of(saved, "outputs")[8000 * 70 + 17])
    loaded = Catalogue.load(saved)
    np.testing.assert_array_equal(loaded.outputs_of([0, 63, 128]), made.outputs_of([0, 63, 128]))
    for classes in ([64], [127], [0, 70]):
        with pytest.raises(CatalogueError, match="checksum of the outputs, block 1, is wrong"):
            loaded.outputs_of(classes)
    with pytest.raises(CatalogueError, match="checksum of the outputs, block 1, is wrong"):
        _ = loaded.outputs


def test_any_flipped_bit_in_the_header_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(8), *rng.integers(8, body_start(saved), 150).tolist()]
    for at in places:
        saved.write_bytes(data)
        flip(saved, at, bit=int(rng.integers(8)))
        with pytest.raises(CatalogueError, match="is no catalogue|is damaged|has version"):
            Catalogue.load(saved)
    saved.write_bytes(data)
    assert len(Catalogue.load(saved))


@pytest.mark.parametrize("change", [-8000, -1, 1, 4096])
def test_another_length_is_refused(saved: Path, change: int) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[:change] if change < 0 else data + b"\0" * change)
    expected = f"it has {len(data) + change:,} bytes where {len(data):,} belong"
    with pytest.raises(CatalogueError, match=f"is damaged: {expected}"):
        Catalogue.load(saved)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 500])
def test_a_torn_header_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CatalogueError, match="saved.catalogue' is no catalogue; Catalogue.save wr"):
        Catalogue.load(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 something else",
        b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 20) + b'{"__metadata__": 3}  ',
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 2**40) + b'{"__metadata__": {}}',
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 4) + b"\xff\xfe\x00\x01",
    ],
    ids=range(10),
)
def test_what_is_no_catalogue_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CatalogueError, match="file' is no catalogue; Catalogue.save writes one"):
        Catalogue.load(path)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        Catalogue.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Catalogue.load(tmp_path / "nowhere")


def set_metadata(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header["__metadata__"][key] = value

    return change


def set_entry(name: str, key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header[name][key] = value

    return change


PLACE_OF_X = {"label": "x", "names": ["x"], "children": []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_metadata("version", str(VERSION + 1)), "has version 2 of the layout, and 1 is read"),
        (set_metadata("tolerance", "1e-05"), r"another tolerance \(1e-05, and 1e-06 is used here"),
        (set_metadata("inputs", "0" * 32), r"another fixed inputs \(0+, and [0-9a-f]+ is used"),
        (set_metadata("fingerprints", "[]"), r"another way to take fingerprints \(\[\], and \[\["),
        (set_metadata("rule", "about"), "its header cannot be read .*got 'about'"),
        (set_metadata("digests", "{}"), "its header cannot be read"),
        (set_metadata("space", "[]"), "its header cannot be read .-2 graphs, 375 with a class"),
        (set_metadata("space", json.dumps([{"label": "unary"}])), "its header cannot be read"),
        (
            set_metadata("space", json.dumps([{**PLACE_OF_X, "names": ["x", "0.5"]}])),
            "its header cannot be read .*a place 'x' with the names",
        ),
        (
            set_metadata("space", json.dumps([{**PLACE_OF_X, "label": "sine", "names": ["sine"]}])),
            "needs an operator 'sine': unknown operator .*register it before the catalogue",
        ),
        (
            set_metadata("space", json.dumps([{**PLACE_OF_X, "label": "add", "names": ["add"]}])),
            "needs an operator 'add': add got 0 arguments",
        ),
        (set_metadata("space", "[" * 100_000), "its header cannot be read"),
        (set_entry("sums", "shape", [2**40, 4]), "bytes where"),
        (set_entry("sums", "dtype", "F16"), "its header cannot be read"),
        (set_entry("sums", "data_offsets", [2**40, 2**41]), "is damaged"),
        (set_entry("sums", "data_offsets", [-(2**20), 0]), "is damaged"),
        (set_entry("sums", "data_offsets", [0, 8]), "the checksum of sums is wrong"),
    ],
    ids=range(17),
)
def test_headers_that_do_not_fit_are_refused(
    saved: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    rewrite(saved, change)
    with pytest.raises(CatalogueError, match=message):
        Catalogue.load(saved)


def test_a_header_changed_without_its_checksum_is_refused(saved: Path) -> None:
    rewrite(saved, set_metadata("rule", "identical"), sign=False)
    with pytest.raises(CatalogueError, match="is damaged: the checksum of its header is wrong"):
        Catalogue.load(saved)


def test_rewriting_alone_damages_nothing(saved: Path, made: Catalogue) -> None:
    rewrite(saved, lambda header: None)
    assert same(Catalogue.load(saved), made)


def test_an_operator_that_computes_something_else_is_refused(saved: Path) -> None:
    def almost(x: torch.Tensor) -> torch.Tensor:
        return torch.erf(x) * (1 + 1e-5)

    operators._known["erf"] = dataclasses.replace(OPERATORS["erf"], function=almost)
    function_key.cache_clear()
    with pytest.raises(CatalogueError, match="the operators erf compute other values here than"):
        Catalogue.load(saved)


def test_an_operator_of_the_users_is_needed_where_a_catalogue_is_loaded(tmp_path: Path) -> None:
    register_operator("sine", torch.sin)
    register_operator("mean_of", lambda *each: sum(each) / len(each), arity=operators.N_ARY)
    space = SearchSpace(
        "unary(unary(x)) | mean_of(unary(x),x,unary(x))", unary=("sine", "relu", "zero")
    )
    catalogue = Catalogue.of(space)
    path = catalogue.save(tmp_path / "own.catalogue")
    assert same(Catalogue.load(path), catalogue)

    del operators._known["sine"]
    with pytest.raises(CatalogueError, match="needs an operator 'sine': .*register it before"):
        Catalogue.load(path)
    register_operator("sine", lambda x: torch.sin(2 * x))
    function_key.cache_clear()
    with pytest.raises(CatalogueError, match="the operators sine compute other values here"):
        Catalogue.load(path)
    del operators._known["sine"]
    register_operator("sine", lambda x: torch.sin(x))
    function_key.cache_clear()
    assert same(Catalogue.load(path), catalogue)


def test_a_failed_save_leaves_the_old_file(saved: Path, made: Catalogue) -> None:
    before = saved.read_bytes()

    def failing() -> Iterator[np.ndarray]:
        yield made.outputs[:100]
        raise KeyboardInterrupt

    arguments = (made.space, made.equality, made._classes, failing())
    with pytest.raises(KeyboardInterrupt):  # it has no message
        CatalogueFile.write(saved, *arguments)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    with pytest.raises(KeyboardInterrupt):  # it has no message
        CatalogueFile.write(saved.with_name("other"), *arguments[:3], failing())
    assert list(saved.parent.iterdir()) == [saved]


def test_a_place_that_cannot_be_written_is_told(saved: Path, made: Catalogue) -> None:
    with pytest.raises(OSError, match="saved.catalogue"):
        made.save(saved / "inside")
    (saved.parent / "folder" / "full").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match="folder"):
        made.save(saved.parent / "folder")
    assert sorted(each.name for each in saved.parent.iterdir()) == ["folder", "saved.catalogue"]


@pytest.mark.parametrize("sizes", [(1,), (64,), (63, 1, 70), (200,)])
def test_outputs_may_come_in_pieces_of_any_size(
    saved: Path, made: Catalogue, sizes: tuple[int, ...]
) -> None:
    def pieces() -> Iterator[np.ndarray]:
        start = 0
        while start < len(made):
            for size in sizes:
                yield made.outputs[start : start + size]
                start += size

    path = saved.with_name("pieces")
    CatalogueFile.write(path, made.space, made.equality, made._classes, pieces())
    assert path.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("outputs", [False, True])
def test_the_file_is_one_of_safetensors(name: str, outputs: bool, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    library = pytest.importorskip("safetensors.numpy")
    catalogue = Catalogue.of(SPACES[name])
    path = catalogue.save(tmp_path / "a.safetensors", outputs=outputs)
    arrays = library.load_file(path)
    for field in FIELDS:
        expected = getattr(catalogue._classes, field)
        assert arrays[field].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[field], expected)
    assert arrays["excluded"].tolist() == list(SPACES[name].excluded)
    assert ("outputs" in arrays) == outputs
    if outputs:
        np.testing.assert_array_equal(arrays["outputs"], catalogue.outputs)
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata()["schema"] == SPACES[name].schema
