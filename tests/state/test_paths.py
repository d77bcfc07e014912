"""Paths: ZooKeeper's PathUtils, case by case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.codes import ErrorCode
from zkpy.errors import ZkError
from zkpy.state import paths

LEGAL = ["/", "/a", "/a/b", "/.a", "/a.", "/...", "/a..b/c", "/a b", "/é/日本", "/\uffef"]
ILLEGAL = [
    "",
    "a",
    "a/b",
    "//",
    "/a/",
    "/a//b",
    "/.",
    "/..",
    "/a/./b",
    "/a/../b",
    "/a/..",
    "/a\0b",
    "/a\x01",
    "/a\n",
    "/a\x1f",
    "/a\x7f",
    "/a\x9f",
    "/a\ue000",
    "/a\uf8ff",
    "/a\ufff0",
    "/a\uffff",
    "/a\U0001f600",
]


@pytest.mark.parametrize("path", LEGAL)
def test_legal(path: str) -> None:
    paths.validate(path)


@pytest.mark.parametrize("path", ILLEGAL)
def test_illegal(path: str) -> None:
    with pytest.raises(ZkError) as caught:
        paths.validate(path)
    assert caught.value.code == ErrorCode.BAD_ARGUMENTS


@pytest.mark.parametrize("path", ["/a/", "/.", "/a/..", "/"])
def test_legal_only_before_a_sequence_number(path: str) -> None:
    paths.validate(f"{path}0")


@pytest.mark.parametrize("path", ["", "a", "//", "/a//", "/a/./b", "/a\0"])
def test_illegal_even_before_a_sequence_number(path: str) -> None:
    with pytest.raises(ZkError):
        paths.validate(f"{path}0")


def is_legal_as_in_java(path: str) -> bool:
    """PathUtils.validatePath, its loop written out."""
    if not path.startswith("/"):
        return False
    if path == "/":
        return True
    elements = path[1:].split("/")
    if any(element in ("", ".", "..") for element in elements):
        return False
    codes = [
        int.from_bytes(unit, "big")
        for element in elements
        for encoded in [element.encode("utf-16-be", "surrogatepass")]
        for unit in [encoded[i : i + 2] for i in range(0, len(encoded), 2)]
    ]
    bad = [(0, 0x1F), (0x7F, 0x9F), (0xD800, 0xF8FF), (0xFFF0, 0xFFFF)]
    return not any(low <= code <= high for code in codes for low, high in bad)


@given(st.text(st.sampled_from("/./a\x1f\x7f\xa0é\ue000\uffef\ufff0\U00010000"), max_size=8))
def test_any_path_is_judged_as_in_java(path: str) -> None:
    try:
        paths.validate(path)
        legal = True
    except ZkError:
        legal = False
    assert legal == is_legal_as_in_java(path)


@pytest.mark.parametrize(
    ("path", "parent", "name"), [("/a", "/", "a"), ("/a/b", "/a", "b"), ("/a/b/c", "/a/b", "c")]
)
def test_parent_and_name(path: str, parent: str, name: str) -> None:
    assert paths.parent(path) == parent
    assert paths.name(path) == name


def test_the_root_has_no_parent() -> None:
    with pytest.raises(AssertionError):
        paths.parent("/")


def test_lineage_ends_at_the_root() -> None:
    assert list(paths.lineage("/a/b/c")) == ["/a/b/c", "/a/b", "/a", "/"]
    assert list(paths.lineage("/")) == ["/"]


def test_within_is_by_element_not_by_prefix() -> None:
    assert paths.is_within("/a/b", "/a") and paths.is_within("/a", "/a")
    assert paths.is_within("/a", "/")
    assert not paths.is_within("/ab", "/a") and not paths.is_within("/a", "/a/b")


def test_sequence_numbers_have_ten_digits() -> None:
    assert paths.sequential_name("/q/", 0) == "/q/0000000000"
    assert paths.sequential_name("/q/n-", 2147483647) == "/q/n-2147483647"
