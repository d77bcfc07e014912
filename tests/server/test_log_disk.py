"""Who writes a log batch, and what is told about it."""

import asyncio
import errno
import os
import select
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from zkpy.admin.metrics import Metrics
from zkpy.effects import (
    CHAIN_START,
    Append,
    DiskBatch,
    DiskStep,
    Entry,
    EntryKind,
    Identity,
    WriteIdentity,
    chain_next,
)
from zkpy.errors import StorageError
from zkpy.server import log_disk
from zkpy.server.log_disk import LogDisk, is_light
from zkpy.storage import OsFileSystem, Storage, StorageOptions, uring
from zkpy.storage.fs import File
from zkpy.storage.uring import KernelSync
from zkpy.zxid import NONE, make

LIMIT_S = 20
CLUSTER = bytes(range(16))


class History:
    """Entries one behind the other."""

    def __init__(self) -> None:
        self.last, self.chain = NONE, CHAIN_START

    def append(self, count: int = 1, data: bytes = b"data") -> Append:
        entries = [self._entry(data) for _ in range(count)]
        return Append(entries, 0, 0, 0)

    def _entry(self, data: bytes) -> Entry:
        self.last = self.last + 1 if self.last else make(1, 1)
        self.chain = chain_next(self.chain, self.last, EntryKind.TXN, data)
        return Entry(self.last, EntryKind.TXN, data, self.chain)


class FakeKernel:
    """Syncs when told to, with the failure that it is told."""

    def __init__(self, *, refuses: bool = False) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self.event = self._read
        self.refuses = refuses
        self.busy = False
        self.begun: list[int] = []
        self.failure: OSError | None = None
        self.closed = False

    def begin(self, descriptor: int) -> bool:
        assert not self.busy
        self.busy = not self.refuses
        self.begun.append(descriptor)
        return self.busy

    def end(self) -> None:
        os.write(self._write, b"x")

    def take(self) -> tuple[bool, OSError | None]:
        try:
            os.read(self._read, 1)
        except BlockingIOError:
            return False, None
        self.busy = False
        return True, self.failure

    def close(self) -> None:
        self.closed = True


class Recorder:
    """A Storage that notes by which way a batch came."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.ways: list[str] = []

    def execute(self, batch: DiskBatch) -> None:
        self.ways.append("execute")
        self.storage.execute(batch)

    def begin(self, batch: DiskBatch) -> File | None:
        file = self.storage.begin(batch)
        self.ways.append("begin" if file is not None else "not begun")
        return file

    def finish(self, failure: OSError | None = None) -> None:
        self.ways.append("finish")
        self.storage.finish(failure)

    def wants_slice(self) -> bool:
        return self.storage.wants_slice()


@attrs.define
class Scene:
    path: Path
    kernel: FakeKernel | KernelSync | None
    segment_bytes: int = 1 << 20
    warning_ms: int = 60_000
    history: History = attrs.Factory(History)
    told: list[object] = attrs.Factory(list)
    metrics: Metrics = attrs.Factory(Metrics)
    changed: asyncio.Event = attrs.Factory(asyncio.Event)
    number: int = 0
    writes_image: bool = False
    wishes: list[int] = attrs.Factory(list)
    """Numbers of the batches behind which a slice of the log's next segment was asked for."""
    recorder: Recorder = attrs.field(init=False)
    disk: LogDisk = attrs.field(init=False)

    def start(self) -> None:
        options = StorageOptions(segment_bytes=self.segment_bytes)
        storage, _ = Storage.open(OsFileSystem(), str(self.path / "data"), None, options)
        storage.execute(DiskBatch(0, [WriteIdentity(Identity(CLUSTER, 1, False, 1, b"", b""))]))
        self.recorder = Recorder(storage)
        loop, kernel = asyncio.get_running_loop(), self.kernel
        self.disk = LogDisk(
            self.recorder,
            loop,
            self._tell,
            self._tell,
            self.metrics,
            self.warning_ms,
            kernel,  # type: ignore[arg-type]
            lambda: self.writes_image,
            lambda: self.wishes.append(self.number),
        )
        self.disk.start()

    def _tell(self, what: object) -> None:
        self.told.append(what)
        self.changed.set()

    def submit(self, *steps: DiskStep) -> None:
        self.number += 1
        self.disk.submit(DiskBatch(self.number, list(steps) or [self.history.append()]))

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.told) < count:
                self.changed.clear()
                await self.changed.wait()

    async def write(self, *steps: DiskStep) -> None:
        count = len(self.told)
        self.submit(*steps)
        await self.until_told(count + 1)

    def close(self) -> None:
        assert self.disk.stop(LIMIT_S)
        self.recorder.storage.close()

    def read_back(self) -> int:
        """The last zxid that a new start finds."""
        storage, recovered = Storage.open(OsFileSystem(), str(self.path / "data"))
        storage.close()
        assert recovered.suspect is None
        return recovered.entries[-1].zxid if recovered.entries else NONE


Act = Callable[[Scene], object]


def play(scene: Scene, act: Act) -> Scene:
    async def run() -> None:
        scene.start()
        await act(scene)  # type: ignore[misc]

    asyncio.run(run())
    return scene


def real_kernel() -> KernelSync:
    kernel = KernelSync.open()
    if kernel is None:
        pytest.skip("this kernel syncs nothing on its own")
    return kernel


def test_the_kernel_syncs_what_the_loop_wrote(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        for _ in range(3):
            await scene.write()
        scene.close()

    scene = play(Scene(tmp_path, real_kernel()), act)
    assert scene.told == [1, 2, 3]
    assert scene.recorder.ways == ["begin", "finish"] * 3
    assert scene.metrics.sync.summary().count == 3
    assert scene.read_back() == scene.history.last


def test_without_such_a_kernel_the_thread_does_all(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        await scene.write()
        await scene.write()
        scene.close()

    scene = play(Scene(tmp_path, None), act)
    assert scene.told == [1, 2]
    assert scene.recorder.ways == ["execute"] * 2
    assert scene.metrics.sync.summary().count == 2
    assert scene.read_back() == scene.history.last


def test_a_new_segment_is_made_by_the_thread(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        for _ in range(4):
            await scene.write(scene.history.append(1, bytes(1500)))
        scene.close()

    scene = play(Scene(tmp_path, real_kernel(), segment_bytes=4096), act)
    assert scene.told == [1, 2, 3, 4]
    assert "not begun" in scene.recorder.ways
    assert "execute" in scene.recorder.ways
    assert "begin" in scene.recorder.ways
    assert scene.read_back() == scene.history.last


@pytest.mark.parametrize("by_kernel", [True, False])
def test_slices_of_the_next_segment_are_asked_for_while_they_are_due(
    tmp_path: Path, by_kernel: bool
) -> None:
    async def act(scene: Scene) -> None:
        while len(scene.wishes) < 3:
            await scene.write(scene.history.append(1, bytes(500)))
        scene.recorder.storage.prepare_slice()
        wished = len(scene.wishes)
        await scene.write()
        assert len(scene.wishes) == wished
        scene.close()

    kernel = real_kernel() if by_kernel else None
    scene = play(Scene(tmp_path, kernel, segment_bytes=8192), act)
    assert scene.wishes[0] > 1, "not at once"


def test_what_the_kernel_will_not_sync_goes_to_the_thread(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        await scene.write()
        await scene.write()
        scene.close()

    scene = play(Scene(tmp_path, FakeKernel(refuses=True)), act)
    assert scene.told == [1, 2]
    assert scene.recorder.ways == ["begin", "execute"] * 2
    assert scene.read_back() == scene.history.last


def test_nothing_is_told_before_the_sync_has_ended(tmp_path: Path) -> None:
    kernel = FakeKernel()

    async def act(scene: Scene) -> None:
        scene.submit()
        assert kernel.busy
        assert scene.told == []
        kernel.end()
        await scene.until_told(1)
        scene.close()

    scene = play(Scene(tmp_path, kernel), act)
    assert scene.told == [1]
    assert kernel.closed


def test_a_failed_sync_is_the_end(tmp_path: Path) -> None:
    kernel = FakeKernel()
    kernel.failure = OSError(5, "Input/output error")

    async def act(scene: Scene) -> None:
        scene.submit()
        kernel.end()
        await scene.until_told(1)
        await scene.write()

    scene = play(Scene(tmp_path, kernel), act)
    assert [type(each) for each in scene.told] == [StorageError, StorageError]
    assert "log.0000000000000000: Input/output error" in str(scene.told[0])
    assert "refused after an earlier failure" in str(scene.told[1])
    assert len(kernel.begun) == 1


def test_stopping_waits_for_the_sync_under_way(tmp_path: Path) -> None:
    kernel = FakeKernel()

    async def act(scene: Scene) -> None:
        scene.submit()
        assert not scene.disk.stop(0)
        assert not kernel.closed
        kernel.end()
        scene.close()

    scene = play(Scene(tmp_path, kernel), act)
    assert kernel.closed
    assert scene.recorder.ways == ["begin", "finish"]
    assert scene.read_back() == scene.history.last


def test_a_failure_while_stopping_is_only_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = FakeKernel()
    kernel.failure = OSError(errno.EIO, "Input/output error")

    async def act(scene: Scene) -> None:
        scene.submit()
        kernel.end()
        scene.close()

    scene = play(Scene(tmp_path, kernel), act)
    assert kernel.closed
    assert scene.told == []
    assert "while stopping" in caplog.text


def test_the_loop_writes_nothing_while_an_image_is_under_way(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.writes_image = True
        await scene.write()
        scene.writes_image = False
        await scene.write()
        scene.close()

    scene = play(Scene(tmp_path, real_kernel()), act)
    assert scene.recorder.ways == ["execute", "begin", "finish"]


def test_other_steps_and_big_batches_are_not_for_the_loop() -> None:
    history = History()
    identity = WriteIdentity(Identity(CLUSTER, 1, False, 1, b"", b""))
    assert is_light(DiskBatch(1, [history.append(log_disk.ENTRIES_MAX)]))
    assert not is_light(DiskBatch(1, [history.append(log_disk.ENTRIES_MAX + 1)]))
    assert not is_light(DiskBatch(1, [history.append(1, bytes(log_disk.BIG_BYTES))]))
    assert not is_light(DiskBatch(1, [identity]))
    assert not is_light(DiskBatch(1, [identity, history.append()]))


@pytest.mark.parametrize(("warning_ms", "warnings"), [(0, 2), (60_000, 0)])
def test_slow_log_writes_are_warned_of(
    tmp_path: Path, warning_ms: int, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(scene: Scene) -> None:
        await scene.write()
        scene.writes_image = True
        await scene.write()
        scene.close()

    scene = play(Scene(tmp_path, real_kernel(), warning_ms=warning_ms), act)
    assert scene.metrics.sync.summary().count == 2
    assert len(caplog.messages) == warnings


def sync(kernel: KernelSync, descriptor: int) -> OSError | None:
    assert kernel.begin(descriptor)
    assert select.select((kernel.event,), (), (), LIMIT_S)[0]
    over, failure = kernel.take()
    assert over
    assert not kernel.busy
    return failure


def test_the_kernel_tells_what_cannot_be_synced(tmp_path: Path) -> None:
    kernel = real_kernel()
    path = tmp_path / "file"
    path.write_bytes(b"data")
    good = os.open(path, os.O_RDWR)
    read, write = os.pipe()
    assert kernel.take() == (False, None)
    for _ in range(3):  # more often than the rings have room for
        assert sync(kernel, good) is None
        failure = sync(kernel, write)
        assert failure is not None
        assert failure.errno == errno.EINVAL
    for descriptor in (good, read, write):
        os.close(descriptor)
    failure = sync(kernel, good)
    assert failure is not None
    assert failure.errno == errno.EBADF
    kernel.close()


def test_where_the_kernel_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uring, "_SETUP", -1)
    assert KernelSync.open() is None
    monkeypatch.setattr(uring, "_SYSTEM", "another")
    assert KernelSync.open() is None


def test_an_eventfd_that_is_refused_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    real_kernel().close()
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(uring, "_REGISTER", -1)
    assert KernelSync.open() is None
    assert os.listdir("/proc/self/fd") == before
