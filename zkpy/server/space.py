"""Room on the disk: watched, and waited for when there is none (rule D11).

`Space` looks once a second how much is free where log and images lie, and ten times
where that is not ample.  Below the reserve - what the next log segment takes, unless it
is prepared, and not less than can be written between two looks - the core is told, and its
leader refuses writes; the segment in use has its room already, so that what was accepted
before is still written.  With room again, writes are taken again, by themselves.

Sessions and deletes go on, and have the log's room for it: the rest of the segment in use,
and the next one.  What is only free may be taken by somebody else within one look; a prepared
segment may not, so that it is kept then.  There is one, where room was ample, once an
eighth of a segment is used.

Should the disk be full all the same, the log's thread waits in `wait_for_room` and
tries again: nothing is acknowledged meanwhile, nothing is lost, reads go on.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from zkpy.errors import StorageError

log = logging.getLogger("zkpy.server")

INTERVAL_S: Final = 1.0
HURRY: Final = 10
"""How many times as often it looks while room is not ample."""
RESERVE_MIN_BYTES: Final = 16 * 1024 * 1024
"""More than clients can have written in a tenth of a second, whatever a segment takes."""
ENOUGH: Final = 1.25
"""How many reserves must be free before writes are taken again."""
AMPLE: Final = 4
"""How many must be free before room is taken that could be done without."""
SCARCE: Final = 2
"""With fewer free than these, no more of such room is taken."""


def measure_free(directories: Iterable[str]) -> int | None:
    """Bytes free in the fullest of the file systems; None where that cannot be told."""
    try:
        found = [os.statvfs(directory) for directory in directories]
    except OSError:
        return None
    return min(each.f_bavail * each.f_frsize for each in found)


def reserve_of(segment_bytes: int) -> int:
    """What is kept free where log segments take so much."""
    return max(segment_bytes, RESERVE_MIN_BYTES)


class Space:
    """One watch.  `on_full` and `wait_for_room` are called by the threads that write."""

    def __init__(
        self,
        directories: Iterable[str],
        reserve_bytes: int,
        measure: Callable[[Iterable[str]], int | None] = measure_free,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.low = False
        self.ample = False
        """Whether room may be taken for a log segment that is not needed yet."""
        self._directories = tuple(dict.fromkeys(directories))
        self._reserve = reserve_bytes
        self._measure = measure
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._waiting = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._report: Callable[[bool], None] = lambda low: None
        self._prepared: Callable[[], bool] = lambda: False
        # A thread of its own: a file system that hangs must hold up neither reads nor the end.
        self._thread = threading.Thread(target=self._watch, name="zkpy-space", daemon=True)

    def start(
        self, report: Callable[[bool], None], prepared: Callable[[], bool] = lambda: False
    ) -> None:
        """`report(low)` is called on this loop, each time that it changes; `prepared`, in another
        thread, tells whether the next log segment has its room already."""
        self._prepared = prepared
        self._loop = asyncio.get_running_loop()
        self._report = report
        self._thread.start()

    def stop(self) -> None:
        """Nobody waits for room any longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            free = self._measure(self._directories)
            if free is not None:
                self.ample = free >= self._reserve * (SCARCE if self.ample else AMPLE)
                self._tell(self._judge, free, self._reserve_now())
            self._pause()

    def _pause(self) -> None:
        self._stopped.wait(self._interval_s if self.ample else self._interval_s / HURRY)

    def _tell(self, act: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody is interested
                self._loop.call_soon_threadsafe(act, *arguments)

    def _reserve_now(self) -> int:
        return min(self._reserve, RESERVE_MIN_BYTES) if self._prepared() else self._reserve

    def _judge(self, free: int, reserve: int) -> None:
        if free < reserve or self._waiting:
            self._set(True, f"{free >> 20} MB free, {reserve >> 20} MB are kept in reserve")
        elif free >= reserve * ENOUGH:
            self._set(False, f"{free >> 20} MB free")

    def _set(self, low: bool, why: str) -> None:
        if low == self.low or self._stopped.is_set():
            return
        self.low = low
        if low:
            log.error("the disk is nearly full: refusing writes until there is room (%s)", why)
        else:
            log.warning("there is room on the disk again: taking writes (%s)", why)
        self._report(low)

    # --- in the threads that write ------------------------------------------------

    def on_full(self, why: str) -> None:
        """The disk refused a write for want of room."""
        self._tell(self._set, True, why)

    def wait_for_room(self) -> None:
        """Return when it is worth another try; StorageError at the end of the server."""
        self._waiting = True
        try:
            if self._stopped.wait(self._interval_s):
                raise StorageError("stopped while the disk was full")
        finally:
            self._waiting = False
