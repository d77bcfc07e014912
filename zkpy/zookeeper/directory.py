"""ZooKeeper's data directory: which of its files count, and the tree that they hold.

    dataDir/version-2/     snapshot.<zxid>, acceptedEpoch, currentEpoch
    dataLogDir/version-2/  log.<zxid of its first transaction>

In: the directories of a server that does not run.  Out: the tree, as that server would have it
after a restart.  Nothing is written.  ZooKeeper itself starts when a log file is missing in the
middle, without what was in it; here that is an error.
"""

import os
import re
from typing import Final

import attrs

from zkpy.errors import CorruptionError, StorageError
from zkpy.zookeeper.files import LogFile, read_snapshot, unpack
from zkpy.zookeeper.tree import Tree, digest_of
from zkpy.zxid import epoch_of, follows, show

VERSION_DIR: Final = "version-2"
_SNAPSHOT: Final = re.compile(r"snapshot\.([0-9a-fA-F]{1,16})(\.gz|\.snappy)?")
_LOG: Final = re.compile(r"log\.([0-9a-fA-F]{1,16})")
_EPOCHS: Final = ("acceptedEpoch", "currentEpoch")
_EPOCH: Final = re.compile(r"[0-9]{1,10}")
EPOCH_MAX: Final = 0x7FFFFFFE
"""One more must fit into a zxid."""


@attrs.define
class Loaded:
    tree: Tree
    snapshot: str
    """The file that it began with."""
    accepted_epoch: int = 0
    current_epoch: int = 0
    """By its files, or the zxid; ZooKeeper's elections go by it before they go by the zxid."""
    replayed: int = 0
    """Transactions of the log behind the snapshot."""
    notes: list[str] = attrs.Factory(list)
    """What an operator should know."""

    @property
    def epoch(self) -> int:
        """The highest that this server has promised or seen."""
        return max(self.accepted_epoch, self.current_epoch)

    def __str__(self) -> str:
        tree = self.tree
        return (
            f"{self.snapshot} and {self.replayed} transactions behind it: {len(tree.nodes)} "
            f"znodes, {len(tree.sessions)} sessions, epoch {self.current_epoch}, "
            f"last zxid {show(tree.zxid)}"
        )


def load(data_dir: str, log_dir: str | None = None, without_logs: bool = False) -> Loaded:
    """The tree in a directory, its `version-2` or what holds that; StorageError if there is
    none to be trusted.

    No log at all may be meant (`without_logs`): of a snapshot that `zkpy export` made."""
    snapshots = _version_dir(data_dir)
    logs = _version_dir(log_dir) if log_dir else snapshots
    before = _look(snapshots, logs)
    loaded = _newest_snapshot(snapshots)
    if not without_logs:
        _replay(logs, loaded)
    loaded.current_epoch = max(loaded.current_epoch, epoch_of(loaded.tree.zxid))
    _check(loaded)
    if _look(snapshots, logs) != before:
        raise StorageError(f"{data_dir}: its files are being written: stop ZooKeeper first")
    return loaded


def _check(loaded: Loaded) -> None:
    tree = loaded.tree
    if tree.zxid < tree.reaches:
        raise CorruptionError(
            f"{loaded.snapshot} holds some of what was done up to zxid {show(tree.reaches)}, and "
            f"the log ends at {show(tree.zxid)}"
        )
    tree.check()
    if tree.logged_digest is not None and (digest_of(tree) - tree.logged_digest) % (1 << 64):
        loaded.notes.append(
            f"the tree at zxid {show(tree.zxid)} has another digest than ZooKeeper logged: "
            "something is not as it was there"
        )


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
    passed_over = []
    for zxid, name in reversed(_files(directory, _SNAPSHOT)):
        path = os.path.join(directory, name)
        try:
            tree = read_snapshot(unpack(name, _read(path)))
        except (CorruptionError, OSError) as error:
            passed_over.append(f"passed over {path}: {error}")
            continue
        tree.zxid = zxid
        accepted, current = (_read_epoch(directory, each) for each in _EPOCHS)
        return Loaded(tree, path, accepted, current, notes=passed_over)
    raise StorageError(
        "; ".join(passed_over)
        or f"{directory}: there is no snapshot (ZooKeeper writes one when it starts: start it once "
        "with snapshot.trust.empty=true, and stop it)"
    )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_epoch(directory: str, name: str) -> int:
    """0 if there is no such file."""
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        return 0
    text = _read(path).decode("ascii", "replace").strip()
    if not _EPOCH.fullmatch(text) or int(text) > EPOCH_MAX:
        raise CorruptionError(f"{path}: {text[:20]!r} is no epoch")
    return int(text)


def _replay(directory: str, loaded: Loaded) -> None:
    begun = loaded.tree.zxid
    files = _files(directory, _LOG)
    if not files:
        raise StorageError(
            f"{directory}: there is no log; --logs-from names it where ZooKeeper has a dataLogDir, "
            "and --without-logs takes the snapshot alone"
        )
    first = max((n for n, (zxid, _) in enumerate(files) if zxid <= begun), default=0)
    for _, name in files[first:]:
        path = os.path.join(directory, name)
        try:
            _replay_file(LogFile(_read(path)), path, loaded)
        except CorruptionError as error:
            raise CorruptionError(f"{path}: {error}") from error


def _replay_file(file: LogFile, path: str, loaded: Loaded) -> None:
    tree = loaded.tree
    for header, body in file:
        if header.zxid > tree.zxid:
            if not follows(tree.zxid, header.zxid):
                span = f"{show(tree.zxid)} and {show(header.zxid)}"
                raise CorruptionError(f"transactions are missing between {span}")
            tree.replay(header, body)
            loaded.replayed += 1
    if file.cut_off:
        loaded.notes.append(
            f"{path}: the last entry was cut off while it was written ({file.cut_off} bytes), "
            "and is left out"
        )
