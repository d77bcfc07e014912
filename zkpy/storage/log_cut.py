"""Cutting a log: entries behind a zxid are taken away, whatever crashes meanwhile.

Deleting later segments and shortening one cannot be one atomic act, and half of it would
look like damage.  So the cut is first recorded durably, in the file `log-cut`, and is
repeated from that record after a crash; every act of it may be repeated.  A batch
that is cut in its middle is not rewritten in place (a torn rewrite would lose
acknowledged entries in front of the cut): its segment is replaced by a copy.

    log-cut   >4sIq magic "zkT1", CRC of the zxid in decimal digits, zxid: the last entry kept
"""

import struct
from typing import Final

import attrs

from zkpy.crc import crc32
from zkpy.effects import Append
from zkpy.errors import CorruptionError
from zkpy.storage import record
from zkpy.storage.fs import TEMP_SUFFIX, FileSystem, join, read_whole, write_new
from zkpy.storage.record import SEGMENT_HEADER_BYTES, BatchHeader, SegmentHeader
from zkpy.storage.segments import segment_bases, segment_name

CUT_NAME: Final = "log-cut"
_CUT: Final = struct.Struct(">4sIq")
_CUT_MAGIC: Final = b"zkT1"


def record_cut(fs: FileSystem, directory: str, zxid: int) -> None:
    """From here on the log will be cut behind `zxid`; durable on return."""
    write_new(fs, join(directory, CUT_NAME), (_encode_cut(zxid),))


def read_cut(fs: FileSystem, directory: str) -> int | None:
    """Where a cut was under way, if one was; CorruptionError if its record is damaged."""
    path = join(directory, CUT_NAME)
    if not fs.exists(path):
        return None
    data = read_whole(fs, path)
    zxid = int(_CUT.unpack(data)[2]) if len(data) == _CUT.size else None
    if zxid is None or data != _encode_cut(zxid):
        raise CorruptionError(f"{path} is damaged")
    return zxid


def _encode_cut(zxid: int) -> bytes:
    return _CUT.pack(_CUT_MAGIC, crc32(b"%d" % zxid), zxid)


@attrs.define
class Cut:
    """A cut as it will be carried out in the segment that holds the last entry kept."""

    zxid: int
    chain: int
    base: int
    header: SegmentHeader
    end: int
    """Offset behind the last batch that is kept whole."""
    rest: tuple[bytes, ...]
    """The batch that takes the place of the one cut in its middle; empty if there is none."""
    data: bytes
    """The segment as it is now."""


def plan_cut(fs: FileSystem, directory: str, zxid: int) -> Cut:
    """Find where to cut behind `zxid`; CorruptionError if the log does not hold it."""
    bases = [base for base in segment_bases(fs, directory) if base <= zxid]
    if not bases:
        raise CorruptionError(f"{directory}: cannot cut behind {zxid:#x}, the log begins later")
    path = join(directory, segment_name(bases[-1]))
    data = read_whole(fs, path)
    header = record.decode_segment_header(data)
    if header is None:
        raise CorruptionError(f"{path}: its header is damaged")
    pos, chain = SEGMENT_HEADER_BYTES, header.base_chain
    last = header.base
    rest: tuple[bytes, ...] = ()
    while last < zxid and (batch := record.read_batch(data, pos, header.salt)) is not None:
        if batch.count == 0 or batch.first > zxid:
            break
        if batch.last > zxid:
            last, chain, rest = _shorten(data, pos, batch, header, zxid)
            break
        pos += batch.total_bytes
        last, chain = batch.last, batch.chain_after
    if last != zxid:
        raise CorruptionError(f"{path}: cannot cut behind {zxid:#x}, which the log does not hold")
    return Cut(zxid, chain, header.base, header, pos, rest, data)


def _shorten(
    data: bytes, pos: int, batch: BatchHeader, header: SegmentHeader, zxid: int
) -> tuple[int, int, tuple[bytes, ...]]:
    kept = [entry for entry in record.decode_entries(data, pos, batch) if entry.zxid <= zxid]
    step = Append(kept, batch.committed, batch.digest_zxid, batch.digest)
    parts = record.encode_batch(header.salt, batch.before, batch.chain_before, step)
    return kept[-1].zxid, kept[-1].chain, parts


def carry_out_cut(fs: FileSystem, directory: str, cut: Cut, segment_bytes: int) -> None:
    """Remove later segments, shorten this one, forget the record.  All of it may be repeated."""
    later = [base for base in segment_bases(fs, directory) if base > cut.base]
    for base in reversed(later):
        fs.unlink(join(directory, segment_name(base)))
    if later:
        # Or the record might be gone, and one of these still there.
        fs.sync_dir(directory)
    if cut.rest:
        _replace_segment(fs, directory, cut, segment_bytes)
    else:
        _shorten_segment(fs, directory, cut, segment_bytes)
    fs.unlink(join(directory, CUT_NAME))
    fs.sync_dir(directory)


def _shorten_segment(fs: FileSystem, directory: str, cut: Cut, segment_bytes: int) -> None:
    file = fs.open(join(directory, segment_name(cut.base)))
    try:
        # Not zeros written over what is cut off: shortening cannot be torn.
        file.truncate(cut.end)
        file.preallocate(segment_bytes)
        file.sync()
    finally:
        file.close()


def _replace_segment(fs: FileSystem, directory: str, cut: Cut, segment_bytes: int) -> None:
    path = join(directory, segment_name(cut.base))
    temp = path + TEMP_SUFFIX
    if fs.exists(temp):
        fs.unlink(temp)
    file = fs.open(temp, create=True)
    try:
        file.preallocate(segment_bytes)
        file.write(0, (cut.data[: cut.end], *cut.rest))
        file.sync()
    finally:
        file.close()
    fs.rename(temp, path)
    fs.sync_dir(directory)
