"""ZooKeeper's files byte by byte: what is whole is read, what is not is told."""

import gzip
import zlib

import pytest

from tests.zookeeper.histories import History
from tests.zookeeper.test_tree import shown
from wire.codes import OpCode
from zkpy.errors import CorruptionError
from zkpy.zookeeper.files import LogFile, read_snapshot, unpack, write_snapshot
from zkpy.zookeeper.records import (
    FILE_VERSION,
    LOG_MAGIC,
    SNAPSHOT_MAGIC,
    Delete,
    FileHeader,
    LogHeader,
)
from zkpy.zookeeper.tree import Tree


def grown(seed: int = 1) -> Tree:
    history = History(seed)
    history.grow(120)
    return history.tree


def written(tree: Tree) -> bytes:
    return b"".join(write_snapshot(tree))


def sealed(entry: bytes) -> bytes:
    """As it stands in a log."""
    return zlib.adler32(entry).to_bytes(8, "big") + len(entry).to_bytes(4, "big") + entry + b"B"


def log_of(*zxids: int) -> bytes:
    head = FileHeader(LOG_MAGIC, FILE_VERSION, 0).encode()
    headers = [LogHeader(1, 1, zxid, 5, OpCode.DELETE) for zxid in zxids]
    return head + b"".join(sealed(h.encode() + Delete("/a").encode()) for h in headers)


def zxids_of(data: bytes) -> list[int]:
    return [header.zxid for header, _ in LogFile(data)]


@pytest.mark.parametrize("seed", range(5))
def test_a_snapshot_reads_as_it_was_written(seed: int) -> None:
    tree = grown(seed)
    again = read_snapshot(written(tree))
    assert shown(again) == shown(tree)
    assert again.sessions == tree.sessions
    assert len({node.acl for node in tree.nodes.values()}) > 1


def test_what_stands_behind_the_seal() -> None:
    tree, seal = grown(), 13
    data = written(tree)
    assert read_snapshot(data).reaches == tree.zxid
    older = data[: -20 - seal]  # of ZooKeeper before 3.6
    assert shown(read_snapshot(older)) == shown(tree)
    assert read_snapshot(older).reaches == 0
    newer = data + bytes(8 + seal)  # of 3.9
    assert read_snapshot(newer).reaches == tree.zxid


def test_a_snapshot_that_is_cut_off_anywhere_is_refused() -> None:
    data = written(grown())[:-33]
    for end in range(len(data)):
        with pytest.raises(CorruptionError):
            read_snapshot(data[:end])


def test_a_snapshot_with_any_byte_changed_is_refused() -> None:
    data = written(grown())[:-33]
    for at in range(len(data)):
        with pytest.raises(CorruptionError):
            read_snapshot(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(CorruptionError, match="header"):
        read_snapshot(FileHeader(SNAPSHOT_MAGIC, 3, 0).encode())
    with pytest.raises(CorruptionError, match="header"):
        zxids_of(written(grown()))


def test_compressed_snapshots_go_by_their_names() -> None:
    assert unpack("snapshot.1.gz", gzip.compress(b"all")) == b"all"
    assert unpack("snapshot.1", b"all") == b"all"
    with pytest.raises(CorruptionError, match="decompressed"):
        unpack("snapshot.1.gz", gzip.compress(b"all")[:-3])
    with pytest.raises(CorruptionError, match="snappy"):
        unpack("snapshot.1.snappy", b"all")


def test_a_log_ends_where_zeros_begin() -> None:
    assert zxids_of(log_of(1, 2, 3)) == [1, 2, 3]
    assert zxids_of(log_of(1, 2, 3) + bytes(100)) == [1, 2, 3]
    assert zxids_of(bytes(64)) == []
    assert zxids_of(b"") == []


def test_a_last_entry_that_was_cut_off_ends_the_log() -> None:
    whole, before = log_of(1, 2), log_of(1)
    for end in range(len(before), len(whole)):
        for padding in (b"", bytes(100)):
            file = LogFile(whole[:end] + padding)
            assert [header.zxid for header, _ in file] == [1]
            assert file.cut_off == len(whole[len(before) : end].rstrip(b"\0"))


def test_an_entry_with_any_byte_changed_is_refused() -> None:
    """Also where it looks as if it had been cut off: there is another one behind it."""
    before, after, data = len(log_of(1)), len(log_of(1, 2)), log_of(1, 2, 3)
    for at in range(before, after):
        for bit in (1, 0x41, 0x80):
            with pytest.raises(CorruptionError):
                zxids_of(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])


def test_damage_names_the_place() -> None:
    data = log_of(1, 2)
    with pytest.raises(CorruptionError, match=f"byte {len(log_of(1)) + 12} whose checksum"):
        zxids_of(data[:-3] + b"xx" + data[-1:])
