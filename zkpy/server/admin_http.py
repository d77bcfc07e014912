"""HTTP on the admin server's port, and on the one for metrics.

In: bytes of connections; h11 takes a request's head apart.  Out: what `zkpy.admin.web` answers.

It may cost the server's clients little, whoever asks for whatever:

- All work for requests is done in steps by one `Pump`, which takes one step for one connection
  and then rests for as long as that took: they have half of the loop's time at most.
- Of a connection there is one request at a time.  While it is answered, or while the other
  side does not read, nothing further is read of it, looked at, or begun: what a connection
  may hold here is one head, one answer's piece, and what the transport takes.
- Heads are bounded, in bytes and in headers, and no request has a body.
- Each port has so many connections; for one more, the one that idles longest is cut off, so
  that nobody can shut others out by holding them open.
- Whoever neither asks nor reads for the idle time is cut off.

A request that is none closes its connection; an exception is answered with 500 and a log
line: nothing replicated was touched, and nothing here may end the server.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, cast

import h11

from zkpy.admin.commands import ServerView
from zkpy.admin.web import TEXT, Request, Response, Site, respond
from zkpy.config.values import is_loopback
from zkpy.server.clock import monotonic_ns
from zkpy.server.complaints import Complaints
from zkpy.server.sockets import plain_host

log = logging.getLogger("zkpy.server")

CONNECTIONS_MAX: Final = 64
"""On each port."""
HEAD_BYTES_MAX: Final = 8 * 1024
"""Of a request, its first line and headers."""
HEADERS_MAX: Final = 100
READ_BYTES: Final = 4 * 1024
"""What is taken from a socket at once."""
LEFT_BYTES_MAX: Final = 256 * 1024
"""What is thrown away behind a request that is refused, for the refusal to arrive."""
REST_S_MIN: Final = 0.001
_HEAD_END: Final = re.compile(rb"\n\r?\n")


class Hub:
    """What all HTTP connections of one server share."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, view: Callable[[], ServerView], idle_s: float
    ) -> None:
        self.loop = loop
        self.view = view
        self.idle_s = idle_s
        self.pump = Pump(loop)
        self.rooms: dict[str, Room] = {}
        """By the port's name."""
        self.refused = Complaints()

    def room(self, name: str) -> "Room":
        return self.rooms.setdefault(name, Room(name))

    def close(self) -> None:
        self.pump.stop()
        for room in self.rooms.values():
            room.close()


class Room:
    """The connections of one port, the one whose last request is longest ago first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._complaints = Complaints()
        self.connections: dict[Connection, None] = {}

    def enter(self, connection: "Connection") -> None:
        if len(self.connections) >= CONNECTIONS_MAX:
            self._cut_off_one()
        self.connections[connection] = None

    def _cut_off_one(self) -> None:
        """Not one that only waits for its turn, if there is another."""
        idle = (each for each in self.connections if not each.in_pump)
        longest = next(idle, None) or next(iter(self.connections))
        del self.connections[longest]
        longest.abort()
        self._complaints.add(
            f"{self._name}: more than {CONNECTIONS_MAX} connections: cutting off idle ones"
        )

    def touch(self, connection: "Connection") -> None:
        """It made a request."""
        if connection in self.connections:
            del self.connections[connection]
            self.connections[connection] = None

    def leave(self, connection: "Connection") -> None:
        self.connections.pop(connection, None)

    def close(self) -> None:
        for connection in list(self.connections):
            connection.abort()


class Pump:
    """Runs steps in turn, each of a few milliseconds, and rests as long between two."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._steps: deque[Callable[[], None]] = deque()
        self._due: asyncio.Handle | None = None

    def add(self, step: Callable[[], None]) -> None:
        """It is called once, when its turn comes."""
        self._steps.append(step)
        if self._due is None:
            self._due = self._loop.call_soon(self._run)

    def stop(self) -> None:
        self._steps.clear()

    def _run(self) -> None:
        """It rests after the last step too: the next one may be added the moment after."""
        if not self._steps:
            self._due = None
            return
        begun_ns = monotonic_ns()
        self._steps.popleft()()
        took_s = (monotonic_ns() - begun_ns) / 1e9
        self._due = self._loop.call_later(max(took_s, REST_S_MIN), self._run)


class Connection(asyncio.BufferedProtocol):
    """One of them, from whichever port."""

    def __init__(self, hub: Hub, room: Room, site: Site) -> None:
        self._hub = hub
        self._room = room
        self._site = site
        self._http = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._space = bytearray(READ_BYTES)
        self._received = bytearray()
        """What was read, and is not answered yet."""
        self._asked_head = False
        self._pieces: Iterator[bytes] | None = None
        """What is left of an answer."""
        self._reading = True
        self._choked = False
        self.in_pump = False
        """It waits for its turn; otherwise this server waits for the other side."""
        self._ended = False
        """Its last answer was given."""
        self._left_bytes = LEFT_BYTES_MAX
        self._on_loopback = False
        self._address = ""

    # --- from the event loop ----------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._guard(self._enter)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Small, so that what is read on top of a request is little."""
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended:
            self._left_bytes -= nbytes
            if self._left_bytes < 0:
                self.abort()
            return
        self._received += self._space[:nbytes]
        self._guard(self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._pieces = None
        self._disarm()
        self._room.leave(self)

    def pause_writing(self) -> None:
        """The alarm was set when what is written now was begun."""
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._guard(self._go_on)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _enter(self) -> None:
        transport = self._transport
        own = transport.get_extra_info("sockname") if transport is not None else None
        if transport is None or not own:
            self.abort()
            return
        self._room.enter(self)
        self._on_loopback = is_loopback(plain_host(own[0]))
        peer = transport.get_extra_info("peername")
        self._address = f"{plain_host(peer[0])}:{peer[1]}" if peer else "nobody"
        self._arm()

    # --- one thing at a time --------------------------------------------------------

    def _go_on(self) -> None:
        """The one place where it is decided what comes next."""
        transport = self._open_transport()
        if transport is None or self.in_pump or self._choked:
            return
        if self._pieces is not None or self._has_request():
            self._pause(transport)
            self._disarm()  # what it waits for is this server
            self.in_pump = True
            self._hub.pump.add(self._step)
        elif not self._reading:
            self._reading = True
            transport.resume_reading()

    def _pause(self, transport: asyncio.Transport) -> None:
        if self._reading:
            self._reading = False
            transport.pause_reading()

    def _has_request(self) -> bool:
        """A whole head, or what can be none any more: it begins with no letter in TLS."""
        got = self._received
        if not got:
            return False
        return got[0] < 0x21 or len(got) > HEAD_BYTES_MAX or _HEAD_END.search(got) is not None

    def _step(self) -> None:
        self.in_pump = False
        if self._open_transport() is not None:
            self._arm()
            self._guard(self._begin if self._pieces is None else self._send_piece)
            self._guard(self._go_on)

    def _open_transport(self) -> asyncio.Transport | None:
        transport = self._transport
        return None if transport is None or transport.is_closing() else transport

    # --- a request, and its answer --------------------------------------------------

    def _begin(self) -> None:
        self._asked_head = False
        self._room.touch(self)
        end = self._find_end()
        if end < 0:
            self._end_with(431, "a request's head is too long")
            return
        try:
            self._http.receive_data(bytes(self._received[:end]))
            event = self._http.next_event()
        except h11.RemoteProtocolError as why:
            # It is raised by a frame that knows it: a cycle, and no garbage is collected here.
            why.__traceback__ = None
            self._end_with(why.error_status_hint, "this is no request")
            return
        del self._received[:end]
        assert isinstance(event, h11.Request)
        self._take(event)

    def _find_end(self) -> int:
        """Of the head; -1 if it is too long for anybody to take it apart."""
        found = _HEAD_END.search(self._received)
        end = len(self._received) if found is None else found.end()
        lines = self._received.count(b"\n", 0, end)
        return -1 if end > HEAD_BYTES_MAX or lines > HEADERS_MAX + 2 else end

    def _take(self, got: h11.Request) -> None:
        self._asked_head = got.method == b"HEAD"
        headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in got.headers}
        length, coding = headers.get("content-length", "0"), headers.get("transfer-encoding")
        if coding is not None and "content-length" in headers:
            self._end_with(400, "a body has one length")
        elif coding is not None or int(length):
            # Its end is not looked for: nothing that follows is a request.
            self._end_with(413, "no command takes a body")
        else:
            self._http.next_event()  # the end of the message
            method, target = got.method.decode("ascii"), got.target.decode("ascii")
            self._answer(Request(method, target, headers, self._on_loopback))

    def _answer(self, request: Request) -> None:
        response = respond(request, self._site, self._hub.view)
        if response.change:
            self._log_change(response)
        if self._asked_head:
            self._send(_head(response))
            self._finish()
        elif isinstance(response.body, bytes):
            self._send(_head(response), h11.Data(data=response.body))
            self._finish()
        else:
            self._send(_head(response))
            self._pieces = response.body

    def _log_change(self, response: Response) -> None:
        told = f"HTTP: {response.change} for {self._address}: {response.status}"
        if response.status == HTTPStatus.OK:
            log.info("%s", told)
        else:
            self._hub.refused.add(told)

    def _send_piece(self) -> None:
        assert self._pieces is not None
        piece = next(self._pieces, None)
        if piece is None:
            self._finish()
        else:
            self._send(h11.Data(data=piece))

    def _finish(self) -> None:
        self._send(h11.EndOfMessage())
        self._pieces = None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._close()

    def _send(self, *events: h11.Event) -> None:
        data = b"".join(self._http.send(event) or b"" for event in events)
        if data and self._transport is not None:
            self._transport.write(data)

    # --- ends -----------------------------------------------------------------------

    def _guard(self, act: Callable[[], None]) -> None:
        """What goes wrong here is nobody else's trouble."""
        try:
            act()
        except Exception:
            log.exception("a request over HTTP could not be answered")
            self._give_up()

    def _give_up(self) -> None:
        try:
            self._end_with(500, "an internal error, which is in the log")
        except Exception as why:
            log.error("nor could that be said: %s", why)
            self.abort()

    def _end_with(self, status: int, text: str) -> None:
        """The last answer of this connection; none if another one was begun."""
        self._pieces = None
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        body = f"{text}\n".encode()
        self._send(_head(Response(status, TEXT, body), close=True))
        if not self._asked_head:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        self._end()

    def _end(self) -> None:
        """Not by closing: the system resets a connection of which something is unread, and what
        was sent last is lost."""
        self._ended = True
        self._received.clear()
        if (transport := self._open_transport()) is not None:
            transport.write_eof()

    def _close(self) -> None:
        """When all is written.  The alarm stays: it may never be read."""
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
