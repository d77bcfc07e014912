"""Replica: one member of the ensemble, without IO.

In: bytes of clients, messages of peers, word that a disk batch is durable, time.
Out: `ready()`, once per pass, with everything that must be written and sent.

A request walks through it like this:

    receive_client -> wire.ClientConnection -> Request           (replica.clients)
      read   no write of its own unanswered: Reads, reply into the link's buffer;
             otherwise it waits in the gate
      write  gate -> office: the leader prepares and proposes, a learner forwards
    saved -> zab.take_committed -> for each entry: apply, events, reply, waiting reads

Order inside a pass: after each applied entry come its events, its reply and the reads that
waited for exactly it; only then the next.

A role is a value of zab's.  What it means here is one row of `_OFFICES`; pending
changes, session deadlines and the gate belong to an office and go with it.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from wire import upper
from wire.errors import RemoteProtocolError
from wire.peer import PROTOCOL_VERSION, Hello, Notification, Role
from wire.txn import CloseSessionTxn, Txn, TxnHeader
from zkpy import zxid as zxids
from zkpy.effects import DiskBatch, Entry, EntryKind, Ready, Recovered
from zkpy.errors import CorruptionError
from zkpy.limits import Limits
from zkpy.pipeline.auth import Authenticator
from zkpy.pipeline.prepare import Rules
from zkpy.replica.audit import Audit
from zkpy.replica.clients import Clients
from zkpy.replica.images import OwnImages, ReceivedImage, SentImages, load_state
from zkpy.replica.leading import Leading
from zkpy.replica.learning import Learning
from zkpy.replica.local import LocalClients, LocalSessionRules
from zkpy.replica.membership import MembershipRules, shown, version_of
from zkpy.replica.office import Office
from zkpy.replica.reading import Reading
from zkpy.state.digest import Change
from zkpy.zab.member import (
    SnapAborted,
    SnapAdopted,
    SnapData,
    SnapEvent,
    SnapFinished,
    SnapStarted,
    ZabOptions,
)
from zkpy.zab.quorum import VoterSet
from zkpy.zab.window import Window
from zkpy.zab.zab import Zab

_TXN: Final = int(EntryKind.TXN)
_CONFIG: Final = int(EntryKind.CONFIG)
_NEVER: Final = 1 << 62
READ_ONLY_AFTER_MS: Final = 2000
"""ZooKeeper's: an election is mostly over by then, and nobody's writes were refused for it."""
DIGEST_INTERVAL: Final = 128
DIGESTS_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """What a member is told about itself."""

    server_id: int
    zab: ZabOptions
    standalone: bool = True
    """Configured without other servers: what `srvr` calls the mode."""
    limits: Limits = field(default_factory=Limits)
    rules: Rules = field(default_factory=Rules)
    membership: MembershipRules = field(default_factory=MembershipRules)
    authenticator: Authenticator = field(default_factory=Authenticator)
    read_only_mode: bool = False
    """`readonlymode.enabled`: without a quorum, serve reads to those who ask for no more."""
    leader_serves: bool = True
    """`leaderServes`: if not, a leader closes the connections of clients and takes no new ones."""
    local_sessions: LocalSessionRules | None = None
    """`localSessionsEnabled`: None if every session is replicated."""
    audited: bool = False
    """`audit.enable`: see `take_audit`."""


class Replica:
    """One member.  Every call is synchronous; `now` is monotonic, in ms."""

    def __init__(
        self,
        options: ReplicaOptions,
        recovered: Recovered,
        *,
        rng: random.Random,
        wall_clock: Callable[[], int],
        now: int,
    ) -> None:
        """Raises CorruptionError if the image cannot be read."""
        self.options = options
        self._rng = rng
        self._wall_clock = wall_clock
        self._now = now
        self._alarm = _NEVER
        """A later `now` than this means that the process stood still (SIGSTOP, a long apply)."""
        self._withheld = False
        """Replies are kept back: made after a standstill, before the quorum was heard again."""
        self._unsettled = False
        """Something was saved, and what follows from it has still to be done."""
        self.state = load_state(recovered)
        self.zab = Zab(
            options.server_id,
            recovered.identity,
            Window(
                recovered.image_zxid,
                recovered.image_chain,
                recovered.entries,
                recovered.committed,
                options.limits.window_bytes_max,
            ),
            options.zab,
            rng,
            now,
            suspect=recovered.suspect is not None,
        )
        self.incarnation = rng.getrandbits(63)
        self.clients = self._make_clients()
        self._welcome = False
        """Whether clients are served, for all that zab says."""
        self._idle_since: int | None = None
        """Since when there has been no quorum, if reads alone may be served meanwhile."""
        self.images = OwnImages(options.limits, rng)
        self.low_space = False
        """See `set_low_space`."""
        self.digests: deque[tuple[int, int]] = deque(maxlen=DIGESTS_KEPT)
        """(zxid, digest) at each multiple of `DIGEST_INTERVAL`, for comparing members."""
        self._sent = SentImages(self.zab, options.limits)
        self._received = ReceivedImage()
        self._recorded = dict(recovered.digests)
        """zxid -> digest in the log's own batch headers: the replay must meet them again."""
        self._early: list[tuple[int, int, upper.Message]] = []
        """(epoch, server, message): asked of a leader that does not serve yet; see
        `_receive_upper`."""
        self._told = ""
        self._diverged = False
        """The state here is not what it should be; it is served to nobody, and replaced."""
        self.zab.set_ping_payload(lambda: self._office.ping_payload())
        self._enter_office()
        self._apply_committed()

    def _make_clients(self) -> Clients:
        options = self.options
        arguments = (
            options.server_id,
            self.incarnation,
            self.state,
            options.limits,
            options.authenticator,
            self._wall_clock(),
            self._rng,
            Audit() if options.audited else None,
        )
        if options.local_sessions is None:
            return Clients(*arguments)
        return LocalClients(*arguments, rules=options.local_sessions)

    # --- clients ---

    def client_up(self, link: int, address: str, now: int, subject: str | None = None) -> None:
        """A client connected from `host:port`; `link` names the connection, once.

        `subject` is the name in the certificate that it has shown, verified, if it has one.
        """
        self._advance(now)
        self.clients.up(link, address, now, subject)

    def receive_client(self, link: int, data: bytes, now: int) -> bool:
        """Bytes from a client.  Replies come with the next `ready`.

        True if this client should not be read for the moment, until it is `overloaded`
        no more.
        """
        self._advance(now)
        return self.clients.receive(link, data, now)

    def choke_client(self, link: int, choked: bool, now: int) -> None:
        """A client does not read what it is sent, or does again."""
        self._advance(now)
        self.clients.choke(link, choked)

    def client_down(self, link: int, now: int) -> None:
        """The connection is gone, whoever closed it."""
        self._advance(now)
        self.clients.down(link)

    def take_admin(self) -> list[tuple[int, str]]:
        """(link, four-letter word) asked since the last call; the shell answers and closes."""
        return self.clients.take_admin()

    def take_notices(self) -> list[str]:
        """What an operator may want to read in the log."""
        notices = self.clients.notices
        taken = notices[:]
        notices.clear()
        return taken

    def take_audit(self, ending: bool = False) -> list[str]:
        """Lines of the audit log since the last call; none unless it is `audited`.

        `ending`: no pass will follow, so all that is under way has an unknown end."""
        audit = self.clients.audit
        if audit is not None and ending:
            audit.lose()
        if audit is None or not audit.lines:
            return []
        taken, audit.lines = audit.lines, []
        return taken

    def overloaded(self, link: int) -> bool:
        """Whether this client should still not be read; ask in each pass while it is not."""
        return self.clients.overloaded(link, self._now)

    # --- peers ---

    @property
    def dial(self) -> int | None:
        """The member to which the shell shall keep a link."""
        return self.zab.dial

    @property
    def voter_sets(self) -> tuple[VoterSet, VoterSet]:
        """In force at what is applied, and the newest one in the log."""
        return self.zab.configured, self.zab.voters

    def hello(self) -> Hello:
        """The first message on each link with another member."""
        member = self.zab.member
        return Hello(PROTOCOL_VERSION, member.cluster_id, member.me, member.incarnation)

    def link_up(self, sid: int, now: int) -> None:
        self._advance(now)
        self.zab.link_up(sid, now)
        self._after_zab()

    def link_down(self, sid: int, now: int) -> None:
        self._advance(now)
        self.zab.link_down(sid, now)
        self._forget_early(sid)
        self._office.gone(sid)
        self._after_zab()

    def receive_peer(self, sid: int, message: object, now: int) -> None:
        self._advance(now)
        self.zab.receive(sid, message, now)
        self._after_zab()

    def receive_vote(self, sid: int, notification: Notification, now: int) -> None:
        self._advance(now)
        self.zab.receive_vote(sid, notification, now)
        self._after_zab()

    # --- disk and time ---

    def saved(self, number: int, now: int) -> DiskBatch | None:
        """The disk batch of that number is durable; the next one, to be begun at once.

        So the disk works while what is committed now is applied and answered.  That is the
        first thing that the next call does, whichever it is: for the time being only zab
        knows, and what was replied remains what was true before.
        """
        self._advance(now)
        self.zab.saved(number, now)
        self._unsettled = True
        # A learner may have a new log in force, which the state here is not yet that of.
        leads = self.zab.role is Role.LEADING and self._office_key() == self._entered
        return self.zab.take_batch(*self._vouched_digest()) if leads else None

    def image_saved(self, zxid: int, now: int) -> None:
        """The image at `zxid` is durable."""
        self._advance(now)

    def set_low_space(self, low: bool, now: int) -> None:
        """The disk is nearly full, or no longer: whether a leader refuses writes (D11)."""
        self._advance(now)
        self.low_space = low
        self._office.set_low_space(low)

    def handle_timer(self, now: int) -> None:
        """Call when `deadline` has come (or earlier; that does no harm)."""
        self._advance(now)
        self.zab.handle_timer(now)
        self._after_zab()
        if self._is_read_only() and not self.clients.read_only:
            self.clients.enter(self._office, False, True)
        self._office.handle_timer()
        self.clients.handle_timer(now)
        if self.low_space:
            self._hand_over(now)

    def _hand_over(self, now: int) -> None:
        """A leader without room refuses everybody's writes; one that has some need not."""
        other = self._office.with_room()
        if other is not None:
            self.zab.resign(f"the disk here is nearly full, and that of server {other} is not", now)
            self._after_zab()

    def _advance(self, now: int) -> None:
        """Any input: did this process stand still when it should have been called?"""
        if self._unsettled:
            self._after_zab()
        if now > self._alarm:
            pause_ms = now - self._alarm + self.options.limits.tick_ms
            self._office.paused(pause_ms)
            self.clients.paused(pause_ms)
            # The pass behind this input will say more exactly.  It may stand still before that.
            self._alarm = now + self.options.limits.tick_ms
        self._now = self._office.now = now

    # --- zab ---

    def _after_zab(self) -> None:
        """What an input did to zab: a SNAP, a new role, then commits, then messages."""
        self._unsettled = False
        for event in self.zab.take_snap():
            _ON_SNAP[type(event)](self, event)
        if self._office_key() != self._entered:
            self._enter_office()
        self._apply_committed()
        if self._early and self.zab.serving:
            self._receive_early()
        for sid, data in self.zab.take_upper():
            self._receive_upper(sid, data)
        if self._office_key() != self._entered:
            self._enter_office()
        for sid, payload in self.zab.take_pings():
            self._office.touched(sid, payload)
        self._office.progress()

    def _office_key(self) -> tuple[object, int | None, int, bool, bool]:
        """With another one it is another office, and clients have to begin anew.

        A change of voters that makes an observer of a follower, or the other way round, is none:
        it serves as before, and the one who asked for it may be waiting here.  One that leaves this
        member out is, also where it serves nobody yet: it may have begun to serve reads alone.
        """
        zab = self.zab
        return _OFFICES[zab.role], zab.leader, zab.epoch, zab.serving, zab.is_left_out

    def _enter_office(self) -> None:
        self._entered = self._office_key()
        if self._withheld:
            self.clients.links.discard_output()
            self._withheld = False
        serving = self.zab.serving and not self._diverged
        role = self.zab.role if serving else Role.LOOKING
        self._office = _OFFICES[role](self)
        self._office.set_low_space(self.low_space)
        hidden = self._diverged or self.zab.is_left_out or self.zab.is_removed
        if serving or hidden or not self.options.read_only_mode:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._now
        self._welcome = serving and (role is not Role.LEADING or self._leader_serves())
        self.clients.enter(self._office, self._welcome, self._is_read_only())
        self._tell_role()

    def _is_read_only(self) -> bool:
        return self._idle_since is not None and self._now >= self._reads_from(self._idle_since)

    def _reads_from(self, idle_since: int) -> int:
        return idle_since + max(READ_ONLY_AFTER_MS, self.options.limits.tick_ms)

    def _leader_serves(self) -> bool:
        """A leader without another voter serves in any case, or nobody might."""
        return self.options.leader_serves or self.zab.configured.alone(self.options.server_id)

    def _judge_welcome(self) -> None:
        """The voters have changed: the leader may be alone now, or not any more.  It leads on, so
        that only its clients begin anew."""
        welcome = self._leader_serves()
        if isinstance(self._office, Leading) and welcome != self._welcome:
            self._welcome = welcome
            self.clients.enter(self._office, welcome)

    def _tell_role(self) -> None:
        """A line for the operator's log; of a server alone there is nothing to tell."""
        text = describe_role(self.zab)
        if text != self._told and not self.options.standalone:
            self.clients.notices.append(text)
        self._told = text

    @property
    def office(self) -> Office:
        """The behaviour of the present role."""
        return self._office

    def _lead(self) -> Office:
        return Leading(
            self.options.server_id,
            self.state,
            self.zab,
            self.clients,
            limits=self.options.limits,
            rules=self.options.rules,
            membership=self.options.membership,
            rng=self._rng,
            wall_clock=self._wall_clock,
            heard_ms=self.clients.links.heard_ms,
            notices=self.clients.notices,
            counts=self.clients.counts,
            now=self._now,
        )

    def _learn(self) -> Office:
        return self._pass_on_to(self.zab.leader)

    def _look(self) -> Office:
        if self.options.read_only_mode:
            return Reading(self.state, self.clients, self._now)
        return self._pass_on_to(None)

    def _pass_on_to(self, leader: int | None) -> Office:
        links = self.clients.links
        return Learning(leader, self.incarnation, self.zab, self.clients, links, self._now)

    def _receive_upper(self, sid: int, data: bytes) -> None:
        """A learner may serve already while its leader's own disk is still behind (D3).

        Then what it asks waits here: dropped, a write of a local session, which needs nobody's
        consent to begin, would be missing when the next one is done (C2).  There is
        no more of it than learners may have under way.

        For the same reason the link ends with a message that is not to be understood.
        """
        try:
            message = upper.decode(data)
        except RemoteProtocolError as error:
            self.clients.notices.append(f"closing the link with server {sid}: {error}")
            self.zab.drop_link(sid, "the leader is not to be understood", self._now)
            return
        if self.zab.role is Role.LEADING and not self.zab.serving:
            self._early.append((self.zab.epoch, sid, message))
        else:
            self._office.receive(sid, message)

    def _forget_early(self, sid: int) -> None:
        """An answer would go to whoever is there next, and numbers of its own may mean other
        connections there (a claim's does)."""
        self._early = [each for each in self._early if each[1] != sid]

    def _receive_early(self) -> None:
        """What was asked of an earlier leadership died with it: its clients were told so."""
        early, self._early = self._early, []
        for epoch, sid, message in early:
            if epoch == self.zab.epoch:
                self._office.receive(sid, message)

    # --- the state ---

    def _apply_committed(self) -> None:
        entries = self.zab.take_committed()
        self.images.count_entries(len(entries), sum([len(entry.data) for entry in entries]))
        for entry in entries:
            if self._diverged:
                return
            self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        """One committed entry, through the one apply; then whoever waited for it."""
        zxid = entry.zxid
        if entry.kind == _TXN:
            header, txn = self._office.decoded(entry)
            changes = self._apply_txn(zxid, header, txn)
            if type(txn) is CloseSessionTxn:
                self.clients.session_closed(header.session, changes)
        elif entry.kind != _CONFIG or not self._apply_voters(entry):
            self.state.apply_other(zxid)
        if not zxid % DIGEST_INTERVAL:
            self.digests.append((zxid, self.state.digest))
        if self._recorded or self.zab.digests:
            self._check_digest(zxid, self._recorded.pop(zxid, None))
            self._check_digest(zxid, self.zab.digests.pop(zxid, None))

    def _apply_txn(self, zxid: int, header: TxnHeader, txn: Txn) -> list[Change]:
        applied = self.state.apply(zxid, header, txn)
        self._office.applied(zxid, header, txn, applied.changes)
        self.clients.applied(zxid, header, applied)
        return applied.changes

    def _apply_voters(self, entry: Entry) -> bool:
        """Show a new configuration to clients, if that set has one to be shown."""
        voters = VoterSet.decode(entry.data).at(entry.zxid)
        change = shown(voters)
        if change is not None:
            self._apply_txn(entry.zxid, *change)
        if not voters.joint and not self.options.standalone:
            self.clients.notices.append(f"the configuration is now {_describe_voters(voters)}")
            self._tell_role()
        self._judge_welcome()
        return change is not None

    def _check_digest(self, zxid: int, expected: int | None) -> None:
        """Equal zxid means equal trees (A12), whoever says what it should be."""
        digest = self.state.digest
        if expected is None or expected == digest or self._diverged:
            return
        self.clients.counts.digest_mismatches += 1
        self.clients.notices.append(
            f"the tree at {zxids.show(zxid)} is not what it should be: "
            f"digest {digest:#x}, expected {expected:#x}"
        )
        self._diverged = True
        self.images.abandon()
        self.zab.on_digest_mismatch(self._now)
        self._enter_office()

    # --- a SNAP coming in ---

    def _on_snap_started(self, event: SnapStarted) -> None:
        self._received.begin()

    def _on_snap_data(self, event: SnapData) -> None:
        try:
            self._received.feed(event.data)
        except CorruptionError as error:
            self._refuse_snap(error)

    def _on_snap_finished(self, event: SnapFinished) -> None:
        try:
            whole = self._received.finish(event.digest)
        except CorruptionError as error:
            self._refuse_snap(error)
            return
        if whole:
            self.zab.snap_loaded(self._now)

    def _refuse_snap(self, error: CorruptionError) -> None:
        self.clients.notices.append(f"refusing an image: {error}")
        self.zab.on_digest_mismatch(self._now)

    def _on_snap_adopted(self, event: SnapAdopted) -> None:
        """The generation that it came in is in force: so is its state, all at once."""
        self.state = self._received.take(event.zxid)
        self._diverged = False
        self._recorded.clear()
        self.digests.clear()
        self.images.abandon()
        self.clients.adopt_state(self.state)
        self._enter_office()

    def _on_snap_aborted(self, event: SnapAborted) -> None:
        self._received.abort()

    # --- out ---

    def ready(self) -> Ready:
        """All that this pass asks for.  Call once per pass, after its inputs."""
        if self._unsettled:
            self._after_zab()
        self.clients.resume_resting()
        self._office.flush()
        if self.zab.stirred or self.images.busy or self.clients.failures:
            return self._ready_with_all()
        clients, updated, closes = self._take_output()  # only reads came in
        return Ready(clients=clients, updated=updated, closes=closes)

    def _ready_with_all(self) -> Ready:
        # An image of a wrong state would be believed after a restart; beside damage nothing is
        # written but what a leader sends.
        if not self._diverged and not self.zab.suspect:
            self.images.advance(self.state, self.zab.log)
        self._sent.advance()
        out = self.zab.ready(*self._vouched_digest())
        for sid in out.images:
            self._sent.begin(sid, self.state)
        clients, updated, closes = self._take_output()
        return Ready(
            disk=out.disk,
            peers=out.peers,
            votes=out.votes,
            clients=clients,
            updated=updated,
            closes=closes,
            peer_closes=out.peer_closes,
            image=self.images.take_steps(),
            halt=out.halt,
            alarm=out.alarm,
            failures=self.clients.take_failures(),
        )

    def _take_output(self) -> tuple[list[tuple[int, bytes]], list[int], list[int]]:
        """Nothing while zab is not sure of its quorum after a standstill (rule C13)."""
        self._withheld = self.zab.paused
        return ([], [], []) if self._withheld else self.clients.links.take_output()

    def reset_counts(self) -> None:
        """What was counted or timed so far counts no more.  Packets do still."""
        self.zab.reset_counts()
        self.clients.reset_counts()

    def _vouched_digest(self) -> tuple[int, int]:
        """(zxid, digest) for log and frames: nothing, if the state is known to be wrong."""
        return (0, 0) if self._diverged else (self.state.zxid, self.state.digest)

    def deadline(self) -> int | None:
        """When `handle_timer` is due; not in the future: another pass at once, after IO."""
        deadline = self._next_deadline()
        tick_ms = self.options.limits.tick_ms
        self._alarm = _NEVER if deadline is None else max(deadline, self._now) + tick_ms
        return deadline

    def _next_deadline(self) -> int | None:
        if self.images.busy or self._sent.busy:
            return self._now
        earliest = self.zab.deadline()
        for deadline in (self._office.deadline(), self.clients.deadline()):
            if earliest is None or (deadline is not None and deadline < earliest):
                earliest = deadline
        if self._idle_since is not None and not self.clients.read_only:
            begin = self._reads_from(self._idle_since)
            return begin if earliest is None else min(begin, earliest)
        return earliest


_ON_SNAP: Final[dict[type[SnapEvent], Callable[[Replica, Any], None]]] = {
    SnapStarted: Replica._on_snap_started,
    SnapData: Replica._on_snap_data,
    SnapFinished: Replica._on_snap_finished,
    SnapAdopted: Replica._on_snap_adopted,
    SnapAborted: Replica._on_snap_aborted,
}
_OFFICES: Final[dict[Role, Callable[[Replica], Office]]] = {
    Role.LEADING: Replica._lead,
    Role.FOLLOWING: Replica._learn,
    Role.OBSERVING: Replica._learn,
    Role.LOOKING: Replica._look,
}


def _describe_voters(voters: VoterSet) -> str:
    members = voters.members
    observers = f", observers {list(members.observers)}" if members.observers else ""
    return f"{version_of(voters):x}: voters {list(members.voters)}{observers}"


def describe_role(zab: Zab) -> str:
    """For the operator.  `zkpy reconfig` knows a newcomer that may be added by how this begins."""
    if zab.role is Role.LOOKING:
        return f"looking for a leader: {zab.why_looking}"
    if zab.is_left_out:
        version = version_of(zab.configured)
        missing = (
            f"this server is not in the configuration (version {version:x})" if version else ""
        )
        return f"learning from server {zab.leader}: not serving: {missing or 'it has none yet'}"
    verb = f"{zab.role.name.lower()}" + ("" if zab.leader == zab.me else f" server {zab.leader}")
    return f"{verb}, epoch {zab.epoch}: serving" if zab.serving else f"{verb}: not serving yet"
