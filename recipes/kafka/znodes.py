"""What the loops here need of kazoo: reads that are sent together, transactions, a worker thread.

`Znodes` is a typed face of a KazooClient.  Reads are sent again when their connection breaks; a
write is not, for nobody knows whether it was done: its caller finds out.  No call survives an
expired session: SessionExpiredError, and whoever acts for that session starts anew.

`Worker` is a thread that runs one `step` each time that something wakes it, a watch most often.  A
step looks at what is, not at what woke it, and may be run once too often without harm.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Final

import attrs
from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.protocol.states import KazooState
from kazoo.retry import InterruptedError, KazooRetry

from recipes.base import TimeUp, Wait, raise_first

log = logging.getLogger(__name__)

Watch = Callable[..., None]
MOST_IN_FLIGHT: Final = 500
"""Requests that are sent before the first answer is awaited."""
MOST_OPERATIONS: Final = 200
"""In one transaction, so that it stays far below a server's limit of a megabyte."""
UNKNOWN_OUTCOME: Final = (ConnectionLoss, OperationTimeoutError)
"""Without the end of a session, which `recipes.base` counts among them: see above."""
LEAVE_S: Final = 5.0
"""How long a connection is waited for, to take away what is ours."""


class SomebodyElse(Exception):
    """An ephemeral znode belongs to a session that is alive and not ours."""

    def __init__(self, path: str, session: int) -> None:
        super().__init__(f"{path} belongs to session 0x{session & (1 << 64) - 1:x}")
        self.path, self.session = path, session


@attrs.frozen
class Znode:
    """What was read."""

    data: bytes
    version: int
    czxid: int
    owner: int
    """Session of an ephemeral, else 0."""


class Znodes:
    """Reads and transactions over one client, until `close`."""

    def __init__(self, client: KazooClient, stopping: Callable[[], bool] = bool) -> None:
        self.client = client
        self._stopping = stopping
        self._closed = False

    def close(self) -> None:
        """Send nothing more, also not what an answer that is waited for leads to: InterruptedError
        instead."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise InterruptedError("nothing more is to be sent")

    def _again(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """InterruptedError when it is to stop, and not connected."""
        self._check_open()
        retry = KazooRetry(
            max_tries=-1,
            delay=0.02,
            max_delay=0.5,
            ignore_expire=False,
            interrupt=lambda: self._closed or self._stopping(),
        )
        return retry(call, *args, **kwargs)

    @property
    def session(self) -> int | None:
        """None while there is none."""
        identity = self.client.client_id
        return int(identity[0]) if identity and self.client.connected else None

    # Reads.

    def read(self, path: str, watch: Watch | None = None) -> Znode | None:
        """None if it is not there; the watch is set in either case."""
        return self.read_all([path], watch)[path]

    def read_all(self, names: Iterable[str], watch: Watch | None = None) -> dict[str, Znode | None]:
        """Many at once; a watch is set on those that exist, and on a single one that does not."""
        wanted = list(dict.fromkeys(names))
        found: dict[str, Znode | None] = {}
        for part in chunks(wanted, MOST_IN_FLIGHT):
            found |= self._again(self._read_part, part, watch)
        if watch is not None and len(wanted) == 1 and found[wanted[0]] is None:
            return self._watch_absent(wanted[0], watch)
        return found

    def _read_part(self, names: Sequence[str], watch: Watch | None) -> dict[str, Znode | None]:
        asked = [self.client.get_async(name, watch=watch) for name in names]
        return {name: _znode(each) for name, each in zip(names, asked, strict=True)}

    def _watch_absent(self, path: str, watch: Watch) -> dict[str, Znode | None]:
        appeared = self._again(self.client.exists, path, watch=watch) is not None
        return {path: self.read(path, watch) if appeared else None}

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        """Sorted; none of a znode that is not there, whose creation is watched for then."""
        while True:
            try:
                return sorted(self._again(self.client.get_children, path, watch=watch))
            except NoNodeError:
                if watch is None or self._again(self.client.exists, path, watch=watch) is None:
                    return []

    # Writes.

    def transaction(self) -> TransactionRequest:
        return self.client.transaction()

    def commit(self, transaction: TransactionRequest) -> list[Any]:
        """Results, of which some are exceptions if it was refused; ConnectionLoss: who knows."""
        self._check_open()
        return list(transaction.commit())

    def ensure(self, path: str) -> None:
        """Create it and what is above it, persistent, unless it is there."""
        self._again(self.client.ensure_path, path)

    def sync(self, path: str) -> None:
        """Until this server has seen all that was written before, by connections that broke too."""
        self._again(self.client.sync, path)

    def create_ephemeral(self, path: str, data: bytes, earlier: Iterable[int] = ()) -> Znode:
        """An ephemeral of the present session, as Kafka makes them: created, and set, in one.

        One that is there already, with our session as its owner, is the answer that was lost.
        One of a session in `earlier`, which were ours and are over, is taken away (KAFKA-7165).
        SomebodyElse if it is another's.
        """
        over: set[int | None] = set(earlier)
        while True:
            before = self.session
            found = self._try_ephemeral(path, data)
            # Behind the read: it may have been sent again in a session that began meanwhile.
            session = self.session
            over |= {before} - {session, None}
            if found is None or session is None:
                continue
            if found.owner == session and found.data == data:
                return found
            if found.owner not in over:
                raise SomebodyElse(path, found.owner)
            self.delete_once(path)

    def _try_ephemeral(self, path: str, data: bytes) -> Znode | None:
        transaction = self.transaction()
        transaction.create(path, b"", ephemeral=True)
        transaction.set_data(path, data, version=0)
        try:
            raise_first(self.commit(transaction), but=(NodeExistsError,))
        except UNKNOWN_OUTCOME:
            self.sync(path)
        return self.read(path)

    def remove_own(self, path: str, prefix: bytes = b"") -> None:
        """An ephemeral of the present session, and never what somebody else has made meanwhile.

        Where several share a session, `prefix` is how the data of what is ours begins.
        ConnectionLoss without a connection: it may be there, and stay."""
        session = self.session
        if session is None:
            raise ConnectionLoss
        while True:
            found = self.read(path)
            if found is None or found.owner != session or not found.data.startswith(prefix):
                return
            self.delete_once(path)

    def delete_once(self, path: str) -> None:
        """Never sent again: the second one could meet what somebody else has made meanwhile."""
        self._check_open()
        try:
            self.client.delete(path)
        except NoNodeError:
            return
        except UNKNOWN_OUTCOME:
            self.sync(path)


def _znode(asked: Any) -> Znode | None:
    try:
        data, stat = asked.get()
    except NoNodeError:
        return None
    return Znode(data, stat.version, stat.czxid, stat.ephemeralOwner)


def chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


class Worker:
    """A thread that runs `step` when it is woken, at first, and when the connection is back.

    `step` may also be called by whoever does not want a thread, one call at a time.
    """

    calm_s: float = 0.0
    """What is waited between being woken and the step: what happens meanwhile needs no other."""
    PAUSE_S: Final = 1.0
    """Between a step that failed for another reason than the connection, and the next."""

    def __init__(self, client: KazooClient, name: str) -> None:
        self.client = client
        self.name = name
        self.zk = Znodes(client, self.is_stopping)
        self.losses = 0
        """How many sessions have ended since the start."""
        self.failure: Exception | None = None
        """Why the last step failed, if it was not the connection."""
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._leaver: threading.Thread | None = None
        """Gives back what is ours, after the other's end."""

    # For subclasses.

    def step(self) -> None:
        raise NotImplementedError

    def on_state(self, state: str) -> None:
        """A change of the connection, in kazoo's thread: it must not wait for anything."""

    def on_stop(self) -> None:
        """It is to stop, in the thread of whoever says so."""

    # For all.

    def start(self) -> None:
        """Also once more, after a stop.  RuntimeError while it runs."""
        if any(each.is_alive() for each in self._threads()):
            raise RuntimeError(f"{self.name} runs already, or has not come to its end yet")
        self._stopping.clear()
        self.zk = Znodes(self.client, self.is_stopping)
        self.client.add_listener(self._listen)
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._awake.set()
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended afterwards; what it wrote stays."""
        self._end(None)

    def _threads(self) -> list[threading.Thread]:
        return [each for each in (self._thread, self._leaver) if each is not None]

    def _end(self, timeout_s: float | None) -> bool:
        """Whether the threads have ended in time: without a connection, a request may wait."""
        self._stopping.set()
        self._awake.set()
        self.client.remove_listener(self._listen)
        self.on_stop()
        others = [each for each in self._threads() if each is not threading.current_thread()]
        for each in others:
            each.join(timeout_s)
        return not any(each.is_alive() for each in others)

    def leave(self, give_back: Callable[[Znodes], None], timeout_s: float | None) -> None:
        """Stop, and give back what is ours, for the session may live on without this worker, and
        all that it has with it.  That takes so many seconds at most, whatever the connection does;
        what is left after them, or if the client is stopped, goes with the session.

        In a thread of its own, since a request waits for its answer as long as there is no
        connection.  Its answer, should it come later, leads to nothing more."""
        zk, its_wait = Znodes(self.client), Wait(self.client)
        try:
            with Wait(self.client, timeout_s) as wait:
                if not self._end(timeout_s):
                    raise TimeUp
                given = self._begin_leaving(its_wait, lambda: give_back(zk))
                given.add_done_callback(wait.wake)
                wait.until(given.done)
                given.result()
        except (TimeUp, ConnectionClosedError) as why:
            zk.close()
            its_wait.cancel()
            log.info("%s: left to the end of its session: %r", self.name, why)

    def _begin_leaving(self, wait: Wait, give_back: Callable[[], None]) -> "Future[None]":
        given: Future[None] = Future()

        def run() -> None:
            try:
                with wait:
                    given.set_result(wait.persist(give_back))
            except Exception as why:  # whoever waits for it has it, or has given up
                given.set_exception(why)

        self._leaver = threading.Thread(target=run, name=f"{self.name} leaving", daemon=True)
        self._leaver.start()
        return given

    def wake(self, *_: object) -> None:
        """Also a watch, and so called in kazoo's thread."""
        self._awake.set()

    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def _listen(self, state: str) -> None:
        self.losses += state == KazooState.LOST
        self.on_state(state)
        if state == KazooState.CONNECTED:
            self.wake()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._awake.wait()
            if self.calm_s:
                self._stopping.wait(self.calm_s)
            self._awake.clear()
            if not self._stopping.is_set():
                self._try_step()

    def _try_step(self) -> None:
        try:
            self.step()
            self.failure = None
        except (*UNKNOWN_OUTCOME, SessionExpiredError) as why:
            log.info("%s: %r, to be tried again", self.name, why)
            if self.client.connected:
                self.wake()
        except Exception as why:
            if not self._stopping.is_set():
                self._fail(why)

    def _fail(self, why: Exception) -> None:
        self.failure = why
        log.exception("%s", self.name)
        self._stopping.wait(self.PAUSE_S)
        self.wake()
