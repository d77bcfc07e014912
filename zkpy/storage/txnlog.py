"""The log of one generation as it is written: segments that are appended to and rolled.

In: `Append` steps, cut points (carried out by `log_cut`), and at boot what `log_reader` has
read.  The bytes are those of `zkpy.storage.record`.

Rolling.  The new segment is made durable first, then the old one is sealed
(durably), and only then does a batch go to the new one: so a reader can tell a roll that
did not finish from damage.

Preparing.  A sync after a write into space that is only reserved has metadata to make
durable too: that this space is written now.  So the next segment is filled with zeros
beforehand, as a temp file that gets its header and its name when the log rolls: a sync
then takes a third less, on a file system with a journal about a half.  It is filled by
another thread, a slice whenever the present segment was used by about so much more
(`prepare_slice`), from its second eighth on and done by three quarters: an idle server
makes none, a busy one is never asked for much at once.  Where it is not ready in time -
the disk is slow, or has no room - the next segment is only reserved, as the first one is.

All its room is taken with the first slice.  Where room gets scarce it is filled no further
and kept: so the log has somewhere to go on that nobody else can take.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Self

import attrs

from zkpy.effects import Append
from zkpy.errors import StorageError
from zkpy.storage import record
from zkpy.storage.fs import TEMP_SUFFIX, File, FileSystem, is_full, join
from zkpy.storage.log_cut import carry_out_cut, plan_cut, record_cut
from zkpy.storage.log_reader import LogContents, Tail
from zkpy.storage.record import BATCH_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader
from zkpy.storage.segments import segment_name

SPARE_NAME: Final = "log-spare" + TEMP_SUFFIX
"""A segment full of zeros, removed like every temp file at a start."""
SLICE_BYTES: Final = 1024 * 1024
"""Zeros written at a time.  A sync of the log may have to wait for them: smaller slices make
more syncs wait, larger ones make them wait longer."""
_ZEROS: Final = bytes(64 * 1024)


@attrs.define(eq=False)
class TxnLog:
    """The log being written: one open segment, appended to batch by batch."""

    fs: FileSystem
    directory: str
    generation: int
    segment_bytes: int
    last: int
    """Zxid of the last durable entry."""
    chain: int
    _file: File
    _salt: int
    _end: int
    _wait_for_room: Callable[[OSError], None]
    """Called with a write's failure: returns to try again, or raises it."""
    _spare_lock: AbstractContextManager[object]
    """Held to look at what concerns the spare segment and to change it, but not while a slice
    of it is written."""
    _committed: int = 0
    """The highest watermark written."""
    _begun: tuple[Append, int] | None = None
    """The batch that was written and is not known to be durable, and its bytes."""
    _spare: File | None = None
    """The next segment, being prepared."""
    _filled: int = 0
    """How much of it is written; all, and durable, once it is `_ready`."""
    _ready: bool = False
    _refused: bool = False
    """There was no room for it; nobody tries again before the next segment."""
    _stopped: bool = False
    """It is not to be filled any further: the next segment is made of it as it is."""
    _busy: bool = False
    """A slice is being written: the thread that does so lets go of the file, nobody else."""
    _closed: bool = False

    @classmethod
    def create(
        cls,
        fs: FileSystem,
        directory: str,
        generation: int,
        base: int,
        chain: int,
        size: int,
        wait_for_room: Callable[[OSError], None],
        spare_lock: AbstractContextManager[object],
    ) -> Self:
        """A new, empty log behind (`base`, `chain`), durable on return."""

        def begin() -> tuple[File, int]:
            return _create_segment(fs, directory, generation, base, chain, size)

        path = join(directory, segment_name(base))
        file, salt = _try_for_room(fs, path, begin, wait_for_room)
        end = SEGMENT_HEADER_BYTES
        return cls(
            fs,
            directory,
            generation,
            size,
            base,
            chain,
            file,
            salt,
            end,
            wait_for_room,
            spare_lock,
        )

    @classmethod
    def resume(
        cls,
        fs: FileSystem,
        directory: str,
        generation: int,
        contents: LogContents,
        size: int,
        wait_for_room: Callable[[OSError], None],
        spare_lock: AbstractContextManager[object],
    ) -> Self:
        """Put the end of a sound log in order and go on behind it.

        Nothing read is believed to be durable: a killed process leaves its last
        record in the page cache, and one whose sync failed leaves it there marked
        clean.  So that record is written once more and synced (D6); every record
        before it was synced, since a batch is written only after that.
        """
        tail = contents.tail
        assert tail is not None, "a damaged log is not written to"
        if tail.torn_bytes:
            contents.notes.append(
                f"cut off a torn batch behind {tail.last:#x}: of one that a crash tore, nothing "
                "was acknowledged"
            )
        if tail.leftover is not None:
            fs.unlink(join(directory, segment_name(tail.leftover)))
            fs.sync_dir(directory)
        if tail.record_base != tail.base:
            _rewrite(fs, directory, tail)
        file = _reopen(fs, directory, tail, size)
        return cls(
            fs,
            directory,
            generation,
            size,
            tail.last,
            tail.chain,
            file,
            tail.header.salt,
            tail.end,
            wait_for_room,
            spare_lock,
            contents.committed,
        )

    def append(self, step: Append) -> None:
        """Write one batch and wait until it is durable."""
        header, payload = record.encode_batch(self._salt, self.last, self.chain, step)
        size = BATCH_HEADER_BYTES + len(payload)
        if self._is_full(size):
            self._roll()
            header, payload = record.encode_batch(self._salt, self.last, self.chain, step)
        self._write((header, payload))
        self._begun = step, size
        self._file.sync_data()
        self.finish()

    def begin(self, step: Append) -> File | None:
        """Write one batch and wait for nothing; the file whose sync makes it durable.

        None, with nothing changed, where that is not all: a new segment is due, or there is
        no room on the disk.  `append` can do it then.
        """
        assert self._begun is None, "one batch at a time"
        header, payload = record.encode_batch(self._salt, self.last, self.chain, step)
        size = BATCH_HEADER_BYTES + len(payload)
        if self._is_full(size):
            return None
        try:
            self._file.write(self._end, (header, payload))
        except OSError as error:
            if is_full(error):
                return None
            raise
        self._begun = step, size
        return self._file

    def finish(self) -> None:
        """What was begun is durable: the log goes on behind it."""
        assert self._begun is not None, "nothing was begun"
        step, size = self._begun
        self._begun = None
        self._end += size
        tail = step.entries[-1]
        self.last, self.chain = tail.zxid, tail.chain
        if step.committed > self._committed:
            self._committed = step.committed

    def _is_full(self, size: int) -> bool:
        """Whether `size` bytes and a seal no longer fit; an empty segment takes any batch."""
        room = self.segment_bytes - self._end - BATCH_HEADER_BYTES
        return size > room and self._end > SEGMENT_HEADER_BYTES

    def wants_slice(self) -> bool:
        """Whether it is time for `prepare_slice`."""
        due = 8 * self._end > self.segment_bytes + 5 * self._filled
        return due and not (self._ready or self._refused or self._stopped)

    def prepare_slice(self) -> None:
        """Write one more slice of the next segment, if it is time for that.

        By a thread of its own; the log may be closed meanwhile.
        """
        spare = self._take_up_spare()
        if spare is None:
            return
        done = False
        try:
            self._fill(spare)
            done = True
        except OSError as error:
            if not is_full(error) and not self._closed:
                raise
        finally:
            self._put_down_spare(done)

    def _take_up_spare(self) -> File | None:
        with self._spare_lock:
            if self._closed or self._busy or not self.wants_slice():
                return None
            if self._spare is None:
                try:
                    self._remove_spare()
                    self._spare = self.fs.open(join(self.directory, SPARE_NAME), create=True)
                except OSError:
                    # Whatever ails the disk, the log will meet it where it matters.
                    self._refused = True
            self._busy = self._spare is not None
            return self._spare

    def _fill(self, spare: File) -> None:
        pos, size = self._filled, min(SLICE_BYTES, self.segment_bytes - self._filled)
        if not pos:
            spare.preallocate(self.segment_bytes)
        whole, rest = divmod(size, len(_ZEROS))
        spare.write(pos, [_ZEROS] * whole + [_ZEROS[:rest]])
        spare.write_out(pos, size)
        if pos + size == self.segment_bytes:
            spare.sync()
        self._filled = pos + size

    def _put_down_spare(self, done: bool) -> None:
        with self._spare_lock:
            self._busy = False
            self._refused = self._refused or not done
            if self._closed or self._refused:
                self._drop_spare()
            else:
                self._ready = self._filled == self.segment_bytes

    def _drop_spare(self) -> None:
        """Under the lock.  Its directory may be on its way out with all in it, once the log is
        closed: then the name is left alone."""
        spare, self._spare, self._filled, self._ready = self._spare, None, 0, False
        if spare is not None:
            spare.close()
        if not self._closed:
            self._remove_spare()

    @property
    def has_next_segment(self) -> bool:
        """Whether there is a spare one that has all its room."""
        return self._spare is not None and self._filled > 0

    def stop_preparing(self) -> None:
        """Room is scarce: no more slices in this segment.  A spare one that has its room stays,
        and is the next, for if it were removed, others could take what it leaves."""
        with self._spare_lock:
            self._stopped = True

    def give_up_spare(self) -> bool:
        """For want of room: whether there is more of it now."""
        path = join(self.directory, SPARE_NAME)
        with self._spare_lock:
            self._refused = True
            there = self.fs.exists(path)
            if there and not self._busy:  # else it is dropped when it is put down
                self._drop_spare()
            return there and not self.fs.exists(path)

    def _remove_spare(self) -> None:
        path = join(self.directory, SPARE_NAME)
        if self.fs.exists(path):
            try:
                self.fs.unlink(path)
            except OSError as error:  # a copy-on-write file system needs room for that too
                if not is_full(error):
                    raise

    def _write(self, parts: Sequence[bytes]) -> None:
        """Behind the end.  Half of it may be there after a refusal: it is written over."""
        while True:
            try:
                self._file.write(self._end, parts)
                return
            except OSError as error:
                self._wait_for_room(error)

    def _roll(self) -> None:
        file, salt = self._create_next()
        self._write((record.encode_seal(self._salt, self.last, self.chain),))
        self._file.sync_data()
        self._file.close()
        self._file, self._salt, self._end = file, salt, SEGMENT_HEADER_BYTES

    def _create_next(self) -> tuple[File, int]:
        path = join(self.directory, segment_name(self.last))
        return _try_for_room(self.fs, path, self._begin_segment, self._wait_for_room)

    def _begin_segment(self) -> tuple[File, int]:
        """Of the spare one, if that is ready."""
        with self._spare_lock:
            spare = self._use_spare()
            begun = _create_segment(
                self.fs,
                self.directory,
                self.generation,
                self.last,
                self.chain,
                self.segment_bytes,
                spare,
            )
            self._refused = self._refused and self._busy
            self._stopped = False
            return begun

    def _use_spare(self) -> File | None:
        """Under the lock: the spare segment, if it is ready, or as ready as it will be, and still
        has its name."""
        stopped = self._stopped and not self._busy and self._filled > 0
        if not (self._ready or stopped):
            return None
        spare, self._spare, self._filled, self._ready = self._spare, None, 0, False
        assert spare is not None
        if self.fs.exists(join(self.directory, SPARE_NAME)):
            return spare
        spare.close()  # a temp file, to somebody who tidied up
        return None

    def truncate(self, zxid: int) -> None:
        """Cut the log so that `zxid` is its last entry (D12); durable on return."""
        if zxid == self.last:
            return
        if zxid > self.last:
            raise StorageError(f"cannot cut behind {zxid:#x}, the log ends at {self.last:#x}")
        if zxid < self._committed:
            raise StorageError(f"cannot cut behind {zxid:#x}: {self._committed:#x} is committed")
        cut = plan_cut(self.fs, self.directory, zxid)
        record_cut(self.fs, self.directory, zxid)
        self._file.close()
        carry_out_cut(self.fs, self.directory, cut, self.segment_bytes)
        self._file = self.fs.open(join(self.directory, segment_name(cut.base)))
        self._salt = cut.header.salt
        self._end = cut.end + sum(map(len, cut.rest))
        self.last, self.chain = cut.zxid, cut.chain

    def close(self) -> None:
        """From here on nobody makes or removes a spare segment in this directory."""
        try:
            with self._spare_lock:
                self._closed = True
                if not self._busy:
                    self._drop_spare()
        finally:
            self._file.close()


def _try_for_room(
    fs: FileSystem,
    path: str,
    begin: Callable[[], tuple[File, int]],
    wait_for_room: Callable[[OSError], None],
) -> tuple[File, int]:
    """The segment that `begin` makes at `path`; what a refused try left of it is removed."""
    while True:
        try:
            return begin()
        except OSError as error:
            if is_full(error) and fs.exists(path):
                fs.unlink(path)
            wait_for_room(error)


def _create_segment(
    fs: FileSystem,
    directory: str,
    generation: int,
    base: int,
    chain: int,
    size: int,
    spare: File | None = None,
) -> tuple[File, int]:
    """A segment without entries, durable on return, and its salt; made of the spare one."""
    salt = int.from_bytes(fs.entropy(4), "big")
    header = record.encode_segment_header(SegmentHeader(salt, generation, base, chain))
    path = join(directory, segment_name(base))
    if spare is not None:
        return _name_spare(fs, directory, spare, path, header), salt
    file = fs.open(path, create=True)
    try:
        file.preallocate(size)
        file.write(0, (header,))
        file.sync()
        fs.sync_dir(directory)
    except BaseException:
        file.close()
        raise
    return file, salt


def _name_spare(fs: FileSystem, directory: str, spare: File, path: str, header: bytes) -> File:
    """Let the spare segment be the one at `path`."""
    try:
        spare.write(0, (header,))
        spare.sync()
    finally:
        spare.close()
    assert not fs.exists(path), f"{path} is there"
    fs.rename(join(directory, SPARE_NAME), path)
    fs.sync_dir(directory)
    return fs.open(path)


def _reopen(fs: FileSystem, directory: str, tail: Tail, size: int) -> File:
    file = fs.open(join(directory, segment_name(tail.base)))
    try:
        if tail.torn_bytes:
            file.truncate(tail.end)
        file.preallocate(size)
        if tail.record_base == tail.base:
            file.write(tail.record_offset, (tail.record_bytes,))
        file.sync()
        fs.sync_dir(directory)
    except BaseException:
        file.close()
        raise
    return file


def _rewrite(fs: FileSystem, directory: str, tail: Tail) -> None:
    file = fs.open(join(directory, segment_name(tail.record_base)))
    try:
        file.write(tail.record_offset, (tail.record_bytes,))
        file.sync()
    finally:
        file.close()
