"""The connection of `zkpy shell`: made when it is needed, and anew after one that was given up.

kazoo keeps requests until there is a connection again, however long that takes: a
command that somebody ended long ago would be carried out then.  Here a request without
a connection waits for one for a while, and fails; it is never sent later.
"""

import threading
from typing import Any, Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, ConnectionLoss, KazooException
from kazoo.protocol.states import KeeperState

from zkpy.cli.words import why_nobody

DEFAULT_TIMEOUT_S: Final = 10.0
RECONNECT: Final = {"max_tries": -1, "delay": 0.1, "max_delay": 1.0}
"""Somebody waits at the prompt: kazoo's own pauses grow to a minute."""
_ENDED: Final = (KeeperState.CLOSED, KeeperState.AUTH_FAILED)


class NotConnected(ConnectionLoss):  # type: ignore[misc]
    """The request was not sent; the message says why."""


class Client(KazooClient):  # type: ignore[misc]
    """Sends a request at once, or within `patience_s`, or never."""

    def __init__(self, hosts: str, patience_s: float, **options: Any) -> None:
        self.patience_s = patience_s
        super().__init__(hosts, connection_retry=RECONNECT, **options)

    @property
    def busy(self) -> bool:
        """Whether an answer is outstanding."""
        return bool(self._pending or self._queue)

    @property
    def ended(self) -> bool:
        return self.client_state in _ENDED

    def _call(self, request: Any, result: Any) -> Any:
        if not self.ended and not self._live.wait(self.patience_s):
            result.set_exception(NotConnected("there is no connection; nothing was sent"))
            return False
        sent = super()._call(request, result)
        if not self._live.is_set():
            self._withdraw(request, result)
        return sent

    def _withdraw(self, request: Any, result: Any) -> None:
        """kazoo fails what is queued when the connection ends; this came just after that."""
        try:
            self._queue.remove((request, result))
        except ValueError:
            why: KazooException = ConnectionLoss()
        else:
            why = NotConnected("the connection was lost; nothing was sent")
        if not result.ready():
            result.set_exception(why)

    def hang_up(self) -> None:
        """End the session, if the server takes part."""
        try:
            self.stop()
            self.close()
        except (KazooException, OSError):
            pass  # the thread waits for a server that says nothing: the session will expire

    def abandon(self) -> None:
        """The same, without waiting for it."""
        threading.Thread(target=self.hang_up, daemon=True).start()


@attrs.define
class Link:
    """Whom the shell talks to, and as whom."""

    server: str
    timeout_s: float = DEFAULT_TIMEOUT_S
    read_only: bool = False
    identities: list[tuple[str, str]] = attrs.Factory(list)
    closed: bool = False
    """On demand; only `connect` ends that."""
    _client: Client | None = None

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.connected

    @property
    def client(self) -> Client:
        if self.closed:
            raise NotConnected("not connected (connect HOST:PORT)")
        if self._client is None or self._client.ended:
            self._client = self._open()
        return self._client

    def _open(self) -> Client:
        client = Client(self.server, self.timeout_s, read_only=self.read_only)
        try:
            if not client.start_async().wait(self.timeout_s):
                raise NotConnected(why_nobody(self.server))
            for scheme, auth in self.identities:
                client.add_auth(scheme, auth)
        except BaseException:  # Ctrl-C too: it would connect some time, and stay
            client.abandon()
            raise
        return client

    def connect(self, server: str) -> None:
        """Leave this server for another; ValueError if there is none at such a place."""
        check_server(server)
        self.close()
        self.server, self.closed = server, False
        self._client = self._open()

    def add_auth(self, scheme: str, auth: str) -> None:
        """The identity is that of later connections too, unless it is refused."""
        try:
            self.client.add_auth(scheme, auth)
        except AuthFailedError:
            self.give_up()  # the server ends this session, and kazoo would repeat the identity
            raise
        self.identities.append((scheme, auth))

    def give_up(self) -> None:
        """Wait for no answer any more; what comes next has a fresh connection."""
        if self._client is not None:
            self._client.abandon()
            self._client = None

    def give_up_if_busy(self) -> bool:
        busy = self._client is not None and self._client.busy
        if busy:
            self.give_up()
        return busy

    def close(self) -> None:
        if self._client is not None and self.connected:
            self._client.hang_up()
            self._client = None
        self.give_up()
        self.closed = True


def check_server(text: str) -> None:
    """ValueError unless it is HOST:PORT[,...][/CHROOT]."""
    try:
        Client(text, DEFAULT_TIMEOUT_S)
    except ValueError as why:
        raise ValueError(f"{text!r}: HOST:PORT[,...][/CHROOT] is needed ({why})") from None
