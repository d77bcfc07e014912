"""The receive buffer: bytes as they arrive in, whole frames out, within a limit.

A frame is an int32 byte count and that many bytes.  Callers decode in place: what `join(data)`
gives begins at a frame, and `keep(data, pos)` takes back what follows the last whole one.

When data holds whole frames only, the usual case, nothing is copied or kept.  Pieces of
a large frame are gathered in a list and joined once, when the frame is complete: joined
piece by piece, a frame of n bytes that a hostile peer sends byte by byte costs n^2; not
joined at all, it costs twenty times its size.
"""

import struct
from typing import Final

from wire.errors import RemoteProtocolError

_COUNT: Final = struct.Struct(">i")
PIECES_MAX: Final = 4096
"""Pieces of a frame that wait singly: each costs forty bytes more than it holds."""


class FrameBuffer:
    """Holds at most one incomplete frame; the two bounds are those of a frame's count.

    `held` is the number of bytes that wait here for more.
    """

    __slots__ = ("_pieces", "_wanted", "frame_bytes_max", "frame_bytes_min", "held")

    def __init__(self, frame_bytes_max: int, frame_bytes_min: int = 0) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.frame_bytes_min = frame_bytes_min
        self._pieces: list[bytes] = []
        self.held = 0
        self._wanted = 0

    def join(self, data: bytes) -> bytes:
        """What was kept, and `data`; nothing while the frame at its head cannot be complete."""
        if not self.held:
            return data
        self._pieces.append(data)
        self.held += len(data)
        if self.held < self._wanted:
            if len(self._pieces) > PIECES_MAX:
                self._pieces = [b"".join(self._pieces)]
            return b""
        joined = b"".join(self._pieces)
        self._forget()
        return joined

    def keep(self, data: bytes, pos: int) -> None:
        """Keep `data[pos:]`, which holds no whole frame; RemoteProtocolError for a bad count.

        A bad count is refused as soon as its four bytes are here: what follows
        it will never be a frame.
        """
        rest = data[pos:]
        if not rest:
            return
        self._wanted = 4 if len(rest) < 4 else 4 + self.check(_COUNT.unpack_from(rest)[0])
        self._pieces.append(rest)
        self.held = len(rest)

    def hold(self, data: bytes) -> None:
        """Keep data unread, whole frames or not, up to the size of the largest frame.

        The next `join` returns all of it. RemoteProtocolError for more than that.
        """
        if self.held + len(data) > 4 + self.frame_bytes_max:
            raise RemoteProtocolError(f"more than {self.frame_bytes_max} bytes before their time")
        self._pieces.append(data)
        self.held += len(data)

    def check(self, size: int) -> int:
        """`size` itself; RemoteProtocolError when no frame may have it."""
        if self.frame_bytes_min <= size <= self.frame_bytes_max:
            return size
        raise RemoteProtocolError(
            f"frame of {size} bytes, not {self.frame_bytes_min} to {self.frame_bytes_max}"
        )

    def _forget(self) -> None:
        self._pieces = []
        self.held = self._wanted = 0
