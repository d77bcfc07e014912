"""The identity record: replaced whole or not at all, and damage is not blankness."""

from dataclasses import replace

import pytest

from tests.storage.model import DATA_DIR, IDENTITY, open_storage
from zkpy.effects import DiskBatch, Identity, WriteIdentity
from zkpy.errors import CorruptionError, StorageError
from zkpy.storage import identity as identities
from zkpy.storage.identity import decode_identity, encode_identity, read_identity, write_identity
from zkpy.testing.memfs import MemFileSystem, PowerCut

OTHER = Identity(b"f" * 16, 255, False, 7, b"", b"proposed, and longer than before", 12)


@pytest.mark.parametrize("identity", [IDENTITY, OTHER])
def test_round_trip(identity: Identity) -> None:
    assert decode_identity(encode_identity(identity)) == identity


def test_every_damage_is_noticed() -> None:
    data = encode_identity(IDENTITY)
    damaged = [data[:end] for end in range(len(data))] + [data + b"\0"]
    damaged += [
        data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        for at in range(len(data))
        for bit in range(8)
    ]
    for wrong in damaged:
        with pytest.raises(CorruptionError, match="damaged"):
            decode_identity(wrong)


def test_another_version_is_not_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "FORMAT_VERSION", 9)
    data = encode_identity(IDENTITY)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="identity format 9") as caught:
        decode_identity(data)
    assert not isinstance(caught.value, CorruptionError)


def test_no_file_is_a_blank_member(memory: MemFileSystem) -> None:
    assert read_identity(memory, DATA_DIR) is None


@pytest.mark.parametrize("number", range(1, 8))
def test_a_crash_leaves_the_old_record_or_the_new_one(memory: MemFileSystem, number: int) -> None:
    write_identity(memory, DATA_DIR, IDENTITY)
    found = set()
    for seed in range(40):
        fs = memory.clone(seed)
        fs.cut_power_at(fs.calls + number)
        try:
            write_identity(fs, DATA_DIR, OTHER)
            done = True
        except PowerCut:
            done = False
        fs.crash()
        left = read_identity(fs, DATA_DIR)
        assert left in ([OTHER] if done else [IDENTITY, OTHER])
        found.add(left == OTHER)
    # Calls: create, write, sync, close, rename, sync of the directory.
    assert found == ({False} if number < 6 else {True, False} if number == 6 else {True})


def test_a_damaged_record_makes_suspect_not_blank(memory: MemFileSystem) -> None:
    storage, _ = open_storage(memory)
    storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
    storage.close()
    memory.flip(DATA_DIR + "/identity", 30)
    storage, recovered = open_storage(memory)
    assert recovered.identity is None
    assert recovered.suspect == f"{DATA_DIR}/identity: the identity record is damaged"
    with pytest.raises(StorageError, match="never received"):
        storage.execute(DiskBatch(2, [WriteIdentity(IDENTITY)]))
    assert memory.get(DATA_DIR + "/identity") != encode_identity(IDENTITY)


def test_a_lost_record_makes_suspect_not_blank(memory: MemFileSystem) -> None:
    storage, _ = open_storage(memory)
    storage.execute(DiskBatch(1, [WriteIdentity(IDENTITY)]))
    storage.close()
    memory.remove(DATA_DIR + "/identity")
    _, recovered = open_storage(memory)
    assert recovered.suspect == "generation 1 has data, but its identity record is gone"


def test_a_wiped_directory_is_blank(memory: MemFileSystem) -> None:
    storage, _ = open_storage(memory)
    storage.execute(DiskBatch(1, [WriteIdentity(replace(IDENTITY, generation=1))]))
    storage.close()
    memory.wipe(DATA_DIR)
    _, recovered = open_storage(memory)
    assert (recovered.identity, recovered.suspect) == (None, None)
