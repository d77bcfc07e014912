"""The office of the leader: judges writes, knows who carries which session, ends sessions.

Standalone is an ensemble of one voter, so this is also the whole of a standalone
server's behaviour.
"""

import random
from collections import deque
from collections.abc import Callable
from hmac import compare_digest
from itertools import islice
from typing import Any, Final

from wire import txn as txns
from wire import upper
from wire.codes import ErrorCode, OpCode
from wire.records import DeleteContainerRequest
from wire.txn import CloseSessionTxn, CreateSessionTxn, SetDataTxn, Txn, TxnHeader
from zkpy.effects import Entry, EntryKind
from zkpy.limits import Limits
from zkpy.membership import Configuration, parse_configuration
from zkpy.pipeline.expiry import SessionExpiry
from zkpy.pipeline.pending import Pending
from zkpy.pipeline.prepare import Preparer, Rules
from zkpy.pipeline.request import LEADER, NO_NUMBER, Identities
from zkpy.replica.counts import ServingCounts
from zkpy.replica.links import ClientLink
from zkpy.replica.membership import (
    MembershipRules,
    configuration_of,
    founding_set,
    members_of,
    note_of,
    version_of,
)
from zkpy.replica.office import SESSION, ClientSide
from zkpy.state.apply import ReplicatedState
from zkpy.state.digest import Change
from zkpy.zab.zab import Zab

_TXN: Final = int(EntryKind.TXN)
_RECONFIG: Final = int(OpCode.RECONFIG)
_NEED_ROOM: Final = frozenset(
    int(op)
    for op in (
        OpCode.CREATE,
        OpCode.CREATE2,
        OpCode.CREATE_CONTAINER,
        OpCode.CREATE_TTL,
        OpCode.SET_DATA,
        OpCode.SET_ACL,
        OpCode.MULTI,
    )
)
"""What is refused when the disk is nearly full.  Sessions and deletes are not: they are small,
and the latter are the way out."""


class Membership:
    """Who the ensemble is, as its leader sees it; see `pipeline.prepare.Ensemble`."""

    def __init__(self, zab: Zab, rules: MembershipRules, notices: list[str]) -> None:
        self._zab = zab
        self._rules = rules
        self._notices = notices

    @property
    def changing(self) -> bool:
        return self._zab.changing_voters

    @property
    def version(self) -> int:
        return version_of(self._zab.voters)

    @property
    def configuration(self) -> Configuration:
        return configuration_of(self._zab.voters, self._rules.static)

    @property
    def voters_min(self) -> int:
        return self._rules.voters_min

    def may_become(self, new: Configuration) -> bool:
        return self._zab.may_change_voters(members_of(new))

    def tell(self, notice: str) -> None:
        self._notices.append(notice)


class Leading:
    """One leadership: made when it is established, thrown away when it ends."""

    def __init__(
        self,
        server_id: int,
        state: ReplicatedState,
        zab: Zab,
        clients: ClientSide,
        *,
        limits: Limits,
        rules: Rules,
        membership: MembershipRules,
        rng: random.Random,
        wall_clock: Callable[[], int],
        heard_ms: Callable[[int], int],
        notices: list[str],
        counts: ServingCounts,
        now: int,
    ) -> None:
        """`heard_ms(session)`: when this server's own connection of it last spoke, or 0."""
        self._server_id = server_id
        self._state = state
        self._zab = zab
        self._clients = clients
        self._limits = limits
        self._entry_bytes_max = limits.entry_bytes_max
        self._wall_clock = wall_clock
        self._wall_ms = 0
        self._heard_ms = heard_ms
        self._notices = notices
        self._counts = counts
        self.now = self.since = now
        self._expiry = SessionExpiry(limits.tick_ms)
        self._pending = Pending(state.tree)
        ensemble = Membership(zab, membership, notices) if membership.enabled else None
        self._preparer = Preparer(state, self._pending, rules, rng, self._expiry.owner_of, ensemble)
        self._prepared: dict[int, tuple[TxnHeader, Txn]] = {}
        self._reconfigs: list[tuple[TxnHeader, object, Identities]] = []
        """That wait for the change before them."""
        self._syncs: deque[tuple[int, int, int, int]] = deque()
        """(token, barrier, server, number), in order of tokens."""
        self._scan_at = now + limits.container_check_ms
        self._low_space = False
        self._without_room: dict[int, None] = {}
        """Learners whose disks are nearly full."""
        self._last_size = self._least_size = self._greatest_size = -1
        for session, held in state.sessions.sessions.items():
            self._expiry.track(session, held.timeout_ms, LEADER, now)
        if membership.enabled:
            self._maybe_add_addresses(membership.static)

    # --- writes ---

    def submit(self, header: TxnHeader, opcode: int, body: object, identities: Identities) -> None:
        """Judge the write, and put the outcome into the log.

        Once the epoch has no zxid left, what else this pass brings is dropped: the
        connections end with the role, and a new epoch begins (ZOOKEEPER-1277).
        """
        if not self._zab.serving:
            return
        if self._low_space and opcode in _NEED_ROOM:
            self._refuse(header)
            return
        if opcode == _RECONFIG and self._must_wait(header, body, identities):
            return
        header.time_ms = self._wall_ms or self._read_clock()
        txn = self._preparer.prepare(header, opcode, body, identities)
        data = txns.encode(header, txn)
        if len(data) > self._entry_bytes_max:
            txn = self._preparer.refuse(ErrorCode.BAD_ARGUMENTS)
            data = txns.encode(header, txn)
        if opcode == _RECONFIG and type(txn) is SetDataTxn:
            self._change_voters(header, txn)
            return
        self._last_size = size = len(data)
        if size > self._greatest_size:
            self._greatest_size = size
        if size < self._least_size or self._least_size < 0:
            self._least_size = size
        zxid = self._zab.propose(_TXN, data)
        self._pending.seal(zxid)
        self._prepared[zxid] = header, txn
        if type(txn) is CreateSessionTxn:
            self._expiry.track(header.session, txn.timeout_ms, header.origin, self.now)
            self._drop_waiting(header.session)

    def _drop_waiting(self, session: int) -> None:
        """A change that waits is of the time when the session was a local one.

        Its connection is gone, or it would hold back what made the session global; and a
        server's word for a local session says nothing of a global one, which may be closed,
        or elsewhere, when the change's turn comes (C10, C12).
        """
        dropped = [header for header, *_ in self._reconfigs if header.session == session]
        if dropped:
            self._reconfigs = [each for each in self._reconfigs if each[0].session != session]
            for header in dropped:  # nobody reads that, but its server counts what is on its way
                self._refuse(header)

    def _must_wait(self, header: TxnHeader, body: object, identities: Identities) -> bool:
        """The change before it is decided, and answered, but not yet all through the log.

        Its client may ask for the next one right away, and is not told that one is in
        progress.  Nothing of this connection can overtake: it is held back where it came in.
        """
        zab = self._zab
        waits = zab.changing_voters and not zab.deciding_voters
        if waits:
            self._reconfigs.append((header, body, identities))
        return waits

    def _change_voters(self, header: TxnHeader, txn: SetDataTxn) -> None:
        """No transaction of its own: what clients are to see goes with the voter sets."""
        assert txn.data is not None
        text = txn.data.decode()
        new = members_of(parse_configuration(text))
        self._zab.propose_voters(new, note_of(header, text))
        self._notices.append(f"changing the voters from {self._voters} to {sorted(new.voters)}")

    def _maybe_add_addresses(self, static: Configuration) -> None:
        """A set that came without (the server was alone when it began) gets those of the files.

        What clients see, and what a reconfig is planned from, would stay empty else.  It is a
        change like any other, to the same members.
        """
        voters = self._zab.voters
        configuration = configuration_of(voters, static)
        new = members_of(configuration)
        if voters.note or new != voters.members or not self._zab.may_change_voters(new):
            return
        self._zab.propose_voters(new, founding_set(configuration, self._wall_clock()).note)
        self._notices.append("the configuration has no addresses yet: taking those of zoo.cfg")

    @property
    def _voters(self) -> list[int]:
        return list(self._zab.voters.members.voters)

    def _read_clock(self) -> int:
        """Once per pass: all that came together has one time."""
        self._wall_ms = self._wall_clock()
        return self._wall_ms

    def _submit_own(self, session: int, opcode: int, body: object) -> None:
        """A write that no client asked for."""
        self.submit(TxnHeader(session, 0, LEADER, 0, NO_NUMBER, 0), opcode, body, ())

    def _refuse(self, header: TxnHeader) -> None:
        """No room on the disk: answered past the log, since a refusal there takes room too.

        It says nothing about the state, so that a deposed leader may say it as well.
        """
        if header.origin == self._server_id:
            self._clients.refused(header.number, ErrorCode.THROTTLED_OP)
        else:
            refusal = upper.Refused(header.number, ErrorCode.THROTTLED_OP)
            self._zab.send(header.origin, upper.encode(refusal))

    def decoded(self, entry: Entry) -> tuple[TxnHeader, Txn]:
        prepared = self._prepared.pop(entry.zxid, None)
        return prepared if prepared is not None else txns.decode(entry.data)

    def applied(self, zxid: int, header: TxnHeader, txn: Txn, changes: list[Change]) -> None:
        self._pending.applied(zxid, changes)
        if type(txn) is CreateSessionTxn:
            self._opened(header, txn)
        elif type(txn) is CloseSessionTxn:
            self._expiry.forget(header.session)
            self._pending.closing.pop(header.session, None)

    # --- sessions ---

    def _opened(self, header: TxnHeader, txn: CreateSessionTxn) -> None:
        """Only a session of the history before this leadership is not tracked yet."""
        self._pending.opening.pop(header.session, None)
        if header.session in self._expiry:
            self._expiry.touch(header.session, self.now)
        else:
            self._expiry.track(header.session, txn.timeout_ms, LEADER, self.now)

    def claim(self, link: ClientLink, session: int, password: bytes) -> None:
        timeout_ms = self._judge_claim(self._server_id, session, password)
        self._clients.claimed(link.id, session, timeout_ms)

    def _judge_claim(self, server: int, session: int, password: bytes) -> int:
        """The session's time-out if its client may go on with it on that server, else 0."""
        pending = self._pending
        held = self._state.sessions.get(session) or pending.opening.get(session)
        if held is None or session in pending.closing or session not in self._expiry:
            return 0
        if not compare_digest(held.password, password):
            return 0
        self._expiry.touch(session, self.now)
        self._expiry.move(session, server)
        return held.timeout_ms

    def gone(self, sid: int) -> None:
        self._syncs = deque(each for each in self._syncs if each[2] != sid)
        self._without_room.pop(sid, None)

    def touched(self, sid: int, payload: bytes) -> None:
        for (session,) in SESSION.iter_unpack(
            payload[: len(payload) // SESSION.size * SESSION.size]
        ):
            self._expiry.touch(session, self.now)

    def left(self, session: int, heard_ms: int) -> None:
        """Its link will not be there to be asked when the session's bucket comes due."""
        self._expiry.touch(session, heard_ms)

    def ping_payload(self) -> bytes:
        return b""

    def _close_due_sessions(self) -> None:
        for session in self._expiry.due(self.now, self._heard_ms):
            self._counts.sessions_expired += 1
            self._notices.append(f"expiring session {session:#x}")
            self._submit_own(session, OpCode.CLOSE_SESSION, None)

    def _remove_due_znodes(self) -> None:
        """Containers without children and TTL znodes past their time, as requests of our own."""
        limits, state = self._limits, self._state
        due = state.lifetimes.due(
            state.tree.nodes, self._wall_clock(), limits.container_never_used_ms
        )
        for path in list(islice(due, limits.container_removals_max)):
            if self._pending.untouched(path):
                self._submit_own(0, OpCode.DELETE_CONTAINER, DeleteContainerRequest(path))

    # --- syncs ---

    def sync(self, number: int) -> None:
        self._note_sync(self._server_id, number)

    def _note_sync(self, server: int, number: int) -> None:
        """Done when a quorum has confirmed, in a round begun now, that we still lead.

        Then nothing acknowledged to anybody before can lie behind the barrier (C5).
        """
        if not self._zab.serving:
            return
        token = self._zab.confirm_leadership()
        self._syncs.append((token, self._zab.log.last, server, number))
        self.progress()

    def progress(self) -> None:
        if self._reconfigs and not self._zab.changing_voters:
            waiting, self._reconfigs = self._reconfigs, []
            for header, body, identities in waiting:
                self.submit(header, _RECONFIG, body, identities)
        syncs = self._syncs
        while syncs and syncs[0][0] <= self._zab.confirmed:
            _, barrier, server, number = syncs.popleft()
            if server == self._server_id:
                self._clients.synced(number, barrier)
            else:
                self._zab.send(server, upper.encode(upper.Synced(number, barrier)))

    # --- other replicas ---

    def receive(self, sid: int, message: Any) -> None:
        handler = _HANDLERS.get(type(message))
        if handler is not None:  # else it was meant for the office before this one
            handler(self, sid, message)

    def _on_forward(self, sid: int, message: upper.Forward) -> None:
        for each in message.writes:
            header = TxnHeader(each.session, each.cxid, sid, message.incarnation, each.number, 0)
            self.submit(header, each.opcode, each.body, each.identities)

    def _on_claim(self, sid: int, message: upper.Claim) -> None:
        self._counts.claims += 1
        timeout_ms = self._judge_claim(sid, message.session, message.password)
        answer = upper.Claimed(message.link, message.session, timeout_ms)
        self._zab.send(sid, upper.encode(answer))

    def _on_sync(self, sid: int, message: upper.Sync) -> None:
        self._note_sync(sid, message.number)

    # --- time ---

    def handle_timer(self) -> None:
        self._close_due_sessions()
        if self.now >= self._scan_at:
            self._scan_at = self.now + self._limits.container_check_ms
            self._remove_due_znodes()

    def paused(self, pause_ms: int) -> None:
        """What was sent to us meanwhile is still unread: nobody expires for that (C11)."""
        self._expiry.extend(pause_ms, self._heard_ms)

    def deadline(self) -> int | None:
        expiry = self._expiry.deadline()
        return self._scan_at if expiry is None else min(expiry, self._scan_at)

    def set_low_space(self, low: bool) -> None:
        self._low_space = low

    def with_room(self) -> int | None:
        return next((sid for sid in self._zab.successors if sid not in self._without_room), None)

    def _on_room(self, sid: int, message: upper.Room) -> None:
        if message.low:
            self._without_room[sid] = None
        else:
            self._without_room.pop(sid, None)

    def session_deadlines(self) -> dict[int, list[int]]:
        return self._expiry.by_deadline()

    def proposal_sizes(self) -> tuple[int, int, int] | None:
        return self._last_size, self._least_size, self._greatest_size

    @property
    def pending_syncs(self) -> int:
        return len(self._syncs)

    def flush(self) -> None:
        self._wall_ms = 0
        self._zab.time_proposals(self.now)


_HANDLERS: Final[dict[type, Callable[[Leading, int, Any], None]]] = {
    upper.Forward: Leading._on_forward,
    upper.Claim: Leading._on_claim,
    upper.Sync: Leading._on_sync,
    upper.Room: Leading._on_room,
}
