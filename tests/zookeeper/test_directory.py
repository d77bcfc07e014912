"""Which files of a data directory count."""

import gzip
import struct
from pathlib import Path

import pytest

from tests.zookeeper.histories import History, Logged, founded, replay
from tests.zookeeper.test_files import sealed, written
from tests.zookeeper.test_tree import shown
from zkpy.errors import CorruptionError, StorageError
from zkpy.zookeeper import directory
from zkpy.zookeeper.directory import load
from zkpy.zookeeper.records import FILE_VERSION, LOG_MAGIC, FileHeader
from zkpy.zookeeper.tree import Tree, digest_of

COUNT = 60


@pytest.fixture
def history() -> History:
    made = History(3)
    made.grow(COUNT)
    return made


def snapshot_at(history: History, zxid: int) -> bytes:
    tree = founded()
    replay(tree, history.logged[:zxid])
    return written(tree)


def log_file(logged: list[Logged]) -> bytes:
    head = FileHeader(LOG_MAGIC, FILE_VERSION, 0).encode()
    return head + b"".join(sealed(header.encode() + body) for header, body in logged) + bytes(512)


@pytest.fixture
def data_dir(tmp_path: Path, history: History) -> Path:
    """Snapshots at 0, 20 and 40; logs from 1, 21 and 41 on."""
    version = tmp_path / "data" / "version-2"
    version.mkdir(parents=True)
    for zxid in (0, 20, 40):
        (version / f"snapshot.{zxid:x}").write_bytes(snapshot_at(history, zxid))
        part = history.logged[zxid : zxid + 20]
        (version / f"log.{zxid + 1:x}").write_bytes(log_file(part))
    return version.parent


def check_whole(tree: Tree, history: History) -> None:
    assert shown(tree) == shown(history.tree)
    assert (tree.sessions, tree.zxid) == (history.tree.sessions, COUNT)


def test_the_newest_snapshot_and_the_log_behind_it(data_dir: Path, history: History) -> None:
    loaded = load(str(data_dir))
    check_whole(loaded.tree, history)
    assert loaded.snapshot == str(data_dir / "version-2" / "snapshot.28")
    assert (loaded.replayed, loaded.notes, loaded.epoch) == (20, [], 0)
    assert str(loaded).endswith(f"sessions, epoch 0, last zxid {COUNT:#x}")
    check_whole(load(str(data_dir / "version-2")).tree, history)


def test_a_damaged_snapshot_is_passed_over_and_told(data_dir: Path, history: History) -> None:
    newest = data_dir / "version-2" / "snapshot.28"
    newest.write_bytes(newest.read_bytes()[:-40])
    loaded = load(str(data_dir))
    check_whole(loaded.tree, history)
    assert loaded.replayed == 40
    assert len(loaded.notes) == 1 and str(newest) in loaded.notes[0]


def test_a_compressed_snapshot(data_dir: Path, history: History) -> None:
    newest = data_dir / "version-2" / "snapshot.28"
    (data_dir / "version-2" / "snapshot.28.gz").write_bytes(gzip.compress(newest.read_bytes()))
    newest.unlink()
    loaded = load(str(data_dir))
    check_whole(loaded.tree, history)
    assert loaded.snapshot.endswith(".gz")


def test_logs_elsewhere(data_dir: Path, history: History) -> None:
    elsewhere = data_dir.parent / "logs" / "version-2"
    elsewhere.mkdir(parents=True)
    for log in data_dir.glob("version-2/log.*"):
        log.rename(elsewhere / log.name)
    check_whole(load(str(data_dir), str(elsewhere.parent)).tree, history)


def test_a_log_that_is_missing_in_the_middle_is_an_error(data_dir: Path) -> None:
    for name in ("snapshot.28", "snapshot.14", "log.15"):
        (data_dir / "version-2" / name).unlink()
    with pytest.raises(CorruptionError, match="missing between 0x14 and 0x29"):
        load(str(data_dir))


def test_damage_in_a_log_names_the_file(data_dir: Path) -> None:
    log = data_dir / "version-2" / "log.29"
    data = bytearray(log.read_bytes())
    data[40] ^= 1
    log.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"log\.29: an entry at byte 28"):
        load(str(data_dir))


def test_epochs_that_were_promised_count(data_dir: Path) -> None:
    (data_dir / "version-2" / "acceptedEpoch").write_text("7\n")
    (data_dir / "version-2" / "currentEpoch").write_text("6")
    loaded = load(str(data_dir))
    assert (loaded.epoch, loaded.current_epoch) == (7, 6)
    for text in ("six", "", "-1", str(1 << 31), "9" * 5000):
        (data_dir / "version-2" / "currentEpoch").write_text(text)
        with pytest.raises(CorruptionError, match="is no epoch"):
            load(str(data_dir))


def test_no_log_at_all_has_to_be_meant(data_dir: Path, history: History) -> None:
    for log in data_dir.glob("version-2/log.*"):
        log.unlink()
    with pytest.raises(StorageError, match="there is no log; --logs-from names it"):
        load(str(data_dir))
    assert load(str(data_dir), without_logs=True).tree.zxid == 40
    exact = data_dir / "version-2" / "snapshot.28"
    exact.rename(data_dir / "version-2" / "snapshot.27")  # as if it had been begun one earlier
    with pytest.raises(CorruptionError, match="up to zxid 0x28, and the log ends at 0x27"):
        load(str(data_dir), without_logs=True)


def test_an_entry_that_was_cut_off_is_told(data_dir: Path) -> None:
    log = data_dir / "version-2" / "log.29"
    log.write_bytes(log.read_bytes().rstrip(b"\0")[:-1])
    loaded = load(str(data_dir))
    assert loaded.tree.zxid == COUNT - 1
    assert f"{log}: the last entry was cut off" in loaded.notes[0]


def test_a_tree_that_is_not_what_the_log_says_is_told(data_dir: Path, history: History) -> None:
    log = data_dir / "version-2" / "log.29"
    last, body = history.logged[-1]
    for digest, notes in ((digest_of(history.tree), 0), (7, 1)):
        logged = [*history.logged[40:-1], (last, body + struct.pack(">iq", 2, digest))]
        log.write_bytes(log_file(logged))
        loaded = load(str(data_dir))
        assert len(loaded.notes) == notes
        assert all("another digest than ZooKeeper logged" in note for note in loaded.notes)


def test_no_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no version-2 in it"):
        load(str(tmp_path))
    (tmp_path / "version-2").mkdir()
    with pytest.raises(StorageError, match="there is no snapshot"):
        load(str(tmp_path))


def test_a_server_that_still_writes_is_noticed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_while_written(path: str) -> bytes:
        data = Path(path).read_bytes()
        Path(path).write_bytes(data + bytes(8))
        return data

    monkeypatch.setattr(directory, "_read", read_while_written)
    with pytest.raises(StorageError, match="stop ZooKeeper first"):
        load(str(data_dir))
