"""One member with a disk that never fails, and clients that speak the wire's bytes."""

import itertools
import random

from wire.client import ClientConnection, Event, Reply, Request, Role, WatchEvent
from wire.codes import OpCode
from wire.jute import Record
from wire.records import OPEN_ACL, ConnectRequest, ConnectResponse, CreateRequest, GetDataRequest
from zkpy.effects import Append, DiskBatch, Entry, Recovered, WriteIdentity
from zkpy.limits import Limits
from zkpy.membership import Configuration
from zkpy.pipeline.auth import Authenticator, digest_id
from zkpy.pipeline.prepare import Rules
from zkpy.replica.core import Replica, ReplicaOptions
from zkpy.replica.local import LocalSessionRules
from zkpy.replica.membership import MembershipRules, founding_set
from zkpy.zab.member import ZabOptions
from zkpy.zab.quorum import VoterSet

BLANK = Recovered()


NOBODY = Configuration({})


class World:
    """A standalone member; `run` carries out passes until nothing is left to do."""

    def __init__(
        self,
        recovered: Recovered = BLANK,
        voters: tuple[int, ...] = (1,),
        read_only_mode: bool = False,
        rules: Rules | None = None,
        membership: Configuration | None = None,
        local_sessions: LocalSessionRules | None = None,
        leader_serves: bool = True,
        authenticator: Authenticator | None = None,
        audited: bool = False,
        **limits: int,
    ) -> None:
        """With a `membership` that may change, `super:test` may change it."""
        self.now = 1_000_000
        self.wall = 1_700_000_000_000
        self.clients: dict[int, Client | Raw] = {}
        self.batches: list[DiskBatch] = []
        self.pending: list[DiskBatch] = []
        self.disk_works = True
        self.halted: str | None = None
        self.closed: list[int] = []
        self.image_steps: list[object] = []
        self.failures: list[str] = []
        self.replica = Replica(
            ReplicaOptions(
                1,
                ZabOptions(founding_set(membership, 5) if membership else VoterSet.of(voters)),
                membership=MembershipRules(membership is not None, 1, membership or NOBODY),
                authenticator=authenticator
                or Authenticator(digest_id(b"super:test") if membership else None),
                limits=Limits(**limits),
                rules=rules or Rules(),
                read_only_mode=read_only_mode,
                local_sessions=local_sessions,
                leader_serves=leader_serves,
                audited=audited,
            ),
            recovered,
            rng=random.Random(7),
            wall_clock=lambda: self.wall,
            now=self.now,
        )
        self.run()

    def run(self) -> None:
        """Pass after pass, until one asks for nothing."""
        while self.step():
            pass

    def step(self) -> bool:
        ready = self.replica.ready()
        self.replica.deadline()
        if ready.halt is not None:
            self.halted = ready.halt
            return False
        if ready.disk is not None:
            self.pending.append(ready.disk)
        for link, data in ready.clients:
            if link in self.clients:
                self.clients[link].take(data)
        for link in ready.closes:
            self.closed.append(link)
            self.clients[link].closed = True
            self.replica.client_down(link, self.now)
        self.image_steps += ready.image
        self.failures += ready.failures
        saved = self.save() if self.disk_works else False
        return bool(saved or ready.clients or ready.closes or ready.image)

    def save(self) -> bool:
        """The disk finishes what it was given."""
        if not self.pending:
            return False
        batch = self.pending.pop(0)
        self.batches.append(batch)
        following = self.replica.saved(batch.number, self.now)
        if following is not None:
            self.pending.append(following)
        return True

    def advance(self, ms: int) -> None:
        """Time passes, with the timer called exactly when it is due."""
        until = self.now + ms
        while self.now < until:
            due = self.replica.deadline()
            self.now = until if due is None else min(until, max(due, self.now + 1))
            self.replica.handle_timer(self.now)
            self.run()

    def connect(self, **fields: object) -> "Client":
        return Client(self, **fields)

    def raw(self) -> "Raw":
        return Raw(self)

    @property
    def log(self) -> list[Entry]:
        steps = [step for batch in self.batches for step in batch.steps]
        return [entry for step in steps if isinstance(step, Append) for entry in step.entries]

    def recovered(self) -> Recovered:
        """What a restart would find."""
        steps = [step for batch in self.batches for step in batch.steps]
        identities = [step.identity for step in steps if isinstance(step, WriteIdentity)]
        appends = [step for step in steps if isinstance(step, Append)]
        return Recovered(
            identity=identities[-1],
            entries=self.log,
            committed=appends[-1].committed,
            digests=[(step.digest_zxid, step.digest) for step in appends if step.digest_zxid],
        )


_links = itertools.count(1)


class Raw:
    """A connection whose bytes are looked at as they are."""

    def __init__(self, world: World) -> None:
        self.link = next(_links)
        self.data = b""
        self.closed = False
        world.clients[self.link] = self
        world.replica.client_up(self.link, "127.0.0.1:40001", world.now)

    def take(self, data: bytes) -> None:
        self.data += data


class Client:
    """One connection of a client; everything it was told is in `events`."""

    def __init__(self, world: World, **fields: object) -> None:
        self.link = next(_links)
        self.world = world
        self.connection = ClientConnection(Role.CLIENT, 1 << 24)
        self.events: list[Event] = []
        self.closed = False
        self.xid = 0
        world.clients[self.link] = self
        world.replica.client_up(self.link, "127.0.0.1:40000", world.now)
        asked: dict[str, object] = {
            "protocol_version": 0,
            "last_zxid_seen": 0,
            "timeout_ms": 10_000,
            "session_id": 0,
            "password": bytes(16),
            "read_only": False,
        }
        self.send_event(ConnectRequest(**{**asked, **fields}))  # type: ignore[arg-type]
        world.run()

    @property
    def granted(self) -> ConnectResponse:
        found = [event for event in self.events if isinstance(event, ConnectResponse)]
        return found[0]

    def send_event(self, event: Event) -> None:
        self.world.replica.receive_client(self.link, self.connection.send(event), self.world.now)

    def send(self, opcode: OpCode, body: Record | None = None, xid: int | None = None) -> int:
        """Send a request and return at once."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.send_event(Request(xid, opcode, body))
        return xid

    def ask(self, opcode: OpCode, body: Record | None = None) -> Reply:
        """Send a request and wait for its reply."""
        xid = self.send(opcode, body)
        self.world.run()
        return self.reply(xid)

    def reply(self, xid: int) -> Reply:
        (found,) = [each for each in self.replies if each.xid == xid]
        return found

    @property
    def replies(self) -> list[Reply]:
        return [event for event in self.events if isinstance(event, Reply)]

    @property
    def watch_events(self) -> list[tuple[int, str]]:
        return [(e.event.type, e.event.path) for e in self.events if isinstance(e, WatchEvent)]

    def take(self, data: bytes) -> None:
        self.events += self.connection.receive_data(data)
        assert self.connection.error is None

    def create(self, path: str, data: bytes = b"", flags: int = 0) -> Reply:
        return self.ask(OpCode.CREATE, CreateRequest(path, data, list(OPEN_ACL), flags))

    def get(self, path: str, watch: bool = False) -> Reply:
        return self.ask(OpCode.GET_DATA, GetDataRequest(path, watch))
