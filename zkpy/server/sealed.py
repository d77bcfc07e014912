"""A TLS connection between a socket and whatever speaks over it.

In: what a socket brings.  Out: to the protocol above what the other end said, and to the socket
what that protocol says, sealed.  To the loop it is a protocol, to the one above a transport,
so that this one does the same whatever is below it.

OpenSSL works on two buffers in memory: one code for asyncio and uvloop, and a say in all that
happens before the handshake is done, which the transports of the loops leave to themselves.
Such a buffer keeps the size that it once had for as long as there is the connection: nothing passes
through it but in pieces.

OpenSSL keeps sessions of TLS 1.2 for hours, thousands of them, and Python has no switch for
that.  One that ends without the word of its end (`close_notify`) is not kept: so with TLS 1.2 that
word is never said.  What speaks above knows by itself where its messages end.  (Which sessions have
a number, and so are kept, is not asked for: CPython 3.11 loses 5 KiB each time, in `session`.)
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Any, Final

TLS_HANDSHAKE: Final = 0x16
"""The first byte of a TLS connection."""
RECORD_BYTES: Final = 64 * 1024
"""More than one record of TLS holds."""
PIECE_BYTES: Final = 64 * 1024
"""What passes through a buffer at a time, in the clear on its way out, sealed on its way in."""


class Sealed(asyncio.Protocol, asyncio.Transport):
    """One connection.  What is derived from it says who may speak, and what then speaks."""

    __slots__ = ("_above", "_incoming", "_outgoing", "_socket", "_tls")

    def __init__(self) -> None:
        super().__init__()
        self._socket: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._above: asyncio.Protocol | None = None
        """None until the handshake is done."""

    # --- for those that derive -----------------------------------------------------

    def secured(self, tls: ssl.SSLObject) -> None:
        """The handshake is done, and the other's certificate verified: set `_above`, or refuse."""
        raise NotImplementedError

    def refused(self, why: str) -> None:
        """The handshake has failed."""
        raise NotImplementedError

    def tell(self, text: str) -> None:
        """A line for the log, of which a stranger may cause any number."""
        raise NotImplementedError

    def begin(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)

    def shake_hands(self) -> None:
        """As far as it goes with what has come."""
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as why:
            self._flush()  # the alert by which the other learns of it
            self.refused(explain(why))
        else:
            self._flush()
            self.secured(self._tls)

    # --- from the event loop ---------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        rest, said, ended = memoryview(data), list[bytes](), False
        while rest and self._tls is not None and not ended:
            self._incoming.write(rest[:PIECE_BYTES])
            rest = rest[PIECE_BYTES:]
            if self._above is None:
                self.shake_hands()
            if self._above is not None:
                try:
                    ended = self._open(said)
                except ssl.SSLError as why:
                    self._drop(why)
                    return
        if self._above is not None:
            self._pass_on(self._above, said, ended)

    def eof_received(self) -> None:
        """The loop closes, as it does with the protocol above."""
        if self._above is not None:
            self._above.eof_received()
        elif self._tls is not None:
            self.refused("the other end went away")

    def connection_lost(self, exc: Exception | None) -> None:
        self._socket = None
        above, self._above, self._tls = self._above, None, None
        if above is not None:
            above.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        if self._above is not None:
            self._above.resume_writing()

    def _open(self, said: list[bytes]) -> bool:
        """Add what the other end has said; whether it says no more.  Raises ssl.SSLError."""
        assert self._tls is not None
        try:
            while piece := self._tls.read(RECORD_BYTES):
                said.append(piece)
        except ssl.SSLWantReadError:
            return False  # all that has come is read
        return True

    def _pass_on(self, above: asyncio.Protocol, said: list[bytes], ended: bool) -> None:
        self._flush()
        if said:
            above.data_received(said[0] if len(said) == 1 else b"".join(said))
        if ended:  # by the other end, which may leave the connection open
            above.eof_received()
            self.close()

    def _drop(self, why: ssl.SSLError) -> None:
        host, port, *_ = self.get_extra_info("peername") or ("?", 0)
        self.tell(f"dropping {host}:{port}: {explain(why)}")
        self.abort()

    # --- from above: the transport -----------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        tls = self._tls
        if tls is None or self._socket is None or self._socket.is_closing():
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[tls.write(rest[:PIECE_BYTES]) :]
                self._flush()
        except ssl.SSLError as why:
            self._drop(why)

    def _flush(self) -> None:
        if self._outgoing.pending and self._socket is not None:
            self._socket.write(self._outgoing.read())

    def close(self) -> None:
        """Everything is sent, and that this is the end."""
        if self._socket is None or self._socket.is_closing():
            return
        if self._tls is not None and self._tls.version() != "TLSv1.2":
            with suppress(ssl.SSLError):  # it is said, and the client's word is not waited for
                self._tls.unwrap()
            self._flush()
        self._socket.close()

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    def is_closing(self) -> bool:
        return self._socket is None or self._socket.is_closing()

    def get_write_buffer_size(self) -> int:
        return 0 if self._socket is None else self._socket.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if self._socket is not None:
            self._socket.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        if self._socket is not None:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        if self._socket is not None:
            self._socket.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self._socket is None else self._socket.get_extra_info(name, default)


def explain(why: ssl.SSLError) -> str:
    """OpenSSL's reason, in words: `certificate verify failed: certificate has expired`."""
    reason = (why.reason or str(why)).lower().replace("_", " ")
    detail = getattr(why, "verify_message", "")
    return f"{reason}: {detail}" if detail else reason
