"""The worker threads."""

import asyncio
import threading

import pytest

from zkpy.server.disk_thread import Worker

LIMIT_S = 20


def run_items(items: list[int], bad: int | None = None) -> tuple[list[int], list[BaseException]]:
    """What is reported for items, of which odd ones report and `bad` fails."""
    done: list[int] = []
    failed: list[BaseException] = []

    def work(item: int) -> int | None:
        if item == bad:
            raise OSError(item)
        return item if item % 2 else None

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def note(number: int) -> None:
            done.append(number)
            if number == items[-1]:
                ended.set()

        def fail(failure: BaseException) -> None:
            failed.append(failure)
            ended.set()

        worker = Worker("test", work, loop, note, fail)
        worker.start()
        for item in items:
            worker.submit(item)
        async with asyncio.timeout(LIMIT_S):
            await ended.wait()
        assert worker.stop(LIMIT_S)

    asyncio.run(scene())
    return done, failed


def test_items_are_done_in_order_and_reported() -> None:
    assert run_items([1, 2, 3, 4, 5]) == ([1, 3, 5], [])


def test_first_failure_is_the_last_thing_done() -> None:
    done, failed = run_items([1, 2, 3, 4, 5], bad=3)
    assert done == [1]
    assert [repr(each) for each in failed] == ["OSError(3)"]


def test_stop_leaves_what_waits_undone() -> None:
    entered, gate = threading.Event(), threading.Event()
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        entered.set()
        gate.wait(LIMIT_S)

    async def scene() -> None:
        worker = Worker("test", work, asyncio.get_running_loop(), print, print)
        worker.start()
        worker.submit(1)
        worker.submit(2)
        assert await asyncio.to_thread(entered.wait, LIMIT_S)
        assert worker.backlog == 1
        assert not worker.stop(0)
        gate.set()
        assert worker.stop(LIMIT_S)

    asyncio.run(scene())
    assert begun == [1]


def test_a_failure_while_stopping_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    entered, gate = threading.Event(), threading.Event()
    failed: list[object] = []

    def work(item: int) -> None:
        entered.set()
        gate.wait(LIMIT_S)
        raise OSError("too late")

    async def scene() -> None:
        worker = Worker("test", work, asyncio.get_running_loop(), failed.append, failed.append)
        worker.start()
        worker.submit(1)
        assert await asyncio.to_thread(entered.wait, LIMIT_S)
        assert not worker.stop(0)
        gate.set()
        assert worker.stop(LIMIT_S)

    asyncio.run(scene())
    assert "while stopping: too late" in caplog.messages
    assert failed == []
