"""Makes log batches durable: by the kernel's own sync where there is one, else in a thread.

In: one batch at a time.  Out: its number on the event loop once it is durable, or the
failure; nothing is written after one (rule D6), and who submits more is told so.

The usual batch, entries behind the log, is written by the loop itself, which takes a
few microseconds since the space is there and the write ends in memory (some tens where
the kernel has let go of a page of a prepared segment, and reads it again); then the
kernel syncs (`zkpy.storage.uring`), and the loop goes on meanwhile.  The thread takes what
may block: a new segment, a cut, an image received, a big batch, and everything while an
image is being written, since the kernel then makes a writer wait for the disk.
"""

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Final, Protocol

from zkpy.admin.metrics import Metrics
from zkpy.effects import Append, DiskBatch
from zkpy.errors import StorageError
from zkpy.server.clock import NS_PER_MS, monotonic_ns
from zkpy.server.disk_thread import Worker
from zkpy.storage.fs import File
from zkpy.storage.uring import KernelSync

log = logging.getLogger("zkpy.server")

ENTRIES_MAX: Final = 1000
"""Longer batches are encoded and written by the thread."""
BIG_BYTES: Final = 1 << 16
"""So are those with an entry of this size."""


class Disk(Protocol):
    """What is needed of a `Storage`."""

    def execute(self, batch: DiskBatch) -> object: ...
    def begin(self, batch: DiskBatch) -> File | None: ...
    def finish(self, failure: OSError | None = None) -> object: ...
    def wants_slice(self) -> bool: ...


class LogDisk:
    """`done(number)` and `failed(exception)` are called on the loop.

    `metrics` has how long batches took, and how long they were; one that took `warning_ms` or
    more is logged.
    While `writes_image()`, the loop writes nothing itself.  `prepare()` is called while a slice
    of the log's next segment is due, on the loop or in the thread."""

    def __init__(
        self,
        disk: Disk,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[int], object],
        failed: Callable[[BaseException], object],
        metrics: Metrics,
        warning_ms: int,
        kernel: KernelSync | None,
        writes_image: Callable[[], bool],
        prepare: Callable[[], object],
    ) -> None:
        self._disk = disk
        self._loop = loop
        self._done = done
        self._failed = failed
        self._metrics = metrics
        self._warning_ns = warning_ms * NS_PER_MS
        self._kernel = kernel
        self._worker = Worker("zkpy-log", self._write, loop, done, failed)
        self._number = 0
        self._begun_ns = 0
        self._entries = 0
        self._writes_image = writes_image
        self._prepare = prepare
        self._file: File | None = None

    def start(self) -> None:
        self._worker.start()
        if self._kernel is not None:
            self._loop.add_reader(self._kernel.event, self._on_event)

    def submit(self, batch: DiskBatch) -> None:
        try:
            begun = self._kernel is not None and self._begin(self._kernel, batch)
        except Exception as failure:
            self._failed(failure)
            return
        if not begun:
            self._worker.submit(batch)

    def stop(self, timeout_s: float) -> bool:
        """Let what is under way finish; whether it has."""
        ended = self._worker.stop(timeout_s)
        if self._kernel is None:
            return ended
        self._loop.remove_reader(self._kernel.event)
        if self._kernel.busy:
            waiting = select.poll()
            waiting.register(self._kernel.event, select.POLLIN)
            waiting.poll(timeout_s * 1000)
            over, failure = self._take(self._kernel)
            if over:
                self._finish_last(failure)
            ended = ended and over
        if ended:
            self._kernel.close()
        return ended

    def _finish_last(self, failure: OSError | None) -> None:
        """Nobody waits for it any more: that it failed is only told."""
        try:
            self._disk.finish(failure)
        except StorageError as why:
            log.error("while stopping: %s", why)

    # --- on the loop

    def _begin(self, kernel: KernelSync, batch: DiskBatch) -> bool:
        if self._writes_image() or not is_light(batch):
            return False
        begun_ns = monotonic_ns()
        file = self._disk.begin(batch)
        if file is None or file.descriptor is None or not kernel.begin(file.descriptor):
            return False  # if it was written, it is written once more, at the same place
        self._number, self._begun_ns, self._file = batch.number, begun_ns, file
        self._entries = count_entries(batch)
        return True

    def _take(self, kernel: KernelSync) -> tuple[bool, OSError | None]:
        """As the kernel tells it, and which file it is about."""
        over, failure = kernel.take()
        if failure is not None and self._file is not None:
            failure.filename = self._file.path
        return over, failure

    def _on_event(self) -> None:
        assert self._kernel is not None
        over, failure = self._take(self._kernel)
        if not over:
            return
        self._add(monotonic_ns() - self._begun_ns, self._entries)
        try:
            self._disk.finish(failure)
        except StorageError as why:
            self._failed(why)
            return
        if self._disk.wants_slice():
            self._prepare()
        self._done(self._number)

    # --- in the thread

    def _write(self, batch: DiskBatch) -> int:
        begun = monotonic_ns()
        self._disk.execute(batch)
        self._add(monotonic_ns() - begun, count_entries(batch))
        if self._disk.wants_slice():
            self._prepare()
        return batch.number

    def _add(self, duration_ns: int, entries: int) -> None:
        self._metrics.sync.add(duration_ns)
        if entries:
            self._metrics.batch_entries.add(entries)
        if duration_ns >= self._warning_ns:
            self._metrics.slow_syncs += 1
            log.warning("writing a batch to the log took %d ms", duration_ns // NS_PER_MS)


def count_entries(batch: DiskBatch) -> int:
    return sum([len(step.entries) for step in batch.steps if isinstance(step, Append)])


def is_light(batch: DiskBatch) -> bool:
    """Whether the loop may write it without holding up its clients."""
    if len(batch.steps) != 1:
        return False
    step = batch.steps[0]
    if not isinstance(step, Append) or len(step.entries) > ENTRIES_MAX:
        return False
    return all(len(entry.data) < BIG_BYTES for entry in step.entries)
