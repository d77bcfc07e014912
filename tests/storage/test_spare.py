"""The log's next segment, prepared beforehand: when, what of, and that it may fail to come."""

import errno
import threading
from dataclasses import replace
from pathlib import Path

import attrs
import pytest

from tests.storage.model import DATA_DIR, IDENTITY, SMALL, append, open_storage, state_of
from zkpy.effects import (
    CHAIN_START,
    BeginGeneration,
    DiskBatch,
    DiskStep,
    EndGeneration,
    Entry,
    WriteIdentity,
)
from zkpy.errors import StorageError
from zkpy.storage import OsFileSystem, Storage, StorageOptions, txnlog
from zkpy.storage.fs import TEMP_SUFFIX
from zkpy.storage.segments import segment_bases, segment_name
from zkpy.storage.txnlog import SPARE_NAME
from zkpy.testing.memfs import Call, MemFileSystem

GENERATION = f"{DATA_DIR}/gen-0001"
SPARE = f"{GENERATION}/{SPARE_NAME}"
SLICES = 4


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(txnlog, "SLICE_BYTES", SMALL.segment_bytes // SLICES)


@attrs.define
class Log:
    """A storage and what its log holds."""

    fs: MemFileSystem
    options: StorageOptions = SMALL
    storage: Storage = attrs.field(init=False)
    history: list[Entry] = attrs.Factory(list)
    written: list[tuple[str, str]] = attrs.Factory(list)
    """(operation, path) of every call."""

    def __attrs_post_init__(self) -> None:
        # A real lock: who takes it twice hangs.
        self.options = attrs.evolve(self.options, lock=threading.Lock())
        self.storage, _ = open_storage(self.fs, options=self.options)
        self.storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
        self.fs.observe = lambda call: self.written.append((call.operation, call.path))

    def append(self) -> None:
        append(self.storage, self.history)

    def until_due(self) -> int:
        """Batches until a slice is due."""
        batches = 0
        while not self.storage.wants_slice():
            self.append()
            batches += 1
        return batches

    @property
    def slices(self) -> int:
        return self.written.count(("write", SPARE))

    @property
    def segments(self) -> list[int]:
        return segment_bases(self.fs, GENERATION)

    def until_rolled(self, prepare: bool = True) -> int:
        """Batches until a new segment has begun, with what is due meanwhile."""
        before, batches = self.segments, 0
        while self.segments == before:
            self.append()
            batches += 1
            if prepare and self.storage.wants_slice():
                self.storage.prepare_slice()
        return batches

    def is_prepared(self) -> bool:
        """Whether the open segment was made of a spare one."""
        path = f"{GENERATION}/{segment_name(self.segments[-1])}"
        return ("create", path) not in self.written

    def restart(self) -> None:
        self.fs.crash()
        self.storage, recovered = open_storage(self.fs, options=self.options)
        assert list(state_of(recovered).history) == self.history


@pytest.fixture
def log(memory: MemFileSystem) -> Log:
    return Log(memory)


def test_slices_are_due_as_the_segment_is_used_from_its_second_eighth_on(log: Log) -> None:
    used = []
    while not log.fs.exists(SPARE) or log.slices < SLICES:
        log.until_due()
        used.append(log.storage._log._end / SMALL.segment_bytes)  # type: ignore[union-attr]
        log.storage.prepare_slice()
    assert [round(part, 1) for part in used] == pytest.approx([0.2, 0.35, 0.5, 0.65], abs=0.11)
    assert log.written[-1] == ("sync", SPARE), "whole, and durable"
    assert not log.storage.wants_slice()


def test_every_byte_of_it_is_written(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(txnlog, "_ZEROS", b"0" * 64)
    while ("sync", SPARE) not in log.written:
        log.until_due()
        log.storage.prepare_slice()
    assert log.fs.open(SPARE).read(0, 1 << 20) == b"0" * SMALL.segment_bytes


def test_a_prepared_segment_is_the_next_one(log: Log) -> None:
    sizes = {log.until_rolled() for _ in range(4)}
    assert log.is_prepared()
    assert not log.fs.exists(SPARE)
    assert max(sizes) - min(sizes) <= 1, "each segment is filled, however it was made"
    path = f"{GENERATION}/{segment_name(log.segments[-1])}"
    assert log.fs.open(path).size() == SMALL.segment_bytes
    log.restart()


@pytest.mark.parametrize("slices", [0, 1, SLICES - 1])
def test_one_that_is_not_ready_in_time_is_for_the_segment_after(log: Log, slices: int) -> None:
    for _ in range(slices):
        log.until_due()
        log.storage.prepare_slice()
    log.until_rolled(prepare=False)
    assert not log.is_prepared()
    log.until_rolled()
    assert log.is_prepared()
    assert log.slices == SLICES + 1, "what was done is not done again; and its header"
    log.restart()


def test_nothing_is_due_where_there_is_no_log(memory: MemFileSystem) -> None:
    storage, _ = open_storage(memory)
    assert not storage.wants_slice()
    storage.prepare_slice()
    assert not memory.exists(GENERATION)


def test_a_slice_that_is_not_due_is_not_written(log: Log) -> None:
    log.append()
    calls = log.fs.calls
    log.storage.prepare_slice()
    assert log.fs.calls == calls


OPERATIONS = ["create", "preallocate", "write", "sync"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_room_there_is_none_in_this_segment(log: Log, operation: str) -> None:
    log.fs.fail(lambda call: (call.operation, call.path) == (operation, SPARE), errno.ENOSPC)
    log.until_rolled()
    assert not log.is_prepared()
    assert not log.fs.exists(SPARE)
    log.until_rolled()
    assert log.is_prepared()
    log.restart()


@pytest.mark.parametrize("operation", OPERATIONS[1:])
def test_any_other_failure_is_the_last(log: Log, operation: str) -> None:
    log.fs.fail(lambda call: (call.operation, call.path) == (operation, SPARE), errno.EIO)
    with pytest.raises(StorageError, match="EIO"):
        log.until_rolled()
    log.fs.forgive()
    kept = list(log.history)
    with pytest.raises(StorageError, match="earlier failure"):
        log.append()
    log.history = kept
    log.restart()


@pytest.mark.parametrize("operation", ["write", "sync", "rename"])
def test_one_that_cannot_take_its_place_is_replaced(memory: MemFileSystem, operation: str) -> None:
    waited: list[str] = []

    def wait() -> None:
        waited.append("for room")
        memory.forgive()

    log = Log(memory, attrs.evolve(SMALL, wait_for_room=wait))
    while log.slices < SLICES:
        log.until_due()
        log.storage.prepare_slice()
    assert memory.exists(SPARE)

    def fails(call: Call) -> bool:
        return call.operation == operation and (operation == "rename" or call.path == SPARE)

    memory.fail(fails, errno.ENOSPC)
    log.until_rolled()
    assert waited == [], "with the room that it took there is enough"
    assert not log.is_prepared()
    assert not memory.exists(SPARE)
    log.until_rolled()
    assert log.is_prepared()
    log.restart()


@pytest.mark.parametrize("busy", [False, True])
def test_a_log_without_room_gives_it_up_first(memory: MemFileSystem, busy: bool) -> None:
    waited: list[bool] = []

    def wait() -> None:
        waited.append(memory.exists(SPARE))
        if busy:
            assert inner is not None
            inner._put_down_spare(done=True)  # by the other thread, which had it in hand
        memory.forgive()

    log = Log(memory, attrs.evolve(SMALL, wait_for_room=wait))
    inner = log.storage._log
    assert inner is not None
    log.until_due()
    log.storage.prepare_slice()
    log.until_due()
    if busy:
        assert inner._take_up_spare() is not None
    memory.fail(
        lambda call: call.operation == "preallocate" and memory.exists(SPARE),
        errno.ENOSPC,
        times=1000,
    )
    log.until_rolled(prepare=False)
    assert waited == ([True] if busy else [])
    assert not memory.exists(SPARE)
    memory.forgive()
    log.until_rolled()
    assert log.is_prepared()
    log.restart()


def test_it_is_given_up_for_any_write_that_finds_no_room(memory: MemFileSystem) -> None:
    waited: list[bool] = []
    log = Log(memory, attrs.evolve(SMALL, wait_for_room=lambda: waited.append(True)))
    log.until_due()
    log.storage.prepare_slice()
    memory.fail(lambda call: call.operation == "write" and memory.exists(SPARE), errno.ENOSPC)
    log.append()
    assert not memory.exists(SPARE)
    assert not log.storage.wants_slice()
    assert not waited
    log.restart()


@pytest.mark.parametrize("slices", [1, SLICES - 1, SLICES])
def test_it_is_kept_where_room_is_scarce(memory: MemFileSystem, slices: int) -> None:
    """Somebody else would take what it leaves, and the log needs it for sessions and deletes."""
    waited: list[bool] = []
    log = Log(memory, attrs.evolve(SMALL, wait_for_room=lambda: waited.append(True)))
    for _ in range(slices):
        assert not log.storage.has_next_segment() or slices > 1
        log.until_due()
        log.storage.prepare_slice()
    memory.fail(lambda call: call.operation == "preallocate", errno.ENOSPC, times=1000)
    log.storage.stop_preparing()
    assert memory.exists(SPARE) and log.storage.has_next_segment()
    log.until_rolled()
    assert log.slices == slices + 1, "its header is all that was added"
    assert log.is_prepared() and not log.storage.has_next_segment()
    assert not waited
    memory.forgive()
    log.restart()


def test_one_that_is_in_hand_when_room_gets_scarce_is_kept_too(log: Log) -> None:
    inner = log.storage._log
    assert inner is not None
    log.until_due()
    spare = inner._take_up_spare()
    assert spare is not None
    log.storage.stop_preparing()
    inner._fill(spare)
    inner._put_down_spare(done=True)
    assert log.storage.has_next_segment()
    log.until_rolled()
    assert log.is_prepared()


def test_one_that_has_no_room_yet_is_not_made_when_the_server_says_so(log: Log) -> None:
    log.until_due()
    log.storage.stop_preparing()
    assert not log.storage.wants_slice()
    log.storage.prepare_slice()
    assert not log.fs.exists(SPARE) and not log.storage.has_next_segment()
    log.until_rolled()
    log.until_rolled()
    assert log.is_prepared()


def test_one_that_somebody_removed_is_done_without(log: Log) -> None:
    while ("sync", SPARE) not in log.written:
        log.until_due()
        log.storage.prepare_slice()
    log.fs.unlink(SPARE)
    log.until_rolled(prepare=False)
    assert not log.is_prepared()
    log.until_rolled()
    assert log.is_prepared(), "it is made anew for the segment after"
    log.restart()


def test_one_that_cannot_even_be_removed_is_no_failure(memory: MemFileSystem) -> None:
    waited: list[bool] = []

    def wait() -> None:
        waited.append(memory.exists(SPARE))
        memory.forgive()

    log = Log(memory, attrs.evolve(SMALL, wait_for_room=wait))
    log.until_due()
    log.storage.prepare_slice()
    memory.fail(lambda call: call.operation in ("unlink", "write"), errno.ENOSPC, times=1000)
    log.append()
    assert waited == [True]
    log.until_rolled()
    log.until_rolled()
    assert log.is_prepared()
    log.restart()


def test_a_start_takes_the_room_of_a_stale_one_first(memory: MemFileSystem) -> None:
    log = Log(memory)
    log.until_due()
    log.storage.prepare_slice()
    log.storage.close()
    memory.kill()
    assert memory.exists(SPARE)
    memory.fail(lambda call: call.operation == "create" and memory.exists(SPARE), errno.ENOSPC)
    open_storage(memory)
    assert not memory.exists(SPARE)


def test_a_generation_that_is_replaced_gets_no_file_any_more(log: Log) -> None:
    """Another thread purges as soon as it can know of the new one."""
    log.until_due()
    old = log.storage._log
    assert old is not None
    number = IDENTITY.generation + 1
    seen: list[tuple[str, str]] = []

    def meanwhile(call: Call) -> None:
        if log.storage.generation == number:
            seen.append((call.operation, call.path))
            old.prepare_slice()

    log.fs.observe = meanwhile
    steps: list[DiskStep] = [BeginGeneration(number, 0, CHAIN_START), EndGeneration(0)]
    log.storage.execute(DiskBatch(2, [*steps, WriteIdentity(replace(IDENTITY, generation=number))]))
    log.storage.purge(1)
    assert seen
    assert ("create", SPARE) not in seen
    assert not log.fs.exists(GENERATION)


def test_a_restart_begins_anew(log: Log) -> None:
    log.until_due()
    log.storage.prepare_slice()
    log.storage.close()
    log.fs.kill()
    log.storage, _ = open_storage(log.fs)
    assert not any(name.endswith(TEMP_SUFFIX) for name in log.fs.listdir(GENERATION))
    log.until_rolled()
    assert log.is_prepared()
    assert log.slices == 1 + SLICES + 1, "and its header"
    log.restart()


@pytest.mark.parametrize("operation", ["preallocate", "write"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_log_closed_meanwhile_is_left_alone(log: Log, operation: str, fails: bool) -> None:
    """By another thread, in the middle of a slice; its directory may be on its way out."""
    log.until_due()
    inner = log.storage._log
    assert inner is not None
    closing: list[str] = []

    def close(call: Call) -> bool:
        if (call.operation, call.path) == (operation, SPARE) and not closing:
            closing.append(call.operation)
            inner.close()
            return fails
        return False

    log.fs.fail(close, errno.EIO)
    inner.prepare_slice()
    assert closing
    assert log.written[-1] == ("close", SPARE), "by the thread that wrote to it, at its end"
    assert log.fs.exists(SPARE)
    inner.prepare_slice()
    assert log.written[-1] == ("close", SPARE)


def test_two_threads_do_not_write_the_same_slice(log: Log) -> None:
    log.until_due()
    inner = log.storage._log
    assert inner is not None

    def again(call: Call) -> bool:
        if (call.operation, call.path) == ("preallocate", SPARE):
            inner.prepare_slice()
        return False

    log.fs.fail(again)
    inner.prepare_slice()
    assert log.slices == 1


def test_on_a_real_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(txnlog, "SLICE_BYTES", 100_000)  # no multiple of the pieces it is made of
    options = StorageOptions(segment_bytes=1 << 20)
    storage, _ = Storage.open(OsFileSystem(), str(tmp_path), None, options)
    storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
    history: list[Entry] = []
    directory = tmp_path / "gen-0001"
    while not (slices := storage.wants_slice()):
        append(storage, history, 200)
    while slices:
        storage.prepare_slice()
        slices = storage.wants_slice()
    spare = (directory / SPARE_NAME).stat()
    assert spare.st_size == 1 << 20
    while len(segment_bases(OsFileSystem(), str(directory))) < 3:
        append(storage, history, 200)
        storage.prepare_slice()
    second = segment_bases(OsFileSystem(), str(directory))[1]
    assert (directory / segment_name(second)).stat().st_ino == spare.st_ino
    storage.close()
    storage, recovered = Storage.open(OsFileSystem(), str(tmp_path), None, options)
    assert list(state_of(recovered).history) == history
    storage.close()
