"""The clients of this server: handshakes, requests, replies, events.

Reads are answered here at once.  Writes, session claims and syncs go to the office
of the present role and come back as committed entries, or through `claimed` and
`synced`.
"""

import random
from collections import deque
from collections.abc import Callable
from hmac import compare_digest
from typing import Any, Final

from wire.client import Event, FourLetterWord, Request, encode_event, encode_reply
from wire.codes import XID_PING, ErrorCode, EventType, OpCode, Perm
from wire.errors import RemoteProtocolError
from wire.records import (
    AuthPacket,
    ConnectRequest,
    ConnectResponse,
    OpenSession,
    SaslRequest,
    SaslResponse,
    SyncRequest,
)
from wire.txn import TxnHeader
from zkpy import zxid as zxids
from zkpy.errors import ZkError
from zkpy.limits import Limits
from zkpy.pipeline.auth import Authenticator
from zkpy.pipeline.digest_md5 import RANDOM_BYTES, Exchange, SaslError, SaslUsers
from zkpy.pipeline.gate import Gate, Waiting
from zkpy.pipeline.optable import OPS, Op, Work, write_reply
from zkpy.pipeline.reads import Reads
from zkpy.pipeline.request import NO_NUMBER, Identities
from zkpy.pipeline.watches import Firing, WatchTable
from zkpy.replica.audit import Audit
from zkpy.replica.counts import FRAME_HEAD, ServingCounts
from zkpy.replica.links import ClientLink, LinkTable
from zkpy.replica.office import Office
from zkpy.replica.throttle import TokenBucket
from zkpy.state.acl import AclList, allowed
from zkpy.state.apply import Applied, ReplicatedState
from zkpy.state.digest import Change

_PASSWORD_NONE: Final = bytes(16)
# Plain names for the hot path: looking up an enum's member costs as much as a whole check.
_WRITE: Final = Work.WRITE
_CREATE_SESSION: Final = int(OpCode.CREATE_SESSION)
_RECONFIG: Final = int(OpCode.RECONFIG)
_SESSION_MOVED: Final = int(ErrorCode.SESSION_MOVED)
_BURST: Final = 16
"""Requests in one piece that are served without measuring their replies."""
_BARRIERS: Final = (int(OpCode.AUTH), int(OpCode.SASL))
"""What changes who a connection is: nothing behind it may be judged before it is done."""


class Clients:
    """All client connections of one member, under one office at a time."""

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
    ) -> None:
        self._server_id = server_id
        self._incarnation = incarnation
        self._limits = limits
        self._bytes_max = limits.outstanding_bytes_max
        """Beyond so many on their way a request waits before it is looked at."""
        self._authenticator = authenticator
        self._rng = rng
        self.audit = audit
        """None where nobody wants to know."""
        self._session_ids = _SessionIds(server_id, wall_ms)
        self.watches = WatchTable()
        self.links = LinkTable(limits.frame_bytes_max)
        self._unnamed: dict[int, ClientLink] = {}
        """Connections that said nothing complete yet, oldest first."""
        self._choked: dict[int, None] = {}
        self._resting: dict[int, ClientLink] = {}
        """Connections that had their share of this pass."""
        self._crowded: dict[int, ClientLink] = {}
        """Connections whose next request waits until fewer bytes are on their way."""
        self._tokens = TokenBucket(
            limits.connect_tokens_max, limits.connect_fill_ms, limits.connect_fill_count
        )
        self.packets_received = 0
        self.counts = ServingCounts()
        self.notices: list[str] = []
        self.failures: list[str] = []
        self._admin: list[tuple[int, str]] = []
        self.gate = Gate(server_id, incarnation)
        self.adopt_state(state)

    def adopt_state(self, state: ReplicatedState) -> None:
        """Read from this state from now on."""
        self._state = state
        self._reads = Reads(state, self.watches)

    def enter(self, office: Office, serving: bool, read_only: bool = False) -> None:
        """A role begins: connections of the one before it end, and all that waited in them.

        `serving`: everybody is welcome; `read_only`: those are who asked for no more.
        """
        for link in list(self.links.by_id.values()):
            self._close(link)
        self._office = office
        self._serving = serving
        self._read_only = read_only
        if self.audit is not None:
            self.audit.lose()
        self.gate = Gate(self._server_id, self._incarnation, self.gate.last_number)
        self._synced: deque[tuple[int, int]] = deque()
        self._finishing = False

    # --- connections ---

    @property
    def read_only(self) -> bool:
        """Whether only those are served who asked for no more than reads."""
        return self._read_only

    def up(self, link: int, address: str, now: int, subject: str | None = None) -> None:
        opened = self._unnamed[link] = self.links.open(link, address, now)
        if subject is not None:
            opened.identities += self._authenticator.certified(subject)
            opened.identity_bytes = sum(len(name.encode()) for _, name in opened.identities)
        opened.nobody = self._authenticator.is_nobody(opened.identities)

    def deadline(self) -> int | None:
        """When the oldest connection without a handshake has had its time; 0: at once."""
        if any(link not in self._choked for link in self._resting):
            return 0
        if self._crowded and self.gate.bytes <= self._bytes_max:
            return 0
        for link in self._unnamed.values():
            return link.opened_ms + self._limits.handshake_ms
        return None

    def handle_timer(self, now: int) -> None:
        late = now - self._limits.handshake_ms
        while self._unnamed and next(iter(self._unnamed.values())).opened_ms <= late:
            link = self._unnamed.pop(next(iter(self._unnamed)))
            self.counts.handshakes_expired += 1
            self.notices.append(f"closing the connection of {link.address}: it asks for nothing")
            self._close(link)

    def paused(self, pause_ms: int) -> None:
        """This process stood still for so long; no session's time is counted here."""

    @property
    def local_sessions(self) -> int:
        """How many sessions only this server knows."""
        return 0

    def local_deadlines(self) -> dict[int, list[int]] | None:
        """ms -> those of them that are to expire then; None if there cannot be any."""
        return None

    def receive(self, link_id: int, data: bytes, now: int) -> bool:
        """Whether the link is overloaded now."""
        link = self.links.by_id.get(link_id)
        if link is None:  # it was closed in this very pass
            return False
        link.heard_ms = now
        self._take_events(link, data)
        return self._is_overloaded(link)

    def overloaded(self, link_id: int, now: int) -> bool:
        """Too many writes are on their way, or too many of this link's own requests wait.

        Nobody listened to it until now: that it said nothing is not held against its session,
        unless it does not listen either.
        """
        link = self.links.by_id.get(link_id)
        if link is None:
            return False
        if link_id not in self._choked:
            link.heard_ms = now
        return self._is_overloaded(link)

    def _is_overloaded(self, link: ClientLink) -> bool:
        limits = self._limits
        return (
            len(link.queue) + len(link.held) > limits.outstanding_per_connection_max
            or len(self.gate) > limits.outstanding_max
            or self.gate.bytes > self._bytes_max
        )

    def down(self, link_id: int) -> None:
        """The connection is gone.  Its session lives on until it is closed or expires."""
        link = self.links.by_id.get(link_id)
        if link is not None:
            self.links.drop(link)
            self._forget(link)

    def reset_counts(self) -> None:
        """But those of packets, which connections have a share in."""
        self.counts.reset()
        self.links.sizes.reset()
        for told in self.watches.told.values():
            told.reset()

    def take_failures(self) -> list[str]:
        """Who failed to authenticate since the last call."""
        failed, self.failures = self.failures, []
        return failed

    def take_admin(self) -> list[tuple[int, str]]:
        """(link, four-letter word) asked since the last call."""
        asked, self._admin = self._admin, []
        return asked

    def _take_events(self, link: ClientLink, data: bytes) -> None:
        connection = link.connection
        events = connection.receive_data(data)
        count = len(events)
        link.received += count
        self.packets_received += count
        if count > _BURST:
            link.held.extend(events)  # type: ignore[arg-type]  # a handshake comes alone
            self._resume(link)
        else:
            self._take_each(link, events)
        if count and type(events[-1]) is Request:
            link.last_opcode, link.last_xid = events[-1].opcode, events[-1].xid
        if connection.error is not None and not link.closed:
            self._refuse(link, connection.error)

    def _take_each(self, link: ClientLink, events: list[Event]) -> None:
        for event in events:
            if type(event) is not Request:
                self._on_first(link, event)
            elif link.held or link.barred:
                link.held.append(event)
            elif self.gate.bytes > self._bytes_max:
                link.held.append(event)
                self._crowded[link.id] = link
            else:
                self._on_request(link, event)
            if link.closed:
                return

    def _on_first(self, link: ClientLink, event: Event) -> None:
        if link.connection.error is None:  # else there is nothing to be answered any more
            _ON_FIRST[type(event)](self, link, event)

    def _resume(self, link: ClientLink) -> None:
        """Go on with what was held back, up to a barrier or this link's share of the pass.

        A few kilobytes of requests can ask for gigabytes of replies; the others wait
        for no more than a share of them.  In a loop, never in itself: a barrier may be passed
        while it is put up, where syncs or reconfigs are refused at once, and the next
        one may be held behind it.
        """
        if not link.resuming:
            link.resuming = True
            self._serve_held(link)
            link.resuming = False

    def _serve_held(self, link: ClientLink) -> None:
        held, out, size = link.held, link.out, 0
        while held and not link.barred and not link.closed:
            if self.gate.bytes > self._bytes_max:
                self._crowded[link.id] = link
                return
            self._on_request(link, held.popleft())
            size += len(out[-1]) if out else 0
            if size > self._limits.share_bytes_max:
                self._resting[link.id] = link
                return

    def resume_resting(self) -> None:
        """A new pass: those who had their share of the last one go on, if they read it."""
        if self._crowded and self.gate.bytes <= self._bytes_max:
            self._resting |= self._crowded
            self._crowded = {}
        if self._resting:
            resting, self._resting = self._resting, {}
            for link in resting.values():
                if link.id in self._choked:
                    self._resting[link.id] = link
                else:
                    self._resume(link)

    def choke(self, link_id: int, choked: bool) -> None:
        """Whether a client has left unread what was sent to it."""
        if not choked:
            self._choked.pop(link_id, None)
        elif link_id in self.links.by_id:
            self._choked[link_id] = None

    def _refuse(self, link: ClientLink, error: RemoteProtocolError) -> None:
        self.notices.append(f"closing the connection of {link.address}: {error}")
        self._close(link)

    def _close(self, link: ClientLink) -> None:
        self.links.close(link)
        self._forget(link)

    def _forget(self, link: ClientLink) -> None:
        self._unnamed.pop(link.id, None)
        self._resting.pop(link.id, None)
        self._crowded.pop(link.id, None)
        self._choked.pop(link.id, None)
        self.gate.forget(link)
        self.watches.forget(link.id)
        link.held.clear()
        if link.session and link.heard_ms != link.relayed_ms:
            self._office.left(link.session, link.heard_ms)

    # --- requests ---

    def _on_request(self, link: ClientLink, request: Request) -> None:
        if link.nobody and request.opcode not in _BARRIERS:
            self._refuse_nobody(link, request)
            return
        op = OPS.get(request.opcode)
        if op is not None and op.read is not None and not link.queue:
            self._answer_read(link, request, op)
        elif op is not None and op.work is _WRITE:
            self._on_write(link, request)
        elif link.queue and request.opcode != OpCode.SYNC:
            self.gate.admit_read(link, request)
            link.barred = op is None or request.opcode in _BARRIERS
        else:
            self._serve_local(link, request)

    def _answer_read(self, link: ClientLink, request: Request, op: Op) -> None:
        assert op.read is not None
        zxid = self._state.zxid
        try:
            reply = encode_reply(request.xid, zxid, 0, op.read(self._reads, link, request.body))
        except ZkError as refusal:
            reply = encode_reply(request.xid, zxid, refusal.code)
        self.links.emit(link, reply)

    def _on_write(self, link: ClientLink, request: Request) -> None:
        gate = self.gate
        number = gate.admit_write(link, request)
        if self.audit is not None:
            self.audit.begin(number, link, request)
        header = TxnHeader(link.session, request.xid, gate.server, gate.incarnation, number, 0)
        # A reconfig may have to wait at the leader, and nothing sent behind it may overtake it.
        link.barred = request.opcode == _RECONFIG
        self._office.submit(header, request.opcode, request.body, link.identities)

    def _go_on(self, link: ClientLink) -> None:
        """The head of the queue is answered: so is what only waited for it.

        Nothing is queued behind a barrier, so it is passed when the queue is empty.
        """
        self._serve_waiting(link)
        if link.barred and not link.queue:
            link.barred = False
            self._resume(link)

    def _serve_waiting(self, link: ClientLink) -> None:
        queue = link.queue
        while queue and queue[0].number == NO_NUMBER:
            waiting = queue.popleft()
            request = waiting.request
            op = OPS.get(request.opcode)
            if waiting.refusal:
                self._reply_error(link, request, waiting.refusal)
            elif op is not None and op.read is not None:
                self._answer_read(link, request, op)
            else:
                self._serve_local(link, request)

    def _serve_local(self, link: ClientLink, request: Request) -> None:
        _LOCAL.get(request.opcode, Clients._unknown)(self, link, request)

    def _reply(self, link: ClientLink, request: Request, zxid: int, body: bytes = b"") -> None:
        self.links.emit(link, encode_reply(request.xid, zxid, 0, body))

    def _reply_error(self, link: ClientLink, request: Request, code: int) -> None:
        self.links.emit(link, encode_reply(request.xid, self._state.zxid, code))

    # --- requests about the connection itself ---

    def _unknown(self, link: ClientLink, request: Request) -> None:
        """As ZooKeeper: the answer is UNIMPLEMENTED at no zxid, then the connection is closed."""
        self.links.emit(link, encode_reply(request.xid, -1, ErrorCode.UNIMPLEMENTED))
        self._close(link)

    def _ping(self, link: ClientLink, request: Request) -> None:
        self.links.emit(link, encode_reply(XID_PING, self._state.zxid, 0))

    def _auth(self, link: ClientLink, request: Request) -> None:
        """A second identity adds to the first; a refused one ends the connection."""
        body = request.body
        assert isinstance(body, AuthPacket)
        try:
            earned = self._authenticator.authenticate(
                body.scheme, body.auth, link.host, link.identities
            )
        except ZkError as refusal:
            self._note_failure(link, f"the scheme {body.scheme[:20]!r}")
            self.links.emit(link, encode_reply(request.xid, 0, refusal.code))
            self._close(link)
            return
        except RemoteProtocolError as error:
            self._refuse(link, error)
            return
        why = self._identify(link, earned)
        self.links.emit(
            link, encode_reply(request.xid, 0, ErrorCode.AUTH_FAILED if why else ErrorCode.OK)
        )
        if why:
            self._refuse(link, RemoteProtocolError(why))

    def _note_failure(self, link: ClientLink, by: str) -> None:
        self.counts.auths_failed += 1
        self.failures.append(f"{link.address} failed to authenticate by {by}")

    def _identify(self, link: ClientLink, earned: Identities) -> str:
        """From now on it has these identities as well; or why it may not, for the log."""
        identities = tuple(dict.fromkeys((*link.identities, *earned)))
        size = sum(len(name.encode()) for _, name in identities)
        limits = self._limits
        if len(identities) > limits.identities_max or size > limits.identity_bytes_max:
            return f"it has {len(identities)} identities of {size} bytes"
        link.identities, link.identity_bytes = identities, size
        link.nobody = self._authenticator.is_nobody(identities)
        return ""

    def _sasl(self, link: ClientLink, request: Request) -> None:
        """A connection has one exchange: a token after its end is refused, as in ZooKeeper."""
        users, body = self._authenticator.sasl, request.body
        assert isinstance(body, SaslRequest)
        if users is None:
            self._reply_token(link, request, None, ErrorCode.AUTH_FAILED)
            return
        if link.sasl is None:
            link.sasl = Exchange(users.secrets, self._rng.randbytes(RANDOM_BYTES))
            self._reply_token(link, request, link.sasl.challenge())
            return
        try:
            answer = link.sasl.finish(body.token or b"")
        except SaslError as error:
            self._fail_sasl(link, request, users, str(error))
            return
        why = self._identify(link, users.identities(link.sasl.user))
        if why:
            self._fail_sasl(link, request, users, why)
        else:
            self._reply_token(link, request, answer)

    def _reply_token(
        self, link: ClientLink, request: Request, token: bytes | None, error: int = 0
    ) -> None:
        """Other than any other reply, one with an error has its record, too: ZooKeeper's Java
        client reads it first, and took its absence for a broken connection, to try again for
        ever."""
        body = SaslResponse(token).encode()
        self.links.emit(link, encode_reply(request.xid, 0, error, body))

    def _fail_sasl(self, link: ClientLink, request: Request, users: SaslUsers, why: str) -> None:
        self._note_failure(link, f"SASL: {why}")
        required = "sasl" in self._authenticator.required
        if users.keeps_failed and not required:
            self._reply_token(link, request, None)
            return
        code = ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH if required else ErrorCode.AUTH_FAILED
        self._reply_token(link, request, None, code)
        self._close(link)

    def _refuse_nobody(self, link: ClientLink, request: Request) -> None:
        """As ZooKeeper: told once, then closed, be it a ping.  The session goes by its time-out."""
        code = ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH
        self.links.emit(link, encode_reply(request.xid, 0, code))
        schemes = " or ".join(self._authenticator.required)
        self._refuse(link, RemoteProtocolError(f"it has not authenticated itself by {schemes}"))

    def _set_watches(self, link: ClientLink, request: Request) -> None:
        missed = self._reads.set_watches(link, request.body)  # type: ignore[arg-type]
        self._notify(missed, -1, {})
        self._reply(link, request, self._state.zxid)

    # --- sync ---

    def _sync(self, link: ClientLink, request: Request) -> None:
        """Answered when all that was proposed before is applied here.

        What the client sends behind it is held back, not even passed on: a read
        behind the sync is answered only once the sync is, and must not then show a
        later write of its own connection (C2); nor may that write, applied
        meanwhile, be answered with a lower zxid than the read (C3).
        """
        number = self.gate.admit_write(link, request)
        link.barred = True
        self._office.sync(number)

    def synced(self, number: int, barrier: int) -> None:
        """The sync is done once `barrier` is applied here."""
        self._synced.append((barrier, number))
        self._finish_syncs()

    def _finish_syncs(self) -> None:
        """In a loop, never in itself: what is held behind a sync may be the next one."""
        if self._finishing:
            return
        self._finishing = True
        synced = self._synced
        while synced and synced[0][0] <= self._state.zxid:
            barrier, number = synced.popleft()
            waiting = self.gate.take(number)
            if waiting is not None:
                self._answer_sync(waiting, barrier)
        self._finishing = False

    def _answer_sync(self, waiting: Waiting, barrier: int) -> None:
        link, body = waiting.link, waiting.request.body
        assert isinstance(link, ClientLink) and link.queue[0] is waiting
        assert isinstance(body, SyncRequest)
        link.queue.popleft()
        self._reply(link, waiting.request, barrier, body.encode())
        self._go_on(link)

    # --- handshake ---

    def _on_word(self, link: ClientLink, event: FourLetterWord) -> None:
        del self._unnamed[link.id]
        self._admin.append((link.id, event.word))

    def _on_connect(self, link: ClientLink, request: ConnectRequest) -> None:
        """Checks in ZooKeeper's order."""
        del self._unnamed[link.id]
        counts = self.counts
        if not self._tokens.take(link.heard_ms):
            counts.connections_throttled += 1
            self._close(link)  # without a word: the client waits and comes back
            return
        counts.connection_requests += 1
        counts.token_deficit.add(self._tokens.deficit)
        if not self._serving and not (self._read_only and request.read_only):
            counts.connections_without_service += 1
            self._close(link)
        elif request.last_zxid_seen > self._state.zxid:
            self.notices.append(
                f"refusing session {request.session_id:#x} of {link.address}: it has seen zxid "
                f"{zxids.show(request.last_zxid_seen)}, our last is "
                f"{zxids.show(self._state.zxid)}; the client must try another server"
            )
            self._close(link)
        elif request.session_id:
            counts.connections_resumed += 1
            link.password = request.password or b""
            self._claim(link, request.session_id)
        else:
            self._open_session(link, self._negotiate(request.timeout_ms))

    def _claim(self, link: ClientLink, session: int) -> None:
        self._leave_old_link(session, link.password)
        self._office.claim(link, session, link.password)

    def _leave_old_link(self, session: int, password: bytes) -> None:
        """The session's client is here again: what still comes by its old connection is void.

        Before the leader is asked, not when it has answered.  Losing schedule: the client has
        long moved on to another server when an attempt of it to come back here arrives
        late; the leader makes this server the owner again, and a write that waited in the
        old connection all the while is let through, after the client's later ones (C12).
        Only with the right password, or anybody could end anybody's connection.
        """
        old, held = self.links.by_session.get(session), self._state.sessions.get(session)
        if old is not None and held is not None and compare_digest(held.password, password):
            self._close(old)

    def _negotiate(self, asked_ms: int) -> int:
        limits = self._limits
        return min(max(asked_ms, limits.session_timeout_min_ms), limits.session_timeout_max_ms)

    def _open_session(self, link: ClientLink, timeout_ms: int) -> None:
        link.session = self._session_ids.draw(self._state)
        self._on_write(link, Request(0, OpCode.CREATE_SESSION, OpenSession(timeout_ms)))

    def claimed(self, link_id: int, session: int, timeout_ms: int) -> None:
        """The office's word on a session that a client came back with; 0: it is gone."""
        link = self.links.by_id.get(link_id)
        if link is None:
            return
        if timeout_ms:
            self._grant(link, session, timeout_ms, link.password)
        else:
            self._deny(link)

    def unheard_of(self, link_id: int, session: int) -> None:
        """The word of a member without a quorum on a session that it does not know.

        It may be too new to have arrived here, and that one is over is for a leader to say
        (C11): closed without a word, the client asks another server.  A session that was
        opened without a quorum, as its password shows, was its connection's alone.
        """
        link = self.links.by_id.get(link_id)
        if link is not None and link.password != _PASSWORD_NONE:
            self._close(link)
        else:
            self.claimed(link_id, session, 0)

    def _grant(self, link: ClientLink, session: int, timeout_ms: int, password: bytes) -> None:
        left = self._attach(link, session, timeout_ms)
        if left is not None:
            self._close(left)
        response = ConnectResponse(0, timeout_ms, session, password, self._read_only)
        self.links.emit(link, link.connection.send(response))
        link.password = b""
        self._take_events(link, b"")  # what a hasty client has sent already

    def _attach(self, link: ClientLink, session: int, timeout_ms: int) -> ClientLink | None:
        """The session is on this link from now on; the link that it leaves, if it was here."""
        return self.links.attach(link, session, timeout_ms)

    def _deny(self, link: ClientLink) -> None:
        """Time-out 0 tells the client that its session is gone."""
        refusal = ConnectResponse(0, 0, 0, _PASSWORD_NONE, False)
        self.links.emit(link, link.connection.send(refusal))
        self._close(link)

    # --- the word of an office that asks no quorum ---

    def opened(self, number: int, timeout_ms: int) -> None:
        waiting = self.gate.take(number)
        assert waiting is not None and isinstance(waiting.link, ClientLink)
        waiting.link.queue.remove(waiting)
        self._grant(waiting.link, waiting.link.session, timeout_ms, _PASSWORD_NONE)

    def closed(self, number: int) -> None:
        waiting = self.gate.take(number)
        assert waiting is not None and isinstance(waiting.link, ClientLink)
        self._reply(waiting.link, waiting.request, self._state.zxid)
        self._close(waiting.link)

    def refused(self, number: int, code: int) -> None:
        """Answered in its turn: what was sent before it may still be on its way."""
        if self.audit is not None:
            self.audit.refused(number)
        waiting = self.gate.take(number)
        if waiting is None:  # its connection is gone
            return
        link = waiting.link
        assert isinstance(link, ClientLink)
        waiting.number = NO_NUMBER
        waiting.refusal = code or int(ErrorCode.SYSTEM_ERROR)
        self.counts.ops_throttled += code == ErrorCode.THROTTLED_OP
        self._go_on(link)

    # --- what was applied ---

    def applied(self, zxid: int, header: TxnHeader, applied: Applied) -> None:
        """Events, then the reply, then the reads that waited for exactly this state."""
        if self.watches.count:
            firings = self.watches.trigger(applied.changes)
            if firings:
                self._notify(firings, zxid, applied.lost_acls or {})
        if self.audit is not None:
            self.audit.applied(self.gate, header, applied)
        waiting = self.gate.match(header)
        if waiting is not None:
            self._answer_write(waiting, applied, zxid)
        if self._synced:
            self._finish_syncs()

    def session_closed(self, session: int, changes: list[Change]) -> None:
        """The session is gone; the reply, if its client asked for that, is out already."""
        if self.audit is not None:
            self.audit.session_closed(session, changes)
        link = self.links.by_session.get(session)
        if link is not None:
            self._close(link)

    def _answer_write(self, waiting: Waiting, applied: Applied, zxid: int) -> None:
        link, request, queue = waiting.link, waiting.request, waiting.link.queue
        assert isinstance(link, ClientLink) and queue[0] is waiting
        queue.popleft()
        link.wrote = True
        if request.opcode == _CREATE_SESSION:
            self._answer_open(link, applied)
        elif not applied.error:
            body = write_reply(request.opcode, request.body, applied)
            self.links.emit(link, encode_reply(request.xid, zxid, 0, body))
        elif applied.error != _SESSION_MOVED:
            self.links.emit(link, encode_reply(request.xid, zxid, applied.error))
        else:
            self._close(link)  # without a reply: the client may be served elsewhere
        if queue or link.held or link.barred:
            self._go_on(link)

    def _answer_open(self, link: ClientLink, applied: Applied) -> None:
        session = self._state.sessions.get(link.session)
        if applied.error or session is None:
            self._deny(link)
        else:
            self._grant(link, link.session, session.timeout_ms, session.password)

    def _notify(self, firings: list[Firing], zxid: int, lost: dict[str, AclList]) -> None:
        """Events to those who may read the path, by the ACL at the change."""
        last: tuple[EventType, str] | None = None
        encoded = b""
        for link_id, event, path in firings:
            link = self.links.by_id[link_id]
            acls = self._acls_at_event(event, path, lost)
            if not all(allowed(acl, Perm.READ, link.identities) for acl in acls):
                continue
            if last != (event, path):
                last, encoded = (event, path), encode_event(zxid, event, path)
            self.counts.watch_bytes += len(encoded) - FRAME_HEAD
            self.links.emit(link, encoded)

    def _acls_at_event(
        self, event: EventType, path: str, lost: dict[str, AclList]
    ) -> list[AclList]:
        """The lists that have to let a reader pass, where not everybody may read.

        A multi can delete a znode and make it anew: what became of the old one is told by
        the old list, the creation by the new one, and what may be either's by both.
        """
        tree = self._state.tree
        gone, there = lost.get(path), tree.acls.get(path)
        if event is EventType.NODE_DELETED:
            there = None
        elif event is EventType.NODE_CREATED and path in tree.nodes:
            gone = None
        return [acl for acl in (gone, there) if acl is not None]


class _SessionIds:
    """Ids as ZooKeeper makes them: server id in the top byte, then start time, then a counter."""

    def __init__(self, server_id: int, wall_ms: int) -> None:
        start = (wall_ms << 24 & 0xFFFFFFFFFFFFFFFF) >> 8
        self._next = start & 0x00FFFFFFFFFFFFFF | (server_id & 0xFF) << 56

    def draw(self, state: ReplicatedState) -> int:
        """A signed 64-bit id that no live session has, should the clock have gone back."""
        while True:
            self._next += 1
            session = self._next - (1 << 64) if self._next >> 63 else self._next
            if session not in state.sessions:
                return session


_LOCAL: Final[dict[int, Callable[[Clients, ClientLink, Request], None]]] = {
    OpCode.PING: Clients._ping,
    OpCode.AUTH: Clients._auth,
    OpCode.SET_WATCHES: Clients._set_watches,
    OpCode.SET_WATCHES2: Clients._set_watches,
    OpCode.SYNC: Clients._sync,
    OpCode.SASL: Clients._sasl,
}
_ON_FIRST: Final[dict[type, Callable[[Clients, ClientLink, Any], None]]] = {
    ConnectRequest: Clients._on_connect,
    FourLetterWord: Clients._on_word,
}
