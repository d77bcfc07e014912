"""A proxy between a kazoo client and a server that breaks things at a chosen request.

It reads ZooKeeper's frames: 4 bytes of length; from a client the ConnectRequest first, then
xid, opcode, body; from the server the ConnectResponse first, then xid, zxid, error, body.
Requests are counted from 1 as a client sends them, over all connections through the proxy;
pings, authentication, watches set anew and the end of a session (all that a client does
by itself) are passed on uncounted.

    proxy.arm(Fault(at=3, when=When.AFTER))      # the answer to the third request is lost
    proxy.arm(Fault(at=2, do=Link.expire))       # the session has ended before the second
    proxy.arm(Fault(at=1, do=Link.refuse))       # cut, and no way back until proxy.admit()
    proxy.arm(Fault(at=1, do=Link.stall, cut=False))   # nothing passes until proxy.flow()

One proxy per client under test keeps the count deterministic.
"""

import contextlib
import enum
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs
from kazoo.client import KazooClient

HOST: Final = "127.0.0.1"
LIMIT_S: Final = 30.0
"""How long anything is waited for."""
CLOSE_SESSION: Final = -11
_NAMES: Final = {
    1: "create",
    2: "delete",
    3: "exists",
    4: "get",
    5: "set",
    6: "get_acl",
    7: "set_acl",
    8: "get_children",
    9: "sync",
    12: "get_children2",
    13: "check",
    14: "multi",
    15: "create2",
}
_HAS_NO_PATH: Final = (14,)


class When(enum.Enum):
    BEFORE = "before"
    """The server never sees the request."""
    AFTER = "after"
    """The server has answered; the client does not see it."""


@attrs.frozen
class Seen:
    """One request of a client."""

    number: int
    """From 1, over all connections."""
    link: int
    """Number of the connection, from 1."""
    operation: str
    path: str


@attrs.define(eq=False)
class Fault:
    """What to do at the `at`-th request from the time when this is armed."""

    at: int
    when: When = When.BEFORE
    do: "Callable[[Link], None] | None" = None
    """Done first, in the proxy's thread."""
    cut: bool = True
    """Whether the connection is cut then; otherwise the frame is passed on."""
    seen: Seen | None = None
    """The request that it met, once it has."""
    met: threading.Event = attrs.field(factory=threading.Event, init=False)

    def wait(self) -> None:
        assert self.met.wait(LIMIT_S), f"no request number {self.at}"


class FaultProxy:
    """Listens on loopback at `hosts`; a context manager."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        """Of the server; may be changed, for connections to come."""
        self.seen: list[Seen] = []
        self.answered = 0
        """How many of `seen` have had their answer passed on to the client."""
        self._listener = socket.create_server((HOST, 0))
        self.hosts = f"{HOST}:{self._listener.getsockname()[1]}"
        self._links: list[Link] = []
        self._links_made = 0
        self._faults: list[tuple[int, Fault]] = []
        self._admits, self._flows = True, True
        self._refused = 0
        self._closings = 0
        """While there are any, no connection is made.  A session that is being ended from outside
        could be taken back by its client in between."""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._accept, name="fault proxy")
        self._thread.start()

    # --- what a test does --------------------------------------------------------------

    def arm(self, fault: Fault) -> Fault:
        with self._news:
            self._faults.append((len(self.seen) + fault.at, fault))
        return fault

    def cut(self) -> None:
        """Cut every connection that stands."""
        for link in self._links_now():
            link.cut()

    def refuse(self) -> None:
        """Take no new connection until `admit`."""
        with self._news:
            self._admits = False

    def admit(self) -> None:
        with self._news:
            self._admits = True

    def stall(self) -> None:
        """Pass nothing in either direction until `flow`."""
        with self._news:
            self._flows = False

    def flow(self) -> None:
        with self._news:
            self._flows = True
            self._news.notify_all()

    def expire(self) -> None:
        """End the sessions of all clients that are connected, then cut them off."""
        for link in self._links_now():
            link.expire()
            link.cut()

    @contextlib.contextmanager
    def doors_shut(self) -> Iterator[None]:
        """Let new connections wait.  Around a server's restart: Apache ZooKeeper accepts before it
        answers, and a client that came too early waits for its whole timeout."""
        with self._news:
            self._closings += 1
        try:
            yield
        finally:
            with self._news:
                self._closings -= 1
                self._news.notify_all()

    def wait_until(self, condition: Callable[[list[Seen]], object]) -> None:
        """Until the requests seen so far are such."""
        with self._news:
            assert self._news.wait_for(lambda: condition(self.seen), LIMIT_S), self.seen

    def wait_refused(self, count: int = 1) -> None:
        """Until so many connections were refused since the proxy was made."""
        with self._news:
            assert self._news.wait_for(lambda: self._refused >= count, LIMIT_S)

    def close(self) -> None:
        self.refuse()
        self.flow()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LIMIT_S)
        for link in self._links_now():
            link.cut()
            link.thread.join(LIMIT_S)

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    # --- what its links call -----------------------------------------------------------

    def note(self, link: "Link", operation: str, path: str) -> Fault | None:
        """Count a request; the fault that it meets, if any."""
        with self._news:
            seen = Seen(len(self.seen) + 1, link.number, operation, path)
            self.seen.append(seen)
            self._news.notify_all()
            for each in self._faults:
                if each[0] == seen.number:
                    self._faults.remove(each)
                    each[1].seen = seen
                    return each[1]
        return None

    def note_answer(self) -> None:
        with self._news:
            self.answered += 1
            self._news.notify_all()

    def await_flow(self) -> None:
        with self._news:
            self._news.wait_for(lambda: self._flows)

    def forget(self, link: "Link") -> None:
        with self._news:
            self._links.remove(link)

    def _links_now(self) -> "list[Link]":
        with self._news:
            return list(self._links)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._dial()
            if server is None:
                client.close()
                continue
            with self._news:
                self._links_made += 1
                link = Link(self, self._links_made, client, server)
                self._links.append(link)
            link.thread.start()

    def _dial(self) -> socket.socket | None:
        with self._news:
            self._news.wait_for(lambda: not self._closings)
            if not self._admits:
                self._refused += 1
                self._news.notify_all()
                return None
        try:
            return socket.create_connection((HOST, self.upstream), LIMIT_S)
        except OSError:
            return None


class Link:
    """One connection: a thread for what goes up, one for what comes down."""

    def __init__(
        self, proxy: FaultProxy, number: int, client: socket.socket, server: socket.socket
    ) -> None:
        self.proxy, self.number = proxy, number
        self._client, self._server = client, server
        for each in (client, server):
            each.settimeout(None)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._counted: set[int] = set()
        """The xids of requests that were counted, while they have no answer."""
        self._awaited: dict[int, Fault] = {}
        """By xid: faults whose answer is on its way."""
        self.session: tuple[int, bytes] | None = None
        """Id and password, once the server has told them."""
        self.thread = threading.Thread(target=self._run, name=f"link {number}")

    # --- what a fault can do -----------------------------------------------------------

    def cut(self) -> None:
        for each in (self._client, self._server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        self.proxy.refuse()

    def stall(self) -> None:
        self.proxy.stall()

    def expire(self) -> None:
        """End the session on the server, which the client learns when it is back."""
        assert self.session is not None
        with self.proxy.doors_shut():
            end_session(self.proxy.upstream, *self.session)

    # --- the two directions --------------------------------------------------------------

    def _run(self) -> None:
        down = threading.Thread(target=self._go_down, name=f"link {self.number} down")
        down.start()
        self._go_up()
        self.cut()
        down.join()
        self._client.close()
        self._server.close()
        self.proxy.forget(self)

    def _go_up(self) -> None:
        with contextlib.suppress(OSError):
            for position, frame in enumerate(frames_of(self._client)):
                fault = self._meet(frame) if position else None
                if fault is not None and fault.when is When.AFTER:
                    # Before it is sent: the answer may be faster than this thread.
                    self._awaited[xid_of(frame)] = fault
                elif fault is not None and self._carry_out(fault):
                    return
                self.proxy.await_flow()
                send(self._server, frame)

    def _meet(self, frame: bytes) -> Fault | None:
        xid, operation = struct.unpack_from(">ii", frame)
        if xid < 0 or operation == CLOSE_SESSION:
            return None
        self._counted.add(xid)
        name = _NAMES.get(operation, str(operation))
        return self.proxy.note(self, name, "" if operation in _HAS_NO_PATH else path_of(frame))

    def _go_down(self) -> None:
        with contextlib.suppress(OSError):
            for position, frame in enumerate(frames_of(self._server)):
                if not position:
                    self._greet(frame)
                fault = self._awaited.pop(xid_of(frame), None) if position else None
                if fault is not None and self._carry_out(fault):
                    return
                self.proxy.await_flow()
                send(self._client, frame)
                if position and (xid := xid_of(frame)) in self._counted:
                    self._counted.remove(xid)
                    self.proxy.note_answer()
        # The end, too, is heard of only then.
        self.proxy.await_flow()
        self.cut()

    def _greet(self, frame: bytes) -> None:
        """ConnectResponse: protocol, timeout, session id, password."""
        session, length = struct.unpack_from(">qi", frame, 8)
        self.session = (session, frame[20 : 20 + length])

    def _carry_out(self, fault: Fault) -> bool:
        """Whether the connection is cut now."""
        if fault.do is not None:
            fault.do(self)
        if fault.cut:
            self.cut()
        fault.met.set()
        return fault.cut


def frames_of(source: socket.socket) -> Iterator[bytes]:
    """Whole frames, without their length, until the end."""
    with source.makefile("rb") as stream:
        while len(head := stream.read(4)) == 4:
            (length,) = struct.unpack(">i", head)
            frame = stream.read(length)
            if len(frame) < length:
                return
            yield frame


def send(to: socket.socket, frame: bytes) -> None:
    to.sendall(struct.pack(">i", len(frame)) + frame)


def xid_of(frame: bytes) -> int:
    return int(struct.unpack_from(">i", frame)[0])


def path_of(frame: bytes) -> str:
    """The first field of almost every request."""
    if len(frame) < 12:
        return ""
    (length,) = struct.unpack_from(">i", frame, 8)
    return frame[12 : 12 + max(length, 0)].decode(errors="replace")


def end_session(port: int, session: int, password: bytes) -> None:
    """Close somebody's session from outside, by its id and password."""
    with socket.create_connection((HOST, port), LIMIT_S) as s:
        send(s, struct.pack(">iqiqi16s?", 0, 0, 10000, session, 16, password, False))
        answers = frames_of(s)
        if struct.unpack_from(">q", next(answers), 8)[0] == session:
            send(s, struct.pack(">ii", 1, CLOSE_SESSION))
            next(answers)


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Ask again and again: for what a server or a client has no event for."""
    deadline, pause = time.monotonic() + limit_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.003)


def until_children(client: KazooClient, path: str, count: int) -> None:
    until(lambda: len(client.get_children(path)) == count)


def begun_since(before: Sequence[threading.Thread]) -> list[threading.Thread]:
    """Threads that are alive and were not among those of `before` (`threading.enumerate()`), which
    may end meanwhile: some are of tests that are over."""
    return [each for each in threading.enumerate() if each not in before]


def meet_all(play: Callable[[Fault], object], make: Callable[[int], Fault], most: int) -> int:
    """A play for each request, until one has no request of that number, or up to `most`; how many
    met theirs.

    Watches that come together make one read, so plays differ in their number of requests."""
    for at in range(1, most + 1):
        fault = make(at)
        play(fault)
        if fault.seen is None:
            return at - 1
    return most


def behind_shut_doors(proxy: FaultProxy, restart: Callable[[], object]) -> Callable[[Link], None]:
    """To do at a fault: the server is started again, and no client knocks meanwhile, neither the
    one of the link nor those of `proxy`."""

    def do(link: Link) -> None:
        with link.proxy.doors_shut(), proxy.doors_shut():
            restart()

    return do
