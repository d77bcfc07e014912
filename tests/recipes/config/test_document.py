"""Documents as bytes, and what a subscriber makes of what it read."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.config import FormatError, Schema, TooLargeError
from recipes.config.document import (
    MAX_BYTES,
    Adopt,
    Document,
    Good,
    Keep,
    Node,
    Refuse,
    decode,
    encode,
    judge,
)
from recipes.config.publisher import names_to_purge
from tests.recipes.config.settings import Settings

SCHEMA = Schema(Settings)


def document(revision: int, **values: Any) -> Document:
    return Document(revision, "a" * 32, 1_700_000_000_000, "ops", "a note", values)


def test_bytes() -> None:
    assert encode(document(7, left=1)) == (
        b'{"format":1,"revision":7,"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","at":1700000000000,'
        b'"by":"ops","note":"a note","values":{"left":1}}'
    )
    assert decode(encode(document(7, left=1))) == document(7, left=1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format":2}',
        b"[" * 100_000,
        b'{"format":1,"revision":"7","id":"a","at":1,"by":"","note":"","values":{}}',
        b'{"format":1,"revision":7,"id":"a","at":1,"by":"","note":"","values":[]}',
        b'{"format":1,"revision":7,"id":"a","at":1,"by":"","note":""}',
        b'{"format":1,"revision":7,"id":"a","at":1,"by":"","note":"","values":{"rate":NaN}}',
    ],
    ids=lambda data: data[:20].decode(errors="replace"),
)
def test_what_is_no_document(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


def test_size() -> None:
    rest = len(encode(document(1, label="")))
    assert len(encode(document(1, label="x" * (MAX_BYTES - rest)))) == MAX_BYTES
    with pytest.raises(TooLargeError):
        encode(document(1, label="x" * (MAX_BYTES - rest + 1)))


# --- judge -----------------------------------------------------------------------------------


def good(node: Node) -> Good[Settings]:
    verdict = judge(None, encode(document(node.version)), node, SCHEMA)
    assert isinstance(verdict, Adopt)
    return verdict.good


def test_adopts_what_is_new() -> None:
    last = good(Node(5, 1))
    verdict = judge(last, encode(document(2, left=4)), Node(5, 2), SCHEMA)
    assert isinstance(verdict, Adopt)
    assert verdict.good.published.value == Settings(left=4)
    assert verdict.good.published.revision == 2


def test_keeps_what_it_has() -> None:
    last = good(Node(5, 3))
    assert judge(last, encode(document(3)), Node(5, 3), SCHEMA) == Keep(current=True)
    assert judge(last, encode(document(2)), Node(5, 2), SCHEMA) == Keep(current=False)
    assert judge(last, b"", Node(9, 0), SCHEMA) == Keep(current=False)
    assert judge(None, b"", Node(5, 0), SCHEMA) == Keep(current=True)


def test_a_node_made_anew_begins_anew() -> None:
    verdict = judge(good(Node(5, 30)), encode(document(1)), Node(9, 1), SCHEMA)
    assert isinstance(verdict, Adopt)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"rubbish", "not JSON"),
        (encode(document(3)), "revision 3 in version 2"),
        (encode(document(2, left="x")), "left: not an int"),
    ],
)
def test_refuses(data: bytes, problem: str) -> None:
    verdict = judge(good(Node(5, 1)), data, Node(5, 2), SCHEMA)
    assert isinstance(verdict, Refuse)
    assert problem in verdict.problem


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans())))
def test_never_back_and_never_a_bad_one(reads: list[tuple[int, bool]]) -> None:
    """Whatever a member shows, in whatever order."""
    last: Good[Settings] | None = None
    shown = []
    for version, is_good in reads:
        data = encode(document(version, left=version if is_good else "bad"))
        verdict = judge(last, data, Node(1, version), SCHEMA)
        if isinstance(verdict, Adopt):
            last = verdict.good
            shown.append(last.published)
    assert [each.revision for each in shown] == sorted({each.revision for each in shown})
    assert all(each.value.left == each.revision for each in shown)


# --- history -----------------------------------------------------------------------------------


def names(*revisions: int) -> list[str]:
    return [f"{each:010d}" for each in revisions]


def test_what_leaves_history() -> None:
    assert names_to_purge(names(1, 2, 3), 4, 4) == []
    assert names_to_purge([*names(2, 1, 3), "foreign"], 4, 2) == names(1, 2)
    assert names_to_purge(names(1, 2, 3), 3, 3) == names(3)
    assert len(names_to_purge(names(*range(500)), 500, 1)) == 100


def test_golden_fields_are_all_there() -> None:
    plain = json.loads(encode(document(1)))
    assert list(plain) == ["format", *(each.name for each in attrs.fields(Document))]
