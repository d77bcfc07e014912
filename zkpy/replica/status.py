"""Facts about a member for whoever watches: read-only, taken at one moment.

`status_of` is cheap and asked for often; `details_of` walks tables of any length,
and is for those who want to see them.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import attrs

from wire.codes import EventType
from wire.peer import Role
from zkpy.membership import show
from zkpy.pipeline.watches import Kind, WatchTable
from zkpy.replica.core import Replica, describe_role
from zkpy.replica.counts import ResponseSizes, ServingCounts
from zkpy.replica.leading import Leading
from zkpy.replica.links import ClientLink
from zkpy.replica.membership import configuration_of, text_of, version_of
from zkpy.summary import Summary
from zkpy.zab.counts import Counts, Timings
from zkpy.zab.zab import Zab


@attrs.define(frozen=True)
class LinkStatus:
    """One client connection."""

    id: int
    session: int
    """0 until the handshake is answered."""
    timeout_ms: int
    queued: int
    received: int
    sent: int
    opened_ms: int
    heard_ms: int
    last_opcode: int = 0
    """Of the last request; 0 before the first."""
    last_xid: int = -1
    last_zxid: int = 0
    """The zxid in the last reply or event."""


@attrs.define(frozen=True)
class Status:
    """One member.  Sizes in bytes, times in ms of the monotonic clock."""

    mode: str
    """standalone, leader, follower, observer or read-only; empty while it serves nobody."""
    zxid: int
    """Of the last applied transaction."""
    znodes: int
    data_bytes: int
    ephemerals: int
    watches: int
    sessions: int
    """Those that all members know."""
    outstanding: int
    packets_received: int
    packets_sent: int
    links: Callable[[], Iterator[LinkStatus]]
    """Client connections, each as it is when it is asked for."""
    connections: int = 0
    """How many of them there are."""
    server_id: int = 0
    standalone: bool = True
    voters: int = 1
    learners: int = 0
    """Of a leader: members that follow its stream."""
    synced_followers: int = 0
    """Those of them that vote."""
    synced_observers: int = 0
    """Those that serve clients without a vote."""
    leading_since_ms: int | None = None
    """Of a leader."""
    pending_syncs: int = 0
    """Of a leader: syncs of clients that wait for a quorum's word."""
    epoch: int = 0
    """Of the leader in force; 0 while there is none."""
    lag: int = 0
    """In entries: of a leader, what its slowest synchronised learner has not acknowledged; of
    others, what is committed and not applied here."""
    votes: bool = True
    """By the voters in force, whatever the files say."""
    counts: Counts = attrs.field(factory=Counts)
    timings: Timings = attrs.field(factory=Timings)
    served: ServingCounts = attrs.field(factory=ServingCounts)
    sizes: ResponseSizes = attrs.field(factory=ResponseSizes)
    told: Mapping[EventType, Summary] = attrs.field(factory=dict)
    """How many connections each event was for."""
    proposal_sizes: tuple[int, int, int] | None = None
    """Of a leader: bytes of the last, the least and the greatest proposal; -1 before the first."""
    membership: str = ""
    """The configuration in force, in the form of `/zookeeper/config`; empty without addresses."""
    low_space: bool = False
    """The disk is nearly full: writes that need room are refused."""
    why_idle: str | None = None
    """Why it serves nobody, where that does not end without an operator."""
    local_sessions: int = 0
    """Those that this member alone knows."""
    leader: int | None = None
    """Whom it leads or follows; None while it looks for one."""
    phase: str = "broadcast"
    """election, discovery, synchronization or broadcast, as ZooKeeper words it."""
    observers: tuple[int, ...] = ()
    """Of a leader: those that serve clients without a vote."""


@attrs.define(frozen=True)
class Details:
    """What may be long."""

    ephemerals: dict[int, list[str]] = attrs.field(factory=dict)
    """Session -> paths."""
    watches: list[tuple[int, str]] = attrs.field(factory=list)
    """(session, path): each once, whatever kinds of watches it has there."""
    deadlines: dict[int, list[int]] | None = None
    """Of a leader: monotonic ms -> sessions that expire then unless heard from."""
    timeouts: dict[int, int] = attrs.field(factory=dict)
    """Session -> ms, of those that all members know."""
    local_deadlines: dict[int, list[int]] | None = None
    """Like `deadlines`, of those that this member alone knows; None if there cannot be any."""
    digests: list[tuple[int, int]] = attrs.field(factory=list)
    """(zxid, digest of the state there), oldest first; the last is the present one."""


class Tables:
    """What may be longest, read piece by piece so that nobody waits for all of it.

    What changes between two pieces is shown as it is then, or not at all."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    @property
    def _watches(self) -> WatchTable:
        return self._replica.clients.watches

    @property
    def _links(self) -> Mapping[int, ClientLink]:
        return self._replica.clients.links.by_id

    def watched_paths(self) -> Iterator[str]:
        return self._watches.watched_paths()

    def watchers(self, path: str) -> list[int]:
        """Sessions, each once."""
        found = self._watches.watchers(path)
        return [link.session for each in found if (link := self._links.get(each)) is not None]

    def watching_links(self) -> list[int]:
        return self._watches.connections()

    def watched_by(self, link: int) -> tuple[int, Iterator[str]]:
        """Session, and each path once; session 0 if it is gone."""
        known = self._links.get(link)
        return known.session if known is not None else 0, self._watches.paths_of(link)

    def owners(self) -> list[int]:
        """Sessions with ephemerals."""
        return list(self._replica.state.lifetimes.ephemerals)

    def owned_by(self, session: int) -> list[str]:
        return self._replica.state.lifetimes.ephemerals_of(session)

    def deadlines(self) -> dict[int, list[int]]:
        """Those in `Details.deadlines`; none if another member watches over them."""
        return self._replica.office.session_deadlines() or {}

    def digests(self) -> list[tuple[int, int]]:
        """Those in `Details.digests`."""
        state = self._replica.state
        return [*self._replica.digests, (state.zxid, state.digest)]


_MODES = {
    Role.LEADING: "leader",
    Role.FOLLOWING: "follower",
    Role.OBSERVING: "observer",
    Role.LOOKING: "",
}


def status_of(replica: Replica) -> Status:
    """Costs a short look at each connection, not a walk over the tree."""
    state = replica.state
    table = replica.clients.links
    links = list(table.by_id.values())
    zab, office = replica.zab, replica.office
    learners = zab.learners
    observers = [sid for sid in learners if _serves_without_vote(zab, sid)]
    leading = office if isinstance(office, Leading) else None
    # That a server alone is an ensemble of one is nobody's to know: no election was held.
    others = not replica.options.standalone
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
        links=partial(_link_statuses, replica),
        connections=len(links),
        server_id=replica.options.server_id,
        standalone=replica.options.standalone,
        voters=len(zab.voters.voters()),
        learners=len(learners),
        synced_followers=sum(map(zab.voters.is_voter, learners)),
        synced_observers=len(observers),
        leading_since_ms=leading.since if leading else None,
        pending_syncs=leading.pending_syncs if leading else 0,
        epoch=zab.epoch,
        lag=zab.lag,
        votes=zab.voters.is_voter(zab.me),
        counts=zab.counts if others else Counts(),
        timings=zab.timings if others else Timings(),
        served=replica.clients.counts,
        sizes=table.sizes,
        told=replica.clients.watches.told,
        proposal_sizes=office.proposal_sizes(),
        membership=_membership_of(replica),
        low_space=replica.low_space,
        why_idle=_why_idle(replica),
        local_sessions=replica.clients.local_sessions,
        leader=zab.leader,
        phase=_phase_of(zab),
        observers=tuple(observers),
    )


def _phase_of(zab: Zab) -> str:
    if zab.role is Role.LOOKING:
        return "election"
    if zab.serving or zab.is_left_out:
        return "broadcast"
    return "synchronization" if zab.epoch else "discovery"


def _serves_without_vote(zab: Zab, sid: int) -> bool:
    """A server that the configuration does not name serves nobody where members may change."""
    left_out = zab.options.named_only and sid not in zab.configured.everyone()
    return not left_out and not zab.voters.is_voter(sid)


def _membership_of(replica: Replica) -> str:
    """Who counts is in the log, also where only the files know an address."""
    configured = replica.zab.configured
    if not configured.version:
        return ""
    static = replica.options.membership.static
    text = text_of(configured) or str(configuration_of(configured, static))
    return show(text, version_of(configured)) if text else ""


def _mode_of(replica: Replica) -> str:
    if not replica.zab.serving:
        return "read-only" if replica.clients.read_only else ""
    return "standalone" if replica.options.standalone else _MODES[replica.zab.role]


def _why_idle(replica: Replica) -> str | None:
    """A newcomer says nothing before it is synchronised: until then it cannot be taken in."""
    zab = replica.zab
    if zab.waits_for_membership:
        return describe_role(zab)
    return zab.why_stuck or zab.strangers


def _link_statuses(replica: Replica) -> Iterator[LinkStatus]:
    return map(_link_status, list(replica.clients.links.by_id.values()))


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
        link.last_opcode,
        link.last_xid,
        int.from_bytes(link.last_head[8:], "big", signed=True) if link.sent > 1 else 0,
    )


def details_of(replica: Replica) -> Details:
    state = replica.state
    return Details(
        ephemerals={session: list(paths) for session, paths in state.lifetimes.ephemerals.items()},
        watches=_watches_of(replica),
        deadlines=replica.office.session_deadlines(),
        timeouts={session: held.timeout_ms for session, held in state.sessions.sessions.items()},
        local_deadlines=replica.clients.local_deadlines(),
        digests=Tables(replica).digests(),
    )


def _watches_of(replica: Replica) -> list[tuple[int, str]]:
    links = replica.clients.links.by_id
    seen: dict[tuple[int, str], None] = {}
    for kind, path, watchers in replica.clients.watches.paths_watched():
        if kind is not Kind.PERSISTENT_CHILD:  # the other half of a persistent watch
            seen.update(dict.fromkeys((link, path) for link in watchers))
    return [(links[link].session, path) for link, path in seen]
