"""HTTP on the admin server's port, and on the one for metrics.

In: bytes of connections, taken apart by h11.  Out: what `zkpy.admin.web` answers.

It may cost the server's clients little, whoever asks for whatever:

- All answers share one `Pump`, which makes one piece of one answer at a time and then
  rests for as long as that took: they have half of the loop's time at most.
- A long answer is made as it is read; who does not read it is cut off after the idle time.
- Connections, and what a request may come to, are bounded; a request has the idle time to
  arrive in.

A request that is none closes its connection; an exception is answered with 500 and a log
line: nothing replicated was touched.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, cast

import h11

from zkpy.admin.commands import ServerView
from zkpy.admin.web import TEXT, Request, Response, Site, respond
from zkpy.server.clock import monotonic_ns
from zkpy.server.sockets import is_loopback, plain_host

log = logging.getLogger("zkpy.server")

CONNECTIONS_MAX: Final = 64
HEAD_BYTES_MAX: Final = 16 * 1024
"""Of a request, its first line and headers."""
BODY_BYTES_MAX: Final = 64 * 1024
"""No command reads one."""
REST_S_MIN: Final = 0.001


class Hub:
    """All HTTP connections of one server."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, view: Callable[[], ServerView], idle_s: float
    ) -> None:
        self.loop = loop
        self.view = view
        self.idle_s = idle_s
        self.pump = Pump(loop)
        self.connections: dict[Connection, None] = {}
        self._told_full = False

    def admit(self, connection: "Connection") -> bool:
        if len(self.connections) >= CONNECTIONS_MAX:
            if not self._told_full:
                log.warning("refusing HTTP connections: there are %d", CONNECTIONS_MAX)
            self._told_full = True
            return False
        self.connections[connection] = None
        return True

    def leave(self, connection: "Connection") -> None:
        if self.connections.pop(connection, False) is None:
            self._told_full = False

    def close(self) -> None:
        self.pump.stop()
        for connection in list(self.connections):
            connection.abort()


class Pump:
    """Runs steps in turn, each of a few milliseconds, and rests as long between two."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._steps: deque[Callable[[], bool]] = deque()
        self._due: asyncio.Handle | None = None
        self._stopped = False

    def add(self, step: Callable[[], bool]) -> None:
        """It is called until it says that it has no more to do for now."""
        self._steps.append(step)
        if self._due is None and not self._stopped:
            self._due = self._loop.call_soon(self._run)

    def stop(self) -> None:
        self._stopped = True
        self._steps.clear()

    def _run(self) -> None:
        self._due = None
        if not self._steps:
            return
        step = self._steps.popleft()
        begun_ns = monotonic_ns()
        if step() and not self._stopped:
            self._steps.append(step)
        if self._steps:
            took_s = (monotonic_ns() - begun_ns) / 1e9
            self._due = self._loop.call_later(max(took_s, REST_S_MIN), self._run)


class Connection(asyncio.Protocol):
    """One of them, from whichever port."""

    def __init__(self, hub: Hub, site: Site) -> None:
        self._hub = hub
        self._site = site
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._request: h11.Request | None = None
        self._body_bytes = 0
        self._pieces: Iterator[bytes] | None = None
        """What is left of an answer."""
        self._waits = False
        """A request is whole, and not answered yet."""
        self._choked = False
        self._in_pump = False
        self._on_loopback = False
        self._address = ""
        self._over = False
        """The last answer of this connection was given."""

    # --- from the event loop ----------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        own = transport.get_extra_info("sockname")
        if not own or not self._hub.admit(self):
            self._transport.abort()
            return
        self._on_loopback = is_loopback(plain_host(own[0]))
        peer = transport.get_extra_info("peername")
        self._address = f"{plain_host(peer[0])}:{peer[1]}" if peer else "nobody"
        self._arm()

    def data_received(self, data: bytes) -> None:
        self._guard(self._receive, data)

    def eof_received(self) -> bool:
        """The answer that is under way, it may still read."""
        self._guard(self._receive, b"")
        return self._request is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._pieces = None
        self._disarm()
        self._hub.leave(self)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._arm()
        if self._pieces is not None:
            self._proceed()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- a request ----------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        if self._over:
            return
        self._http.receive_data(data)
        self._read_on()

    def _read_on(self) -> None:
        try:
            self._read()
        except h11.RemoteProtocolError as why:
            # It is raised by a frame that knows it: a cycle, and no garbage is collected here.
            why.__traceback__ = None
            self._end_with(why.error_status_hint, "this is no request")

    def _read(self) -> None:
        while not self._over and (self._request is None or self._http.their_state is h11.SEND_BODY):
            event = self._http.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED):
                return
            if isinstance(event, h11.ConnectionClosed):
                self._close()
                return
            self._on_event(event)

    def _on_event(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._request, self._body_bytes = event, 0
        elif isinstance(event, h11.Data):
            self._body_bytes += len(event.data)
            if self._body_bytes > BODY_BYTES_MAX:
                self._end_with(413, f"a body has {BODY_BYTES_MAX} bytes at most")
        elif isinstance(event, h11.EndOfMessage):
            # One at a time: whoever sends many without reading is read no more.
            if (transport := self._open_transport()) is not None:
                transport.pause_reading()
            self._waits = True
            self._disarm()  # what it waits for is this server
            self._proceed()

    # --- its answer -----------------------------------------------------------------

    def _proceed(self) -> None:
        if not self._in_pump:
            self._in_pump = True
            self._hub.pump.add(self._step)

    def _step(self) -> bool:
        """Whether there is more to be written at once."""
        self._guard(self._answer)
        reading_on = self._pieces is not None and not self._choked
        self._in_pump = self._transport is not None and (self._waits or reading_on)
        return self._in_pump

    def _answer(self) -> None:
        if self._transport is None or self._request is None:
            return
        if self._pieces is None:
            self._begin(self._request)
        else:
            piece = next(self._pieces, None)
            if piece is None:
                self._finish()
            else:
                self._send(h11.Data(data=piece))
                self._arm()

    def _begin(self, got: h11.Request) -> None:
        self._waits = False
        self._arm()
        response = respond(self._read_request(got), self._site, self._hub.view)
        if got.method == b"POST":
            target = got.target.decode("ascii")
            log.info("HTTP: POST %s of %s: %d", target, self._address, response.status)
        self._send(_head(response))
        if got.method == b"HEAD":
            self._finish()
        elif isinstance(response.body, bytes):
            self._send(h11.Data(data=response.body))
            self._finish()
        else:
            self._pieces = response.body

    def _read_request(self, got: h11.Request) -> Request:
        headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in got.headers}
        return Request(
            got.method.decode("ascii"), got.target.decode("ascii"), headers, self._on_loopback
        )

    def _finish(self) -> None:
        self._send(h11.EndOfMessage())
        self._pieces = self._request = None
        self._arm()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._close()
            return
        if (transport := self._open_transport()) is not None:
            self._http.start_next_cycle()
            transport.resume_reading()
            self._read_on()  # what came together with the request that is answered now

    def _open_transport(self) -> asyncio.Transport | None:
        transport = self._transport
        return None if transport is None or transport.is_closing() else transport

    # --- ends -----------------------------------------------------------------------

    def _guard(self, act: Callable[..., None], *arguments: object) -> None:
        """What goes wrong here is nobody else's trouble."""
        try:
            act(*arguments)
        except Exception:
            log.exception("a request over HTTP could not be answered")
            try:
                self._end_with(500, "an internal error, which is in the log")
            except h11.LocalProtocolError:
                self.abort()

    def _end_with(self, status: int, text: str) -> None:
        """The last answer of this connection; none if another one was begun."""
        asked_head = self._request is not None and self._request.method == b"HEAD"
        self._pieces = self._request = None
        self._waits, self._over = False, True
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        body = f"{text}\n".encode()
        self._send(_head(Response(status, TEXT, body), close=True))
        if not asked_head:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        self._close()

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data and self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _arm(self) -> None:
        """So long may the next step of the other side take."""
        self._disarm()
        self._alarm = self._hub.loop.call_later(self._hub.idle_s, self.abort)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def _head(response: Response, close: bool = False) -> h11.Response:
    headers = [
        ("Content-Type", response.content_type),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if isinstance(response.body, bytes):
        headers.append(("Content-Length", str(len(response.body))))
    if response.allow:
        headers.append(("Allow", response.allow))
    if close:
        headers.append(("Connection", "close"))
    reason = HTTPStatus(response.status).phrase.encode()
    return h11.Response(status_code=response.status, headers=headers, reason=reason)
