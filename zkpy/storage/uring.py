"""fdatasync without a thread of Python's: Linux's io_uring(7), IORING_OP_FSYNC.

A thread that syncs has to ask the interpreter for its turn twice per batch, before and
after the call, and a busy event loop keeps it waiting for longer than the sync takes.
Here a thread of the kernel's syncs and counts up an eventfd, which the loop can watch.

The call does what fdatasync does, its errors included: they stand in the result.  Where
there is no io_uring (an old kernel, a sandbox), or it refuses what it is asked, the caller
syncs in a thread as everywhere else.

Both rings have room for one: (head, tail) run from 0 up to 2^32 and wrap.  They are written
and read by one thread, with a system call between its own access and the kernel's.
"""

import ctypes
import errno
import mmap
import os
import struct
import sys
from typing import Final, Self

import attrs

_SETUP, _ENTER, _REGISTER = 425, 426, 427
"""System calls; the same numbers on all common machines."""
_REGISTER_EVENTFD: Final = 4
_SQES_AT: Final = 0x10000000
_SINGLE_MMAP: Final = 1
_FSYNC: Final = 3
_DATASYNC: Final = 1
_SYSTEM: Final = "linux"
_U32: Final = struct.Struct("=I")
_U32_MAX: Final = 0xFFFFFFFF

_ENTRY: Final = struct.Struct("=BBHiQQIIQ24x")
"""`struct io_uring_sqe`: opcode, flags, priority, descriptor, offset, address, length,
flags of the operation, user data."""
_RESULT: Final = struct.Struct("=Qi4x")
"""`struct io_uring_cqe`: user data, result."""
_PARAMS: Final = struct.Struct("=10I10I10I")
"""`struct io_uring_params`: entries, flags and features; offsets in the two rings."""


@attrs.define(frozen=True)
class _Layout:
    """Where things lie in the mapped rings, in bytes."""

    sq_tail: int
    sq_array: int
    cq_head: int
    cq_tail: int
    cq_entries: int
    cq_results: int


@attrs.define(eq=False)
class KernelSync:
    """One sync at a time, watched through `event`."""

    event: int
    """An eventfd: readable when the sync has ended."""
    _ring: int
    _shared: mmap.mmap
    _entries: mmap.mmap
    _layout: _Layout
    _descriptor: int = -1
    """Of the file that the ring's only entry names: the kernel reads entries, and writes none."""
    _count: int = 0
    """Syncs begun so far: the tail of one ring, and of the other one when the last has ended."""
    busy: bool = False

    @classmethod
    def open(cls) -> Self | None:
        """None where the kernel has no such thing for this process."""
        if not sys.platform.startswith(_SYSTEM):
            return None
        params = ctypes.create_string_buffer(_PARAMS.size)
        ring = _call(_SETUP, 1, ctypes.byref(params))
        if ring < 0:
            return None
        event = -1
        try:
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return cls._map(ring, event, _PARAMS.unpack(params.raw))
        except OSError:
            for descriptor in (ring, event):
                if descriptor >= 0:
                    os.close(descriptor)
            return None

    @classmethod
    def _map(cls, ring: int, event: int, params: tuple[int, ...]) -> Self:
        sq_entries, cq_entries, features = params[0], params[1], params[5]
        sq, cq = params[10:20], params[20:30]
        if not features & _SINGLE_MMAP:
            raise OSError(errno.ENOSYS, "rings are mapped apart")
        layout = _Layout(sq[1], sq[6], cq[0], cq[1], cq_entries, cq[5])
        size = max(sq[6] + 4 * sq_entries, cq[5] + _RESULT.size * cq_entries)
        descriptor = ctypes.c_int(event)
        if _call(_REGISTER, ring, _REGISTER_EVENTFD, ctypes.byref(descriptor), 1) < 0:
            raise OSError(ctypes.get_errno(), "no eventfd")
        shared = mmap.mmap(ring, size, mmap.MAP_SHARED)
        entries = mmap.mmap(ring, _ENTRY.size * sq_entries, mmap.MAP_SHARED, offset=_SQES_AT)
        return cls(event, ring, shared, entries, layout)

    def begin(self, descriptor: int) -> bool:
        """Start syncing that file; False, and nothing begun, if the kernel will not."""
        assert not self.busy, "one sync at a time"
        layout, shared, count = self._layout, self._shared, (self._count + 1) & _U32_MAX
        if descriptor != self._descriptor:
            self._descriptor = descriptor
            _ENTRY.pack_into(self._entries, 0, _FSYNC, 0, 0, descriptor, 0, 0, 0, _DATASYNC, 0)
            _U32.pack_into(shared, layout.sq_array, 0)
        _U32.pack_into(shared, layout.sq_tail, count)
        if _enter(_ENTER, self._ring, 1, 0, 0, None, 0) != 1:
            _U32.pack_into(shared, layout.sq_tail, self._count)
            return False
        self._count = count
        self.busy = True
        return True

    def take(self) -> tuple[bool, OSError | None]:
        """(whether the sync has ended, what it failed with)."""
        try:
            os.eventfd_read(self.event)
        except BlockingIOError:
            return False, None
        layout, shared = self._layout, self._shared
        if _U32.unpack_from(shared, layout.cq_tail)[0] != self._count:
            return False, None
        at = (self._count - 1) & (layout.cq_entries - 1)
        _, result = _RESULT.unpack_from(shared, layout.cq_results + at * _RESULT.size)
        _U32.pack_into(shared, layout.cq_head, self._count)
        self.busy = False
        return True, OSError(-result, os.strerror(-result)) if result < 0 else None

    def close(self) -> None:
        self._entries.close()
        self._shared.close()
        os.close(self._ring)
        os.close(self.event)


# PyDLL: none of these calls blocks, so the interpreter need not be let go for them.
_libc: Final = ctypes.PyDLL(None, use_errno=True)
# Declared, so that its arguments, once per batch, need no objects of their own.
_enter: Final = ctypes.PyDLL(None)["syscall"]
_enter.argtypes = (
    *(ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long),
    *(ctypes.c_void_p, ctypes.c_size_t),
)
_enter.restype = ctypes.c_long


def _call(number: int, *arguments: object) -> int:
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *wide))
