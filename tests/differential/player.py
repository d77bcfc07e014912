"""One server's side of a trace: plays steps over raw sockets, notes what comes back.

Out: `Line`s, in which all that two servers cannot share is normalised:

    zxids         by order of appearance (0 and -1 stay)
    session ids   by the number of the session in the trace
    times         checked instead: every znode that a zxid made or set shows its one time
    children, ephemerals, identities and what `auth` in an ACL becomes, events of a closing
                  session: sorted, since ZooKeeper's order is that of a hash table

After each step every other connection is pinged, so that the events that the step
caused there are in before the next one.
"""

import contextlib
import socket
from typing import Any, Final

import attrs

from tests.differential.trace import Ask, Batch, Connect, Drop, How, Since, Step
from wire import records
from wire.client import ClientConnection, Reply, Request, Role, State, WatchEvent
from wire.codes import XID_AUTH, XID_PING, XID_SET_WATCHES, OpCode
from wire.jute import Record
from wire.records import REQUESTS

HOST: Final = "127.0.0.1"
TIMEOUT_MS: Final = 40_000
PATIENCE_S: Final = 20
"""A server that is silent for so long has nothing more to say."""
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
_XIDS: Final[dict[int, int]] = {
    OpCode.PING: XID_PING,
    OpCode.AUTH: XID_AUTH,
    OpCode.SET_WATCHES: XID_SET_WATCHES,
    OpCode.SET_WATCHES2: XID_SET_WATCHES,
}
_ZXIDS: Final = ("czxid", "mzxid", "pzxid")
_SORTED: Final = ("children", "ephemerals", "acl", "client_info")


@attrs.frozen
class Line:
    """Something that a server said, to whom, and upon which request of the step."""

    session: int
    kind: str
    """reply, event, connected, closed, silent, garbled."""
    ask: Ask | None = None
    error: int = 0
    what: Any = None
    """The reply's body or the event, as nested tuples."""
    zxid: Any = None

    def __str__(self) -> str:
        head = f"{self.kind} to session {self.session}"
        return f"{head}: error {self.error}, zxid {self.zxid}, {self.what}"


class Names:
    """What stands for zxids, times and session ids."""

    def __init__(self, *, tells_event_zxids: bool) -> None:
        self._tells_event_zxids = tells_event_zxids
        self._zxids: dict[int, int] = {}
        self._times: dict[int, int] = {}
        self.sessions: dict[int, str] = {}

    def zxid(self, zxid: int) -> int | str:
        if zxid in (0, -1):
            return zxid
        return f"z{self._zxids.setdefault(zxid, len(self._zxids))}"

    def event_zxid(self, zxid: int) -> int | str | None:
        """Only since 3.9 an event's header has the zxid of the change."""
        return self.zxid(zxid) if self._tells_event_zxids else None

    def time(self, ms: int, zxid: int) -> str:
        """All that one transaction made or set has one time."""
        known = self._times.setdefault(zxid, ms)
        return "its time" if ms == known else f"{ms}, not {known}"

    def owner(self, session: int) -> int | str:
        return session if session == 0 else self.sessions.get(session, "another session")

    def stat(self, stat: records.Stat) -> tuple[Any, ...]:
        return (
            *(self.zxid(getattr(stat, each)) for each in _ZXIDS),
            self.time(stat.ctime, stat.czxid),
            self.time(stat.mtime, stat.mzxid),
            *(f"v{stat.version}", f"cv{stat.cversion}", f"av{stat.aversion}"),
            self.owner(stat.ephemeral_owner),
            *(f"{stat.data_length} bytes", f"{stat.num_children} children"),
        )

    def shape(self, value: Any, name: str = "") -> Any:
        """Any part of a reply as something to compare and to print."""
        if isinstance(value, records.Stat):
            return self.stat(value)
        if attrs.has(type(value)):
            return (type(value).__name__, *self._fields(value))
        if isinstance(value, list):
            items = [self.shape(item) for item in value]
            return sorted(items) if name in _SORTED else items
        return value

    def _fields(self, value: Any) -> list[Any]:
        return [
            self.shape(getattr(value, field.name), field.name)
            for field in attrs.fields(type(value))
        ]


class Link:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire = ClientConnection(Role.CLIENT, FRAME_BYTES_MAX)
        self.awaited: list[tuple[Ask, bool]] = []
        """(request, whether its reply is to be noted)."""
        self.xid = 0
        self.ended: str | None = None
        """Why nothing more comes."""

    def send(self, *events: Any) -> None:
        data = b"".join(self.wire.send(event) for event in events)
        with contextlib.suppress(OSError):  # the reader finds out
            self.socket.sendall(data)

    def receive(self) -> list[Any]:
        """Some events, or none and `ended` is set."""
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError:
            self.ended = "silent"
            return []
        except OSError:
            data = b""
        if not data:
            self.ended = "closed"
            return []
        events = self.wire.receive_data(data)
        if self.wire.error is not None:
            self.ended = f"garbled: {self.wire.error}"
        return events

    def close(self) -> None:
        self.socket.close()


@attrs.define
class Session:
    number: int
    link: Link | None = None
    old: Link | None = None
    id: int = 0
    password: bytes = bytes(16)
    seen: int = 0
    """The last zxid in any reply."""
    seen_at_connect: int = 0


class Player:
    """Plays a trace on one server.  `begin` sends, `finish` waits, so that two can run at once."""

    def __init__(self, port: int, sessions: int, names: Names) -> None:
        self._port = port
        self._names = names
        self._sessions = [Session(number) for number in range(sessions)]
        self._lines: list[Line] = []

    def begin(self, step: Step) -> None:
        session = self._sessions[step.session]
        if isinstance(step, Connect):
            self._begin_connect(session, step.how)
        elif isinstance(step, Drop):
            self._drop(session)
        elif session.link is not None:
            self._send(session, step.asks, noted=True)

    def finish(self, step: Step) -> list[Line]:
        self._lines = []
        session = self._sessions[step.session]
        if isinstance(step, Connect):
            self._finish_connect(session)
        elif isinstance(step, Batch):
            self._finish_batch(session, step)
        return self._lines

    def probe(self, step: Step) -> None:
        """Ping all connections that the step was not for."""
        for session in self._sessions:
            if session.link is not None and session.number != step.session:
                self._send(session, (Ask(OpCode.PING),), noted=False)

    def collect(self, step: Step) -> list[Line]:
        """What the others were told meanwhile."""
        self._lines = []
        for session in self._sessions:
            if session.link is not None and session.number != step.session:
                self._receive_replies(session)
        if _closes(step):
            self._lines.sort(key=str)
        return self._lines

    def mend(self, session: int, ask: Ask) -> int | None:
        """Ask for something that is not compared; the error, None if the connection is gone."""
        it = self._sessions[session]
        if it.link is None:
            return None
        self._send(it, (ask,), noted=True)
        self._lines = []
        self._receive_replies(it)
        return next((line.error for line in self._lines if line.kind == "reply"), None)

    def close(self) -> None:
        """End all sessions, so that none expires while another trace is played."""
        for session in self._sessions:
            if session.id:
                self._lines = []
                self._begin_connect(session, How.AGAIN)
                self._finish_connect(session)
            if session.link is not None:
                self._send(session, (Ask(OpCode.CLOSE_SESSION),), noted=False)
                self._receive_replies(session)
            self._drop(session)

    # --- parts ---

    def _drop(self, session: Session) -> None:
        for link in (session.link, session.old):
            if link is not None:
                link.close()
        session.link = session.old = None

    def _begin_connect(self, session: Session, how: How) -> None:
        password = session.password if how is not How.FORGED else b"\x07" * 16
        if how is How.FRESH:
            session.id, session.seen, password = 0, 0, bytes(16)
        elif how is How.FORGED:
            self._drop(session)
        session.old, session.link = session.link, Link(self._port)
        session.seen_at_connect = session.seen
        session.link.send(
            records.ConnectRequest(0, session.seen, TIMEOUT_MS, session.id, password, False)
        )

    def _finish_connect(self, session: Session) -> None:
        link = session.link
        assert link is not None
        events: list[Any] = []
        while not events and link.ended is None:
            events = link.receive()
        if events:
            answer = events[0]
            assert isinstance(answer, records.ConnectResponse)
            session.id = answer.session_id or session.id
            if answer.session_id and answer.password is not None:
                session.password = answer.password
                self._names.sessions.setdefault(session.id, f"session {session.number}")
            what = (answer.timeout_ms, self._names.owner(answer.session_id), answer.read_only)
            size = len(answer.password or b"")
            self._note(Line(session.number, "connected", what=(*what, f"{size} bytes")))
        if link.wire.state is not State.ESTABLISHED:
            self._expect_end(session, link)
        if session.old is not None:
            self._see_off(session, session.old)
            session.old = None

    def _see_off(self, session: Session, link: Link) -> None:
        """Another connection took the session over: this one must end."""
        while link.ended is None:
            for event in link.receive():
                self._on_event(session, link, event)
        link.close()
        self._note(Line(session.number, "closed", what=("the connection before", link.ended)))

    def _send(self, session: Session, asks: tuple[Ask, ...], *, noted: bool) -> None:
        link = session.link
        assert link is not None
        requests = []
        for ask in asks:
            xid = _XIDS.get(ask.opcode, 0)
            if not xid:
                link.xid += 1
                xid = link.xid
            requests.append(Request(xid, ask.opcode, self._resolve(session, ask.body)))
            link.awaited.append((ask, noted))
        link.send(*requests)

    def _resolve(self, session: Session, body: Record | None) -> Record | None:
        if isinstance(body, records.SetWatches | records.SetWatches2):
            values = {Since.CONNECT: session.seen_at_connect, Since.NOW: session.seen}
            return attrs.evolve(body, relative_zxid=values.get(Since(body.relative_zxid), 0))  # type: ignore[misc]
        return body

    def _finish_batch(self, session: Session, step: Batch) -> None:
        link = session.link
        if link is None:
            self._note(Line(session.number, "closed", what="was not connected"))
            return
        at = len(self._lines)
        self._receive_replies(session)
        if _closes(step):
            self._lines[at:] = sorted(self._lines[at:], key=lambda line: (line.kind, str(line)))
        if link.ended is None and any(map(_must_end, self._lines[at:])):
            self._expect_end(session, link)

    def _receive_replies(self, session: Session) -> None:
        link = session.link
        assert link is not None
        while link.awaited and link.ended is None:
            for event in link.receive():
                self._on_event(session, link, event)
        if link.ended is not None:
            self._finish_link(session, link)

    def _expect_end(self, session: Session, link: Link) -> None:
        while link.ended is None:
            for event in link.receive():
                self._on_event(session, link, event)
        self._finish_link(session, link)

    def _finish_link(self, session: Session, link: Link) -> None:
        self._note(Line(session.number, "closed", what=link.ended))
        link.close()
        if session.link is link:
            session.link = None

    def _on_event(self, session: Session, link: Link, event: Any) -> None:
        if isinstance(event, WatchEvent):
            what = self._names.shape(event.event)
            zxid = self._names.event_zxid(event.zxid)
            self._note(Line(session.number, "event", what=what, zxid=zxid))
            return
        assert isinstance(event, Reply)
        ask, noted = link.awaited.pop(0)
        session.seen = max(session.seen, event.zxid)
        if noted:
            body = self._names.shape(event.body)
            zxid = self._names.zxid(event.zxid)
            self._note(Line(session.number, "reply", ask, event.error, body, zxid))

    def _note(self, line: Line) -> None:
        self._lines.append(line)


def _closes(step: Step) -> bool:
    """Whether the step ends a session, and with it its ephemerals, in no order."""
    return isinstance(step, Batch) and step.asks[-1].opcode == OpCode.CLOSE_SESSION


def _must_end(line: Line) -> bool:
    """Whether the server closes behind this answer; when it gets to that is up to it."""
    if line.ask is None:
        return False
    refused = line.ask.opcode == OpCode.AUTH and line.error != 0
    return refused or line.ask.opcode == OpCode.CLOSE_SESSION or line.ask.opcode not in REQUESTS
