"""What every recipe needs of kazoo: waiting that ends, and nodes whose create may lose its answer.

kazoo reports three things that a recipe must not take for one:

- ConnectionLoss: the request may have been carried out or not;
- SUSPENDED: the session may live on or not, and nothing can be known before the connection is back;
- LOST: the session is over, and its ephemeral nodes with it.

`Wait` bounds one call by a timeout and by `cancel`, whatever the connection does. `Seat` is
an ephemeral, sequential node that is found again when the answer to its create was lost.
`Removal` takes a node away by itself, however often the connection breaks meanwhile.
`first_error` and `raise_first` say why a multi was refused.

No call here may be made from kazoo's own threads (watches, listeners), which would wait for
itself; `Removal` is the exception.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import (
    CancelledError,
    ConnectionClosedError,
    ConnectionLoss,
    NoNodeError,
    OperationTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)
from kazoo.protocol.states import KeeperState

log = logging.getLogger(__name__)

UNKNOWN_OUTCOME: Final = (ConnectionLoss, OperationTimeoutError, SessionExpiredError)
"""Whether the request was carried out must be found out."""
NUMBER: Final = re.compile(r"(?:\d{10}|-\d{9,10})$")
"""What a server appends to the name of a sequential node: `%010d` of 32 signed bits."""


class TimeUp(Exception):
    """A call did not end within its timeout."""


class UnknownOutcomeError(Exception):
    """It may have happened, or not, and it cannot be found out."""


class Wait:
    """One call that waits: until something holds, its time is up, or it is cancelled.

    A context manager: inside, changes of the connection wake it."""

    def __init__(self, client: KazooClient, timeout: float | None = None) -> None:
        """`timeout` in seconds from now, None for ever."""
        self.client = client
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._event = client.handler.event_object()
        self._cancelled = False
        self.endings: dict[object, Callable[[], object]] = {}
        """What is called when this is over."""

    def __enter__(self) -> "Wait":
        self.client.add_listener(self.wake)
        return self

    def __exit__(self, *failure: object) -> None:
        self.client.remove_listener(self.wake)
        for ending in list(self.endings.values()):
            ending()

    def wake(self, *ignored: object) -> None:
        """Look at the condition again: a listener, a watch, or a link of a result."""
        self._event.set()

    def cancel(self) -> None:
        self._cancelled = True
        self._event.set()

    def until(self, condition: Callable[[], object]) -> None:
        """Raises TimeUp, CancelledError."""
        while True:
            # Cleared before the condition is read: what happens behind it wakes us again.
            self._event.clear()
            if self._cancelled:
                raise CancelledError
            if condition():
                return
            left = self._left()
            if left is not None and left <= 0:
                raise TimeUp
            self._event.wait(left)

    def _left(self) -> float | None:
        return None if self._deadline is None else self._deadline - time.monotonic()

    def result(self, asked: Any) -> Any:
        """Of one of kazoo's asynchronous calls, or its exception."""
        asked.rawlink(self.wake)
        self.until(asked.ready)
        return asked.get()

    def connection(self) -> None:
        """Until there is one.  Raises ConnectionClosedError when none can be had any more."""
        self.until(lambda: self.client.connected or is_closed(self.client))
        if is_closed(self.client):
            raise ConnectionClosedError("the client is stopped, or was never started")

    def persist(self, step: Callable[[], Any]) -> Any:
        """What `step` returns; again, with a connection, each time that its outcome is unknown."""
        while True:
            self.connection()
            try:
                return step()
            except UNKNOWN_OUTCOME as why:
                log.debug("tried again after %r", why)


def is_closed(client: KazooClient) -> bool:
    return client.client_state in (KeeperState.CLOSED, KeeperState.AUTH_FAILED)


def first_error(results: Iterable[Any]) -> Exception | None:
    """Why a multi was refused, by its results; None if it was carried out.  Of the operations
    that failed one is the cause; the others only say that they were not done because of it."""
    errors = [each for each in results if isinstance(each, Exception)]
    echoes = (RolledBackError, RuntimeInconsistency)
    causes = [each for each in errors if not isinstance(each, echoes)]
    return next(iter(causes or errors), None)


def raise_first(results: Iterable[Any], but: tuple[type[Exception], ...] = ()) -> None:
    """Raise why a multi was refused, if it was, and that is none of `but`."""
    why = first_error(results)
    if why is not None and not isinstance(why, but):
        raise why


def session_of(client: KazooClient) -> int | None:
    """Id of the session that the client has a connection for; None without one."""
    identity = client.client_id
    return None if identity is None else int(identity[0])


class Seat:
    """An ephemeral, sequential node under `parent`, with a name that nobody else can have.

    `prefix` is called with a fresh uuid, and gives the name up to its number."""

    def __init__(
        self, client: KazooClient, parent: str, prefix: Callable[[uuid.UUID], str], data: bytes
    ) -> None:
        self.client, self.parent, self.data = client, parent, data
        self.prefix = prefix(uuid.uuid4())
        self.name = ""
        """Once it is known."""
        self._session: int | None = None
        """In which it was asked for."""

    @property
    def path(self) -> str:
        return f"{self.parent}/{self.name}"

    @property
    def is_asked_for(self) -> bool:
        return self._session is not None

    def outlived(self) -> bool:
        """Whether the session has ended in which it was asked for, and the node with it."""
        return self.is_asked_for and session_of(self.client) not in (None, self._session)

    def occupy(self, wait: Wait) -> bool:
        """Create the node, or find it if that was tried before; False if it is not there.

        Raises what kazoo raises, and may be called again then."""
        if self.name:
            return True
        if self.is_asked_for:
            self.name = self._find(wait)
        else:
            self.name = self._create(wait)
        return bool(self.name)

    def _create(self, wait: Wait) -> str:
        self._session = session_of(self.client)
        if self._session is None:
            raise ConnectionLoss
        while True:
            try:
                return name_of(wait.result(self._ask()))
            except NoNodeError:
                wait.result(self.client.ensure_path_async(self.parent))

    def _ask(self) -> Any:
        return self.client.create_async(
            f"{self.parent}/{self.prefix}", self.data, ephemeral=True, sequence=True
        )

    def _find(self, wait: Wait) -> str:
        """With a sync before it.  A member that we were moved to may lag behind the create, which
        then is committed, is not seen, and stays as an orphan in front of everybody."""
        wait.result(self.client.sync_async(self.parent))
        try:
            children = wait.result(self.client.get_children_async(self.parent))
        except NoNodeError:
            return ""
        return find_own(children, self.prefix)

    def leave(self) -> "Removal":
        """Take the node away, also if it may not be there."""
        return Removal(self.client, self.parent, self.prefix, self.name, self.is_asked_for)


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


def find_own(children: list[str], prefix: str) -> str:
    """The child whose name is that prefix and a number; empty if there is none."""
    own = (each for each in children if each.startswith(prefix))
    return next((each for each in own if NUMBER.fullmatch(each[len(prefix) :])), "")


@attrs.define(eq=False)
class Removal:
    """Takes an ephemeral node away: delete, or sync, list and delete if its name is not known.

    It starts at once and goes on by itself, in kazoo's threads, until the node is gone or its
    session has ended. A request that is made while there is no connection is kept by
    kazoo until there is one; so the next step may be asked for at once."""

    _client: KazooClient
    _parent: str
    _prefix: str
    _name: str
    _needed: bool = True
    is_done: bool = attrs.field(default=False, init=False)
    _links: list[Callable[[], None]] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        if self._needed:
            self._begin()
        else:
            self._end()

    def link(self, told: Callable[[], None]) -> None:
        """Call when it is done."""
        self._links.append(told)
        if self.is_done:
            told()

    def _begin(self) -> None:
        if self._name:
            self._client.delete_async(f"{self._parent}/{self._name}").rawlink(self._on_deleted)
        else:
            self._client.sync_async(self._parent).rawlink(self._on_synced)

    def _on_synced(self, asked: Any) -> None:
        if not self._over(asked):
            self._client.get_children_async(self._parent).rawlink(self._on_children)

    def _on_children(self, asked: Any) -> None:
        if not self._over(asked):
            self._name = find_own(asked.value, self._prefix)
            if self._name:
                self._begin()
            else:
                self._end()

    def _on_deleted(self, asked: Any) -> None:
        if not self._over(asked):
            self._end()

    def _over(self, asked: Any) -> bool:
        """Whether the request failed: then there is a new beginning, or nothing left to do."""
        why = asked.exception
        if why is None:
            return False
        # While a client is stopped, kazoo calls this from within the loop that fails what is
        # asked for: to ask again would never end.  The node goes with the session.
        if isinstance(why, ConnectionLoss | OperationTimeoutError) and (
            self._client.handler.running
        ):
            self._begin()
            return True
        if not isinstance(why, UNKNOWN_OUTCOME + (NoNodeError,)):
            log.warning("%s/%s* is left behind: %r", self._parent, self._prefix, why)
        self._end()
        return True

    def _end(self) -> None:
        self.is_done = True
        for told in self._links:
            told()
