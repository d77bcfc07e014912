"""The seam between storage and the operating system: files, directories, syncs.

Storage calls nothing else.  `OsFileSystem` is the real one; `zkpy.testing.memfs`
is its twin that crashes and fails on demand; one conformance suite runs on both.

The contract is that of a POSIX file system at its least helpful:

- what was written is durable only once `sync` or `sync_data` of that file returned;
- a created, renamed or removed name is durable only once `sync_dir` of its
  directory returned;
- after a failed sync nothing is known about what the file holds on the disk, and
  a second sync that succeeds proves nothing (rule D6).

Every refusal is an `OSError` whose `filename` names the file.  Paths are strings
with `/`; `rename` works within one directory.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import attrs


class File(Protocol):
    """An open file; offsets are absolute, there is no cursor."""

    @property
    def path(self) -> str: ...

    @property
    def descriptor(self) -> int | None:
        """For calls of the kernel's own; None for a file that the kernel does not know."""
        ...

    def size(self) -> int:
        """Length in bytes, preallocated space included."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only where the file ends."""
        ...

    def write(self, offset: int, parts: Sequence[bytes]) -> None:
        """All of `parts`, one behind the other, in one call where that is possible."""
        ...

    def truncate(self, size: int) -> None:
        """Cut or extend with zeros to exactly `size` bytes."""
        ...

    def preallocate(self, size: int) -> None:
        """Reserve space up to `size` bytes, reading as zeros; never shortens.

        With the length already there, `sync_data` of an append is spared one change of the
        file's metadata: 115 instead of 160 us.  The other, that reserved space is now
        written, is spared only where something, if only zeros, was written before.
        """
        ...

    def write_out(self, offset: int, length: int) -> None:
        """Let what was written there begin to go to the disk, and wait for nothing.

        A hint: a later sync finds less to do.
        """
        ...

    def sync_data(self) -> None:
        """Make the contents, and the length if it changed, durable."""
        ...

    def sync(self) -> None:
        """Make contents and metadata durable."""
        ...

    def close(self) -> None: ...


class Lock(Protocol):
    """A lock held until closed, or until the process ends in whatever way."""

    def close(self) -> None: ...


class FileSystem(Protocol):
    def open(self, path: str, *, create: bool = False) -> File:
        """Open to read and write.  `create` makes the file new and refuses an existing one."""
        ...

    def exists(self, path: str) -> bool: ...

    def is_dir(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """Names in the directory, sorted."""
        ...

    def mkdir(self, path: str) -> None: ...

    def rename(self, old: str, new: str) -> None:
        """Another name in the same directory; a file of that name is replaced."""
        ...

    def unlink(self, path: str) -> None: ...

    def rmdir(self, path: str) -> None: ...

    def sync_dir(self, path: str) -> None: ...

    def lock(self, path: str) -> Lock:
        """Take the lock file at `path`; `BlockingIOError` if another process holds it."""
        ...

    def entropy(self, length: int) -> bytes:
        """Random bytes that nobody outside can guess."""
        ...


def join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def parent(path: str) -> str:
    head = path.rstrip("/").rpartition("/")[0]
    return head or ("/" if path.startswith("/") else ".")


def make_dirs(fs: FileSystem, path: str) -> None:
    """Make a directory and those above it that are missing, each durably (D7)."""
    if fs.is_dir(path):
        return
    if fs.exists(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    make_dirs(fs, parent(path))
    fs.mkdir(path)
    fs.sync_dir(parent(path))


def remove_tree(fs: FileSystem, path: str) -> None:
    """Remove a file, or a directory and all below it; the caller syncs its parent."""
    if not fs.is_dir(path):
        fs.unlink(path)
        return
    for name in fs.listdir(path):
        remove_tree(fs, join(path, name))
    fs.rmdir(path)


def write_new(fs: FileSystem, path: str, parts: Sequence[bytes]) -> None:
    """Put a file in place whole or not at all: temp file, sync, rename, directory sync."""
    temp = path + TEMP_SUFFIX
    if fs.exists(temp):
        fs.unlink(temp)
    file = fs.open(temp, create=True)
    try:
        file.write(0, parts)
        file.sync()
    finally:
        file.close()
    fs.rename(temp, path)
    fs.sync_dir(parent(path))


def is_full(error: OSError) -> bool:
    """Whether a write was refused for want of room (on the disk, or under a quota)."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def read_whole(fs: FileSystem, path: str) -> bytes:
    file = fs.open(path)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


TEMP_SUFFIX: Final = ".tmp"

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
_allocate: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
_advise: Callable[[int, int, int, int], None] | None = getattr(os, "posix_fadvise", None)
_NOT_SUPPORTED: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Calls on a descriptor fail without a name; the operator needs one."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


@attrs.define(eq=False)
class OsFile:
    """A descriptor and its path."""

    path: str
    _fd: int

    @property
    def descriptor(self) -> int | None:
        return self._fd

    def size(self) -> int:
        with _naming(self.path):
            return os.fstat(self._fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        pieces: list[bytes] = []
        with _naming(self.path):
            while length and (piece := os.pread(self._fd, length, offset)):
                pieces.append(piece)
                offset += len(piece)
                length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, offset: int, parts: Sequence[bytes]) -> None:
        # No context manager here and in sync_data: they are called once per batch.
        try:
            done = os.pwritev(self._fd, parts, offset)
            if done != sum(map(len, parts)):
                self._write_rest(offset, done, b"".join(parts))
        except OSError as error:
            error.filename = self.path
            raise

    def _write_rest(self, offset: int, done: int, data: bytes) -> None:
        """A short write is no error yet: going on either completes it or says what is wrong."""
        rest = memoryview(data)
        while done < len(rest):
            written = os.pwrite(self._fd, rest[done:], offset + done)
            if not written:
                raise OSError(errno.EIO, "wrote nothing")
            done += written

    def truncate(self, size: int) -> None:
        with _naming(self.path):
            os.ftruncate(self._fd, size)

    def preallocate(self, size: int) -> None:
        with _naming(self.path):
            if os.fstat(self._fd).st_size >= size:
                return
            if _allocate is not None:
                try:
                    _allocate(self._fd, 0, size)
                    return
                except OSError as error:
                    if error.errno not in _NOT_SUPPORTED:
                        raise
            os.ftruncate(self._fd, size)

    def write_out(self, offset: int, length: int) -> None:
        if _advise is not None:
            # Linux starts writing dirty pages whose content is not needed any more.
            with suppress(OSError):
                _advise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def sync_data(self) -> None:
        try:
            _sync_data(self._fd)
        except OSError as error:
            error.filename = self.path
            raise

    def sync(self) -> None:
        with _naming(self.path):
            os.fsync(self._fd)

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with _naming(self.path):
            os.close(fd)


@attrs.define(eq=False)
class OsLock:
    _fd: int

    def close(self) -> None:
        """Let go.  The file stays: removing it would race with the next holder."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        os.close(fd)


@attrs.define(eq=False)
class OsFileSystem:
    """The operating system's files."""

    read_only: bool = False
    """For those who only look: no rights to write are needed."""

    def open(self, path: str, *, create: bool = False) -> File:
        mode = os.O_RDONLY if self.read_only else os.O_RDWR
        flags = mode | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return OsFile(path, os.open(path, flags, 0o640))

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def mkdir(self, path: str) -> None:
        os.mkdir(path, 0o750)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def sync_dir(self, path: str) -> None:
        with _naming(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def lock(self, path: str) -> Lock:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            with _naming(path):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # For the message of whoever comes second; losing it does no harm.
                with suppress(OSError):
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(fd)
            raise
        return OsLock(fd)

    def entropy(self, length: int) -> bytes:
        return os.urandom(length)
