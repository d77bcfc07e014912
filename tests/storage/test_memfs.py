"""What a crash, a kill and a failure do to the file system in memory."""

import errno
import random
from collections import Counter

import pytest

from zkpy.testing.memfs import SECTOR, MemFileSystem, PowerCut


def outcomes(fs: MemFileSystem, path: str, dice: int = 300) -> Counter[bytes | None]:
    """How often a crash leaves what of a file."""
    found: Counter[bytes | None] = Counter()
    for seed in range(dice):
        twin = fs.clone(seed)
        twin.crash()
        found[twin.get(path) if twin.exists(path) else None] += 1
    return found


def test_what_was_synced_survives(memory: MemFileSystem) -> None:
    file = memory.open("/data/f", create=True)
    file.write(0, (b"synced",))
    file.sync_data()
    memory.sync_dir("/data")
    file.write(0, (b"beyond",))
    assert set(outcomes(memory, "/data/f")) == {b"synced", b"beyond"}
    assert memory.durable("/data/f") == b"synced"


def test_a_name_survives_by_dice_until_its_directory_is_synced(memory: MemFileSystem) -> None:
    file = memory.open("/data/f", create=True)
    file.write(0, (b"x",))
    file.sync()
    assert set(outcomes(memory, "/data/f")) == {None, b"x"}
    memory.sync_dir("/data")
    assert set(outcomes(memory, "/data/f")) == {b"x"}
    memory.unlink("/data/f")
    assert set(outcomes(memory, "/data/f")) == {None, b"x"}


def test_writes_are_torn_in_sectors_and_out_of_order(memory: MemFileSystem) -> None:
    file = memory.open("/data/f", create=True)
    memory.sync_dir("/data")
    file.truncate(3 * SECTOR)
    file.sync()
    file.write(SECTOR - 1, (b"a" * (SECTOR + 2),))
    file.write(0, (b"b",))
    left = outcomes(memory, "/data/f")
    shapes = {
        (data[0:1], data[SECTOR - 1 : SECTOR], data[SECTOR : SECTOR + 1], data[2 * SECTOR :][:1])
        for data in left
        if data is not None
    }
    assert len(shapes) == 16


def test_a_rename_is_atomic(memory: MemFileSystem) -> None:
    for name in ("old", "new"):
        file = memory.open(f"/data/{name}", create=True)
        file.write(0, (name.encode(),))
        file.sync()
    memory.sync_dir("/data")
    memory.rename("/data/new", "/data/old")
    assert set(outcomes(memory, "/data/old")) == {b"old", b"new"}


def test_a_failed_sync_drops_the_data_though_the_next_one_succeeds(memory: MemFileSystem) -> None:
    file = memory.open("/data/f", create=True)
    memory.sync_dir("/data")
    file.write(0, (b"dropped",))
    memory.fail(lambda call: call.operation == "sync_data")
    with pytest.raises(OSError, match="Input/output error") as caught:
        file.sync_data()
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/data/f")
    file.sync_data()
    assert file.read(0, 9) == b"dropped"
    assert set(outcomes(memory, "/data/f")) == {b""}


def test_a_failed_write_may_have_written_a_part(memory: MemFileSystem) -> None:
    sizes = set()
    for number in range(50):
        file = memory.open(f"/data/{number}", create=True)
        memory.fail(lambda call: call.operation == "write", errno.ENOSPC)
        with pytest.raises(OSError, match="No space left"):
            file.write(0, (b"abcd", b"efgh"))
        sizes.add(file.size())
    assert {0, 8} <= sizes


def test_a_kill_leaves_all_as_seen_and_nothing_more_durable(memory: MemFileSystem) -> None:
    lock = memory.lock("/data/lock")
    file = memory.open("/data/f", create=True)
    file.write(0, (b"cached",))
    memory.kill()
    assert memory.get("/data/f") == b"cached"
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(0, (b"dead",))
    assert set(outcomes(memory, "/data/f")) == {None, b"", b"cached"}
    held = memory.lock("/data/lock")
    lock.close()
    with pytest.raises(BlockingIOError):
        memory.lock("/data/lock")
    held.close()


def test_power_is_cut_before_the_call_of_that_number(memory: MemFileSystem) -> None:
    memory.cut_power_at(memory.calls + 2)
    memory.mkdir("/data/one")
    with pytest.raises(PowerCut):
        memory.mkdir("/data/two")
    assert memory.listdir("/data") == ["one"]
    memory.kill()
    memory.mkdir("/data/two")


def test_same_seed_same_crash() -> None:
    def play() -> list[tuple[str, bytes]]:
        fs = MemFileSystem(random.Random(5))
        for name in "abcdefgh":
            fs.open(name, create=True).write(0, (fs.entropy(3000),))
        fs.crash()
        return [(name, fs.get(name)) for name in fs.listdir(".")]

    assert play() == play()


def test_disk_faults_behind_everybodys_back(memory: MemFileSystem) -> None:
    memory.put("/data/f", b"abc")
    memory.flip("/data/f", 0, bit=1)
    memory.corrupt("/data/f", 5, b"z")
    assert set(outcomes(memory, "/data/f")) == {b"cbc\0\0z"}
    memory.resize("/data/f", 2)
    assert memory.get("/data/f") == memory.durable("/data/f") == b"cb"
    memory.remove("/data/f")
    assert memory.listdir("/data") == []
    memory.put("/data/g", b"")
    memory.wipe("/data")
    assert memory.listdir("/data") == []
