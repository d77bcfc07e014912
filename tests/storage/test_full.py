"""A disk without room (D11): the log waits and goes on, an image is given up, nothing is lost."""

import errno
from collections.abc import Callable
from dataclasses import replace

import attrs
import pytest

from tests.storage.model import (
    DATA_DIR,
    IDENTITY,
    SMALL,
    append,
    encode_history,
    open_storage,
    state_of,
    write_image,
)
from zkpy.effects import (
    BeginGeneration,
    DiskBatch,
    DiskStep,
    EndGeneration,
    Entry,
    GenerationChunk,
    ImageBegin,
    ImageChunk,
    WriteIdentity,
)
from zkpy.errors import StorageError
from zkpy.storage import Storage
from zkpy.testing.memfs import Call, MemFileSystem

GENERATION = f"{DATA_DIR}/gen-0001"
ADOPTED = replace(IDENTITY, generation=IDENTITY.generation + 1)


class Disk:
    """A storage whose disk has room again after `tries` refusals."""

    def __init__(self, fs: MemFileSystem, tries: int = 2) -> None:
        self.fs = fs
        self.tries = tries
        self.told: list[str] = []
        self.waited = 0
        options = attrs.evolve(SMALL, on_full=self.told.append, wait_for_room=self.wait)
        self.storage, _ = open_storage(fs, options=options)
        self.storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
        self.history: list[Entry] = []
        append(self.storage, self.history)

    def wait(self) -> None:
        self.waited += 1
        if self.waited == self.tries:
            self.fs.forgive()

    def fill_up(self, operation: str, code: int = errno.ENOSPC) -> None:
        def full(call: Call) -> bool:
            return call.operation == operation and call.path.startswith(DATA_DIR)

        self.fs.fail(full, code, times=1000)

    def reopened(self) -> Storage:
        self.storage.close()
        self.fs.crash()
        storage, recovered = open_storage(self.fs)
        assert list(state_of(recovered).history) == self.history
        return storage


@pytest.mark.parametrize("operation", ["create", "preallocate", "write"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_the_log_waits_for_room_and_goes_on(
    memory: MemFileSystem, operation: str, code: int
) -> None:
    disk = Disk(memory)
    disk.fill_up(operation, code)
    for _ in range(60):  # over several segments
        append(disk.storage, disk.history)
    assert disk.waited == 2
    assert errno.errorcode[code] in disk.told[0]
    disk.reopened()


@pytest.mark.parametrize("operation", ["preallocate", "write"])
def test_the_first_log_file_waits_for_room_too(memory: MemFileSystem, operation: str) -> None:
    waited: list[None] = []

    def wait() -> None:
        waited.append(None)
        memory.forgive()

    storage, _ = open_storage(memory, options=attrs.evolve(SMALL, wait_for_room=wait))
    memory.fail(
        lambda call: call.operation == operation and "log." in call.path, errno.ENOSPC, times=1000
    )
    storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
    assert waited
    append(storage, [])


def test_a_crash_while_the_log_waits_loses_nothing_acknowledged(memory: MemFileSystem) -> None:
    disk = Disk(memory, tries=3)
    acknowledged: list[Entry] = []

    def crash() -> None:
        raise StorageError("killed")

    disk.wait = crash  # type: ignore[method-assign]
    options = attrs.evolve(SMALL, wait_for_room=crash)
    disk.storage.close()
    disk.storage, _ = open_storage(memory, options=options)
    disk.fill_up("preallocate")

    def fill() -> None:
        while True:
            acknowledged[:] = disk.history
            append(disk.storage, disk.history)

    with pytest.raises(StorageError, match="killed"):
        fill()
    memory.forgive()
    disk.history[:] = acknowledged
    storage = disk.reopened()
    append(storage, disk.history)


def test_an_identity_waits_for_room(memory: MemFileSystem) -> None:
    disk = Disk(memory)
    disk.fill_up("create")
    promise = replace(IDENTITY, accepted_epoch=9)
    disk.storage.execute(DiskBatch(1, [WriteIdentity(promise)]))
    assert disk.waited == 2
    disk.storage.close()
    assert open_storage(memory)[1].identity == promise


@pytest.mark.parametrize("operation", ["create", "write", "sync"])
def test_an_image_without_room_is_given_up(memory: MemFileSystem, operation: str) -> None:
    disk = Disk(memory)
    write_image(disk.storage, disk.history)
    append(disk.storage, disk.history)
    disk.fill_up(operation)
    write_image(disk.storage, disk.history)
    memory.forgive()
    assert disk.told and disk.waited == 0, "nobody waits for an image"
    names = memory.listdir(GENERATION)
    assert [name for name in names if name.startswith("image.")] == [
        f"image.{disk.history[1].zxid:016x}"
    ]
    append(disk.storage, disk.history)
    write_image(disk.storage, disk.history)
    disk.reopened()


def test_what_comes_of_an_image_that_was_given_up_is_dropped(memory: MemFileSystem) -> None:
    disk = Disk(memory)
    disk.fill_up("write")
    disk.storage.image_step(ImageBegin(disk.history[-1].zxid, disk.history[-1].chain))
    memory.forgive()
    for chunk in encode_history(disk.history):
        assert disk.storage.image_step(ImageChunk(chunk)) is None
    assert not [name for name in memory.listdir(GENERATION) if name.startswith("image.")]


@pytest.mark.parametrize("operation", ["create", "write"])
@pytest.mark.parametrize("begun", [False, True])
def test_an_image_that_a_leader_sends_waits_for_room(
    memory: MemFileSystem, operation: str, begun: bool
) -> None:
    """Without it the member has no history to go on with: to give it up would end the server."""
    disk = Disk(memory)
    last = disk.history[-1]
    begin = BeginGeneration(ADOPTED.generation, last.zxid, last.chain)
    chunks: list[DiskStep] = [GenerationChunk(chunk) for chunk in encode_history(disk.history)]
    if begun:
        disk.storage.execute(DiskBatch(2, [begin]))
    disk.fill_up(operation)
    disk.storage.execute(DiskBatch(3, chunks if begun else [begin, *chunks]))
    disk.storage.execute(DiskBatch(4, [EndGeneration(7), WriteIdentity(ADOPTED)]))
    assert disk.waited == 2 and disk.told
    disk.reopened()


@pytest.mark.parametrize(("operation", "code"), [("write", errno.EIO), ("sync_data", errno.ENOSPC)])
def test_other_failures_of_the_log_stay_final(
    memory: MemFileSystem, operation: str, code: int
) -> None:
    """Of a failed sync nothing is known, whatever its reason (D6)."""
    disk = Disk(memory)
    disk.fill_up(operation, code)
    with pytest.raises(StorageError):
        append(disk.storage, disk.history)
    memory.forgive()
    with pytest.raises(StorageError, match="refused after an earlier failure"):
        append(disk.storage, disk.history)
    assert disk.waited == 0


def test_without_somebody_to_wait_a_full_disk_is_a_failure(memory: MemFileSystem) -> None:
    storage, _ = open_storage(memory)
    storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
    refuse: Callable[[Call], bool] = lambda call: call.operation == "write"  # noqa: E731
    memory.fail(refuse, errno.ENOSPC, times=1)
    with pytest.raises(StorageError, match="ENOSPC"):
        append(storage, [])


def test_a_start_without_room_says_so_and_waits_for_nothing(memory: MemFileSystem) -> None:
    """There is no loop yet that tells the operator, and no signal that would end a wait."""
    disk = Disk(memory)
    disk.storage.close()
    disk.fill_up("create")
    options = attrs.evolve(SMALL, wait_for_room=lambda: pytest.fail("it waits"))
    with pytest.raises(StorageError, match=r"identity.*ENOSPC.*nothing is lost: make room"):
        open_storage(memory, options=options)
    memory.forgive()
    disk.reopened()
