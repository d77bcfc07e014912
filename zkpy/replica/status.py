"""Facts about a member for whoever watches: read-only, taken at one moment."""

import attrs

from wire.peer import Role
from zkpy.replica.core import Replica
from zkpy.replica.links import ClientLink


@attrs.define(frozen=True)
class LinkStatus:
    """One client connection."""

    id: int
    session: int
    timeout_ms: int
    queued: int
    received: int
    sent: int
    opened_ms: int
    heard_ms: int


@attrs.define(frozen=True)
class Status:
    """One member.  Sizes in bytes, times in ms of the monotonic clock."""

    mode: str
    """standalone, leader, follower or observer; empty while it does not serve."""
    zxid: int
    """Of the last applied transaction."""
    znodes: int
    data_bytes: int
    ephemerals: int
    watches: int
    sessions: int
    outstanding: int
    packets_received: int
    packets_sent: int
    links: tuple[LinkStatus, ...]


_MODES = {
    Role.LEADING: "leader",
    Role.FOLLOWING: "follower",
    Role.OBSERVING: "observer",
    Role.LOOKING: "",
}


def status_of(replica: Replica) -> Status:
    """Costs a walk over the connections, not over the tree."""
    state = replica.state
    table = replica.clients.links
    links = list(table.by_id.values())
    return Status(
        mode=_mode_of(replica),
        zxid=state.zxid,
        znodes=len(state.tree.nodes),
        data_bytes=state.data_bytes,
        ephemerals=state.lifetimes.ephemeral_count,
        watches=replica.clients.watches.count,
        sessions=len(state.sessions),
        outstanding=len(replica.clients.gate),
        packets_received=replica.clients.packets_received,
        packets_sent=table.sent_by_closed + sum(link.sent for link in links),
        links=tuple(map(_link_status, links)),
    )


def _mode_of(replica: Replica) -> str:
    if not replica.zab.serving:
        return ""
    return "standalone" if replica.options.standalone else _MODES[replica.zab.role]


def _link_status(link: ClientLink) -> LinkStatus:
    return LinkStatus(
        link.id,
        link.session,
        link.timeout_ms,
        len(link.queue) + len(link.held),
        link.received,
        link.sent,
        link.opened_ms,
        link.heard_ms,
    )
