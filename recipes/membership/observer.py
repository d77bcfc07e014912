"""`ClusterObserver`: who is a member now, and what happens to them."""

from collections.abc import Callable
from typing import Any, Final

from kazoo.client import KazooClient

from recipes.base import Wait
from recipes.liveview import LiveView, now_ms
from recipes.membership.departures import Departures
from recipes.membership.node import DEPARTED, MEMBERS, decode_member, newest_by_name
from recipes.membership.view import SHARE, Event, Member, Seat, View, choose_master

GRACE_S: Final = 10.0


class ClusterObserver(LiveView[Event, Member | None]):
    """One process's view of one cluster.  Listeners run in a thread of its own, and may block."""

    def __init__(
        self, client: KazooClient, path: str, *, grace: float = GRACE_S, share: float = SHARE
    ) -> None:
        """`grace`: seconds for which a member that has gone is suspect only. `share`: if more of
        them are suspect at the same time, nobody is declared to have left (1.0: never)."""
        path = path.rstrip("/")
        self._view = View(round(grace * 1000), share)
        self._seats: dict[str, Seat] = {}
        self._departures = Departures(client, f"{path}/{DEPARTED}")
        super().__init__(
            client,
            path,
            self._view,
            name=f"cluster {path}",
            nodes=f"{path}/{MEMBERS}",
            read=read_member,
        )

    # --- what is known ----------------------------------------------------------------------

    @property
    def members(self) -> dict[str, Seat]:
        """By name: member, and whether it is alive or suspect."""
        return self._seats

    @property
    def master(self) -> Member | None:
        """The oldest that is alive: an opinion, which other observers share a moment sooner or
        later. Who acts on it alone wants an election, with a fencing token, instead."""
        return choose_master(self._seats)

    def wait(self, condition: Callable[[dict[str, Seat]], object], timeout: float | None) -> None:
        """Until the members are such.  Raises TimeUp, and CancelledError once it is stopped."""
        self._until(lambda: bool(condition(self._seats)), timeout)

    # --- the loop -----------------------------------------------------------------------------

    def _step(self, wait: Wait) -> float | None:
        self._loop.sync(wait, self.path)
        breaks = self._loop.breaks
        nodes = self._nodes.read(wait)
        present = newest_by_name(each for each in nodes.values() if each is not None)
        gone = any(name not in present for name in self._seats)
        departed = self._departures.read(wait) if gone else frozenset()
        if breaks == self._loop.breaks:
            self._deal(lambda: self._view.observe(now_ms(), present, departed))
        return self._pause()

    def _show(self) -> None:
        self._seats = dict(self._view.seats)


def read_member(name: str, data: bytes, stat: Any) -> Member | None:
    return decode_member(data, int(stat.czxid))
