"""Storage as its callers see it: steps, generations, purge, locks, refusals."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.storage.model import (
    DATA_DIR,
    IDENTITY,
    append,
    encode_history,
    open_storage,
    plain_entries,
    state_of,
    write_image,
)
from zkpy.effects import (
    Append,
    BeginGeneration,
    DiskBatch,
    DiskStep,
    EndGeneration,
    Entry,
    GenerationChunk,
    ImageBegin,
    ImageChunk,
    ImageEnd,
    Truncate,
    WriteIdentity,
)
from zkpy.errors import StorageError
from zkpy.storage import FileSystem, OsFileSystem, Storage
from zkpy.testing.memfs import MemFileSystem, PowerCut

SECOND = replace(IDENTITY, generation=2)


def found(fs: FileSystem, log_dir: str | None = None) -> Storage:
    storage, recovered = open_storage(fs, log_dir)
    assert (recovered.identity, recovered.suspect) == (None, None)
    do(storage, WriteIdentity(IDENTITY))
    return storage


def do(storage: Storage, *steps: DiskStep) -> None:
    storage.execute(DiskBatch(1, list(steps)))


def snap(history: list[Entry], generation: int = 2) -> list[DiskStep]:
    """The steps of a SNAP up to its end, without adoption."""
    zxid, chain = history[-1].zxid, history[-1].chain
    return [
        BeginGeneration(generation, zxid, chain),
        *map(GenerationChunk, encode_history(history)),
        EndGeneration(zxid * 3),
    ]


def images(fs: MemFileSystem, generation: int = 1) -> list[int]:
    names = fs.listdir(f"{DATA_DIR}/gen-{generation:04d}")
    return [int(name[6:], 16) for name in names if name.startswith("image.")]


# On the real file system


def test_a_life_on_the_real_file_system(tmp_path: Path) -> None:
    fs = OsFileSystem()
    data, log = str(tmp_path / "deep" / "data"), str(tmp_path / "log")
    storage, recovered = Storage.open(fs, data, log)
    assert recovered.identity is None
    do(storage, WriteIdentity(IDENTITY))
    history: list[Entry] = []
    for _ in range(5):
        append(storage, history, 3, committed=4)
    assert storage.last_zxid == history[-1].zxid
    write_image(storage, history[:4])
    append(storage, history, 3)
    do(storage, Truncate(history[-2].zxid))
    storage.purge(1)
    storage.close()
    assert sorted(os.listdir(tmp_path / "log" / "gen-0001")) == ["log.0000000000000000"]
    assert sorted(os.listdir(data)) == ["gen-0001", "identity", "lock"]
    storage, recovered = Storage.open(fs, data, log)
    assert state_of(recovered).history == tuple(history[:-1])
    assert recovered.notes == []
    storage.close()


def test_a_taken_directory_is_refused_with_the_holder(tmp_path: Path) -> None:
    storage, _ = Storage.open(OsFileSystem(), str(tmp_path))
    with pytest.raises(StorageError, match=rf"in use by another server \(process {os.getpid()}\)"):
        Storage.open(OsFileSystem(), str(tmp_path))
    storage.close()
    Storage.open(OsFileSystem(), str(tmp_path))[0].close()


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"file: Not a directory \(ENOTDIR\)"):
        Storage.open(OsFileSystem(), str(tmp_path / "file" / "data"))


# Whose directory


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["version-2"], r"data of Apache ZooKeeper \(version-2/\)"),
        (["myid", "version-2"], r"data of Apache ZooKeeper"),
        (["pg_wal", "base"], r"another program \(base, pg_wal\).* what is named may be removed"),
        (list("abcdefgh"), r"\(a, b, c, d, e, \.\.\.\)"),
    ],
)
def test_a_foreign_directory_is_left_alone(
    memory: MemFileSystem, names: list[str], message: str
) -> None:
    for name in names:
        memory.put(f"{DATA_DIR}/{name}", b"")
    calls = memory.calls
    with pytest.raises(StorageError, match=message):
        open_storage(memory)
    assert memory.calls == calls


@pytest.mark.parametrize(
    "name",
    ["myid", "initialize", "lost+found", "zoo.cfg", "zoo.cfg.dynamic.100000000", ".snapshot"]
    + ["zookeeper_server.pid", "java.conf", "logback.xml"],
)
def test_what_operators_keep_beside_the_data_is_fine(memory: MemFileSystem, name: str) -> None:
    memory.put(f"{DATA_DIR}/{name}", b"1")
    found(memory).close()
    open_storage(memory)
    assert memory.get(f"{DATA_DIR}/{name}") == b"1"


@pytest.mark.parametrize("log_dir", ["/log", DATA_DIR + "/log", DATA_DIR + "/", "/data/a/b"])
def test_the_log_may_lie_elsewhere(memory: MemFileSystem, log_dir: str) -> None:
    storage = found(memory, log_dir)
    history: list[Entry] = []
    append(storage, history)
    write_image(storage, history[:1])
    do(storage, *snap(history), WriteIdentity(SECOND))
    storage.purge(1)
    storage.close()
    storage, recovered = open_storage(memory, log_dir)
    assert state_of(recovered).history == tuple(history)
    with pytest.raises(StorageError, match="in use"):
        open_storage(memory, log_dir)
    storage.close()


def test_a_log_directory_that_moved_is_not_an_empty_log(memory: MemFileSystem) -> None:
    found(memory, "/log").close()
    _, recovered = open_storage(memory, "/elsewhere")
    assert recovered.suspect == "/elsewhere/gen-0001 is missing"


def test_a_failed_start_frees_the_directory(memory: MemFileSystem) -> None:
    memory.mkdir("/log")
    memory.put("/log/foreign", b"")
    with pytest.raises(StorageError, match="foreign"):
        open_storage(memory, "/log")
    open_storage(memory)


# Steps


def test_steps_that_need_an_identity_are_refused_without(memory: MemFileSystem) -> None:
    storage, _ = open_storage(memory)
    with pytest.raises(StorageError, match="no identity record yet"):
        do(storage, Append(plain_entries([], 1), 0, 0, 0))
    with pytest.raises(StorageError, match="refused after an earlier failure"):
        do(storage, WriteIdentity(IDENTITY))


def test_an_image_needs_an_identity(memory: MemFileSystem) -> None:
    storage, _ = open_storage(memory)
    storage.purge(1)
    with pytest.raises(StorageError, match="no identity record yet"):
        storage.image_step(ImageBegin(0, 0))


def test_a_failure_names_file_and_reason(memory: MemFileSystem) -> None:
    storage = found(memory)
    memory.fail(lambda call: call.operation == "sync_data", errno.EIO)
    wanted = r"/data/gen-0001/log\.0{16}: Input/output error \(EIO\)"
    with pytest.raises(StorageError, match=wanted):
        append(storage, [])
    with pytest.raises(StorageError, match=wanted):
        storage.image_step(ImageBegin(0, 0))
    storage.close()


def test_an_assertion_stops_storage_too(memory: MemFileSystem) -> None:
    storage = found(memory)
    with pytest.raises(AssertionError):
        do(storage, Append([], 0, 0, 0))
    with pytest.raises(StorageError, match="an empty batch"):
        storage.purge(1)


def test_after_close_nothing_is_written(memory: MemFileSystem) -> None:
    storage = found(memory)
    storage.close()
    with pytest.raises(StorageError, match="storage is closed"):
        append(storage, [])


def test_a_batch_larger_than_a_segment_is_written_whole(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    for count in (1, 200, 1):
        append(storage, history, count)
    storage.close()
    _, recovered = open_storage(memory)
    assert state_of(recovered).history == tuple(history)


# A batch in two halves: written at once, synced by somebody else


def next_batch(history: list[Entry], count: int = 1) -> DiskBatch:
    """Entries behind that history, which gets them too."""
    entries = plain_entries(history, count)
    history.extend(entries)
    return DiskBatch(1, [Append(entries, 0, 0, 0)])


def test_what_was_begun_is_durable_once_it_was_synced(memory: MemFileSystem) -> None:
    storage, history = found(memory), list[Entry]()
    for _ in range(3):
        file = storage.begin(next_batch(history))
        assert file is not None
        assert storage.last_zxid == (history[-2].zxid if len(history) > 1 else 0)
        file.sync_data()
        storage.finish()
        assert storage.last_zxid == history[-1].zxid
    memory.crash()
    assert state_of(open_storage(memory)[1]).history == tuple(history)


def test_what_was_begun_may_be_carried_out_in_whole_instead(memory: MemFileSystem) -> None:
    storage, history = found(memory), list[Entry]()
    batch = next_batch(history, 3)
    assert storage.begin(batch) is not None
    storage.execute(batch)
    append(storage, history)
    memory.crash()
    assert state_of(open_storage(memory)[1]).history == tuple(history)


def test_a_segment_that_is_full_is_not_for_halves(memory: MemFileSystem) -> None:
    storage, history = found(memory), list[Entry]()
    refused = 0
    while refused < 3:
        batch = next_batch(history, 10)
        file = storage.begin(batch)
        if file is None:
            refused += 1
            storage.execute(batch)
        else:
            file.sync_data()
            storage.finish()
    memory.crash()
    assert state_of(open_storage(memory)[1]).history == tuple(history)


def test_steps_other_than_entries_are_not_for_halves(memory: MemFileSystem) -> None:
    storage, history = found(memory), list[Entry]()
    append(storage, history)
    assert storage.begin(DiskBatch(1, [Truncate(0)])) is None
    assert (
        storage.begin(DiskBatch(1, [WriteIdentity(IDENTITY), *next_batch(history).steps])) is None
    )
    do(storage, *snap(history[:1])[:-1])
    assert storage.begin(DiskBatch(1, next_batch(history).steps)) is None


def test_no_room_is_for_the_whole_and_a_failure_is_final(memory: MemFileSystem) -> None:
    storage, history = found(memory), list[Entry]()
    batch = next_batch(history)
    memory.fail(lambda call: call.operation == "write", errno.ENOSPC)
    assert storage.begin(batch) is None
    storage.execute(batch)
    memory.fail(lambda call: call.operation == "write", errno.EIO)
    with pytest.raises(StorageError, match="EIO"):
        storage.begin(next_batch(history))
    with pytest.raises(StorageError, match="earlier failure"):
        storage.begin(next_batch(history))


def test_a_failed_sync_of_what_was_begun_is_final(memory: MemFileSystem) -> None:
    storage, history = found(memory), list[Entry]()
    assert storage.begin(next_batch(history)) is not None
    with pytest.raises(StorageError, match="EIO"):
        storage.finish(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageError, match="earlier failure"):
        append(storage, history)


@pytest.mark.parametrize("kept", range(61))
def test_a_cut_is_exact_at_every_entry(memory: MemFileSystem, kept: int) -> None:
    storage = found(memory)
    history: list[Entry] = []
    for _ in range(20):
        append(storage, history, 3)
    zxid = history[kept - 1].zxid if kept else 0
    do(storage, Truncate(zxid))
    assert storage.last_zxid == zxid
    left = history[:kept]
    memory.crash()
    storage, recovered = open_storage(memory)
    assert state_of(recovered).history == tuple(left)
    append(storage, left, 1)
    storage.close()
    assert state_of(open_storage(memory)[1]).history == tuple(left)


@pytest.mark.parametrize(
    ("zxid", "message"),
    [
        (1 << 32 | 3, "0x100000004 is committed"),
        (1 << 32 | 9, "the log ends at 0x100000008"),
        (5 << 32 | 1, "the log ends at"),
    ],
)
def test_a_cut_that_must_not_be_is_refused(memory: MemFileSystem, zxid: int, message: str) -> None:
    storage = found(memory)
    history: list[Entry] = []
    for _ in range(4):
        append(storage, history, 2, committed=1 << 32 | 4)
    with pytest.raises(StorageError, match=message):
        do(storage, Truncate(zxid))
    memory.kill()
    assert state_of(open_storage(memory)[1]).history == tuple(history)


def test_a_cut_below_an_image_is_refused(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history, 4)
    write_image(storage, history[:3])
    with pytest.raises(StorageError, match="the image at 0x100000003 is committed"):
        do(storage, Truncate(history[1].zxid))


def test_a_cut_to_what_the_log_skips_is_refused(memory: MemFileSystem) -> None:
    storage = found(memory)
    history = plain_entries([], 2)
    do(storage, Append(history, 0, 0, 0), Append(plain_entries(history, 1, epoch=3), 0, 0, 0))
    with pytest.raises(StorageError, match="which the log does not hold"):
        do(storage, Truncate(2 << 32 | 1))


# Images


def test_an_image_is_durable_when_its_zxid_is_returned(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history)
    assert storage.image_step(ImageBegin(history[0].zxid, history[0].chain)) is None
    for chunk in encode_history(history[:1]):
        assert storage.image_step(ImageChunk(chunk)) is None
    assert storage.image_step(ImageEnd(history[0].zxid, 5)) == history[0].zxid
    for seed in range(40):
        fs = memory.clone(seed)
        fs.crash()
        _, recovered = open_storage(fs)
        assert (recovered.image_zxid, recovered.image_digest) == (history[0].zxid, 5)


def test_a_new_image_takes_the_place_of_an_unfinished_one(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history, 4)
    storage.image_step(ImageBegin(history[0].zxid, history[0].chain))
    storage.image_step(ImageChunk(b"half"))
    write_image(storage, history[:3])
    names = memory.listdir(DATA_DIR + "/gen-0001")
    assert names == ["image.0000000100000003", "log.0000000000000000"]


def test_an_image_of_a_replaced_generation_is_dropped(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history)
    storage.image_step(ImageBegin(history[0].zxid, history[0].chain))
    do(storage, *snap(history), WriteIdentity(SECOND))
    assert storage.image_step(ImageChunk(b"late")) is None
    assert storage.image_step(ImageEnd(history[0].zxid, 1)) is None
    storage.purge(1)
    assert memory.listdir(DATA_DIR) == ["gen-0002", "identity", "lock"]
    assert images(memory, 2) == [history[-1].zxid]


def test_purge_keeps_the_newest_that_verify_and_their_log(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    marks = []
    for _ in range(5):
        for _ in range(12):
            append(storage, history)
        write_image(storage, history)
        marks.append(history[-1].zxid)
    storage.close()
    memory.flip(f"{DATA_DIR}/gen-0001/image.{marks[3]:016x}", 80)
    storage, _ = open_storage(memory)
    storage.purge(9)
    assert images(memory) == marks
    storage.purge(2)
    assert images(memory) == marks[2:]
    storage.close()
    memory.flip(f"{DATA_DIR}/gen-0001/image.{marks[4]:016x}", 80)
    storage, recovered = open_storage(memory)
    assert recovered.image_zxid == marks[2]
    assert state_of(recovered).history == tuple(history)
    storage.purge(2)
    assert images(memory) == marks[2:]
    storage.purge(1)
    assert images(memory) == marks[2:]
    append(storage, history)
    bases = [n for n in memory.listdir(DATA_DIR + "/gen-0001") if n.startswith("log.")]
    assert int(bases[0][4:], 16) <= marks[2] < int(bases[1][4:], 16)


# Generations


def test_a_generation_counts_only_once_the_identity_names_it(memory: MemFileSystem) -> None:
    storage = found(memory)
    old: list[Entry] = []
    append(storage, old)
    new = plain_entries(old[:1], 3, epoch=2)
    steps = [*snap(old[:1]), Append(new, 0, 0, 0), WriteIdentity(SECOND)]
    seen = set()
    for upto in range(len(steps) + 1):
        for seed in range(10):
            fs = memory.clone(seed)
            storage, _ = open_storage(fs)
            for step in steps[:upto]:
                do(storage, step)
            fs.crash()
            _, recovered = open_storage(fs)
            adopted = upto == len(steps)
            assert state_of(recovered).history == ((old[0], *new) if adopted else tuple(old))
            left = fs.listdir(DATA_DIR)
            assert left == [f"gen-000{1 + adopted}", "identity", "lock"]
            seen.add(adopted)
    assert seen == {False, True}


@pytest.mark.parametrize("seed_of_crash", range(8))
def test_a_blank_member_stays_blank_until_it_is_synchronised(
    memory: MemFileSystem, seed_of_crash: int
) -> None:
    """Crash at every call of its first synchronisation, and again while that is cleared away."""
    history = plain_entries([], 6)
    steps = [*snap(history[:3], 1), Append(history[3:], 0, 0, 0), WriteIdentity(IDENTITY)]
    number, done = 0, False
    while not done:
        number += 1
        fs = memory.clone(seed_of_crash * 1000 + number)
        storage, _ = open_storage(fs)
        fs.cut_power_at(fs.calls + number)
        try:
            do(storage, *steps)
            done = True
        except PowerCut:
            fs.crash()
        clear_away(fs)
        _, recovered = open_storage(fs)
        assert recovered.suspect is None
        whole = recovered.identity is not None
        assert recovered.entries == (history[3:] if whole else [])
        assert whole or not done
    assert number > 25


def clear_away(fs: MemFileSystem) -> None:
    """Start again and again, with a power cut one call later each time."""
    for number in range(1, 40):
        fs.cut_power_at(fs.calls + number)
        try:
            open_storage(fs)
        except PowerCut:
            fs.crash()
        else:
            fs.kill()
            return


def test_a_promise_voids_what_was_being_received(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history)
    do(storage, *snap(history), WriteIdentity(replace(IDENTITY, accepted_epoch=4)))
    assert memory.listdir(DATA_DIR) == ["gen-0001", "identity", "lock"]
    append(storage, history)
    do(storage, *snap(history[:1]), *snap(history), WriteIdentity(SECOND))
    append(storage, history)
    storage.close()
    assert state_of(open_storage(memory)[1]).history == tuple(history)


def test_a_blank_member_may_found_after_a_synchronisation_that_broke_off(
    memory: MemFileSystem,
) -> None:
    storage, _ = open_storage(memory)
    do(storage, *snap(plain_entries([], 2)), *snap(plain_entries([], 3)))
    do(storage, WriteIdentity(IDENTITY))
    history: list[Entry] = []
    append(storage, history)
    assert memory.listdir(DATA_DIR) == ["gen-0001", "identity", "lock"]
    storage.close()
    assert state_of(open_storage(memory)[1]).history == tuple(history)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([BeginGeneration(1, 0, 0)], "generation 1 is in force"),
        ([GenerationChunk(b"x")], "no generation is being received"),
        ([EndGeneration(0)], "no generation is being received"),
        ([WriteIdentity(SECOND)], "generation 2 was never received"),
        ([BeginGeneration(2, 0, 0), WriteIdentity(SECOND)], "was not received whole"),
        (
            [BeginGeneration(3, 0, 0), EndGeneration(0), WriteIdentity(SECOND)],
            "generation 2 was never received",
        ),
        ([BeginGeneration(2, 0, 0), Append(plain_entries([], 1), 0, 0, 0)], "is being received"),
        ([BeginGeneration(2, 0, 0), Truncate(0)], "is being received"),
    ],
)
def test_steps_out_of_order_are_refused(
    memory: MemFileSystem, steps: list[DiskStep], message: str
) -> None:
    storage = found(memory)
    with pytest.raises(StorageError, match=message):
        do(storage, *steps)
    memory.kill()
    assert state_of(open_storage(memory)[1]).identity == IDENTITY


def test_a_suspect_member_is_made_sound_by_a_new_generation(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history)
    storage.close()
    memory.flip(f"{DATA_DIR}/gen-0001/log.{0:016x}", 5)
    storage, recovered = open_storage(memory)
    assert recovered.suspect
    do(storage, *snap(history), WriteIdentity(SECOND))
    append(storage, history)
    storage.close()
    storage, recovered = open_storage(memory)
    assert state_of(recovered).history == tuple(history)
    assert memory.listdir(DATA_DIR) == ["gen-0002", "identity", "lock"]


def test_without_identity_the_old_data_is_kept_until_the_new_is_whole(
    memory: MemFileSystem,
) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history)
    storage.close()
    log = memory.get(f"{DATA_DIR}/gen-0001/log.{0:016x}")
    memory.remove(DATA_DIR + "/identity")
    storage, recovered = open_storage(memory)
    assert recovered.suspect
    do(storage, *snap(history, 1))
    assert memory.get(f"{DATA_DIR}/gen-0001.damaged/log.{0:016x}") == log
    do(storage, WriteIdentity(IDENTITY))
    storage.close()
    storage, recovered = open_storage(memory)
    assert state_of(recovered).history == tuple(history)
    assert memory.listdir(DATA_DIR) == ["gen-0001", "identity", "lock"]
