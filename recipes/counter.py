"""`Counter`: a whole number that many add to, each addition once.

    counter = Counter(client, "/orders")
    number = counter.add(1)

kazoo's was not taken over: it adds again when an answer is lost, and so twice if the first addition
had happened.  Here each addition is one multi that also writes the addition's own number into a
node of this object's, where it is looked up afterwards.  If that node has gone with its session,
nobody can tell any more: UnknownOutcomeError.

    PATH              the value in decimal digits, as kazoo writes it (empty: `start`)
    PATH/by-<uuid>    ephemeral, one per object that adds: the number of its last addition
"""

import threading
import uuid

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import (
    BadVersionError,
    ConnectionLoss,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
)

from recipes.base import Removal, UnknownOutcomeError, Wait, name_of, raise_first, session_of


class Counter:
    def __init__(self, client: KazooClient, path: str, start: int = 0) -> None:
        self._client, self._path, self._start = client, path.rstrip("/"), start
        self._additions = 0
        self._own, self._session = "", 0
        self._mutex = threading.Lock()

    def value(self) -> int:
        """`start` if nothing was added yet."""
        with Wait(self._client) as wait:
            value: int = wait.persist(lambda: self._read(wait)[0])
        return value

    def add(self, number: int) -> int:
        """The value after it.  Raises UnknownOutcomeError when the session ended just then."""
        if not isinstance(number, int):
            raise TypeError(f"{number!r} is not a whole number")
        with self._mutex, Wait(self._client) as wait:
            while True:
                wait.persist(lambda: self._stand(wait))
                value, version = wait.persist(lambda: self._read(wait))
                if self._try(wait, value + number, version):
                    return int(value + number)

    def close(self) -> None:
        """Leave nothing behind in a session that goes on; the object may be used again.  Waits for
        an addition that is under way."""
        with self._mutex:
            Removal(self._client, self._path, "", name_of(self._own), bool(self._own))
            self._own, self._session = "", 0

    def _read(self, wait: Wait) -> tuple[int, int]:
        """Value and version."""
        try:
            data, stat = wait.result(self._client.get_async(self._path))
        except NoNodeError:
            return self._start, 0
        return (int(data) if data else self._start), stat.version

    def _stand(self, wait: Wait) -> None:
        """A new node of this object's, with a new name, in each session."""
        session = session_of(self._client)
        if session is None:
            raise ConnectionLoss
        if session == self._session:
            return
        wait.result(self._client.ensure_path_async(self._path))
        own = f"{self._path}/by-{uuid.uuid4().hex}"
        wait.result(self._client.create_async(own, b"0", ephemeral=True))
        self._own, self._session = own, session

    def _try(self, wait: Wait, value: int, version: int) -> bool:
        """Whether it was added; otherwise another one was faster."""
        self._additions += 1
        request = TransactionRequest(self._client)
        request.set_data(self._path, str(value).encode(), version)
        request.set_data(self._own, str(self._additions).encode(), -1)
        try:
            raise_first(wait.result(request.commit_async()))
        except BadVersionError:
            return False
        except NoNodeError:
            # Its own node went with its session, and the whole multi did nothing.
            self._session = 0
            return False
        except SessionExpiredError:
            # It was not sent: what is under way when a session ends fails with ConnectionLoss.
            return False
        except (ConnectionLoss, OperationTimeoutError):
            return bool(wait.persist(lambda: self._happened(wait)))
        return True

    def _happened(self, wait: Wait) -> bool:
        """The sync is for a member that we were moved to, which may lag behind the addition."""
        wait.result(self._client.sync_async(self._path))
        try:
            data, _ = wait.result(self._client.get_async(self._own))
        except NoNodeError as why:
            self._session = 0
            raise UnknownOutcomeError(self._path) from why
        return int(data) == self._additions


__all__ = ["Counter", "UnknownOutcomeError"]
