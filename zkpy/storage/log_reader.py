"""Reading a log at boot: its entries behind the image, and where it goes on.

Every link is checked: header to header, batch to batch, entry to entry.  After a crash

- an unsealed segment with an empty successor is a roll that did not finish: the
  successor is removed;
- something that is no batch at the very end is a batch that was torn: it is cut off;
- a sealed segment without a successor, an unsealed one before a segment that holds a
  batch, or an intact batch behind one that is none, is damage: no crash leaves that.
"""

import attrs

from zkpy.effects import Entry
from zkpy.errors import CorruptionError
from zkpy.storage import record
from zkpy.storage.fs import FileSystem, join, read_whole
from zkpy.storage.log_cut import carry_out_cut, plan_cut, read_cut
from zkpy.storage.record import BATCH_HEADER_BYTES, SEGMENT_HEADER_BYTES, BatchHeader, SegmentHeader
from zkpy.storage.segments import segment_bases, segment_name


@attrs.define
class Tail:
    """Where the log ends on disk, and what must be put right there before it goes on."""

    base: int
    header: SegmentHeader
    end: int
    """Offset behind the last intact batch."""
    last: int
    chain: int
    torn_bytes: bool = False
    """Whether something else than zeros stands behind `end`."""
    leftover: int | None = None
    """Base of a successor that an unfinished roll left."""
    record_base: int = 0
    record_offset: int = 0
    record_bytes: bytes = b""
    """The last record written before the stop: it alone may have missed its sync."""


@attrs.define
class LogContents:
    """What reading the log gave: entries behind the image, contiguous."""

    entries: list[Entry] = attrs.Factory(list)
    committed: int = 0
    digests: list[tuple[int, int]] = attrs.Factory(list)
    tail: Tail | None = None
    """None if there is damage."""
    damage: str | None = None
    notes: list[str] = attrs.Factory(list)


@attrs.define
class _Reader:
    """Reads a log from the segment that holds the image's zxid on, checking every link."""

    fs: FileSystem
    directory: str
    generation: int
    image: tuple[int, int]
    """(zxid, chain) of the image: the log must pass through exactly this point."""
    contents: LogContents = attrs.Factory(LogContents)
    position: tuple[int, int] | None = None
    """(zxid, chain) behind the last batch read."""
    sealed: bool = True
    passed_image: bool = False
    tail: Tail | None = None

    def read(self) -> LogContents:
        try:
            self._finish_cut()
            self._read_segments()
        except CorruptionError as error:
            self.contents.damage = str(error)
        else:
            self.contents.tail = self.tail
        return self.contents

    def _finish_cut(self) -> None:
        """Repeat a cut that was under way."""
        zxid = read_cut(self.fs, self.directory)
        if zxid is not None:
            carry_out_cut(self.fs, self.directory, plan_cut(self.fs, self.directory, zxid), 0)
            self.contents.notes.append(f"finished cutting the log behind {zxid:#x}")

    def _read_segments(self) -> None:
        bases = segment_bases(self.fs, self.directory)
        if not bases:
            raise CorruptionError(f"{self.directory} holds no log segment")
        if bases[0] > self.image[0]:
            raise CorruptionError(
                f"the log begins behind {bases[0]:#x}, the image is at {self.image[0]:#x}"
            )
        # One that begins exactly at the image is read with its predecessor: the seal between
        # them may be the last record written.
        start = max(i for i, base in enumerate(bases) if i == 0 or base < self.image[0])
        for i in range(start, len(bases)):
            self._read_segment(bases[i], is_last=i == len(bases) - 1)
        if self.sealed:
            raise CorruptionError(f"the segment behind {self._name()} is missing")
        if not self.passed_image:
            raise CorruptionError(
                f"the log does not hold the image's zxid {self.image[0]:#x} and chain"
            )

    def _name(self) -> str:
        return segment_name(self.tail.base) if self.tail else "none"

    def _read_segment(self, base: int, is_last: bool) -> None:
        name = segment_name(base)
        data = read_whole(self.fs, join(self.directory, name))
        header = record.decode_segment_header(data)
        if not self.sealed and is_last and _is_unused(data, header):
            assert self.tail is not None
            self.tail.leftover = base
            return
        if header is None:
            raise CorruptionError(f"the header of {name} is damaged")
        if (header.base, header.generation) != (base, self.generation):
            raise CorruptionError(f"{name} holds another segment")
        if self.position is not None and self.position != (base, header.base_chain):
            raise CorruptionError(f"{name} does not continue {self._name()}, which ends otherwise")
        if not self.sealed:
            raise CorruptionError(f"{self._name()} has no end mark, but {name} goes on")
        self._pass((base, header.base_chain))
        self._walk(name, data, header)

    def _walk(self, name: str, data: bytes, header: SegmentHeader) -> None:
        pos, self.sealed = SEGMENT_HEADER_BYTES, False
        previous = self.tail
        begin = 0
        while (batch := record.read_batch(data, pos, header.salt)) is not None:
            if (batch.before, batch.chain_before) != self.position:
                raise CorruptionError(f"the batch at {name}:{pos} does not continue the log")
            begin = pos
            if batch.count == 0:
                self.sealed = True
                break
            self._take(data, pos, batch)
            pos += batch.total_bytes
        assert self.position is not None
        tail = Tail(header.base, header, pos, *self.position)
        if not self.sealed:
            tail.torn_bytes = not record.is_zero(data, pos)
            if tail.torn_bytes and (later := record.find_batch(data, pos, header.salt)) is not None:
                raise CorruptionError(
                    f"the batch at {name}:{pos} is damaged, an intact one at {later}"
                )
        self.tail = _with_record(tail, previous, data, begin, pos)

    def _take(self, data: bytes, pos: int, batch: BatchHeader) -> None:
        contents, image = self.contents, self.image[0]
        contents.committed = max(contents.committed, batch.committed)
        if batch.last > image:
            if batch.digest_zxid > image:
                contents.digests.append((batch.digest_zxid, batch.digest))
            for entry in record.decode_entries(data, pos, batch):
                self._pass((entry.zxid, entry.chain))
                if entry.zxid > image:
                    contents.entries.append(entry)
        self._pass((batch.last, batch.chain_after))

    def _pass(self, position: tuple[int, int]) -> None:
        self.position = position
        if position == self.image:
            self.passed_image = True


def _is_unused(data: bytes, header: SegmentHeader | None) -> bool:
    """Whether a segment holds nothing but, perhaps, its header."""
    if header is None:
        return record.is_zero(data, SEGMENT_HEADER_BYTES)
    return record.find_batch(data, SEGMENT_HEADER_BYTES, header.salt) is None


def _with_record(tail: Tail, previous: Tail | None, data: bytes, begin: int, pos: int) -> Tail:
    """Note which record was written last: a batch, a seal, or the one before a new segment."""
    if begin:
        end = pos if begin < pos else begin + BATCH_HEADER_BYTES
        tail.record_base, tail.record_offset, tail.record_bytes = tail.base, begin, data[begin:end]
    elif previous is not None:
        tail.record_base = previous.record_base
        tail.record_offset = previous.record_offset
        tail.record_bytes = previous.record_bytes
    else:
        tail.record_base, tail.record_bytes = tail.base, data[:SEGMENT_HEADER_BYTES]
    return tail


def read_log(
    fs: FileSystem, directory: str, generation: int, image_zxid: int, image_chain: int
) -> LogContents:
    """Read and check the log from the image on.

    Changes nothing on disk except that it finishes a recorded cut.  Damage in the
    sense of D5 is reported in `damage`, with the entries before it.
    """
    return _Reader(fs, directory, generation, (image_zxid, image_chain)).read()
