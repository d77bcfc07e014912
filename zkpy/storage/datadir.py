"""The data directory: who may use it, and where each thing lies in it.

    dataDir/     lock, identity, myid (ZooKeeper's, left alone)
      gen-0001/  image.<zxid>, and log.<base zxid> unless dataLogDir is set
    dataLogDir/  lock
      gen-0001/  log.<base zxid>

A generation is a log and its images.  While it is being built it holds the file
`unadopted`; the identity record that names it adopts it, whereupon that file goes.
Without the mark, a blank member that stopped in the middle of its first
synchronisation could not be told from one that lost its identity record (D10).
"""

import re
from typing import Final, Self

import attrs

from zkpy.errors import StorageError
from zkpy.storage.fs import (
    TEMP_SUFFIX,
    FileSystem,
    Lock,
    join,
    make_dirs,
    parent,
    read_whole,
    remove_tree,
    write_new,
)
from zkpy.storage.identity import IDENTITY_NAME
from zkpy.storage.segments import SEGMENT_PREFIX
from zkpy.storage.snapshots import IMAGE_PREFIX

LOCK_NAME: Final = "lock"
UNADOPTED_NAME: Final = "unadopted"
_GENERATION: Final = re.compile(r"gen-(\d{4,10})")
_ASIDE: Final = re.compile(_GENERATION.pattern + r"\.damaged")
_OWN: Final = re.compile(
    rf"{LOCK_NAME}|{IDENTITY_NAME}({re.escape(TEMP_SUFFIX)})?|{_GENERATION.pattern}(\.damaged)?"
)
_TOLERATED: Final = re.compile(
    # What ZooKeeper's operators keep beside the data, what file systems and editors leave.
    r"myid|initialize|seed|importing|lost\+found|\..*|.*\.(cfg|conf|properties|pid)|.*\.cfg\..*|logback.*\.xml"
)
_ZOOKEEPER: Final = re.compile(r"version-\d+")


def generation_name(generation: int) -> str:
    return f"gen-{generation:04d}"


@attrs.define(eq=False)
class DataDir:
    """The directories of one server, locked."""

    fs: FileSystem
    data_dir: str
    log_dir: str
    _locks: list[Lock] = attrs.Factory(list)

    @classmethod
    def claim(cls, fs: FileSystem, data_dir: str, log_dir: str | None) -> Self:
        """Make the directories, refuse foreign ones, lock them.

        StorageError with what was found, or who holds the lock.
        """
        found = cls(fs, data_dir.rstrip("/") or "/", (log_dir or data_dir).rstrip("/") or "/")
        try:
            for path in found.roots():
                make_dirs(fs, path)
            for path in found.roots():
                _refuse_foreign(fs, path, found.roots())
                found._locks.append(_take_lock(fs, path))
        except BaseException:
            found.release()
            raise
        return found

    def release(self) -> None:
        while self._locks:
            self._locks.pop().close()

    def roots(self) -> list[str]:
        return list(dict.fromkeys((self.data_dir, self.log_dir)))

    def images(self, generation: int) -> str:
        """The directory of a generation's images."""
        return join(self.data_dir, generation_name(generation))

    def logs(self, generation: int) -> str:
        """The directory of a generation's log."""
        return join(self.log_dir, generation_name(generation))

    def parts(self, generation: int) -> list[str]:
        return list(dict.fromkeys((self.images(generation), self.logs(generation))))

    def generations(self) -> list[int]:
        """Numbers of the generations of which there is a directory, ascending."""
        names = [name for root in self.roots() for name in self.fs.listdir(root)]
        return sorted({int(m[1]) for name in names if (m := _GENERATION.fullmatch(name))})

    def was_in_force(self, generation: int) -> bool:
        """Whether a generation holds data and no mark that it was never adopted."""
        return any(_holds_adopted(self.fs, path) for path in self.parts(generation))

    def make_generation(self, generation: int) -> None:
        """Make the directories of a new generation, marked as not adopted.

        One of the same number that was in force (known only when its identity record
        is lost) is kept under another name for the operator.
        """
        if self.was_in_force(generation):
            self._set_aside(generation)
        self.drop_generation(generation)
        for path in self.parts(generation):
            make_dirs(self.fs, path)
            write_new(self.fs, join(path, UNADOPTED_NAME), (b"",))

    def adopt_generation(self, generation: int) -> None:
        """Take the mark away; the identity record that names it is durable."""
        for path in self.parts(generation):
            mark = join(path, UNADOPTED_NAME)
            if self.fs.exists(mark):
                self.fs.unlink(mark)
                self.fs.sync_dir(path)

    def drop_generation(self, generation: int) -> None:
        """Remove a generation; its mark goes last, or half of it would look adopted."""
        for path in self.parts(generation):
            if self.fs.is_dir(path):
                self._drop(path)

    def drop_generations_before(self, generation: int) -> None:
        """Remove the generations that were replaced."""
        for older in self.generations():
            if older < generation:
                self.drop_generation(older)

    def drop_other_generations(self, generation: int) -> None:
        """Remove every generation but this one, and what was set aside."""
        for other in self.generations():
            if other != generation:
                self.drop_generation(other)
        for root in self.roots():
            aside = [name for name in self.fs.listdir(root) if _ASIDE.fullmatch(name)]
            for name in aside:
                self._drop(join(root, name))

    def drop_temp_files(self, generation: int) -> None:
        """Remove what was being written when the last run ended."""
        temps = [join(self.data_dir, IDENTITY_NAME + TEMP_SUFFIX)]
        for path in self.parts(generation):
            temps += [join(path, n) for n in self.fs.listdir(path) if n.endswith(TEMP_SUFFIX)]
        for temp in temps:
            if self.fs.exists(temp):
                self.fs.unlink(temp)

    def _drop(self, path: str) -> None:
        for name in self.fs.listdir(path):
            if name != UNADOPTED_NAME:
                remove_tree(self.fs, join(path, name))
        self.fs.sync_dir(path)
        remove_tree(self.fs, path)
        self.fs.sync_dir(parent(path))

    def _set_aside(self, generation: int) -> None:
        for root in self.roots():
            path = join(root, generation_name(generation))
            if not self.fs.is_dir(path):
                continue
            if self.fs.is_dir(path + ".damaged"):
                self._drop(path + ".damaged")
            self.fs.rename(path, path + ".damaged")
            self.fs.sync_dir(root)


def _holds_adopted(fs: FileSystem, path: str) -> bool:
    if not fs.is_dir(path):
        return False
    names = fs.listdir(path)
    if UNADOPTED_NAME in names:
        return False
    return any(name.startswith((SEGMENT_PREFIX, IMAGE_PREFIX)) for name in names)


def _refuse_foreign(fs: FileSystem, path: str, roots: list[str]) -> None:
    # dataLogDir is often a directory inside dataDir.
    within = [root[len(path) + 1 :].partition("/")[0] for root in roots if _is_below(root, path)]
    names = [name for name in fs.listdir(path) if name not in within]
    zookeeper = [name for name in names if _ZOOKEEPER.fullmatch(name)]
    if zookeeper:
        raise StorageError(
            f"{path} holds the data of Apache ZooKeeper ({zookeeper[0]}/), "
            "which has another format: choose an empty directory; `zkpy import` takes over what is "
            "in this one"
        )
    foreign = [n for n in names if not _OWN.fullmatch(n) and not _TOLERATED.fullmatch(n)]
    if foreign:
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise StorageError(
            f"{path} holds files of another program ({shown}): choose an empty directory; if this "
            "one is the server's own, what is named may be removed from it"
        )


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(directory + "/")


def _take_lock(fs: FileSystem, path: str) -> Lock:
    lock_path = join(path, LOCK_NAME)
    try:
        return fs.lock(lock_path)
    except BlockingIOError as error:
        holder = read_whole(fs, lock_path).decode("ascii", "replace").strip()
        by = f" (process {holder})" if holder else ""
        raise StorageError(f"{path} is in use by another server{by}") from error
