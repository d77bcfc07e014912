"""Election datagrams: the votes of all members over UDP, on the election port.

In: datagrams, to the core as `Notification`s with the server id they come from.  Out:
the core's notifications, one datagram to each address of the member.

The sockets are plain ones that the event loop watches, and each is emptied when it can
be read: a transport or a stream of datagrams would hand over one at a time and keep a
queue without a bound in between.  A flood takes no more than `DRAIN_MAX` of a turn.
Whatever the kernel cannot send at once is dropped, as on the way; votes are repeated.

A datagram counts if it comes from a configured address of the member that it names, or
if that is none of the members, and guests are welcome (see `addresses`).
That is no authentication (an address can be forged): the echo of our incarnation in it
(see `wire.peer`) is what a stranger who sees no traffic cannot have.  With keys
(`electionKeyFile`) it has to be signed as well.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import attrs

from wire.errors import RemoteProtocolError
from wire.peer import Notification, Role, decode_notification, encode_notification
from zkpy.server.addresses import Directory
from zkpy.server.clock import monotonic_ms
from zkpy.server.complaints import Complaints
from zkpy.server.sockets import Place, plain_host

log = logging.getLogger("zkpy.server")

DRAIN_MAX: Final = 64
DATAGRAM_BYTES_MAX: Final = 512
SILENCE_MS: Final = 10_000
"""Asked for so long without an answer, a member is worth a line in the log."""
QUESTION_GAP_MS: Final = 3_000
"""Questions further apart than this do not belong to one and the same search."""


@attrs.define
class _Search:
    """A member that is asked for its vote and has not answered."""

    since: int
    last: int
    told: bool = False


class Votes:
    """The election sockets of one server."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        directory: Directory,
        receive: Callable[[int, Notification], object],
        clock: Callable[[], int] = monotonic_ms,
        keys: Sequence[bytes] = (),
        takes_unsigned: bool = False,
    ) -> None:
        """What is sent is signed with the first of `keys`, and what comes must be with one of them,
        if there are any, and unless `takes_unsigned`."""
        self._sockets = list(sockets)
        self._directory = directory
        self._receive = receive
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._key = keys[0] if keys else None
        self._keys = () if takes_unsigned else keys
        self._searches: dict[int, _Search] = {}
        self._complain = Complaints(clock).add

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for each in self._sockets:
            self._loop.add_reader(each.fileno(), partial(self._drain, each))

    def stop(self) -> None:
        if self._loop is not None:
            for each in self._sockets:
                self._loop.remove_reader(each.fileno())
            self._loop = None

    # --- in ---------------------------------------------------------------------

    def _drain(self, opened: socket.socket) -> None:
        for _ in range(DRAIN_MAX):
            try:
                data, sender = opened.recvfrom(DATAGRAM_BYTES_MAX + 1)
            except OSError:  # empty, or the kernel's word about a datagram sent earlier
                return
            self._take(data, opened.family, sender)

    def _take(self, data: bytes, family: int, sender: Any) -> None:
        host = plain_host(sender[0])
        try:
            notification = decode_notification(data, self._keys)
        except RemoteProtocolError as why:
            self._complain(f"ignoring datagrams from {host}: {why}")
            return
        sid = notification.sid
        if not self._directory.admits(sid):
            self._complain(f"ignoring datagrams from {host}: there is no other server {sid}")
        elif sid not in self._directory:
            self._directory.meet(sid, family, sender)
            self._receive(sid, notification)
        elif not self._directory.is_at(sid, host):
            self._directory.look_again()
            self._complain(f"ignoring datagrams from {host}: server {sid} is not there")
        else:
            self._searches.pop(sid, None)
            self._receive(sid, notification)

    # --- out --------------------------------------------------------------------

    def send(self, sid: int, notification: Notification) -> None:
        if notification.role == Role.LOOKING and sid in self._directory:  # no guest is missed
            self._search(sid)
        data = encode_notification(notification, self._key)
        for index, place in enumerate(self._directory.election(sid)):
            self._send_to(index, place, data)

    def _send_to(self, index: int, place: Place, data: bytes) -> None:
        """From the own address of the same number, if there are several: networks in parallel."""
        family, address = place
        fitting = [each for each in self._sockets if each.family == family]
        if fitting:
            try:
                fitting[min(index, len(fitting) - 1)].sendto(data, address)
            except OSError:  # no room, no route: as good as lost on the way
                return

    def _search(self, sid: int) -> None:
        now = self._clock()
        search = self._searches.get(sid)
        if search is None or now - search.last > QUESTION_GAP_MS:
            self._searches[sid] = _Search(now, now)
            return
        search.last = now
        if now - search.since >= SILENCE_MS and not search.told:
            search.told = True
            self._tell_silence(sid)

    def _tell_silence(self, sid: int) -> None:
        spec = self._directory.specs.get(sid)
        if spec is None:
            return
        if not self._directory.election(sid):
            names = ", ".join(each.host for each in spec.addresses)
            log.warning("the name of server %d (%s) cannot be looked up", sid, names)
            return
        where = ", ".join(f"{each.host}:{each.election_port}" for each in spec.addresses)
        log.warning(
            "no answer from server %d (%s) for %d s: is it running, and is UDP open between "
            "here and there?",
            *(sid, where, SILENCE_MS // 1000),
        )
