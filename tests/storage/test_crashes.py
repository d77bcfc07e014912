"""A crash or a failure at every boundary of random histories: nothing lost, nothing invented."""

import errno
import random
from contextlib import suppress

import pytest

from tests.storage.model import DATA_DIR, Driver, State, open_storage, state_of
from zkpy.errors import StorageError
from zkpy.storage.txnlog import SPARE_NAME
from zkpy.testing.memfs import Call, MemFileSystem, PowerCut


def start(seed: int) -> tuple[MemFileSystem, Driver]:
    fs = MemFileSystem(random.Random(f"disk {seed}"))
    storage, _ = open_storage(fs)
    return fs, Driver(storage, random.Random(f"core {seed}"), State())


def check_recovery(fs: MemFileSystem, driver: Driver, seed: int) -> None:
    """What a restart finds is allowed; it survives a second crash; and work goes on."""
    storage, recovered = open_storage(fs)
    state = state_of(recovered)
    assert state in driver.allowed
    assert recovered.committed <= max(driver.committed, state.last[0])
    # A vote may be cast on what was read: it must be as durable as if it had been acknowledged.
    if seed % 2:
        fs.crash()
        storage, recovered = open_storage(fs)
        assert state_of(recovered) == state
    onward = Driver(storage, random.Random(f"onward {seed}"), state, committed=driver.committed)
    onward.run(3)
    fs.crash()
    _, recovered = open_storage(fs)
    assert state_of(recovered) == onward.state


def crash_in_recovery(fs: MemFileSystem, seed: int) -> None:
    """A power cut at some call of the recovery itself."""
    fs.cut_power_at(fs.calls + 1 + seed % 25)
    with suppress(PowerCut):
        open_storage(fs)
    fs.crash()


@pytest.mark.parametrize("history", range(40))
def test_a_crash_at_every_boundary_loses_nothing_acknowledged(seed: int, history: int) -> None:
    fs, driver = start(seed * 1000 + history)

    def crash_here(call: Call) -> None:
        dice = seed * 1_000_000 + history * 10_000 + call.number
        twin = fs.clone(dice)
        # Power cut, kill of the process, or a power cut that hits the recovery too.
        if call.number % 4:
            twin.crash()
        else:
            twin.kill()
        if call.number % 3 == 0:
            crash_in_recovery(twin, dice)
        check_recovery(twin, driver, dice)

    fs.observe = crash_here
    driver.run(24)
    assert fs.calls > 100
    assert driver.acknowledged > 10


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("history", range(4))
def test_a_failure_of_every_call_stops_storage_for_good(seed: int, history: int, code: int) -> None:
    number = 0
    while fail_call(seed * 1000 + history, number, code):
        number += 1
    assert number > 50


def fail_call(seed: int, number: int, code: int) -> bool:
    """Fail the n-th call of a history; False if the history has fewer."""
    fs, driver = start(seed)
    failed_at = fs.calls + 1 + number
    failed: list[Call] = []

    def fails(call: Call) -> bool:
        if call.number == failed_at:
            failed.append(call)
        return call.number == failed_at

    fs.fail(fails, code)
    with suppress(StorageError):
        driver.run(14)
        # A segment that is not needed yet is all that may be done without.
        assert all(is_spared(call, code) for call in failed)
        fs.crash()
        check_recovery(fs, driver, seed + number)
        return bool(failed)
    assert errno.errorcode[code] in storage_failure(driver)
    assert DATA_DIR in storage_failure(driver)
    calls = fs.calls
    for attempt in (driver.append, driver.write_image, driver.purge, driver.write_identity):
        with pytest.raises(StorageError, match="earlier failure"):
            retry(driver, attempt.__name__)
    assert fs.calls == calls, "something was written after a failure"
    fs.kill()
    check_recovery(fs, driver, seed + number)
    return True


def is_spared(call: Call, code: int) -> bool:
    return SPARE_NAME in call.path and (code == errno.ENOSPC or call.operation == "create")


def storage_failure(driver: Driver) -> str:
    """The message that the first failure left."""
    with pytest.raises(StorageError) as caught:
        driver.storage.purge(1)
    return str(caught.value)


def retry(driver: Driver, operation: str) -> None:
    """Try again with a driver that ends in the same state, since this one's must not move."""
    again = Driver(driver.storage, random.Random(1), driver.state, committed=driver.committed)
    if again.state.identity is None:
        operation = "write_identity"
    getattr(again, operation)()


def test_a_power_cut_names_the_call_it_came_before() -> None:
    fs, driver = start(1)
    fs.cut_power_at(fs.calls + 5)
    with pytest.raises(PowerCut, match="before call"):
        driver.run(5)
    with pytest.raises(PowerCut):
        fs.mkdir("/x")
