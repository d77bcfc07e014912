"""One real party against a scripted one (after ZooKeeper's Zab1_0Test): what is sent, and when."""

import random
from dataclasses import replace

import attrs

from wire.peer import NO_CLUSTER, Notification, Role, Standing
from zkpy import zxid as zxids
from zkpy.effects import (
    CHAIN_START,
    Append,
    DiskBatch,
    Entry,
    EntryKind,
    Identity,
    chain_next,
)
from zkpy.zab.member import ZabOptions
from zkpy.zab.quorum import VoterSet
from zkpy.zab.window import Window
from zkpy.zab.zab import Zab, ZabReady

CLUSTER = b"one ensemble...."
VOTERS = VoterSet.of([1, 2, 3], [4])
OPTIONS = ZabOptions(VOTERS, elects=False)


def log_to(*places: tuple[int, int], cluster: bytes = CLUSTER) -> list[Entry]:
    """EPOCH entries and transactions of the given (epoch, count), the first with the voter set."""
    entries: list[Entry] = []
    chain = CHAIN_START
    for epoch, count in places:
        for counter in range(1, count + 1):
            zxid = zxids.make(epoch, counter)
            kind, data = EntryKind.TXN, b"%d" % zxid
            if counter == 1:
                kind, data = EntryKind.EPOCH, cluster
            elif not any(entry.kind == EntryKind.CONFIG for entry in entries):
                kind, data = EntryKind.CONFIG, VOTERS.encode()
            chain = chain_next(chain, zxid, kind, data)
            entries.append(Entry(zxid, int(kind), data, chain))
    return entries


def member(accepted_epoch: int, **changes: object) -> Identity:
    voters = VOTERS.at(zxids.make(1, 2)).encode()
    identity = Identity(CLUSTER, 1, False, accepted_epoch, voters, voters)
    return replace(identity, **changes)  # type: ignore[arg-type]


class Driver:
    """Drives one Zab by hand; keeps what it sent."""

    def __init__(
        self,
        identity: Identity | None,
        entries: list[Entry],
        committed: int = 0,
        me: int = 1,
        suspect: bool = False,
        options: ZabOptions = OPTIONS,
        base: tuple[int, int] = (0, CHAIN_START),
    ) -> None:
        if identity is not None:
            identity = replace(identity, server_id=me)
        window = Window(*base, entries, committed)
        self.now = 1000
        self.zab = Zab(me, identity, window, options, random.Random(7), self.now, suspect)
        self.batch: DiskBatch | None = None
        self.last: ZabReady | None = None
        self.images: list[int] = []
        self.closed: list[int] = []
        self.votes: list[tuple[int, object]] = []
        self.applied: list[int] = []
        self.events: list[object] = []
        """Of a SNAP coming in, as far as `save` took them."""

    def sent(self, sid: int | None = None) -> list[object]:
        """One pass: what it sends (to `sid`), and what it wants written, which is kept."""
        self.applied += [entry.zxid for entry in self.zab.take_committed()]
        ready = self.last = self.zab.ready(self.zab.log.applied, 5)
        if ready.disk is not None:
            assert self.batch is None
            self.batch = ready.disk
        self.images += ready.images
        self.closed += ready.peer_closes
        self.votes += ready.votes
        return [message for to, message in ready.peers if sid in (None, to)]

    def save(self, sid: int | None = None) -> list[object]:
        """The disk has all there is to write; what is sent then."""
        messages = self.sent(sid)
        while self.batch is not None:
            number, self.batch = self.batch.number, None
            self.zab.saved(number, self.now)
            self.events += self.zab.take_snap()
            messages += self.sent(sid)
        return messages

    def tell(self, sid: int, *messages: object) -> list[object]:
        for message in messages:
            self.zab.receive(sid, message, self.now)
        return self.sent(sid)

    def pass_time(self, duration: int) -> None:
        """Time goes by, with every timer called when it is due."""
        end = self.now + duration
        while (deadline := self.zab.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.zab.handle_timer(self.now)
        self.now = end

    def is_writing(self) -> bool:
        return self.batch is not None

    def is_paused(self) -> bool:
        return self.zab.paused

    def written(self) -> list[int]:
        """zxids in the batch under way."""
        steps = self.batch.steps if self.batch else []
        return [e.zxid for step in steps if isinstance(step, Append) for e in step.entries]


def vote_from(zab: Zab, sid: int, **changes: object) -> Notification:
    """A datagram that counts."""
    notification = Notification(
        role=Role.LOOKING,
        standing=Standing.MEMBER,
        cluster_id=CLUSTER,
        sid=sid,
        incarnation=1000 + sid,
        sequence=1,
        echo=zab.member.incarnation,
        round=1,
        leader=sid,
        zxid=0,
        epoch=0,
    )
    return attrs.evolve(notification, **changes)  # type: ignore[arg-type]


__all__ = ["CLUSTER", "NO_CLUSTER", "OPTIONS", "VOTERS", "Driver", "log_to", "member", "vote_from"]
