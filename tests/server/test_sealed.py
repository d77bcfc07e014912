"""What passes between a socket and a protocol over TLS: in pieces, and all of it."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from tests.server.authority import Authority, lines_of, read_tls
from zkpy.server.sealed import PIECE_BYTES, RECORD_BYTES, Sealed
from zkpy.server.tls import build_context

MEGABYTE = 1 << 20


class Wire(asyncio.Transport):
    """What a socket is asked to send."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def is_closing(self) -> bool:
        return False


class Above(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)


class Measured:
    """A buffer, and the most that it ever held."""

    def __init__(self, buffer: ssl.MemoryBIO) -> None:
        self._buffer = buffer
        self.most = 0

    def write(self, data: bytes) -> int:
        written = self._buffer.write(data)
        self.most = max(self.most, self._buffer.pending)
        return written


class Server(Sealed):
    """With a client beside it, by hand."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self.below, self.above = Wire(), Above()
        self._socket = self.below
        tls = read_tls(*lines_of(authority, authority.issue()))
        self.begin(build_context(tls), server_side=True)
        self.measured = Measured(self._incoming)
        self._incoming = self.measured  # type: ignore[assignment]
        self.to_client, self._from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = authority.client(authority.issue())
        self.client = context.wrap_bio(self.to_client, self._from_client)

    def secured(self, tls: ssl.SSLObject) -> None:
        self._above = self.above

    def refused(self, why: str) -> None:
        raise AssertionError(why)

    def tell(self, text: str) -> None:
        raise AssertionError(text)

    def shake(self) -> None:
        while self._above is None:
            with suppress(ssl.SSLWantReadError):  # then it is the other one's turn
                self.client.do_handshake()
            self.carry()

    def carry(self) -> None:
        """What each has sent, to the other."""
        if sealed := self._from_client.read():
            self.data_received(sealed)
        for piece in self.below.pieces:
            self.to_client.write(piece)
        self.below.pieces = []


@pytest.fixture(name="server")
def make_server(tmp_path: Path) -> Server:
    server = Server(Authority(tmp_path))
    server.shake()
    return server


def test_a_large_write_leaves_in_pieces(server: Server) -> None:
    """A buffer of OpenSSL's would keep the size of the largest for ever."""
    said = bytes(range(256)) * (MEGABYTE // 256)
    server.write(said)
    assert max(map(len, server.below.pieces)) < PIECE_BYTES + PIECE_BYTES // 16
    server.carry()
    heard = b""
    while len(heard) < len(said):
        heard += server.client.read(RECORD_BYTES)
    assert heard == said


def test_what_comes_at_once_is_taken_in_pieces(server: Server) -> None:
    """And passed on as one."""
    said = bytes(range(256)) * (MEGABYTE // 256)
    assert server.client.write(said) == len(said)
    server.carry()
    assert server.above.heard == [said]
    assert PIECE_BYTES // 2 < server.measured.most < 2 * PIECE_BYTES
