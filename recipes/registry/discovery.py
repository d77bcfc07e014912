"""`ServiceView`: the instances of one service, kept up with; and what can be asked for once.

with ServiceView(client, "/services", "orders") as orders:
    orders.wait(bool, timeout=10)
    orders.available            # those that are in service
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from recipes.base import Wait
from recipes.liveview import LiveView, now_ms
from recipes.membership.departures import Departures
from recipes.membership.view import SHARE
from recipes.registry.instance import (
    FormatError,
    ServiceInstance,
    check_name,
    decode,
    departures_of,
)
from recipes.registry.view import Event, Instances

log = logging.getLogger(__name__)

WINDOW_S: Final = 10.0


@attrs.frozen
class Node:
    instance: ServiceInstance | None
    problem: str
    """Why it is None."""
    czxid: int
    mzxid: int


class ServiceView(LiveView[Event, Node]):
    """One process's view of one service.  Listeners run in a thread of its own, and may block."""

    def __init__(
        self,
        client: KazooClient,
        base: str,
        name: str,
        *,
        window: float = WINDOW_S,
        share: float = SHARE,
    ) -> None:
        """If more than `share` of all instances, and at least two, go within `window` seconds, all
        of them are kept (share 1.0: never)."""
        path = f"{base.rstrip('/')}/{check_name(name)}"
        self._view = Instances(round(window * 1000), share)
        self._instances: dict[str, ServiceInstance] = {}
        self.unreadable: dict[str, str] = {}
        """What is wrong with the znodes that are no instances, by name."""
        self._read_after = -1
        """Number of breaks before the read that is shown."""
        self._departures = Departures(client, departures_of(path))
        super().__init__(
            client, path, self._view, name=f"service {path}", nodes=path, read=read_node
        )

    # --- what is known ----------------------------------------------------------------------

    @property
    def instances(self) -> dict[str, ServiceInstance]:
        """By id: also those that are out of service."""
        return self._instances

    @property
    def available(self) -> list[ServiceInstance]:
        """Those that are in service, ordered by their ids."""
        found = self._instances
        return [found[name] for name in sorted(found) if found[name].is_in_service]

    @property
    def stale(self) -> bool:
        """Also until it was read again behind a break."""
        return super().stale or self._read_after != self._loop.breaks

    def wait(
        self, condition: Callable[[dict[str, ServiceInstance]], object], timeout: float | None
    ) -> None:
        """Until the instances are such.  Raises TimeUp, and CancelledError once it is stopped."""
        self._until(lambda: bool(condition(self._instances)), timeout)

    # --- the loop -----------------------------------------------------------------------------

    def _step(self, wait: Wait) -> float | None:
        self._loop.sync(wait, self.path)
        breaks = self._loop.breaks
        nodes = self._nodes.read(wait)
        present = {name: node.instance for name, node in nodes.items()}
        born = {name: node.czxid for name, node in nodes.items()}
        self._note_unreadable({name: e.problem for name, e in nodes.items() if e.problem})
        # Behind the instances: who is not there has said so before, if it did.
        gone = self._view.misses(present)
        departed = self._departures.read(wait) if gone else frozenset()
        if breaks == self._loop.breaks:
            self._read_after = breaks
            self._deal(lambda: self._view.observe(now_ms(), present, born, departed))
        return self._pause()

    def _show(self) -> None:
        self._instances = self._view.by_id

    def _note_unreadable(self, found: dict[str, str]) -> None:
        for name in sorted(found):
            if self.unreadable.get(name) != found[name]:
                log.warning("%s/%s", self.path, found[name])
        self.unreadable = found


def read_node(name: str, data: bytes, stat: Any) -> Node:
    try:
        return Node(decode(data, name), "", stat.czxid, stat.mzxid)
    except FormatError as why:
        return Node(None, str(why), stat.czxid, stat.mzxid)


# --- once ---------------------------------------------------------------------------------------


@attrs.frozen
class Found:
    """What a service was when it was asked for."""

    instances: dict[str, ServiceInstance]
    """All that can be read, by id."""
    changed: tuple[str, ...]
    """Those among them that were registered, or changed, since."""
    zxid: int
    """To be given as `since` the next time."""


def list_services(client: KazooClient, base: str, *, timeout: float | None = None) -> list[str]:
    """Names of services, those without instances among them.  Raises TimeUp."""
    with Wait(client, timeout) as wait:
        return sorted(wait.persist(lambda: _children(wait, base.rstrip("/") or "/")))


def find(
    client: KazooClient, base: str, name: str, *, since: int = 0, timeout: float | None = None
) -> Found:
    """Ask once.  With the `zxid` of an earlier answer, what has changed since then; what changes
    just now may be told of twice, and is never left out.  Raises TimeUp."""
    path = f"{base.rstrip('/')}/{check_name(name)}"
    with Wait(client, timeout) as wait:
        found: Found = wait.persist(lambda: _find(wait, path, since))
    return found


def _find(wait: Wait, path: str, since: int) -> Found:
    wait.result(wait.client.sync_async(path))
    # Before it is read: what happens from here on has a larger one.
    zxid = int(wait.client.last_zxid)
    names = sorted(_children(wait, path))
    answers = [(each, wait.client.get_async(f"{path}/{each}")) for each in names]
    nodes = {each: _answer(wait, each, answer) for each, answer in answers}
    there = {each: node for each, node in nodes.items() if node is not None and node.instance}
    instances = {each: node.instance for each, node in there.items() if node.instance}
    changed = tuple(each for each, node in there.items() if node.mzxid > since)
    return Found(instances, changed, zxid)


def _children(wait: Wait, path: str) -> list[str]:
    try:
        found: list[str] = wait.result(wait.client.get_children_async(path))
    except NoNodeError:
        return []
    return found


def _answer(wait: Wait, name: str, answer: Any) -> Node | None:
    try:
        data, stat = wait.result(answer)
    except NoNodeError:
        return None
    return read_node(name, data, stat)
