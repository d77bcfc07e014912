"""What passes between a socket and a protocol over TLS: in pieces, and all of it, or nothing."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from tests.server.authority import Authority, lines_of, read_tls
from tests.server.conftest import Play
from wire.link import Side
from zkpy.limits import Limits
from zkpy.server import peers
from zkpy.server.peers import PeerLink
from zkpy.server.sealed import PIECE_BYTES, RECORD_BYTES, Sealed
from zkpy.server.tls import build_context

MEGABYTE = 1 << 20


class Wire(asyncio.Transport):
    """What a socket is asked to send."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.waiting = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))
        self.waiting += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

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


# --- nothing ---------------------------------------------------------------------------------


class Clock:
    now_ms = 0

    def read(self) -> int:
        return self.now_ms


class Links:
    """All that a link needs of its `Peers`."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.dropped: list[PeerLink] = []

    def drop(self, link: PeerLink) -> None:
        self.dropped.append(link)


@pytest.mark.patches
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_member_that_takes_nothing_is_dropped_after_sync_limit(
    play: Play[object], monkeypatch: pytest.MonkeyPatch, server: Server, secure: bool
) -> None:
    """And one that takes a little is not, though more and more waits for it."""
    clock = Clock()
    monkeypatch.setattr(peers, "monotonic_ms", clock.read)

    async def ping(takes: int, until_ms: int) -> list[PeerLink]:
        links = Links()
        link = PeerLink(cast(peers.Peers, links), Side.LEADER)
        link.await_transport(server if secure else server.below)
        clock.now_ms = server.below.waiting = 0
        while clock.now_ms <= until_ms and not links.dropped:
            server.below.waiting -= min(takes, server.below.waiting)
            link.write(bytes(20))
            await asyncio.sleep(0)
            clock.now_ms += 500
        return links.dropped

    async def act() -> None:
        limits = Limits()
        sync_ms = limits.tick_ms * limits.sync_ticks
        assert await ping(0, sync_ms - 500) == []
        assert len(await ping(0, sync_ms + 1000)) == 1
        assert await ping(1, 5 * sync_ms) == []

    play(act)
