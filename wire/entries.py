"""The entries in a Propose (`wire.peer`), each behind the other: zxid, kind, length, data.

Apart from the messages, since these loops run once per write on every member.
"""

import struct
from collections.abc import Sequence
from typing import Final

from wire.errors import RemoteProtocolError

_ENTRY: Final = struct.Struct(">qBI")


def encode_entries(head: bytes, entries: Sequence[tuple[int, int, bytes]]) -> bytes:
    """`head`, and behind it the entries: (zxid, kind, data)."""
    parts = [head]
    for zxid, kind, data in entries:
        parts.append(_ENTRY.pack(zxid, kind, len(data)))
        parts.append(data)
    return b"".join(parts)


def decode_entries(body: bytes, pos: int) -> list[tuple[int, int, bytes]]:
    """The entries from `pos` to the end; RemoteProtocolError if they do not end there."""
    entries: list[tuple[int, int, bytes]] = []
    end = len(body)
    while pos < end:
        if end - pos < _ENTRY.size:
            raise RemoteProtocolError("Propose with half an entry")
        zxid, kind, length = _ENTRY.unpack_from(body, pos)
        pos += _ENTRY.size
        if length > end - pos:
            raise RemoteProtocolError("Propose with an entry longer than the frame")
        entries.append((zxid, kind, body[pos : pos + length]))
        pos += length
    return entries
