"""Boot: torn ends are cut off, damage is told from them and kept (rules D4, D5, D8)."""

from contextlib import suppress
from dataclasses import replace

import pytest

from tests.storage.model import (
    DATA_DIR,
    IDENTITY,
    append,
    open_storage,
    state_of,
    write_image,
)
from zkpy.effects import Append, DiskBatch, Entry, Truncate, WriteIdentity
from zkpy.errors import StorageError
from zkpy.storage import Storage, record
from zkpy.storage.segments import segment_name
from zkpy.testing.memfs import MemFileSystem, PowerCut

GENERATION = DATA_DIR + "/gen-0001"
FIRST = GENERATION + "/" + segment_name(0)


def make_log(fs: MemFileSystem, batches: int) -> list[Entry]:
    """A log of batches of two entries, closed; with 2048-byte segments some ten fit into one."""
    storage = found(fs)
    history: list[Entry] = []
    for _ in range(batches):
        append(storage, history)
    storage.close()
    return history


def found(fs: MemFileSystem) -> Storage:
    storage, recovered = open_storage(fs)
    assert recovered.identity is None
    storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
    return storage


def segments(fs: MemFileSystem) -> list[str]:
    return [f"{GENERATION}/{name}" for name in fs.listdir(GENERATION) if name.startswith("log.")]


def batches_of(fs: MemFileSystem, path: str) -> list[tuple[int, int]]:
    """(begin, end) of the batches in a segment, the seal included."""
    data = fs.get(path)
    header = record.decode_segment_header(data)
    assert header is not None
    pos, found = record.SEGMENT_HEADER_BYTES, []
    while (batch := record.read_batch(data, pos, header.salt)) is not None:
        found.append((pos, pos + batch.total_bytes))
        pos += batch.total_bytes
    return found


def check_suspect(fs: MemFileSystem, reason: str) -> None:
    """Damage: said so, kept byte for byte, never written to again."""
    before = {path: fs.get(path) for path in segments(fs)}
    storage, recovered = open_storage(fs)
    assert recovered.suspect is not None
    assert reason in recovered.suspect
    assert {path: fs.get(path) for path in segments(fs)} == before
    for refused in (Append([], 0, 0, 0), Truncate(0)):
        with pytest.raises(StorageError):
            storage.execute(DiskBatch(1, [refused]))
        storage.close()
        storage, again = open_storage(fs)
        assert again.suspect == recovered.suspect
    # A promise must still be possible.
    assert recovered.identity is not None
    promise = replace(recovered.identity, accepted_epoch=9)
    storage.execute(DiskBatch(2, [WriteIdentity(promise)]))
    storage.close()
    storage, recovered = open_storage(fs)
    assert (recovered.identity, bool(recovered.suspect)) == (promise, True)
    storage.close()


def check_torn(fs: MemFileSystem, history: list[Entry]) -> None:
    """A torn end: cut off durably, and the log goes on behind what is left."""
    storage, recovered = open_storage(fs)
    assert state_of(recovered).history == tuple(history)
    assert any("torn" in note for note in recovered.notes)
    path = segments(fs)[-1]
    end = batches_of(fs, path)[-1][1] if history else record.SEGMENT_HEADER_BYTES
    assert record.is_zero(fs.durable(path), end)
    going_on = list(history)
    append(storage, going_on)
    fs.crash()
    storage, recovered = open_storage(fs)
    assert state_of(recovered).history == tuple(going_on)
    assert recovered.notes == []
    storage.close()


def test_the_last_batch_torn_at_every_byte(memory: MemFileSystem) -> None:
    history = make_log(memory, 2)
    begin, end = batches_of(memory, FIRST)[-1]
    for at in range(begin + 1, end - 1):
        fs = memory.clone(at)
        fs.corrupt(FIRST, at, bytes(end - at))
        check_torn(fs, history[:2])


def test_the_last_batch_torn_at_its_beginning(memory: MemFileSystem) -> None:
    history = make_log(memory, 2)
    begin, end = batches_of(memory, FIRST)[-1]
    for upto in range(begin + 1, end):
        fs = memory.clone(upto)
        fs.corrupt(FIRST, begin, bytes(upto - begin))
        check_torn(fs, history[:2])


def test_a_file_that_ends_inside_the_last_batch(memory: MemFileSystem) -> None:
    history = make_log(memory, 2)
    begin, end = batches_of(memory, FIRST)[-1]
    for size in (begin + 1, begin + record.BATCH_HEADER_BYTES, end - 1):
        fs = memory.clone(size)
        fs.resize(FIRST, size)
        check_torn(fs, history[:2])


def test_the_only_batch_torn(memory: MemFileSystem) -> None:
    make_log(memory, 1)
    begin, _ = batches_of(memory, FIRST)[0]
    memory.flip(FIRST, begin + 5)
    check_torn(memory, [])


def test_a_flip_anywhere_in_a_middle_batch_is_damage(memory: MemFileSystem) -> None:
    make_log(memory, 3)
    begin, end = batches_of(memory, FIRST)[1]
    for at in range(begin, end):
        fs = memory.clone(at)
        fs.flip(FIRST, at, at % 8)
        check_suspect(fs, "is damaged, an intact one at")


def test_a_flip_in_the_segment_header_is_damage(memory: MemFileSystem) -> None:
    make_log(memory, 1)
    for at in range(record.SEGMENT_HEADER_BYTES):
        fs = memory.clone(at)
        fs.flip(FIRST, at, at % 8)
        check_suspect(fs, "header")


def test_a_zeroed_batch_is_a_hole(memory: MemFileSystem) -> None:
    make_log(memory, 3)
    begin, end = batches_of(memory, FIRST)[1]
    memory.corrupt(FIRST, begin, bytes(end - begin))
    check_suspect(memory, "is damaged, an intact one at")


def test_a_batch_that_was_never_written_is_a_hole(memory: MemFileSystem) -> None:
    """A lost write whose successor lies where it should have: both intact, no continuation."""
    make_log(memory, 3)
    (_, _), (second, third), (_, end) = batches_of(memory, FIRST)
    data = memory.get(FIRST)
    memory.corrupt(FIRST, second, data[third:end] + bytes(third - second))
    check_suspect(memory, "does not continue the log")


def test_the_last_batch_of_a_full_segment_is_no_torn_end(memory: MemFileSystem) -> None:
    make_log(memory, 25)
    path = segments(memory)[0]
    last, seal = batches_of(memory, path)[-2:]
    for at in (last[0], last[1] - 1):
        fs = memory.clone(at)
        fs.flip(path, at)
        check_suspect(fs, "is damaged, an intact one at")
    memory.flip(path, seal[0] + 3)
    check_suspect(memory, "has no end mark")


@pytest.mark.parametrize("victim", range(4))
def test_a_missing_segment_is_noticed(memory: MemFileSystem, victim: int) -> None:
    make_log(memory, 40)
    assert len(segments(memory)) == 4
    memory.remove(segments(memory)[victim])
    reason = ("the log begins behind", "does not continue", "does not continue", "is missing")
    check_suspect(memory, reason[victim])


def test_all_segments_missing_is_noticed(memory: MemFileSystem) -> None:
    make_log(memory, 3)
    memory.remove(FIRST)
    check_suspect(memory, "holds no log segment")


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (2, 3), (0, 3)])
def test_swapped_and_doubled_segments_are_noticed(
    memory: MemFileSystem, pair: tuple[int, int]
) -> None:
    make_log(memory, 40)
    paths = segments(memory)
    a, b = (paths[i] for i in pair)
    doubled = memory.clone(1)
    doubled.put(b, memory.get(a))
    check_suspect(doubled, "holds another segment")
    swapped = memory.clone(2)
    swapped.put(a, memory.get(b))
    swapped.put(b, memory.get(a))
    check_suspect(swapped, "holds another segment")


def test_a_stale_segment_is_noticed(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history)
    stale = memory.get(FIRST)
    for _ in range(25):
        append(storage, history)
    storage.close()
    memory.put(FIRST, stale)
    check_suspect(memory, "does not continue")


def test_a_segment_of_another_history_is_noticed(memory: MemFileSystem) -> None:
    """Right name, right generation, intact: only the chain tells."""
    make_log(memory, 25)
    other = MemFileSystem(memory.rng)
    storage = found(other)
    history: list[Entry] = []
    append(storage, history, 1)
    storage.execute(DiskBatch(1, [Truncate(0)]))
    foreign = [replace(e, data=b"x" * len(e.data)) for e in history]
    assert foreign != history
    second = segments(memory)[1]
    header = record.decode_segment_header(memory.get(second))
    assert header is not None
    forged = replace(header, base_chain=header.base_chain ^ 1)
    memory.corrupt(second, 0, record.encode_segment_header(forged))
    check_suspect(memory, "does not continue")


def test_an_unfinished_roll_is_undone(memory: MemFileSystem) -> None:
    """Every crash between creating a segment and the first batch in it."""
    storage = found(memory)
    history: list[Entry] = []
    while len(segments(memory)) < 2:
        before = memory.clone(0)
        append(storage, history)
    assert len(segments(before)) == 1
    kept = tuple(history[:-2])
    for cut in range(1, 12):
        for seed in range(12):
            fs = before.clone(seed)
            storage, recovered = open_storage(fs)
            assert state_of(recovered).history == kept
            fs.cut_power_at(fs.calls + cut)
            going_on = list(kept)
            with suppress(PowerCut):
                append(storage, going_on)
            fs.crash()
            _, recovered = open_storage(fs)
            assert state_of(recovered).history in (kept, tuple(history))


def test_the_image_needs_no_log_before_it(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    for _ in range(25):
        append(storage, history)
    write_image(storage, history[:-4])
    storage.close()
    memory.remove(segments(memory)[0])
    _, recovered = open_storage(memory)
    assert state_of(recovered).history == tuple(history)
    assert recovered.image_digest == history[-5].zxid * 3
    assert recovered.entries == history[-4:]
    assert recovered.committed == history[-5].zxid
    assert recovered.digests == [(e.zxid, e.zxid * 3) for e in history[-4::2]]


def make_two_images(fs: MemFileSystem) -> tuple[list[Entry], list[str]]:
    storage = found(fs)
    history: list[Entry] = []
    for _ in range(2):
        for _ in range(20):
            append(storage, history)
        write_image(storage, history[:-3])
    append(storage, history)
    storage.close()
    images = [f"{GENERATION}/{n}" for n in fs.listdir(GENERATION) if n.startswith("image.")]
    return history, images


def test_an_older_image_serves_if_the_log_reaches_from_it(memory: MemFileSystem) -> None:
    history, images = make_two_images(memory)
    newest = history[-6].zxid
    memory.flip(images[1], 200)
    _, recovered = open_storage(memory)
    assert state_of(recovered).history == tuple(history)
    assert recovered.image_zxid < newest
    assert recovered.committed >= newest
    assert images[1] in recovered.notes[0]


def test_an_older_image_does_not_serve_over_a_hole(memory: MemFileSystem) -> None:
    _, images = make_two_images(memory)
    memory.flip(images[1], 200)
    memory.remove(segments(memory)[2])
    check_suspect(memory, "does not continue")


def test_no_image_left_and_no_log_from_the_beginning(memory: MemFileSystem) -> None:
    _, images = make_two_images(memory)
    for image in images:
        memory.flip(image, 70)
    memory.remove(segments(memory)[0])
    check_suspect(memory, "the log begins behind")


def test_no_image_left_but_all_of_the_log(memory: MemFileSystem) -> None:
    history, images = make_two_images(memory)
    for image in images:
        memory.flip(image, 70)
    _, recovered = open_storage(memory)
    assert state_of(recovered).history == tuple(history)
    assert len(recovered.notes) == 2


def test_a_log_that_ends_before_the_image_lost_something(memory: MemFileSystem) -> None:
    """The image saw those entries durable: this is rot, and looks like a torn end."""
    storage = found(memory)
    history: list[Entry] = []
    for _ in range(3):
        append(storage, history)
    write_image(storage, history)
    storage.close()
    memory.flip(FIRST, batches_of(memory, FIRST)[-1][0] + 10)
    check_suspect(memory, "does not hold the image's zxid")
    memory.flip(f"{GENERATION}/image.{history[-1].zxid:016x}", 3)
    check_suspect(memory, "before the image")


def test_an_image_of_another_history_is_noticed(memory: MemFileSystem) -> None:
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history)
    write_image(storage, [*history[:-1], replace(history[-1], chain=5)])
    storage.close()
    check_suspect(memory, "does not hold the image's zxid")


def test_damage_in_a_recorded_cut_is_damage(memory: MemFileSystem) -> None:
    make_log(memory, 2)
    memory.put(GENERATION + "/log-cut", b"zkT1 nonsense 16")
    check_suspect(memory, "log-cut is damaged")


def test_a_recorded_cut_that_the_log_cannot_make_is_damage(memory: MemFileSystem) -> None:
    history = make_log(memory, 25)
    storage, _ = open_storage(memory)
    memory.cut_power_at(memory.calls + 8)
    with pytest.raises(PowerCut):
        storage.execute(DiskBatch(1, [Truncate(history[3].zxid)]))
    memory.kill()
    assert memory.exists(GENERATION + "/log-cut")
    memory.flip(FIRST, batches_of(memory, FIRST)[0][0])
    check_suspect(memory, "cannot cut behind")


@pytest.mark.parametrize("seed_of_crash", range(20))
def test_a_crash_in_every_call_of_a_recovery(memory: MemFileSystem, seed_of_crash: int) -> None:
    """Torn end, unfinished cut, leftovers of a generation and temp files, all at once."""
    history = make_log(memory, 25)
    memory.put(DATA_DIR + "/identity.tmp", b"half")
    memory.put(GENERATION + "/image.00000001000000ff.tmp", b"half")
    last = segments(memory)[-1]
    memory.corrupt(last, batches_of(memory, last)[-1][1] + 3, b"torn")
    memory.mkdir(DATA_DIR + "/gen-0002")
    memory.put(DATA_DIR + "/gen-0002/log.0000000000000000", b"half")
    for number in range(1, 100):
        fs = memory.clone(seed_of_crash * 1000 + number)
        fs.cut_power_at(fs.calls + number)
        with suppress(PowerCut):
            open_storage(fs)
            assert number > 15
            return
        fs.crash()
        _, recovered = open_storage(fs)
        assert state_of(recovered).history == tuple(history)
        assert fs.listdir(DATA_DIR) == ["gen-0001", "identity", "lock"]
        assert segments(fs) == [f"{GENERATION}/{name}" for name in fs.listdir(GENERATION)]
    pytest.fail("the recovery never ended")


def test_the_last_record_is_written_once_more(memory: MemFileSystem) -> None:
    """Its sync failed and dropped it: the page cache still shows it, marked clean."""
    storage = found(memory)
    history: list[Entry] = []
    append(storage, history)
    memory.fail(lambda call: call.operation == "sync_data")
    with pytest.raises(StorageError):
        append(storage, history)
    memory.kill()
    _, recovered = open_storage(memory)
    memory.crash()
    _, after = open_storage(memory)
    assert after.entries == recovered.entries
    assert len(after.entries) == 4


def test_a_log_may_be_read_in_any_segment_size(memory: MemFileSystem) -> None:
    history = make_log(memory, 40)
    storage, recovered = Storage.open(memory, DATA_DIR)
    assert state_of(recovered).history == tuple(history)
    assert memory.open(segments(memory)[-1]).size() == 64 << 20
    storage.close()
