"""`Once`: multis that happen at most once each, however often they have to be sent.

Each carries one more write: of a note, an ephemeral node of this object's own, on condition of
its version. A multi whose answer was lost is simply sent again: if it had happened, the
note has another version and the server refuses it, also if the first one arrives after the
second. Only when the session has ended, and the note with it, nobody can tell any more.

    PARENT/<32 hex>   ephemeral; its version counts the multis of one object in one session
"""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import BadVersionError, ConnectionLoss, NodeExistsError, NoNodeError
from kazoo.protocol.serialization import Transaction

from recipes.base import Removal, UnknownOutcomeError, Wait, session_of
from recipes.locks.claim import Gate

Fill = Callable[[TransactionRequest], object]
"""Adds its writes to a multi; called for each time that it is sent."""
LARGEST: Final = 1_048_000
"""Bytes of a multi.  Servers take requests of 1,048,575, if they are not told otherwise."""


def is_too_large(request: TransactionRequest) -> bool:
    """A server closes the connection on it, which to a client is one more lost answer: it would be
    sent again for ever."""
    return len(Transaction(request.operations).serialize()) > LARGEST


class Once:
    """One multi at a time; another thread's waits, within its own time."""

    def __init__(self, client: KazooClient, parent: str) -> None:
        self.client, self.parent = client, parent
        self._name, self._named_in = "", 0
        self._session: int | None = None
        """In which the note is known to stand."""
        self._version = 0
        self._sent = False
        """Whether the present multi may have happened."""
        self._gate = Gate(reentrant=True)
        self._waits: dict[Wait, None] = {}
        """For the gate."""

    def commit(self, wait: Wait, fill: Fill) -> list[Any]:
        """What came of each write: failures among them if nothing was done, nothing at all if it
        was done and the answer lost.  Raises UnknownOutcomeError, and TimeUp: then it may
        have happened, but will not happen later than this object's next one.  ValueError: it
        is too large, and was not sent. RuntimeError: `fill` called for another one."""
        with self._alone(wait):
            try:
                results: list[Any] | None = None
                while results is None:
                    results = wait.persist(lambda: self._attempt(wait, fill))
            finally:
                if self._sent:
                    self._discard()
        return results

    def close(self) -> None:
        """Take the note away, in the background.  The next multi makes a new one."""
        with Wait(self.client) as wait, self._alone(wait):
            self._discard()

    @contextlib.contextmanager
    def _alone(self, wait: Wait) -> Iterator[None]:
        self._waits[wait] = None
        try:
            wait.until(self._gate.enter)
        finally:
            del self._waits[wait]
        try:
            if self._gate.depth > 1:
                raise RuntimeError("within the writes of another multi of the same object")
            yield
        finally:
            self._gate.leave()
            for each in list(self._waits):
                each.wake()

    def _discard(self) -> None:
        """With the note goes every chance of what is still under way."""
        Removal(self.client, self.parent, "", self._name, bool(self._name))
        self._name, self._named_in, self._session, self._sent = "", 0, None, False

    def _attempt(self, wait: Wait, fill: Fill) -> list[Any] | None:
        """None if there was no note and nothing has happened."""
        self._stand(wait)
        request = TransactionRequest(self.client)
        request.set_data(f"{self.parent}/{self._name}", b"", self._version)
        fill(request)
        if is_too_large(request):
            raise ValueError(f"more than {LARGEST} bytes do not fit into one request")
        again, self._sent = self._sent, True
        noted, *results = wait.result(request.commit_async())
        self._sent = False
        return self._judge(noted, results, again)

    def _judge(self, noted: Any, results: list[Any], again: bool) -> list[Any] | None:
        if again and isinstance(noted, BadVersionError):
            self._version += 1
            return []
        if isinstance(noted, BadVersionError | NoNodeError):
            # Somebody else's doing.
            self._discard()
            if again:
                raise UnknownOutcomeError(self.parent)
            return None
        self._version += not isinstance(noted, Exception)
        return results

    def _stand(self, wait: Wait) -> None:
        """The note, with a new name in each session; there already if the answer was lost."""
        session = session_of(self.client)
        if session is None:
            raise ConnectionLoss
        if session == self._session:
            return
        if self._sent:
            raise UnknownOutcomeError(self.parent)
        if session != self._named_in:
            self._name, self._named_in = uuid.uuid4().hex, session
        wait.result(self.client.ensure_path_async(self.parent))
        path = f"{self.parent}/{self._name}"
        with contextlib.suppress(NodeExistsError):
            wait.result(self.client.create_async(path, ephemeral=True))
        self._session, self._version = session, 0
