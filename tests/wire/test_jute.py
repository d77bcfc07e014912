"""The compiler of jute records against the naive one, and against hostile bytes."""

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire import naive
from wire.errors import RemoteProtocolError
from wire.jute import (
    Record,
    boolean,
    buffer,
    hashable_record,
    int32,
    int64,
    optional_boolean,
    record,
    ustring,
    vector,
)

QUICK = settings(max_examples=60)
LAST_INT = (1 << 31) - 1


@record
class Inner(Record):
    small: int32
    name: ustring


@record
class Fixed(Record):
    large: int64
    flag: boolean
    small: int32


@record
class Everything(Record):
    first: int32
    fixed: Fixed
    second: boolean
    text: ustring
    data: buffer
    alone: boolean
    inner: Inner
    inners: vector[Inner]
    texts: vector[ustring]
    fixeds: vector[Fixed]
    last: int64


@record
class Tail(Record):
    text: ustring
    tail: optional_boolean


@record
class Empty(Record):
    pass


@hashable_record
class Key(Record):
    number: int32
    text: ustring


CLASSES = [Inner, Fixed, Everything, Tail, Empty, Key]
SAMPLE = Everything(
    *(7, Fixed(-1, True, 3), False, "déjà", b"data", True, Inner(1, "in")),
    *([Inner(2, "a"), Inner(3, "")], ["", "b", "cc"], [Fixed(1, False, 2)], -9),
)
any_record = st.sampled_from(CLASSES).flatmap(naive.records)


@QUICK
@given(any_record)
def test_encode_agrees_with_the_naive_encoder(made: Record) -> None:
    assert made.encode() == naive.encode(made).data


@QUICK
@given(any_record, st.binary(max_size=3), st.binary(max_size=3))
def test_what_was_encoded_is_decoded_wherever_it_lies(
    made: Record, before: bytes, behind: bytes
) -> None:
    data = before + made.encode() + behind
    pos, end = len(before), len(data) - len(behind)
    assert type(made).parse(data, pos, end) == made
    assert type(made).decode(data, pos, end) == (made, end)


def test_decode_leaves_what_follows_but_parse_refuses_it() -> None:
    data = Inner(1, "x").encode() + b"more"
    assert Inner.decode(data, 0, len(data)) == (Inner(1, "x"), len(data) - 4)
    with pytest.raises(RemoteProtocolError):
        Inner.parse(data, 0, len(data))


@pytest.mark.parametrize("cut", range(len(SAMPLE.encode())))
def test_a_record_cut_short_is_refused(cut: int) -> None:
    data = SAMPLE.encode()
    with pytest.raises(RemoteProtocolError):
        Everything.parse(data[:cut], 0, cut)


@pytest.mark.parametrize("cut", range(len(SAMPLE.encode())))
def test_a_frame_cut_short_is_not_read_into_the_next(cut: int) -> None:
    data = SAMPLE.encode()
    for function in (Everything.parse, Everything.decode):
        with pytest.raises(RemoteProtocolError):
            function(data, 0, cut)


def lies(data: bytes, at: int) -> list[int]:
    """Counts that cannot be true at this position, whatever they count."""
    left = len(data) - at - 4
    return [-2, -(1 << 31), left + 1, LAST_INT]


@pytest.mark.parametrize("number", range(len(naive.encode(SAMPLE).counts)))
def test_every_count_that_lies_is_refused(number: int) -> None:
    encoding = naive.encode(SAMPLE)
    at = encoding.counts[number]
    for lie in lies(encoding.data, at):
        data = bytearray(encoding.data)
        data[at : at + 4] = struct.pack(">i", lie)
        with pytest.raises(RemoteProtocolError, match=f"a count of {lie} "):
            Everything.parse(bytes(data) + bytes(100), 0, len(data))


@pytest.mark.parametrize("number", range(len(naive.encode(SAMPLE).counts)))
@pytest.mark.parametrize("count", [-1, 0, 1])
def test_every_small_count_is_read_or_refused(number: int, count: int) -> None:
    encoding = naive.encode(SAMPLE)
    at = encoding.counts[number]
    data = bytearray(encoding.data)
    data[at : at + 4] = struct.pack(">i", count)
    outcome = naive.decode_outcome(Everything, bytes(data), 0, len(data))
    assert isinstance(outcome, Everything) or outcome == "RemoteProtocolError"


@QUICK
@given(st.sampled_from(CLASSES), st.binary(max_size=80))
def test_garbage_is_read_or_refused(cls: type[Record], garbage: bytes) -> None:
    outcome = naive.decode_outcome(cls, garbage, 0, len(garbage))
    assert isinstance(outcome, cls) or outcome == "RemoteProtocolError"


@QUICK
@given(st.integers(0, len(SAMPLE.encode()) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at: int, byte: int) -> None:
    data = bytearray(SAMPLE.encode())
    data[at] = byte
    outcome = naive.decode_outcome(Everything, bytes(data), 0, len(data))
    assert isinstance(outcome, Everything) or outcome == "RemoteProtocolError"


def test_a_huge_count_allocates_nothing() -> None:
    data = struct.pack(">i", LAST_INT) + bytes(1000)

    @record
    class Items(Record):
        items: vector[Fixed]

    tracemalloc.start()
    try:
        for cls in (Items, Tail):
            with pytest.raises(RemoteProtocolError):
                cls.parse(data, 0, len(data))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_null_is_empty_for_text_and_vector_and_none_for_data() -> None:
    null = struct.pack(">i", -1)
    nulls = null + null + b"\1" + bytes(4) + null * 4 + bytes(8)
    data = Everything.parse(SAMPLE.encode()[:18] + nulls, 0, 18 + len(nulls))
    assert (data.text, data.data, data.inner) == ("", None, Inner(0, ""))
    assert (data.inners, data.texts, data.fixeds) == ([], [], [])


def test_empty_data_is_kept_apart_from_none() -> None:
    @record
    class Data(Record):
        data: buffer

    assert Data(None).encode() == struct.pack(">i", -1)
    assert Data(b"").encode() == struct.pack(">i", 0)
    assert Data.parse(bytes(4), 0, 4) == Data(b"")


def test_invalid_utf8_is_refused() -> None:
    for text in (b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80"):
        data = struct.pack(">ii", 1, 2 if len(text) == 2 else 3) + text
        with pytest.raises(RemoteProtocolError):
            Inner.parse(data, 0, len(data))


def test_any_byte_but_zero_is_true() -> None:
    data = struct.pack(">qBi", 1, 7, 2)
    assert Fixed.parse(data, 0, len(data)) == Fixed(1, True, 2)


def test_the_optional_boolean_may_be_missing_but_nothing_may_follow_it() -> None:
    text = Tail("x", None).encode()
    assert Tail.parse(text, 0, len(text)) == Tail("x", None)
    assert Tail.parse(text + b"\1", 0, len(text) + 1) == Tail("x", True)
    with pytest.raises(RemoteProtocolError):
        Tail.parse(text + b"\1\1", 0, len(text) + 2)


def test_adjacent_fixed_fields_are_one_struct() -> None:
    packs = [name for name in Fixed.encode.__code__.co_names if name.startswith("pack")]
    assert len(packs) == 1


def test_an_int_that_does_not_fit_is_our_error() -> None:
    with pytest.raises(struct.error):
        Inner(1 << 31, "x").encode()


def test_hashable_records_are_keys() -> None:
    assert {Key(1, "a"): 1}[Key(1, "a")] == 1
    with pytest.raises(TypeError):
        hash(Inner(1, "a"))


def test_an_annotation_that_is_no_jute_type_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="no jute type"):

        @record
        class Wrong(Record):
            number: int


def test_a_record_that_was_not_compiled_says_so() -> None:
    class Bare(Record):
        pass

    with pytest.raises(NotImplementedError, match="@record"):
        Bare().encode()
    for function in (Bare.decode, Bare.parse):
        with pytest.raises(NotImplementedError, match="@record"):
            function(b"", 0, 0)
