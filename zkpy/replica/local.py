"""Local sessions: known to this server alone (`localSessionsEnabled`).

A session costs the ensemble two transactions, and its leader a look at each ping.  A
local one costs neither: it is opened, kept alive, expired and closed here, and ends
with this process.  Its client cannot go on with it on another server, and it owns no
ephemeral znode.

Its writes go to the leader as any other's, with a negative forward number: this server's
word that the session is its own, since the leader cannot know.  One that asks for an
ephemeral is refused there (EPHEMERAL_ON_LOCAL_SESSION), or makes the session a global one
first (`localSessionsUpgradingEnabled`).

An upgrade is one step: the session leaves the table here, and its createSession goes the
way to the leader before the write that needs it.  From then on only the leader knows
whether it lives, also if it never hears of it; so there is no moment at which a
session is both, and what ends a global session takes its ephemerals along
(ZOOKEEPER-2725, 3471).  Until the outcome is known here, a member without a quorum takes
the session's client back to read: it must not say that a session is gone which may live.
"""

import random
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final

from wire.client import Request
from wire.codes import OpCode
from wire.records import OpenSession
from wire.txn import TxnHeader
from zkpy.limits import Limits
from zkpy.pipeline.auth import Authenticator
from zkpy.pipeline.expiry import SessionExpiry
from zkpy.pipeline.prepare import PASSWORD_BYTES, makes_ephemeral
from zkpy.pipeline.request import NO_NUMBER
from zkpy.replica.audit import Audit
from zkpy.replica.clients import Clients
from zkpy.replica.links import ClientLink
from zkpy.replica.office import Office
from zkpy.state.apply import Applied, ReplicatedState

_CLOSE_SESSION: Final = int(OpCode.CLOSE_SESSION)
_RECONFIG: Final = int(OpCode.RECONFIG)


@dataclass(frozen=True, slots=True)
class LocalSessionRules:
    upgrading: bool = False
    """`localSessionsUpgradingEnabled`: whoever wants an ephemeral gets a global session."""


@dataclass(eq=False, slots=True)
class _Local:
    timeout_ms: int
    password: bytes = field(repr=False)
    link: ClientLink | None = None


class LocalClients(Clients):
    """Clients whose sessions begin as local ones.

    A subclass, so that a server without such sessions does not even ask for them.
    """

    def __init__(
        self,
        server_id: int,
        incarnation: int,
        state: ReplicatedState,
        limits: Limits,
        authenticator: Authenticator,
        wall_ms: int,
        rng: random.Random,
        audit: Audit | None = None,
        *,
        rules: LocalSessionRules,
    ) -> None:
        self._rules = rules
        self._local: dict[int, _Local] = {}
        self._upgrading: dict[int, _Local] = {}
        """Whose createSession is neither applied here nor known to be lost."""
        super().__init__(server_id, incarnation, state, limits, authenticator, wall_ms, rng, audit)
        self._expiry = SessionExpiry(self._limits.tick_ms)

    @property
    def local_sessions(self) -> int:
        """While nobody is served here, they are only kept for their clients to come back."""
        return len(self._local) if self._serving or self._read_only else 0

    def local_deadlines(self) -> dict[int, list[int]]:
        return self._expiry.by_deadline()

    def enter(self, office: Office, serving: bool, read_only: bool = False) -> None:
        """The sessions outlive the role.  While it did not serve, nobody could be heard: so
        all have their full time again, as global ones have with a new leader (C11)."""
        super().enter(office, serving, read_only)
        if serving:
            # The log in force has what came of each; what it lacks was lost with its leader.
            self._upgrading.clear()
            for session, held in self._local.items():
                self._expiry.track(session, held.timeout_ms, self._server_id, office.now)

    # --- begin and end ---

    def _open_session(self, link: ClientLink, timeout_ms: int) -> None:
        if not self._serving:  # read-only: of this connection alone
            super()._open_session(link, timeout_ms)
            return
        session = self._session_ids.draw(self._state)
        password = self._rng.randbytes(PASSWORD_BYTES)
        self._local[session] = _Local(timeout_ms, password)
        self._expiry.track(session, timeout_ms, self._server_id, link.heard_ms)
        self._grant(link, session, timeout_ms, password)

    def _claim(self, link: ClientLink, session: int) -> None:
        held = self._local.get(session)
        if held is None and not self._serving and session not in self._state.sessions:
            held = self._upgrading.get(session)
        if held is None:
            super()._claim(link, session)
        elif compare_digest(held.password, link.password):
            self._grant(link, session, held.timeout_ms, held.password)
        else:
            self._deny(link)

    def unheard_of(self, link_id: int, session: int) -> None:
        """Most likely a local session of another server, whose client would wait for that one
        in vain: it is told "expired", as by any server but its own."""
        self.claimed(link_id, session, 0)

    def _attach(self, link: ClientLink, session: int, timeout_ms: int) -> ClientLink | None:
        """Not in the table of links by session: what is there is told to the leader."""
        held = self._local.get(session)
        if held is None:
            return super()._attach(link, session, timeout_ms)
        left, held.link = held.link, link
        link.session, link.timeout_ms = session, timeout_ms
        return left

    def _leave_old_link(self, session: int, password: bytes) -> None:
        """An upgrade may not be applied here yet: its link has the password still."""
        old = self.links.by_session.get(session)
        if old is not None and old.password and compare_digest(old.password, password):
            self._close(old)
        else:
            super()._leave_old_link(session, password)

    def _forget(self, link: ClientLink) -> None:
        held = self._local.get(link.session)
        if held is not None:
            self._expiry.touch(link.session, link.heard_ms)
            link.relayed_ms = link.heard_ms  # no word of it to the leader
            held.link = None if held.link is link else held.link
        super()._forget(link)

    def _drop(self, session: int) -> _Local:
        self._expiry.forget(session)
        return self._local.pop(session)

    # --- time ---

    def deadline(self) -> int | None:
        earliest, due = super().deadline(), self._expiry.deadline()
        if due is None or not self._serving:
            return earliest
        return due if earliest is None else min(earliest, due)

    def handle_timer(self, now: int) -> None:
        super().handle_timer(now)
        if self._serving:
            for session in self._expiry.due(now, self._heard_ms):
                self._expire(session)

    def paused(self, pause_ms: int) -> None:
        self._expiry.extend(pause_ms, self._heard_ms)

    def _heard_ms(self, session: int) -> int:
        """0: it has no connection just now."""
        link = self._local[session].link
        return link.heard_ms if link is not None else 0

    def _expire(self, session: int) -> None:
        self.counts.sessions_expired += 1
        self.notices.append(f"expiring local session {session:#x}")
        held = self._local[session]
        if held.link is not None:
            self._close(held.link)
        self._drop(session)

    # --- writes ---

    def _on_write(self, link: ClientLink, request: Request) -> None:
        if link.session not in self._local:
            super()._on_write(link, request)
        elif request.opcode == _CLOSE_SESSION:
            self._close_in_turn(link, request)
        elif self._must_upgrade(request):
            self._upgrade(link)
            super()._on_write(link, request)
        else:
            self._write_locally(link, request)

    def _must_upgrade(self, request: Request) -> bool:
        """Without a quorum nothing is written, and so no session either."""
        upgrading = self._rules.upgrading and self._serving
        return upgrading and makes_ephemeral(request.opcode, request.body)

    def _write_locally(self, link: ClientLink, request: Request) -> None:
        gate = self.gate
        number = gate.admit_local_write(link, request)
        if self.audit is not None:
            self.audit.begin(number, link, request)
        header = TxnHeader(link.session, request.xid, gate.server, gate.incarnation, number, 0)
        link.barred = request.opcode == _RECONFIG  # as of any session
        self._office.submit(header, request.opcode, request.body, link.identities)

    def applied(self, zxid: int, header: TxnHeader, applied: Applied) -> None:
        if header.session in self._upgrading and self._is_upgrade(header):
            del self._upgrading[header.session]
        super().applied(zxid, header, applied)

    def _is_upgrade(self, header: TxnHeader) -> bool:
        """No other transaction of ours is without a number."""
        gate = self.gate
        ours = (gate.server, gate.incarnation, NO_NUMBER)
        return (header.origin, header.incarnation, header.number) == ours

    def _upgrade(self, link: ClientLink) -> None:
        session = link.session
        held = self._drop(session)
        assert held.link is link, "a session is on one connection"
        held.link = None
        self._upgrading[session] = held
        self.links.attach(link, session, held.timeout_ms)
        link.password = held.password
        gate = self.gate
        header = TxnHeader(session, 0, gate.server, gate.incarnation, NO_NUMBER, 0)
        body = OpenSession(held.timeout_ms, held.password)
        self._office.submit(header, OpCode.CREATE_SESSION, body, ())

    def _close_in_turn(self, link: ClientLink, request: Request) -> None:
        """Behind what was sent before it; what is sent behind it, `wire` does not let through."""
        if link.queue:
            self.gate.admit_read(link, request)
        else:
            self._close_local(link, request)

    def _serve_local(self, link: ClientLink, request: Request) -> None:
        if request.opcode == _CLOSE_SESSION:
            self._close_local(link, request)
        else:
            super()._serve_local(link, request)

    def _close_local(self, link: ClientLink, request: Request) -> None:
        """No transaction: the session was nowhere else, and nothing in the tree is its own."""
        self._reply(link, request, self._state.zxid)
        self._close(link)
        self._drop(link.session)
