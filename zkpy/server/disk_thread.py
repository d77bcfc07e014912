"""Threads that do the blocking writes: one for log batches that may block, one for images,
one for the log's next segment.

In: items through a queue, in order.  Out: a number on the event loop for each item
that is done.  The first exception ends the thread and is reported once: nothing is
written after a failed write (rule D6).

A queue is bounded by what feeds it: the core hands out one log batch at a time, and
no image slices while `IMAGE_BACKLOG_MAX` of them wait; a slice of the next segment is not
asked for while one waits.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

log = logging.getLogger("zkpy.server")

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """One thread that does `work(item)` for each item, in order.

    A number returned by `work` is reported by `done(number)` on the loop; an
    exception by `failed(exception)`, after which the thread is gone.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Item], int | None],
        loop: asyncio.AbstractEventLoop,
        done: Callable[[int], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._work = work
        self._loop = loop
        self._done = done
        self._failed = failed
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._stopping = False
        # Daemon: a disk that hangs must not keep a stopped server from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.submit: Callable[[Item], None] = self._queue.put

    def start(self) -> None:
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Items that wait, without the one under way."""
        return self._queue.qsize()

    def stop(self, timeout_s: float) -> bool:
        """Let the item under way finish, do no other; whether the thread has ended."""
        self._stopping = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None and not self._stopping:
                number = self._work(item)
                if number is not None:
                    self._loop.call_soon_threadsafe(self._done, number)
        except BaseException as failure:
            if self._stopping:  # the loop may be gone, and nobody would hear it
                log.error("while stopping: %s", failure, exc_info=True)
            else:
                self._loop.call_soon_threadsafe(self._failed, failure)
