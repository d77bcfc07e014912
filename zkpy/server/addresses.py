"""Where the members of an ensemble are: names turned into addresses, and turned again.

In: the `server.N` lines, and new ones when the membership changes.  Out: for each server
id the addresses of its quorum and its election port, as sockets take them, and whether a
sender may be who it says.

Where the membership may change, *guests* are heard too: a server that is about to join
finds the leader by asking, and is answered where it asked from.  It is dialled by nobody.

A name that cannot be looked up yet, or that points elsewhere tomorrow (containers), is
no reason to fail: a thread looks all names up again every `LOOK_UP_S`, or sooner when
it is asked to.  It is a thread of its own, since a resolver may hang for half a minute
and a server must stop at once.  What is an address already costs no look-up.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from zkpy.config import ServerSpec
from zkpy.config.values import is_address, is_loopback
from zkpy.server.sockets import Place, look_up, place, plain_host

log = logging.getLogger("zkpy.server")

LOOK_UP_S: Final = 10.0
LOOK_UP_MIN_S: Final = 1.0
"""Between look-ups that somebody asked for."""
GUESTS_MAX: Final = 16
"""Guests remembered at a time: anybody can claim to be one."""


@attrs.define(frozen=True)
class Places:
    """One member."""

    quorum: tuple[Place, ...] = ()
    election: tuple[Place, ...] = ()
    hosts: frozenset[str] = frozenset()


NOWHERE: Final = Places()


class Directory:
    """The members but this one, by server id."""

    def __init__(self, servers: Iterable[ServerSpec], me: int, *, hosts_guests: bool = False):
        self.specs = {spec.server_id: spec for spec in servers if spec.server_id != me}
        self.me = me
        self.hosts_guests = hosts_guests
        self._guests: dict[int, Place] = {}
        """Where those that are not in `specs` last asked from; the newest is the last."""
        self._thread: threading.Thread | None = None
        self._places: dict[int, Places] = {sid: places_of(self.specs[sid]) for sid in self.specs}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Event()
        self._stopped = False
        self._first = asyncio.Event()

    def __contains__(self, sid: int) -> bool:
        return sid in self.specs

    def admits(self, sid: int) -> bool:
        """Whether that server may call here: a member, or a guest where there may be any."""
        return sid != self.me and (sid in self.specs or self.hosts_guests)

    def update(self, servers: Iterable[ServerSpec]) -> None:
        """The membership is another now; who is where it was keeps what was found out."""
        before, places = self.specs, self._places
        self.specs = {spec.server_id: spec for spec in servers if spec.server_id != self.me}
        self._places = {
            sid: places[sid] if is_where(before.get(sid), spec) else places_of(spec)
            for sid, spec in self.specs.items()
        }
        for sid in self.specs:
            self._guests.pop(sid, None)
        if self._loop is not None and self._has_names():
            self._look_up_names()
            self._wake.set()

    def meet(self, sid: int, family: int, sender: Any) -> None:
        """A guest asked from there.  No more than some at a time: the oldest is forgotten."""
        self._guests.pop(sid, None)
        self._guests[sid] = family, sender
        if len(self._guests) > GUESTS_MAX:
            del self._guests[next(iter(self._guests))]

    def quorum(self, sid: int) -> tuple[Place, ...]:
        return self._places.get(sid, NOWHERE).quorum

    def election(self, sid: int) -> tuple[Place, ...]:
        guest = self._guests.get(sid)
        return self._places.get(sid, NOWHERE).election if guest is None else (guest,)

    def is_at(self, sid: int, host: str) -> bool:
        """Whether `host` is a configured address of that member."""
        return host in self._places.get(sid, NOWHERE).hosts

    def is_elsewhere(self) -> bool:
        """Whether any member is known to be on another machine than this one."""
        hosts = [host for places in self._places.values() for host in places.hosts]
        return not all(map(is_loopback, hosts))

    # --- looking up -------------------------------------------------------------

    async def start(self, patience_s: float) -> None:
        """Look up what has to be, and wait a little for the first answers."""
        self._loop = asyncio.get_running_loop()
        if not self._has_names():
            return
        self._look_up_names()
        try:
            async with asyncio.timeout(patience_s):
                await self._first.wait()
        except TimeoutError:
            log.warning("looking up the names of the other servers takes long; going on meanwhile")

    def _has_names(self) -> bool:
        return any(map(has_names, self.specs.values()))

    def _look_up_names(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="zkpy-names", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def look_again(self) -> None:
        """Somebody is not where we think: its name may mean another address by now."""
        self._wake.set()

    def _run(self) -> None:
        pause = threading.Event()
        while not self._stopped:
            specs = self.specs  # replaced, never changed
            self._tell(specs, {sid: places_of(spec, look_up) for sid, spec in specs.items()})
            pause.wait(LOOK_UP_MIN_S)
            self._wake.wait(LOOK_UP_S)
            self._wake.clear()

    def _tell(self, specs: dict[int, ServerSpec], found: dict[int, Places]) -> None:
        assert self._loop is not None
        if not self._stopped:
            try:
                self._loop.call_soon_threadsafe(self._note, specs, found)
            except RuntimeError:  # the loop was closed just now
                self._stopped = True

    def _note(self, specs: dict[int, ServerSpec], found: dict[int, Places]) -> None:
        """A name that is not found just now keeps the addresses that it had."""
        for sid, places in found.items():
            if not is_where(self.specs.get(sid), specs[sid]):
                continue  # it was looked up for a membership that is over
            before = self._places[sid]
            if places.hosts and places != before:
                self._places[sid] = places
                if before.hosts:
                    log.info("server %d is now at %s", sid, ", ".join(sorted(places.hosts)))
        self._first.set()


LookUp = Callable[[str], list[str]]


def is_where(before: ServerSpec | None, spec: ServerSpec) -> bool:
    """Whether that server is at the same addresses, whatever else became of it."""
    return before is not None and before.addresses == spec.addresses


def has_names(spec: ServerSpec) -> bool:
    return not all(is_address(address.host) for address in spec.addresses)


def no_look_up(host: str) -> list[str]:
    return []


def places_of(spec: ServerSpec, look: LookUp = no_look_up) -> Places:
    hosts = [
        (host, address)
        for address in spec.addresses
        for host in ([address.host] if is_address(address.host) else look(address.host))
    ]
    return Places(
        tuple(place(host, address.quorum_port) for host, address in hosts),
        tuple(place(host, address.election_port) for host, address in hosts),
        frozenset(plain_host(host) for host, _ in hosts),
    )
