"""Framing of batches: round trips, and every damage is noticed."""

import random

import pytest

from tests.storage.model import make_entries, plain_entries
from zkpy.effects import Append, Entry
from zkpy.errors import CorruptionError, StorageError
from zkpy.storage import record

SALT = 0x5A17


def encode(entries: list[Entry], before: int = 0, chain: int = 0) -> bytes:
    step = Append(entries, committed=7, digest_zxid=6, digest=2**64 - 1)
    return b"".join(record.encode_batch(SALT, before, chain, step))


def test_a_batch_comes_back(rng: random.Random) -> None:
    for count in (1, 2, 63):
        entries = make_entries([], count, 3, lambda i: rng.randbytes(i * 7 % 90))
        data = b"#" + encode(entries) + b"tail"
        header = record.read_batch(data, 1, SALT)
        assert header is not None
        assert (header.first, header.last, header.before) == (
            entries[0].zxid,
            entries[-1].zxid,
            0,
        )
        assert (header.committed, header.digest_zxid, header.digest) == (7, 6, 2**64 - 1)
        assert header.total_bytes == len(data) - 5
        assert record.decode_entries(data, 1, header) == entries


def test_every_flipped_bit_is_noticed() -> None:
    data = encode(plain_entries([], 2))
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert record.read_batch(bytes(damaged), 0, SALT) is None


def test_every_cut_is_noticed() -> None:
    data = encode(plain_entries([], 2))
    assert all(record.read_batch(data[:end], 0, SALT) is None for end in range(len(data)))


def test_a_batch_of_another_salt_is_no_batch() -> None:
    """Else a client could store the image of one as data, and make a torn tail look damaged."""
    inner = encode(plain_entries([], 1))
    assert record.read_batch(inner, 0, SALT + 1) is None
    outer = make_entries([], 1, 1, lambda i: inner)
    step = Append(outer, 0, 0, 0)
    data = b"".join(record.encode_batch(SALT + 1, 0, 0, step))
    assert record.find_batch(data, 0, SALT + 1) == 0
    assert record.find_batch(data, 1, SALT + 1) is None
    assert record.find_batch(data, 1, SALT) is not None


def test_find_skips_what_only_begins_like_a_batch() -> None:
    batch = encode(plain_entries([], 1))
    data = record.BATCH_MAGIC * 3 + batch[:40] + batch
    assert record.find_batch(data, 0, SALT) == 12 + 40


def test_a_seal_is_an_empty_batch() -> None:
    seal = record.encode_seal(SALT, 9, 0xABC)
    header = record.read_batch(seal, 0, SALT)
    assert header is not None
    assert (header.count, header.before, header.chain_before) == (0, 9, 0xABC)
    assert len(seal) == record.BATCH_HEADER_BYTES


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([Entry(1 << 32 | 2, 0, b"", 0)], "does not follow"),
        ([Entry(2 << 32, 0, b"", 0)], "does not follow"),
        ([Entry(1 << 32 | 1, 0, b"", 99)], "has chain 0x63"),
    ],
)
def test_what_would_not_be_readable_is_not_written(entries: list[Entry], message: str) -> None:
    with pytest.raises(StorageError, match=message):
        encode(entries)


def test_the_counter_does_not_run_over_into_the_epoch() -> None:
    last = 1 << 32 | 0xFFFFFFFF
    with pytest.raises(StorageError, match="does not follow"):
        encode([Entry(last + 1, 0, b"", 0)], before=last)


def test_an_intact_batch_that_contradicts_itself_is_corruption() -> None:
    data = encode(plain_entries([], 3))
    header = record.read_batch(data, 0, SALT)
    assert header is not None
    header.last += 1
    with pytest.raises(CorruptionError, match="contradicts"):
        record.decode_entries(data, 0, header)
    header.last -= 1
    header.before = 1 << 32
    record.decode_entries(data, 0, header)
    header.before = 5 << 32
    with pytest.raises(CorruptionError, match="stands behind"):
        record.decode_entries(data, 0, header)


def test_segment_header_round_trip_and_damage() -> None:
    header = record.SegmentHeader(SALT, 3, 1 << 40 | 5, 77)
    data = record.encode_segment_header(header)
    assert len(data) == record.SEGMENT_HEADER_BYTES
    assert record.decode_segment_header(data) == header
    assert record.decode_segment_header(data[:-1]) is None
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert record.decode_segment_header(bytes(damaged)) is None


@pytest.mark.patches
def test_a_segment_of_a_later_format_is_not_mistaken_for_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record, "FORMAT_VERSION", 2)
    data = record.encode_segment_header(record.SegmentHeader(1, 1, 0, 0))
    monkeypatch.undo()
    with pytest.raises(StorageError, match="log format 2"):
        record.decode_segment_header(data)


@pytest.mark.parametrize("size", [0, 5, 1 << 20, (1 << 20) + 3, 3 << 20])
def test_is_zero(size: int) -> None:
    assert record.is_zero(b"xx" + bytes(size), 2)
    assert not record.is_zero(b"xx" + bytes(size) + b"\1", 2)
