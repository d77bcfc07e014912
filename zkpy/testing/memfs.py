"""A file system in memory that crashes and fails on demand, and always in the same way.

The twin of `zkpy.storage.fs.OsFileSystem`; one conformance suite runs on both.
It keeps for every file and directory what a program *sees* and what is *durable*,
with the operations between the two:

- `crash()` is a power cut.  All that was synced survives; of the rest, each 512-byte
  sector of each write, each change of length and each new, renamed or removed name
  survives by dice: torn writes, lost names, and a later write without an earlier one.
- `kill()` is the end of a process: everything stays as seen, nothing more is durable.
- `fail(rule)` makes calls fail.  A sync that fails by default *drops the data*: it
  is still seen, a second sync succeeds, and a crash loses it, as measured on Linux
  file systems (rule D6).
- `calls` numbers every call that may change something; `observe` is told before each
  one, so that a test can crash at the n-th boundary; `cut_power_at(n)` does just that.
- `corrupt`, `wipe` and `copy` play the rest of the disk faults.

All randomness is one `random.Random`; nothing else is, so a seed replays exactly.
"""

import errno
import os
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import attrs

from zkpy.storage.fs import File, Lock, parent

SECTOR: Final = 512


class PowerCut(Exception):
    """The machine lost power before this call; whoever called is dead with it."""

    def __init__(self, number: int, operation: str, path: str) -> None:
        super().__init__(f"before call {number}: {operation} {path}")
        self.operation = operation
        self.path = path


@attrs.define(frozen=True)
class Call:
    """One call that may change something."""

    number: int
    """Counts from 1."""
    operation: str
    """`create`, `write`, `truncate`, `preallocate`, `sync`, `sync_data`, `mkdir`, `rename`,
    `unlink`, `rmdir`, `sync_dir`, `close`."""
    path: str


Rule: TypeAlias = Callable[[Call], bool]


@attrs.define(eq=False)
class _Failure:
    rule: Rule
    code: int
    left: int
    drop: bool


@attrs.define(eq=False)
class _Node:
    """A file: what is seen, what is durable, and the writes between."""

    seen: bytearray = attrs.Factory(bytearray)
    durable: bytearray = attrs.Factory(bytearray)
    pending: list[tuple[int, bytes | None]] = attrs.Factory(list)
    """(offset, data) written, or (size, None) for a change of length; in order."""

    def write(self, offset: int, data: bytes) -> None:
        _put(self.seen, offset, data)
        self.pending.append((offset, data))

    def resize(self, size: int) -> None:
        _resize(self.seen, size)
        self.pending.append((size, None))

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def crash(self, dice: "_Dice") -> "_Node":
        """What a power cut leaves."""
        left = bytearray(self.durable)
        for offset, data in self.pending:
            if data is None:
                if dice.survives():
                    _resize(left, offset)
            else:
                _put_sectors(left, offset, data, dice)
        return _Node(left, bytearray(left))

    def clone(self) -> "_Node":
        return _Node(bytearray(self.seen), bytearray(self.durable), list(self.pending))


@attrs.define(eq=False)
class _Dir:
    """A directory: names seen, names durable, and the changes between."""

    seen: "dict[str, _Node | _Dir]" = attrs.Factory(dict)
    durable: "dict[str, _Node | _Dir]" = attrs.Factory(dict)
    pending: "list[tuple[str, str, _Node | _Dir | None]]" = attrs.Factory(list)
    """(name that goes or "", name that comes or "", what it names)."""

    def change(self, old: str, new: str, node: "_Node | _Dir | None") -> None:
        _rename(self.seen, old, new, node)
        self.pending.append((old, new, node))

    def sync(self) -> None:
        for old, new, node in self.pending:
            _rename(self.durable, old, new, node)
        self.pending.clear()

    def crash(self, dice: "_Dice", done: "dict[int, _Node | _Dir]") -> "_Dir":
        left = dict(self.durable)
        for old, new, node in self.pending:
            if dice.survives():
                _rename(left, old, new, node)
        names = {name: _crash(node, dice, done) for name, node in sorted(left.items())}
        return _Dir(names, dict(names))

    def clone(self, done: "dict[int, _Node | _Dir]") -> "_Dir":
        return _Dir(
            {name: _clone(node, done) for name, node in self.seen.items()},
            {name: _clone(node, done) for name, node in self.durable.items()},
            [(old, new, node and _clone(node, done)) for old, new, node in self.pending],
        )


def _crash(node: _Node | _Dir, dice: "_Dice", done: dict[int, _Node | _Dir]) -> _Node | _Dir:
    """`done`: one file may stand under two names, if only one half of a rename survived."""
    if id(node) not in done:
        done[id(node)] = node.crash(dice) if isinstance(node, _Node) else node.crash(dice, done)
    return done[id(node)]


def _clone(node: _Node | _Dir, done: dict[int, _Node | _Dir]) -> _Node | _Dir:
    if id(node) not in done:
        done[id(node)] = node.clone() if isinstance(node, _Node) else node.clone(done)
    return done[id(node)]


def _rename(names: dict[str, _Node | _Dir], old: str, new: str, node: _Node | _Dir | None) -> None:
    if old:
        names.pop(old, None)
    if new and node is not None:
        names[new] = node


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        _resize(content, offset)
    else:
        _put(content, offset, data)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _put_sectors(content: bytearray, offset: int, data: bytes, dice: "_Dice") -> None:
    pos = 0
    while pos < len(data):
        length = min(SECTOR - (offset + pos) % SECTOR, len(data) - pos)
        if dice.survives():
            _put(content, offset + pos, data[pos : pos + length])
        pos += length


class _Dice:
    """How one crash treats what was not synced: all, nothing, or each by chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._chance = rng.choice((0.0, 1.0, 0.1, 0.5, 0.5, 0.9))

    def survives(self) -> bool:
        return self._rng.random() < self._chance


@attrs.define(eq=False)
class MemFile:
    """A handle; dead after a crash, as its process is."""

    path: str
    _fs: "MemFileSystem"
    _node: _Node
    _life: int

    @property
    def descriptor(self) -> int | None:
        return None

    def size(self) -> int:
        self._check()
        return len(self._node.seen)

    def read(self, offset: int, length: int) -> bytes:
        self._check()
        return bytes(self._node.seen[offset : offset + length])

    def write(self, offset: int, parts: Sequence[bytes]) -> None:
        self._check()
        data = b"".join(parts)
        failure = self._fs._count("write", self.path)
        if failure is not None:
            # Some of it may have gone out before the device refused.
            self._node.write(offset, data[: self._fs.rng.randrange(len(data) + 1)])
            raise _refusal(failure.code, self.path)
        self._node.write(offset, data)

    def truncate(self, size: int) -> None:
        self._check()
        self._fs._call("truncate", self.path)
        self._node.resize(size)

    def preallocate(self, size: int) -> None:
        self._check()
        self._fs._call("preallocate", self.path)
        if size > len(self._node.seen):
            self._node.resize(size)

    def write_out(self, offset: int, length: int) -> None:
        self._check()

    def sync_data(self) -> None:
        self._sync("sync_data")

    def sync(self) -> None:
        self._sync("sync")

    def close(self) -> None:
        if self._life == self._fs.life:
            self._life = -1
            self._fs._call("close", self.path)

    def _sync(self, operation: str) -> None:
        self._check()
        failure = self._fs._count(operation, self.path)
        if failure is None:
            self._node.sync()
            return
        if failure.drop:
            self._node.pending.clear()
        raise _refusal(failure.code, self.path)

    def _check(self) -> None:
        if self._life != self._fs.life:
            raise _refusal(errno.EBADF, self.path)


@attrs.define(eq=False)
class MemLock:
    _fs: "MemFileSystem"
    _path: str
    _life: int

    def close(self) -> None:
        if self._life == self._fs.life:
            self._fs._locks.pop(self._path, None)
            self._life = -1


@attrs.define(eq=False)
class MemFileSystem:
    """The file system of one simulated machine."""

    rng: random.Random
    calls: int = 0
    """Calls so far that may have changed something."""
    observe: Callable[[Call], None] | None = None
    """Told before each such call is carried out; may raise."""
    life: int = 0
    """Counts crashes and kills; handles of an earlier life are dead."""
    _root: _Dir = attrs.Factory(_Dir)
    _locks: dict[str, None] = attrs.Factory(dict)
    _failures: list[_Failure] = attrs.Factory(list)
    _power_cut: int | None = None

    # The FileSystem protocol

    def open(self, path: str, *, create: bool = False) -> File:
        directory, name = self._split(path)
        node = directory.seen.get(name)
        if create:
            if node is not None:
                raise _refusal(errno.EEXIST, path)
            self._call("create", path)
            node = _Node()
            directory.change("", name, node)
        if node is None:
            raise _refusal(errno.ENOENT, path)
        if isinstance(node, _Dir):
            raise _refusal(errno.EISDIR, path)
        return MemFile(path, self, node, self.life)

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def is_dir(self, path: str) -> bool:
        return isinstance(self._find(path), _Dir)

    def listdir(self, path: str) -> list[str]:
        return sorted(self._dir(path).seen)

    def mkdir(self, path: str) -> None:
        directory, name = self._split(path)
        if name in directory.seen:
            raise _refusal(errno.EEXIST, path)
        self._call("mkdir", path)
        directory.change("", name, _Dir())

    def rename(self, old: str, new: str) -> None:
        assert parent(old) == parent(new), "rename works within one directory"
        directory, old_name = self._split(old)
        node = directory.seen.get(old_name)
        if node is None:
            raise _refusal(errno.ENOENT, old)
        _, new_name = self._split(new)
        target = directory.seen.get(new_name)
        if isinstance(target, _Dir) and target.seen:
            raise _refusal(errno.ENOTEMPTY, new)
        self._call("rename", new)
        directory.change(old_name, new_name, node)

    def unlink(self, path: str) -> None:
        directory, name = self._split(path)
        node = directory.seen.get(name)
        if node is None:
            raise _refusal(errno.ENOENT, path)
        if isinstance(node, _Dir):
            raise _refusal(errno.EISDIR, path)
        self._call("unlink", path)
        directory.change(name, "", None)

    def rmdir(self, path: str) -> None:
        directory, name = self._split(path)
        if self._dir(path).seen:
            raise _refusal(errno.ENOTEMPTY, path)
        self._call("rmdir", path)
        directory.change(name, "", None)

    def sync_dir(self, path: str) -> None:
        directory = self._dir(path)
        self._call("sync_dir", path)
        directory.sync()

    def lock(self, path: str) -> Lock:
        if path in self._locks:
            raise _refusal(errno.EWOULDBLOCK, path)
        directory, name = self._split(path)
        if name not in directory.seen:
            self._call("create", path)
            directory.change("", name, _Node())
        self._locks[path] = None
        return MemLock(self, path, self.life)

    def entropy(self, length: int) -> bytes:
        return self.rng.randbytes(length)

    # Faults

    def crash(self) -> None:
        """Power cut and restart: from here on only what survived is seen."""
        self._root = self._root.crash(_Dice(self.rng), {})
        self.kill()

    def kill(self) -> None:
        """End the process: handles are dead, locks free, faults over; files as seen."""
        self.life += 1
        self._locks.clear()
        self._failures.clear()
        self._power_cut = None

    def clone(self, seed: int) -> "MemFileSystem":
        """The same machine once more, with dice of its own: `clone(n).crash()` asks what if."""
        root = self._root.clone({})
        return MemFileSystem(random.Random(seed), root=root)

    def cut_power_at(self, number: int) -> None:
        """Raise PowerCut instead of carrying out call `number` and any later one."""
        self._power_cut = number

    def fail(self, rule: Rule, code: int = errno.EIO, *, times: int = 1, drop: bool = True) -> None:
        """Let calls that fulfil `rule` fail with `code`, at most `times` of them.

        A failing write may have written a part; a failing sync of a file drops what
        it should have made durable, unless `drop` is false.
        """
        self._failures.append(_Failure(rule, code, times, drop))

    def forgive(self) -> None:
        """No more of the failures that `fail` ordered."""
        self._failures.clear()

    def corrupt(self, path: str, offset: int, data: bytes) -> None:
        """Overwrite bytes behind everybody's back, on the disk and in the cache."""
        node = self._node(path)
        _put(node.seen, offset, data)
        _put(node.durable, offset, data)

    def flip(self, path: str, offset: int, bit: int = 0) -> None:
        """Flip one bit."""
        self.corrupt(path, offset, bytes([self._node(path).seen[offset] ^ 1 << bit]))

    def resize(self, path: str, size: int) -> None:
        """Change a file's length behind everybody's back."""
        node = self._node(path)
        _resize(node.seen, size)
        _resize(node.durable, size)

    def remove(self, path: str) -> None:
        """Make a file or directory vanish."""
        directory, name = self._split(path)
        for names in (directory.seen, directory.durable):
            names.pop(name, None)

    def put(self, path: str, data: bytes) -> None:
        """Make a file appear, durable."""
        directory, name = self._split(path)
        node = _Node(bytearray(data), bytearray(data))
        directory.seen[name] = directory.durable[name] = node

    def get(self, path: str) -> bytes:
        """A file's content as seen."""
        return bytes(self._node(path).seen)

    def durable(self, path: str) -> bytes:
        """What a crash leaves of a file at least."""
        return bytes(self._node(path).durable)

    def wipe(self, path: str) -> None:
        """Empty a directory."""
        directory = self._dir(path)
        directory.seen.clear()
        directory.durable.clear()
        directory.pending.clear()

    # Inside

    def _count(self, operation: str, path: str) -> _Failure | None:
        """Note a call; the failure it meets, if any."""
        self.calls += 1
        if self._power_cut is not None and self.calls >= self._power_cut:
            raise PowerCut(self.calls, operation, path)
        if self.observe is None and not self._failures:
            return None
        call = Call(self.calls, operation, path)
        if self.observe is not None:
            self.observe(call)
        for failure in self._failures:
            if failure.left and failure.rule(call):
                failure.left -= 1
                return failure
        return None

    def _call(self, operation: str, path: str) -> None:
        failure = self._count(operation, path)
        if failure is not None:
            raise _refusal(failure.code, path)

    def _find(self, path: str) -> _Node | _Dir | None:
        node: _Node | _Dir | None = self._root
        for name in path.split("/"):
            if name in ("", "."):
                continue
            node = node.seen.get(name) if isinstance(node, _Dir) else None
        return node

    def _dir(self, path: str) -> _Dir:
        node = self._find(path)
        if isinstance(node, _Dir):
            return node
        raise _refusal(errno.ENOENT if node is None else errno.ENOTDIR, path)

    def _node(self, path: str) -> _Node:
        node = self._find(path)
        if isinstance(node, _Node):
            return node
        raise _refusal(errno.ENOENT if node is None else errno.EISDIR, path)

    def _split(self, path: str) -> tuple[_Dir, str]:
        return self._dir(parent(path)), path.rpartition("/")[2]


def _refusal(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)
