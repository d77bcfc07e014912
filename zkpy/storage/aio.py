"""fdatasync without a thread: Linux's asynchronous IO (io_submit(2), IOCB_CMD_FDSYNC).

A thread that syncs has to ask the interpreter for its turn twice per batch, before and
after the call, and a busy event loop keeps it waiting for longer than the sync takes.
Here the kernel syncs on its own and counts up an eventfd, which the loop can watch.

The call does what fdatasync does, its errors included: they stand in the result.  What
the kernel refuses to begin (an old one, a sandbox, a file system without syncs) is told by
`begin`, and the caller syncs in a thread as everywhere else.
"""

import ctypes
import errno
import os
import platform
import sys
from typing import Final, Self

import attrs

_SETUP, _DESTROY, _EVENTS, _SUBMIT = range(4)
_GENERIC: Final = (0, 1, 4, 2)
_CALLS: Final = {
    "x86_64": (206, 207, 208, 209),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}
"""Machine -> numbers of io_setup, io_destroy, io_getevents, io_submit (64-bit processes)."""
_FDSYNC: Final = 3
_TELL_EVENTFD: Final = 1


class _Control(ctypes.Structure):
    """`struct iocb`, as little-endian machines have it."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """`struct io_event`."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("control", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


@attrs.define(eq=False)
class KernelSync:
    """One sync at a time, watched through `event`."""

    event: int
    """An eventfd: readable when the sync has ended."""
    _calls: tuple[int, int, int, int]
    _context: ctypes.c_ulong
    _control: _Control = attrs.field(factory=_Control)
    _list: ctypes.Array["ctypes._Pointer[_Control]"] = attrs.field(init=False)
    _result: _Event = attrs.field(factory=_Event)
    busy: bool = False

    def __attrs_post_init__(self) -> None:
        self._control.opcode = _FDSYNC
        self._control.flags = _TELL_EVENTFD
        self._control.eventfd = self.event
        self._list = (ctypes.POINTER(_Control) * 1)(ctypes.pointer(self._control))

    @classmethod
    def open(cls) -> Self | None:
        """None where the kernel has no such thing for this process."""
        calls = _CALLS.get(platform.machine())
        if calls is None or not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
            return None
        context = ctypes.c_ulong(0)
        if _libc.syscall(calls[_SETUP], ctypes.c_long(1), ctypes.byref(context)) != 0:
            return None
        return cls(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), calls, context)

    def begin(self, descriptor: int) -> bool:
        """Start syncing that file; False, and nothing begun, if the kernel will not."""
        assert not self.busy, "one sync at a time"
        self._control.descriptor = descriptor
        submitted = _libc.syscall(self._calls[_SUBMIT], self._context, ctypes.c_long(1), self._list)
        self.busy = submitted == 1
        return self.busy

    def take(self) -> tuple[bool, OSError | None]:
        """(whether the sync has ended, what it failed with)."""
        try:
            os.eventfd_read(self.event)
        except BlockingIOError:
            return False, None
        least, most = ctypes.c_long(0), ctypes.c_long(1)
        got = _libc.syscall(
            self._calls[_EVENTS], self._context, least, most, ctypes.byref(self._result), None
        )
        self.busy = False
        code = -self._result.result if got == 1 else ctypes.get_errno() or errno.EIO
        return True, OSError(code, os.strerror(code)) if code else None

    def close(self) -> None:
        """Waits for a sync that is under way."""
        _libc.syscall(self._calls[_DESTROY], self._context)
        os.close(self.event)


# PyDLL: none of these calls blocks, so the interpreter need not be let go for them.
_libc: Final = ctypes.PyDLL(None, use_errno=True)
