"""The byte format of the log: segments, batches, entries.

    segment   header(64) batch* seal? zeros...
    header    >4sIIIIqI32x    magic "zkL1", CRC of the rest, version, salt, generation,
                              base zxid, base chain, zero
    batch     header(80) payload
    header    >4sIIIIIII5qQ   magic "zkB1", CRC of the rest, payload length, payload CRC, count,
                              chain before, chain after, zero; zxid before, first zxid, last zxid,
                              committed, digest zxid, digest
    payload   (>qBI zxid kind length, data)*
    seal      a batch header with count 0 and no payload: the log goes on in the next segment

All integers big-endian.  CRC-32 throughout (zlib's): the batch is the unit, and
what a crash can do to it is judged batch by batch (rules D4, D5).

The salt is drawn at random per segment and seeds the CRCs of its batches.  Without
it a client could store the image of a batch as znode data, and a torn last batch
that holds it would look like a damaged one with a valid later one behind it.

`zxid before` and `chain before` tie each batch to the one before it, across
segments too: a missing, doubled or swapped file cannot go unnoticed.
"""

import struct
from dataclasses import dataclass
from typing import Final

from zkpy import zxid as zxids
from zkpy.crc import crc32
from zkpy.effects import Append, Entry, chain_next
from zkpy.errors import CorruptionError, StorageError

SEGMENT_MAGIC: Final = b"zkL1"
BATCH_MAGIC: Final = b"zkB1"
FORMAT_VERSION: Final = 1

_SEGMENT: Final = struct.Struct(">4sIIIIqI32x")
_SEGMENT_REST: Final = struct.Struct(">IIIqI32x")
_BATCH: Final = struct.Struct(">4sIIIIIII5qQ")
_BATCH_REST: Final = struct.Struct(">IIIIII5qQ")
_ENTRY: Final = struct.Struct(">qBI")
_CRC_END: Final = 8
"""Where magic and CRC end and what the CRC covers begins."""

SEGMENT_HEADER_BYTES: Final = _SEGMENT.size
BATCH_HEADER_BYTES: Final = _BATCH.size
ENTRY_HEADER_BYTES: Final = _ENTRY.size
_LINK_BYTES: Final = 9
"""The part of an entry's header that the chain covers: zxid and kind."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself."""

    salt: int
    generation: int
    base: int
    """Zxid of the last entry before this segment, 0 or the image's if there is none."""
    base_chain: int


@dataclass(slots=True)
class BatchHeader:
    """One decoded batch header; a seal if `count` is 0."""

    payload_bytes: int
    payload_crc: int
    count: int
    chain_before: int
    chain_after: int
    before: int
    first: int
    last: int
    committed: int
    digest_zxid: int
    digest: int

    @property
    def total_bytes(self) -> int:
        return BATCH_HEADER_BYTES + self.payload_bytes


def encode_segment_header(header: SegmentHeader) -> bytes:
    rest = _SEGMENT_REST.pack(
        FORMAT_VERSION, header.salt, header.generation, header.base, header.base_chain
    )
    return SEGMENT_MAGIC + crc32(rest).to_bytes(4, "big") + rest


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """None if these are not the bytes of an intact header.

    Raises StorageError for an intact header of another version: that file is sound,
    and must not be mistaken for damage.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        return None
    magic, crc, version, *fields = _SEGMENT.unpack_from(data)
    if magic != SEGMENT_MAGIC or crc != crc32(data[_CRC_END:SEGMENT_HEADER_BYTES]):
        return None
    if version != FORMAT_VERSION:
        raise StorageError(f"log format {version}, this program reads {FORMAT_VERSION}")
    return SegmentHeader(*fields)


def encode_batch(salt: int, before: int, chain: int, step: Append) -> tuple[bytes, bytes]:
    """Header and payload of one batch behind (`before`, `chain`).

    Two pieces, since the header needs the payload's CRC: writing them as a vector
    spares a second copy of the payload.  Raises StorageError if the entries do not
    follow or their chain is wrong: what is written must be readable.
    """
    entries = step.entries
    assert entries, "an empty batch would read as a seal"
    parts: list[bytes] = []
    push, pack = parts.append, _ENTRY.pack
    last, link = before, chain
    for entry in entries:
        zxid, data = entry.zxid, entry.data
        if zxid != last + 1 or not zxid & zxids.COUNTER_MAX:
            _check_follows(last, zxid)
        head = pack(zxid, entry.kind, len(data))
        link = crc32(data, crc32(head[:_LINK_BYTES], link))
        if link != entry.chain:
            raise StorageError(f"entry {zxid:#x} has chain {entry.chain:#x}, not {link:#x}")
        push(head)
        push(data)
        last = zxid
    payload = b"".join(parts)
    rest = _BATCH_REST.pack(
        len(payload),
        crc32(payload, salt),
        len(entries),
        chain,
        link,
        0,
        before,
        entries[0].zxid,
        last,
        step.committed,
        step.digest_zxid,
        step.digest,
    )
    return BATCH_MAGIC + crc32(rest, salt).to_bytes(4, "big") + rest, payload


def _check_follows(before: int, zxid: int) -> None:
    if not zxids.follows(before, zxid):
        raise StorageError(f"entry {zxid:#x} does not follow {before:#x}")


def encode_seal(salt: int, last: int, chain: int) -> bytes:
    """The mark behind the last batch of a segment that another one continues."""
    rest = _BATCH_REST.pack(0, crc32(b"", salt), 0, chain, chain, 0, last, last, last, 0, 0, 0)
    return BATCH_MAGIC + crc32(rest, salt).to_bytes(4, "big") + rest


def read_batch(data: bytes, pos: int, salt: int) -> BatchHeader | None:
    """The batch (or seal) at `pos` if header and payload are intact, else None."""
    end = pos + BATCH_HEADER_BYTES
    if data[pos : pos + 4] != BATCH_MAGIC or len(data) < end:
        return None
    _, crc, size, payload_crc, count, chain_before, chain_after, _, *rest = _BATCH.unpack_from(
        data, pos
    )
    if crc != crc32(data[pos + _CRC_END : end], salt) or len(data) - end < size:
        return None
    if payload_crc != crc32(memoryview(data)[end : end + size], salt):
        return None
    return BatchHeader(size, payload_crc, count, chain_before, chain_after, *rest)


def find_batch(data: bytes, pos: int, salt: int) -> int | None:
    """Where the first intact batch at or behind `pos` begins; None if there is none."""
    while (pos := data.find(BATCH_MAGIC, pos)) >= 0:
        if read_batch(data, pos, salt) is not None:
            return pos
        pos += 1
    return None


def decode_entries(data: bytes, pos: int, header: BatchHeader) -> list[Entry]:
    """The entries of an intact batch at `pos`.

    Raises CorruptionError if they are not what the header says: then it was
    written wrong, since its checksums hold.
    """
    entries: list[Entry] = []
    push, unpack = entries.append, _ENTRY.unpack_from
    pos += BATCH_HEADER_BYTES
    end = pos + header.payload_bytes
    last, chain = header.before, header.chain_before
    while pos + ENTRY_HEADER_BYTES <= end:
        zxid, kind, size = unpack(data, pos)
        pos += ENTRY_HEADER_BYTES
        entry_data = data[pos : pos + size]
        pos += size
        if not zxids.follows(last, zxid):
            raise CorruptionError(f"entry {zxid:#x} stands behind {last:#x}")
        chain = chain_next(chain, zxid, kind, entry_data)
        push(Entry(zxid, kind, entry_data, chain))
        last = zxid
    if (pos, last, chain, len(entries)) != (end, header.last, header.chain_after, header.count):
        raise CorruptionError(f"batch {header.first:#x}..{header.last:#x} contradicts its header")
    return entries


_ZEROS: Final = bytes(1 << 20)


def is_zero(data: bytes, pos: int) -> bool:
    """Whether only zeros are left from `pos` on."""
    for start in range(pos, len(data), len(_ZEROS)):
        piece = data[start : start + len(_ZEROS)]
        if piece != _ZEROS[: len(piece)]:
            return False
    return True
