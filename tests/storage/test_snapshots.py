"""Image files: round trip, damage, interruption at every call."""

import pytest

from tests.storage.model import DATA_DIR
from zkpy.errors import CorruptionError, StorageError
from zkpy.storage import snapshots
from zkpy.storage.snapshots import ImageFile, image_name, image_zxids, load_image, verify_image
from zkpy.testing.memfs import MemFileSystem, PowerCut

ZXID = 1 << 32 | 0xAB
CHUNKS = [b"first", b"x" * 700, b"y"]
PATH = f"{DATA_DIR}/{image_name(ZXID)}"


def write(fs: MemFileSystem, chunks: list[bytes], sync_bytes: int = 500) -> None:
    image = ImageFile.begin(fs, DATA_DIR, 3, ZXID, 0xC0FFEE, sync_bytes)
    for chunk in chunks:
        image.add(chunk)
    image.finish(2**64 - 2)


@pytest.mark.parametrize("chunks", [CHUNKS, [], [b"only"]])
def test_round_trip(memory: MemFileSystem, chunks: list[bytes]) -> None:
    write(memory, chunks)
    image = load_image(memory, DATA_DIR, 3, ZXID)
    assert (image.zxid, image.chain, image.digest) == (ZXID, 0xC0FFEE, 2**64 - 2)
    assert [list(image.chunks), list(image.chunks)] == [chunks, chunks]
    assert verify_image(memory, DATA_DIR, 3, ZXID)
    assert image_zxids(memory, DATA_DIR) == [ZXID]


def test_an_empty_chunk_is_no_trailer(memory: MemFileSystem) -> None:
    write(memory, [b"a", b"", b"b"])
    assert list(load_image(memory, DATA_DIR, 3, ZXID).chunks) == [b"a", b"b"]


def test_chunks_stay_in_the_file_until_they_are_asked_for_and_are_checked_again(
    memory: MemFileSystem,
) -> None:
    write(memory, CHUNKS)
    chunks = iter(load_image(memory, DATA_DIR, 3, ZXID).chunks)
    memory.flip(PATH, memory.get(PATH).index(b"xxx"), 0)
    assert next(chunks) == CHUNKS[0]
    with pytest.raises(CorruptionError, match="checksum of chunk 1"):
        next(chunks)


def test_every_flipped_byte_and_every_cut_is_noticed(memory: MemFileSystem) -> None:
    write(memory, CHUNKS)
    size = len(memory.get(PATH))
    for at in range(size):
        flipped, cut = memory.clone(0), memory.clone(0)
        flipped.flip(PATH, at, at % 8)
        cut.resize(PATH, at)
        for fs in (flipped, cut):
            assert not verify_image(fs, DATA_DIR, 3, ZXID)
            with pytest.raises(CorruptionError, match=PATH):
                load_image(fs, DATA_DIR, 3, ZXID)
    memory.resize(PATH, size + 1)
    assert not verify_image(memory, DATA_DIR, 3, ZXID)


def test_swapped_chunks_are_noticed(memory: MemFileSystem) -> None:
    write(memory, [b"one", b"two"])
    data = memory.get(PATH)
    one, two = data[64:75], data[75:86]
    memory.corrupt(PATH, 64, two + one)
    assert not verify_image(memory, DATA_DIR, 3, ZXID)


def test_an_image_of_another_generation_or_zxid_is_noticed(memory: MemFileSystem) -> None:
    write(memory, CHUNKS)
    memory.put(f"{DATA_DIR}/{image_name(ZXID + 1)}", memory.get(PATH))
    for generation, zxid in ((4, ZXID), (3, ZXID + 1)):
        with pytest.raises(CorruptionError, match="another image"):
            load_image(memory, DATA_DIR, generation, zxid)


def test_another_version_is_not_damage(
    memory: MemFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "FORMAT_VERSION", 2)
    write(memory, CHUNKS)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="image format 2"):
        verify_image(memory, DATA_DIR, 3, ZXID)


def test_syncs_are_paced(memory: MemFileSystem) -> None:
    synced: list[int] = []
    memory.observe = lambda call: synced.append(call.number) if "sync" in call.operation else None
    write(memory, [b"z" * 100] * 20, sync_bytes=500)
    assert len(synced) == 4 + 2


def test_interrupted_at_every_call_it_is_whole_or_absent(memory: MemFileSystem) -> None:
    number = 0
    outcomes = set()
    while True:
        number += 1
        for seed in range(20):
            fs = memory.clone(seed * 1000 + number)
            fs.cut_power_at(fs.calls + number)
            done = True
            try:
                write(fs, CHUNKS)
            except PowerCut:
                done = False
            fs.crash()
            left = image_zxids(fs, DATA_DIR)
            assert left in ([[ZXID]] if done else [[], [ZXID]])
            assert all(verify_image(fs, DATA_DIR, 3, zxid) for zxid in left)
            outcomes.add((done, bool(left)))
        if done:
            break
    assert outcomes == {(False, False), (False, True), (True, True)}


def test_a_second_attempt_replaces_the_first_ones_temp_file(memory: MemFileSystem) -> None:
    half = ImageFile.begin(memory, DATA_DIR, 3, ZXID, 1, 500)
    half.add(b"half of it, and more than the next one has")
    half.close()
    write(memory, [b"whole"])
    assert list(load_image(memory, DATA_DIR, 3, ZXID).chunks) == [b"whole"]
    assert memory.listdir(DATA_DIR) == [image_name(ZXID)]
    gone = ImageFile.begin(memory, DATA_DIR, 3, ZXID + 1, 1, 500)
    gone.abandon()
    assert memory.listdir(DATA_DIR) == [image_name(ZXID)]
