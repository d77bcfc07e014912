"""The watch over the room on the disk."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from zkpy.errors import StorageError
from zkpy.server.space import (
    AMPLE,
    HURRY,
    RESERVE_MIN_BYTES,
    SCARCE,
    Space,
    measure_free,
    reserve_of,
)

Play = Callable[[Callable[[], Awaitable[object]]], object]
RESERVE = 1000


class Meter:
    """Free bytes as a test sets them; `reports` collects what the watch says."""

    def __init__(self, free: int | None) -> None:
        self.free = free
        self.reports: asyncio.Queue[bool] = asyncio.Queue()
        self.looked = threading.Event()
        self.space = Space(("/a", "/a"), RESERVE, self.measure, interval_s=0.001)

    def measure(self, directories: Iterable[str]) -> int | None:
        assert directories == ("/a",)
        self.looked.set()
        return self.free

    async def look(self) -> None:
        self.looked.clear()
        assert await asyncio.to_thread(self.looked.wait, 10)


def test_low_space_is_reported_once_and_so_is_its_end(play: Play) -> None:
    async def scene() -> None:
        meter = Meter(RESERVE)
        meter.space.start(meter.reports.put_nowait)
        await meter.look()
        assert meter.reports.empty()
        meter.free = RESERVE - 1
        assert await meter.reports.get() is True
        meter.free = RESERVE  # not yet: it would go to and fro
        await meter.look()
        await meter.look()
        assert meter.reports.empty()
        meter.free = RESERVE * 2
        assert await meter.reports.get() is False
        meter.space.stop()

    play(scene)


def test_a_prepared_segment_needs_no_room(play: Play) -> None:
    """What is kept free then is for what is written between two looks."""

    async def scene() -> None:
        meter, prepared = Meter(RESERVE_MIN_BYTES), True
        meter.space = Space(("/a", "/a"), 4 * RESERVE_MIN_BYTES, meter.measure, interval_s=0.001)
        meter.space.start(meter.reports.put_nowait, lambda: prepared)
        await meter.look()
        await meter.look()
        assert meter.reports.empty()
        prepared = False
        assert await meter.reports.get() is True
        meter.free = 5 * RESERVE_MIN_BYTES
        assert await meter.reports.get() is False
        prepared, meter.free = True, RESERVE_MIN_BYTES - 1
        assert await meter.reports.get() is True
        meter.space.stop()

    play(scene)


def test_what_can_be_done_without_takes_no_room_that_gets_scarce(play: Play) -> None:
    async def scene() -> None:
        meter = Meter(AMPLE * RESERVE - 1)
        meter.space.start(meter.reports.put_nowait)
        seen = [meter.space.ample]
        steps = (AMPLE * RESERVE, SCARCE * RESERVE, SCARCE * RESERVE - 1, SCARCE * RESERVE, None)
        for free in (meter.free, *steps):
            meter.free = free
            await meter.look()
            await meter.look()
            seen.append(meter.space.ample)
        assert seen == [False, False, True, True, False, False, False]
        meter.space.stop()

    play(scene)


def test_what_a_thread_that_writes_has_found_counts_at_once(play: Play) -> None:
    async def scene() -> None:
        meter = Meter(None)  # and what cannot be told is no reason to refuse
        meter.space.start(meter.reports.put_nowait)
        await meter.look()
        await asyncio.to_thread(meter.space.on_full, "log.1: No space left on device (ENOSPC)")
        assert await meter.reports.get() is True
        meter.space.stop()

    play(scene)


def test_waiting_ends_with_the_server(play: Play) -> None:
    async def scene() -> None:
        meter = Meter(RESERVE)
        await asyncio.to_thread(meter.space.wait_for_room)  # returns, to try again
        meter.space.stop()
        with pytest.raises(StorageError, match="stopped while the disk was full"):
            await asyncio.to_thread(meter.space.wait_for_room)

    play(scene)


def test_it_looks_more_often_where_room_may_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where segments are small, two looks a second apart can find plenty, and nothing."""
    left = [AMPLE * RESERVE, SCARCE * RESERVE - 1, 0, AMPLE * RESERVE]
    space = Space(("/a",), RESERVE, lambda directories: left.pop(0), interval_s=1.0)
    pauses: list[float | None] = []

    def pause(seconds: float | None = None) -> bool:
        pauses.append(seconds)
        if not left:
            space.stop()
        return False

    monkeypatch.setattr(space._stopped, "wait", pause)
    space._watch()
    assert pauses == [1.0, 1.0 / HURRY, 1.0 / HURRY, 1.0]


def test_the_reserve_is_never_less_than_what_is_written_between_two_looks() -> None:
    assert [reserve_of(mb << 20) >> 20 for mb in (1, 16, 64)] == [16, 16, 64]


def test_free_space(tmp_path: Path) -> None:
    free = measure_free((str(tmp_path),))
    assert free is not None and free > 0
    assert measure_free((str(tmp_path / "nowhere"),)) is None
