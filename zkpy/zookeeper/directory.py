"""ZooKeeper's data directory: which of its files count, and the tree that they hold.

    dataDir/version-2/     snapshot.<zxid>, acceptedEpoch, currentEpoch
    dataLogDir/version-2/  log.<zxid of its first transaction>

In: the directories of a server that does not run.  Out: the tree, as that server would have it
after a restart.  Nothing is written.  ZooKeeper itself starts when a log file is missing in the
middle, without what was in it; here that is an error.
"""

import os
import re
from collections.abc import Iterator
from typing import Final

import attrs

from zkpy.errors import CorruptionError, StorageError
from zkpy.zookeeper.files import read_log, read_snapshot, unpack
from zkpy.zookeeper.tree import Tree
from zkpy.zxid import epoch_of, follows, show

VERSION_DIR: Final = "version-2"
_SNAPSHOT: Final = re.compile(r"snapshot\.([0-9a-fA-F]{1,16})(\.gz|\.snappy)?")
_LOG: Final = re.compile(r"log\.([0-9a-fA-F]{1,16})")
_EPOCHS: Final = ("acceptedEpoch", "currentEpoch")


@attrs.define
class Loaded:
    tree: Tree
    epoch: int
    """The highest that this server has promised or seen."""
    snapshot: str
    """The file that it began with."""
    replayed: int = 0
    """Transactions of the log behind it."""
    notes: list[str] = attrs.Factory(list)
    """What an operator should know."""

    def __str__(self) -> str:
        return (
            f"{self.snapshot} and {self.replayed} transactions behind it: {len(self.tree.nodes)} "
            f"znodes, {len(self.tree.sessions)} sessions, last zxid {show(self.tree.zxid)}"
        )


def load(data_dir: str, log_dir: str | None = None) -> Loaded:
    """The tree in a directory, its `version-2` or what holds that; StorageError if there is
    none to be trusted."""
    snapshots = _version_dir(data_dir)
    logs = _version_dir(log_dir) if log_dir else snapshots
    before = _look(snapshots, logs)
    loaded = _newest_snapshot(snapshots)
    _replay(logs, loaded)
    loaded.tree.check()
    if _look(snapshots, logs) != before:
        raise StorageError(f"{data_dir}: its files are being written: stop ZooKeeper first")
    return loaded


def _version_dir(path: str) -> str:
    below = os.path.join(path, VERSION_DIR)
    if os.path.isdir(below):
        return below
    if os.path.isdir(path) and os.path.basename(os.path.normpath(path)) == VERSION_DIR:
        return path
    raise StorageError(f"{path}: there is no {VERSION_DIR} in it, ZooKeeper's data")


def _look(*directories: str) -> dict[str, tuple[int, int]]:
    """Sizes and times of all files."""
    seen = {}
    for directory in directories:
        for entry in os.scandir(directory):
            stat = entry.stat()
            seen[entry.path] = (stat.st_size, stat.st_mtime_ns)
    return seen


def _files(directory: str, pattern: re.Pattern[str]) -> list[tuple[int, str]]:
    """(zxid, name) of the files of a kind, ascending."""
    found = [(pattern.fullmatch(name), name) for name in os.listdir(directory)]
    return sorted((int(match[1], 16), name) for match, name in found if match)


def _newest_snapshot(directory: str) -> Loaded:
    """Of those that are whole.  A server that never wrote one has nothing to be read: its log
    alone does not say what came before it."""
    refused = []
    for zxid, name in reversed(_files(directory, _SNAPSHOT)):
        path = os.path.join(directory, name)
        try:
            tree = read_snapshot(unpack(name, _read(path)))
        except CorruptionError as error:
            refused.append(f"{path}: {error}")
            continue
        tree.zxid = zxid
        return Loaded(tree, max(_epochs(directory), default=0), path, notes=refused)
    raise StorageError("; ".join(refused) or f"{directory}: there is no snapshot")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _epochs(directory: str) -> Iterator[int]:
    for name in _EPOCHS:
        path = os.path.join(directory, name)
        if os.path.exists(path):
            text = _read(path).decode("ascii", "replace").strip()
            if not text.isdigit():
                raise CorruptionError(f"{path}: {text!r} is no epoch")
            yield int(text)


def _replay(directory: str, loaded: Loaded) -> None:
    tree, begun = loaded.tree, loaded.tree.zxid
    files = _files(directory, _LOG)
    first = max((n for n, (zxid, _) in enumerate(files) if zxid <= begun), default=0)
    for _, name in files[first:]:
        path = os.path.join(directory, name)
        try:
            for header, body in read_log(_read(path)):
                if header.zxid > tree.zxid:
                    _check_follows(tree.zxid, header.zxid)
                    tree.replay(header, body)
                    loaded.replayed += 1
        except CorruptionError as error:
            raise CorruptionError(f"{path}: {error}") from error
    loaded.epoch = max(loaded.epoch, epoch_of(tree.zxid))


def _check_follows(last: int, zxid: int) -> None:
    if not follows(last, zxid):
        raise CorruptionError(f"transactions are missing between {show(last)} and {show(zxid)}")
