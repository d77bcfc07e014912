"""Carries out, strictly in order, what the core asks of the disk; opens it at boot.

`Storage` is the one object that shells hold.  Three threads may call it, each alone
in its part: one `execute` (or `begin` and `finish`), one `image_step` and `purge`, one
`prepare_slice`.  The first two meet in no file: only `purge` removes what was in force
(generations older than the present one, images, segments before an image); `execute`
makes and drops newer generations and cuts behind every image.  The third makes a temp
file for the first, and they have a lock for that (`StorageOptions.lock`).

A disk without room is no failure, as long as what was asked for can simply be tried
again: the log's thread waits (`wait_for_room`), and an image is given up, its
predecessors untouched (D11).  A sync that fails is one, whatever its reason, but for that
of a file that holds nothing yet.

The first failure is the last: whatever the disk refused, what it holds is unknown
from then on (rule D6), so nothing is written any more and every later call
raises StorageError.  Only a new start, which reads and checks everything, goes on.

Boot, in this order, and nothing is changed on disk before the data was found sound:

1. lock; refuse a foreign directory;
2. identity: none and no data - a blank member; none but data, or a damaged one -
   suspect (D10);
3. the newest image that verifies; an older one only if the log reaches from it to
   beyond the newest (D8);
4. the log from that image on: torn end or damage (D4, D5; `zkpy.storage.log_reader`);
5. if all is sound: leftovers away, identity and last record written once more, since
   a killed process may have left them in the page cache only.
"""

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Self, TypeVar

import attrs

from zkpy.effects import (
    CHAIN_START,
    Append,
    BeginGeneration,
    DiskBatch,
    DiskStep,
    EndGeneration,
    GenerationChunk,
    Identity,
    ImageBegin,
    ImageChunk,
    ImageStep,
    Recovered,
    Truncate,
    WriteIdentity,
)
from zkpy.errors import CorruptionError, StorageError
from zkpy.storage.datadir import DataDir
from zkpy.storage.fs import File, FileSystem, is_full, join
from zkpy.storage.identity import read_identity, write_identity
from zkpy.storage.log_reader import LogContents, read_log
from zkpy.storage.segments import purge_segments
from zkpy.storage.snapshots import (
    Image,
    ImageFile,
    image_name,
    image_zxids,
    load_image,
    verify_image,
)
from zkpy.storage.txnlog import TxnLog
from zkpy.zxid import NONE

NO_GENERATION: Final = 0

_Arg = TypeVar("_Arg")
_Result = TypeVar("_Result")


@attrs.define(frozen=True)
class StorageOptions:
    segment_bytes: int = 64 * 1024 * 1024
    """Space reserved per log segment: `preAllocSize`."""
    image_sync_bytes: int = 8 * 1024 * 1024
    """Image bytes written between two syncs."""
    on_full: Callable[[str], None] | None = None
    """Told when a write found no room, and why; called by the thread that writes."""
    wait_for_room: Callable[[], None] | None = None
    """Blocks until a refused write is worth another try; raises to give up.  None: every
    refusal is a failure."""
    lock: AbstractContextManager[object] = attrs.field(factory=nullcontext)
    """What threads use to keep out of each other's way; needed where there are some."""


@attrs.define(eq=False)
class _Pending:
    """A generation being received."""

    number: int
    image: ImageFile | None
    """None once it is complete."""
    log: TxnLog | None = None


@attrs.define(eq=False)
class Storage:
    """One server's disk."""

    _dirs: DataDir
    _options: StorageOptions
    _generation: int = NO_GENERATION
    """The one in force; NO_GENERATION for a member without a usable identity record."""
    _log: TxnLog | None = None
    """None while there is no generation in force, or a damaged one."""
    _damage: str | None = None
    _pending: _Pending | None = None
    _image: ImageFile | None = None
    """The image of the own state being written."""
    _image_generation: int = NO_GENERATION
    _verified: dict[tuple[int, int], None] = attrs.Factory(dict)
    """(generation, zxid) of images that were read back in this run."""
    _failure: str | None = None

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        data_dir: str,
        log_dir: str | None = None,
        options: StorageOptions | None = None,
    ) -> tuple[Self, Recovered]:
        """Lock, check and read a data directory (`log_dir`: `dataLogDir`).

        StorageError if it is in use, belongs to another program, cannot be read, or if there
        is no room to put it in order: before there is a server nobody waits for any.
        Damage is no error: `Recovered.suspect` says what it is, and the files stay.
        """
        try:
            dirs = DataDir.claim(fs, data_dir, log_dir)
            try:
                storage = cls(dirs, options or StorageOptions())
                return storage, storage._recover()
            except BaseException:
                dirs.release()
                raise
        except OSError as error:
            raise StorageError(describe(error) + _what_helps(error)) from error

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def last_zxid(self) -> int:
        """Last durable entry of the generation in force."""
        return self._log.last if self._log else NONE

    def newest_image(self) -> tuple[int, str] | None:
        """(zxid, path) of the newest finished one; for any thread, and it may be purged by then."""
        directory = self._dirs.images(self._generation)
        zxids = self._image_zxids(self._generation) if self._generation else []
        return (zxids[-1], join(directory, image_name(zxids[-1]))) if zxids else None

    def execute(self, batch: DiskBatch) -> None:
        """Carry out the steps in order; all are durable on return."""
        self._guard(self._carry_out, batch.steps)

    def begin(self, batch: DiskBatch) -> File | None:
        """Write a batch that is no more than entries behind the log, and wait for nothing.

        The file whose sync makes it durable, which `finish` must follow; None, with nothing
        changed, for a batch that `execute` must carry out.  Not while one is under way.
        """
        if len(batch.steps) != 1 or self._pending or self._log is None:
            return None
        step = batch.steps[0]
        return self._guard(self._log.begin, step) if isinstance(step, Append) else None

    def finish(self, failure: OSError | None = None) -> None:
        """The sync of what was begun has ended; StorageError if that failed."""
        self._guard(self._finish, failure)

    def _finish(self, failure: OSError | None) -> None:
        if failure is not None:
            raise failure
        assert self._log is not None, "nothing was begun"
        self._log.finish()

    def image_step(self, step: ImageStep) -> int | None:
        """Carry out one step of writing an image; the zxid once that image is durable.

        An image of a generation that was replaced meanwhile is dropped in silence.
        """
        return self._guard(self._carry_out_image_step, step)

    def purge(self, retain: int) -> None:
        """Keep the newest `retain` images that verify and the log from the oldest of them on.

        Removes nothing else while there are fewer (D9), but generations that are no
        longer in force.  Nothing at all while the member is suspect.
        """
        assert retain >= 1, "one image must stay"
        self._guard(self._purge, retain)

    def wants_slice(self) -> bool:
        """Whether it is time for `prepare_slice`."""
        return self._log is not None and self._log.wants_slice()

    def prepare_slice(self) -> None:
        """Write a slice of the log's next segment beforehand, if it is time for that.

        Only how long syncs take depends on it: without room there is none.  StorageError all the
        same if the disk fails."""
        self._guard(Storage._prepare_slice, self)

    def stop_preparing(self) -> None:
        """There is little room left on the disk: the next segment takes none beforehand any more.

        By the thread that prepares it."""
        self._guard(Storage._stop_preparing, self)

    def has_next_segment(self) -> bool:
        """Whether the log's next segment has its room.  May be called by any thread."""
        log = self._log
        return log is not None and log.has_next_segment

    def close(self) -> None:
        """Let go of files and lock; writes nothing.  May follow a failure."""
        self._failure = self._failure or "storage is closed"
        try:
            for closing in self._open_files():
                closing()
        except OSError as error:
            raise StorageError(describe(error)) from error
        finally:
            self._dirs.release()

    # Failing

    def _guard(self, work: Callable[[_Arg], _Result], argument: _Arg) -> _Result:
        if self._failure is not None:
            raise StorageError(f"refused after an earlier failure: {self._failure}")
        try:
            return work(argument)
        except OSError as error:
            self._failure = describe(error)
            raise StorageError(self._failure) from error
        except BaseException as error:
            self._failure = describe(error)
            raise

    def _open_files(self) -> list[Callable[[], None]]:
        logs = [self._log, self._pending.log if self._pending else None]
        images = [self._image, self._pending.image if self._pending else None]
        return [log.close for log in logs if log] + [image.close for image in images if image]

    # Steps of the disk thread

    def _carry_out(self, steps: list[DiskStep]) -> None:
        for step in steps:
            _STEPS[type(step)](self, step)

    def _append(self, step: Append) -> None:
        log = self._pending.log if self._pending else self._log
        if log is None:
            raise StorageError(self._why_no_log())
        log.append(step)

    def _truncate(self, step: Truncate) -> None:
        if self._pending or self._log is None:
            raise StorageError(f"cannot cut the log: {self._why_no_log()}")
        committed = max(self._image_zxids(self._generation), default=NONE)
        if step.zxid < committed:
            raise StorageError(
                f"cannot cut behind {step.zxid:#x}: the image at {committed:#x} is committed"
            )
        self._log.truncate(step.zxid)

    def _why_no_log(self) -> str:
        if self._pending:
            return f"generation {self._pending.number} is being received"
        return self._damage or "there is no identity record yet"

    def _begin_generation(self, step: BeginGeneration) -> None:
        if step.generation <= self._generation:
            raise StorageError(f"generation {self._generation} is in force")
        self._drop_pending()
        self._until_room(lambda: self._begin_receiving(step))

    def _begin_receiving(self, step: BeginGeneration) -> None:
        self._dirs.make_generation(step.generation)
        image = ImageFile.begin(
            self._dirs.fs,
            self._dirs.images(step.generation),
            step.generation,
            step.zxid,
            step.chain,
            self._options.image_sync_bytes,
            self._wait_for_room,
        )
        self._pending = _Pending(step.generation, image)

    def _generation_chunk(self, step: GenerationChunk) -> None:
        self._receiving().add(step.data)

    def _end_generation(self, step: EndGeneration) -> None:
        image = self._receiving()
        assert self._pending is not None
        image.finish(step.digest)
        self._pending.log = self._create_log(self._pending.number, image.zxid, image.chain)
        self._pending.image = None

    def _receiving(self) -> ImageFile:
        if self._pending is None or self._pending.image is None:
            raise StorageError("no generation is being received")
        return self._pending.image

    def _create_log(self, generation: int, zxid: int, chain: int) -> TxnLog:
        return TxnLog.create(
            self._dirs.fs,
            self._dirs.logs(generation),
            generation,
            zxid,
            chain,
            self._options.segment_bytes,
            self._wait_for_room,
            self._options.lock,
        )

    def _until_room(self, work: Callable[[], None]) -> None:
        """Do it, once more from its beginning for as long as there is no room."""
        while True:
            try:
                work()
                return
            except OSError as error:
                self._wait_for_room(error)

    def _wait_for_room(self, error: OSError) -> None:
        """Return to try again what failed with `error`, or raise it."""
        wait = self._options.wait_for_room
        if wait is None or not is_full(error):
            raise error
        if self._log is not None and self._log.give_up_spare():
            return
        self._tell_full(error)
        wait()

    def _tell_full(self, error: OSError) -> None:
        if self._options.on_full is not None:
            self._options.on_full(describe(error))

    def _write_identity(self, step: WriteIdentity) -> None:
        generation = step.identity.generation
        if self._pending is not None and self._pending.number != generation:
            # A promise to a new leader: what the old one was sending is void.
            self._drop_pending()
        if generation == self._generation:
            self._put_identity(step.identity)
            return
        if self._pending is None:
            self._found_generation(generation)
        self._adopt(step.identity)

    def _found_generation(self, generation: int) -> None:
        """An empty log for a member that founds its ensemble: there is no image to receive."""
        if self._generation != NO_GENERATION or self._damage:
            raise StorageError(f"generation {generation} was never received")
        self._dirs.make_generation(generation)
        log = self._create_log(generation, NONE, CHAIN_START)
        self._pending = _Pending(generation, None, log)

    def _adopt(self, identity: Identity) -> None:
        pending = self._pending
        if pending is None or pending.log is None:
            raise StorageError(f"generation {identity.generation} was not received whole")
        self._put_identity(identity)
        if self._log is not None:
            # Before `purge` can see that its directory may go: nothing is made there any more.
            self._log.close()
        self._log = pending.log
        self._generation, self._pending, self._damage = pending.number, None, None
        self._dirs.adopt_generation(pending.number)

    def _put_identity(self, identity: Identity) -> None:
        self._until_room(lambda: write_identity(self._dirs.fs, self._dirs.data_dir, identity))

    def _drop_pending(self) -> None:
        pending = self._pending
        if pending is None:
            return
        if pending.image is not None:
            pending.image.close()
        if pending.log is not None:
            pending.log.close()
        self._dirs.drop_generation(pending.number)
        self._pending = None

    # Steps of the image thread

    def _carry_out_image_step(self, step: ImageStep) -> int | None:
        try:
            return self._write_image(step)
        except OSError as error:
            if self._options.on_full is None or not is_full(error):
                raise
            self._abandon_image()
            self._tell_full(error)
            return None

    def _write_image(self, step: ImageStep) -> int | None:
        if isinstance(step, ImageBegin):
            self._begin_image(step)
            return None
        if self._image is None or self._image_generation != self._generation:
            self._abandon_image()
            return None
        if isinstance(step, ImageChunk):
            self._image.add(step.data)
            return None
        assert self._image.zxid == step.zxid, "the end of another image"
        self._image.finish(step.digest)
        self._image = None
        return step.zxid

    def _begin_image(self, step: ImageBegin) -> None:
        if self._log is None:
            raise StorageError(f"cannot write an image: {self._why_no_log()}")
        self._abandon_image()
        self._image_generation = self._generation
        self._image = ImageFile.begin(
            self._dirs.fs,
            self._dirs.images(self._image_generation),
            self._image_generation,
            step.zxid,
            step.chain,
            self._options.image_sync_bytes,
        )

    def _abandon_image(self) -> None:
        image, self._image = self._image, None
        if image is not None:
            image.abandon()

    def _prepare_slice(self) -> None:
        if self._log is not None:
            self._log.prepare_slice()

    def _stop_preparing(self) -> None:
        if self._log is not None:
            self._log.stop_preparing()

    def _purge(self, retain: int) -> None:
        if self._log is None:
            return
        generation = self._generation
        self._dirs.drop_generations_before(generation)
        zxids = self._image_zxids(generation)
        verified = [zxid for zxid in reversed(zxids) if self._verify(generation, zxid)]
        if len(verified) >= retain:
            self._purge_before(generation, verified[retain - 1])

    def _purge_before(self, generation: int, oldest: int) -> None:
        fs, directory = self._dirs.fs, self._dirs.images(generation)
        doomed = [zxid for zxid in self._image_zxids(generation) if zxid < oldest]
        for zxid in doomed:
            fs.unlink(join(directory, image_name(zxid)))
            self._verified.pop((generation, zxid), None)
        if doomed:
            fs.sync_dir(directory)
        purge_segments(fs, self._dirs.logs(generation), oldest)

    def _verify(self, generation: int, zxid: int) -> bool:
        """Whether an image reads back; once per run, it is a whole file."""
        if (generation, zxid) not in self._verified:
            directory = self._dirs.images(generation)
            if not verify_image(self._dirs.fs, directory, generation, zxid):
                return False
            self._verified[generation, zxid] = None
        return True

    def _image_zxids(self, generation: int) -> list[int]:
        return image_zxids(self._dirs.fs, self._dirs.images(generation))

    # Boot

    def _recover(self) -> Recovered:
        try:
            identity = read_identity(self._dirs.fs, self._dirs.data_dir)
        except CorruptionError as error:
            return self._suspect(str(error))
        if identity is None:
            return self._recover_blank()
        self._generation = identity.generation
        missing = [p for p in self._dirs.parts(self._generation) if not self._dirs.fs.is_dir(p)]
        if missing:
            return self._suspect(f"{missing[0]} is missing", identity)
        return self._recover_generation(identity)

    def _recover_blank(self) -> Recovered:
        """No identity record: blank if nothing was ever adopted here, else amnesia (D10)."""
        generations = self._dirs.generations()
        held = [number for number in generations if self._dirs.was_in_force(number)]
        if held:
            return self._suspect(f"generation {held[-1]} has data, but its identity record is gone")
        for number in generations:
            self._dirs.drop_generation(number)
        return Recovered()

    def _suspect(self, why: str, identity: Identity | None = None) -> Recovered:
        self._damage = why
        return Recovered(identity, suspect=why)

    def _recover_generation(self, identity: Identity) -> Recovered:
        notes: list[str] = []
        zxids = self._image_zxids(self._generation)
        newest = max(zxids, default=NONE)
        image = self._load_newest(zxids, notes)
        logs = self._dirs.logs(self._generation)
        contents = read_log(self._dirs.fs, logs, self._generation, image.zxid, image.chain)
        self._damage = contents.damage or _find_shortfall(contents, newest)
        if not self._damage:
            self._put_in_order(identity, contents)
        return Recovered(
            identity,
            image.zxid,
            image.chain,
            image.chunks,
            image.digest,
            contents.entries,
            max(contents.committed, newest),
            contents.digests,
            suspect=self._damage,
            notes=notes + contents.notes,
        )

    def _load_newest(self, zxids: list[int], notes: list[str]) -> Image:
        """The newest image that verifies; the empty tree if there is none."""
        directory = self._dirs.images(self._generation)
        for zxid in reversed(zxids):
            try:
                image = load_image(self._dirs.fs, directory, self._generation, zxid)
            except CorruptionError as error:
                notes.append(f"{error}; falling back on an older image")
            else:
                self._verified[self._generation, zxid] = None
                return image
        return Image(NONE, CHAIN_START, 0, [])

    def _put_in_order(self, identity: Identity, contents: LogContents) -> None:
        """Make durable what was read, then remove what it replaced - in this order."""
        assert contents.tail is not None
        self._dirs.drop_temp_files(self._generation)  # first: they may hold the room that is needed
        # Not `_put_identity`: nobody is there yet who could say what a wait is for, or end it.
        write_identity(self._dirs.fs, self._dirs.data_dir, identity)
        self._log = TxnLog.resume(
            self._dirs.fs,
            self._dirs.logs(self._generation),
            self._generation,
            contents,
            self._options.segment_bytes,
            self._wait_for_room,
            self._options.lock,
        )
        self._dirs.adopt_generation(self._generation)
        self._dirs.drop_other_generations(self._generation)


def _find_shortfall(contents: LogContents, newest: int) -> str | None:
    """A log that ends before an image lost what that image had seen durable."""
    assert contents.tail is not None
    last = contents.tail.last
    return f"the log ends at {last:#x}, before the image at {newest:#x}" if last < newest else None


def _what_helps(error: OSError) -> str:
    """With a start that failed."""
    if not is_full(error):
        return ""
    return ": the disk is full, and a start needs a little room; nothing is lost: make room first"


_STEPS: Final[dict[type, Callable[[Storage, Any], None]]] = {
    Append: Storage._append,
    Truncate: Storage._truncate,
    WriteIdentity: Storage._write_identity,
    BeginGeneration: Storage._begin_generation,
    GenerationChunk: Storage._generation_chunk,
    EndGeneration: Storage._end_generation,
}


def describe(error: BaseException) -> str:
    """A failure in words: file and the system's text where there are any."""
    if not isinstance(error, OSError):
        return str(error) or type(error).__name__
    code = errno.errorcode.get(error.errno or 0, "")
    text = error.strerror or str(error)
    return f"{error.filename or 'data directory'}: {text}" + (f" ({code})" if code else "")
