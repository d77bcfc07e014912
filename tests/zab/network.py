"""A very small ensemble of Zabs: virtual time, seeded network and disk, a list as the state.

Just enough to shake the core while it is written.  The simulator proper, with
replicas, clients and real framing of files, is zkpy.testing.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from zlib import crc32

import attrs

from wire.errors import RemoteProtocolError
from wire.link import PeerConnection, Side
from wire.peer import (
    Hello,
    Notification,
    Role,
    decode_notification,
    encode_message,
    encode_notification,
)
from zkpy.effects import (
    Append,
    BeginGeneration,
    DiskBatch,
    DiskStep,
    EndGeneration,
    Entry,
    EntryKind,
    GenerationChunk,
    Identity,
    Truncate,
    WriteIdentity,
    chain_next,
)
from zkpy.zab.member import (
    SnapAborted,
    SnapAdopted,
    SnapData,
    SnapFinished,
    SnapStarted,
    ZabOptions,
)
from zkpy.zab.quorum import VoterSet
from zkpy.zab.window import Window
from zkpy.zab.zab import Zab

State = list[tuple[int, bytes]]
"""What was applied: zxid and data of every entry."""


def digest_of(state: State, digest: int = 0) -> int:
    """Of what was applied, behind something with the given digest."""
    for zxid, data in state:
        digest = crc32(data + zxid.to_bytes(8, "big"), digest)
    return digest


def pack(rows: State) -> bytes:
    return b"".join(z.to_bytes(8, "big") + len(data).to_bytes(4, "big") + data for z, data in rows)


def unpack(data: bytes) -> State:
    rows, pos = [], 0
    while pos < len(data):
        size = int.from_bytes(data[pos + 8 : pos + 12], "big")
        rows.append((int.from_bytes(data[pos : pos + 8], "big"), data[pos + 12 : pos + 12 + size]))
        pos += 12 + size
    return rows


@attrs.define
class Generation:
    zxid: int = 0
    chain: int = 0
    image: list[bytes] = attrs.Factory(list)
    entries: list[Entry] = attrs.Factory(list)
    committed: int = 0

    @property
    def last(self) -> int:
        return self.entries[-1].zxid if self.entries else self.zxid


class Disk:
    """What would survive a crash, at the granularity of steps; checks what it is told."""

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.generations: dict[int, Generation] = {}
        self.pending: Generation | None = None
        self.pending_number = 0

    def carry_out(self, step: DiskStep) -> None:
        STEPS[type(step)](self, step)

    def current(self) -> Generation:
        assert self.identity is not None, "an append without an identity record"
        return self.generations[self.identity.generation]

    def append(self, step: Append) -> None:
        log = self.pending or self.current()
        chain = log.entries[-1].chain if log.entries else log.chain
        for entry in step.entries:
            chain = chain_next(chain, entry.zxid, entry.kind, entry.data)
            assert chain == entry.chain, "an append that does not continue the log"
            log.entries.append(entry)
        assert step.committed <= log.last
        log.committed = max(log.committed, step.committed)

    def truncate(self, step: Truncate) -> None:
        assert self.pending is None
        log = self.current()
        assert step.zxid >= log.committed, "what is committed was cut"
        log.entries = [entry for entry in log.entries if entry.zxid <= step.zxid]
        assert log.last == step.zxid

    def write_identity(self, step: WriteIdentity) -> None:
        old, new = self.identity, step.identity
        assert old is None or new.accepted_epoch >= old.accepted_epoch
        if old is None and self.pending is None:
            self.generations[new.generation] = Generation()
        elif old is None or new.generation != old.generation:
            assert self.pending is not None and self.pending_number == new.generation
            self.generations = {new.generation: self.pending}
        self.pending = None
        self.identity = new

    def begin(self, step: BeginGeneration) -> None:
        self.pending_number = step.generation
        self.pending = Generation(step.zxid, step.chain, committed=step.zxid)

    def chunk(self, step: GenerationChunk) -> None:
        assert self.pending is not None
        self.pending.image.append(step.data)

    def end(self, step: EndGeneration) -> None:
        assert self.pending is not None
        rows = [row for chunk in self.pending.image for row in unpack(chunk)]
        assert digest_of(rows) == step.digest


STEPS: dict[type, Callable[[Disk, object], None]] = {
    Append: Disk.append,  # type: ignore[dict-item]
    Truncate: Disk.truncate,  # type: ignore[dict-item]
    WriteIdentity: Disk.write_identity,  # type: ignore[dict-item]
    BeginGeneration: Disk.begin,  # type: ignore[dict-item]
    GenerationChunk: Disk.chunk,  # type: ignore[dict-item]
    EndGeneration: Disk.end,  # type: ignore[dict-item]
}


class Link:
    """One TCP connection from a learner to a leader: two FIFO directions of encoded bytes."""

    def __init__(self, learner: int, leader: int) -> None:
        self.ends = {learner: leader, leader: learner}
        self.decoders = {
            learner: PeerConnection(Side.LEARNER),
            leader: PeerConnection(Side.LEADER),
        }
        for decoder in self.decoders.values():
            decoder.receive_data(encode_message(Hello(1, bytes(16), 0, 1)))
        self.arrival = dict.fromkeys(self.ends, 0)
        """Per receiver: when the last bytes under way arrive."""
        self.deaf: dict[int, None] = {}
        """Receivers to whom bytes were lost: nothing more ever arrives there."""
        self.told: dict[int, None] = {}
        """Ends whose Zab knows of it."""
        self.open = True


class Node:
    """A Zab and the toy replica round it."""

    def __init__(self, sid: int, world: "World", suspect: bool = False) -> None:
        self.sid = sid
        self.world = world
        self.disk = world.disks[sid]
        self.alive = True
        identity = self.disk.identity
        log = self.disk.current() if identity and not suspect else Generation()
        self.disk.pending = None
        self.state = [row for chunk in log.image for row in unpack(chunk)]
        self.digest = digest_of(self.state)
        self.checked = 0
        """So many entries of the state were compared with the common history."""
        self.staged: State = []
        self.images: dict[int, tuple[State, int]] = {}
        window = Window(log.zxid, log.chain, list(log.entries), log.committed)
        rng = random.Random(world.rng.getrandbits(32))
        options = replace(world.options, voters=world.configured.get(sid, world.options.voters))
        self.zab = Zab(sid, identity, window, options, rng, world.now, suspect)
        self.links: dict[int, Link] = {}
        self.batch: DiskBatch | None = None
        self.dialing = False
        self.timer = -1
        self.backlog: list[Callable[[], None]] | None = None
        """Inputs that came while the process stood still."""
        self.after()

    @property
    def applied(self) -> int:
        return self.state[-1][0] if self.state else 0

    def input(self, do: Callable[[], None]) -> None:
        if self.alive and self.backlog is not None:
            self.backlog.append(do)
        elif self.alive:
            do()
            self.after()

    def resume(self) -> None:
        backlog, self.backlog = self.backlog or [], None
        for do in backlog:
            self.input(do)

    def after(self) -> None:
        """One pass, as the package docstring of zab tells it."""
        now, zab = self.world.now, self.zab
        for event in zab.take_snap():
            self.on_snap(event)
        for entry in zab.take_committed():
            self.state.append((entry.zxid, entry.data))
            self.digest = digest_of(self.state[-1:], self.digest)
            expected = zab.digests.pop(entry.zxid, None)
            if expected is not None and expected != self.digest:
                self.world.mismatches += 1
                zab.on_digest_mismatch(now)
                break
        self.world.check(self)
        self.feed_images()
        ready = zab.ready(self.applied, self.digest)
        assert ready.halt is None, ready.halt
        for sid in ready.images:
            self.images[sid] = (list(self.state), 0)
        for sid in ready.peer_closes:
            if sid in self.links:
                self.world.cut(self.links[sid])
        for sid, message in ready.peers:
            if sid in self.links:
                self.world.transmit(self, self.links[sid], message)
        for sid, vote in ready.votes:
            assert isinstance(vote, Notification)
            self.world.datagram(self.sid, sid, encode_notification(vote))
        if ready.disk:
            self.world.write(self, ready.disk)
        if ready.images:
            self.world.at(now, lambda: self.input(lambda: None))
        self.keep_dialing()
        self.arm()

    def on_snap(self, event: object) -> None:
        if isinstance(event, SnapStarted | SnapAborted):
            self.staged = []
        elif isinstance(event, SnapData):
            self.staged += unpack(event.data)
        elif isinstance(event, SnapFinished):
            assert digest_of(self.staged) == event.digest
            self.zab.snap_loaded(self.world.now)
        elif isinstance(event, SnapAdopted):
            self.state, self.digest, self.checked = self.staged, digest_of(self.staged), 0
            assert self.applied == event.zxid

    def feed_images(self) -> None:
        for sid, (state, at) in list(self.images.items()):
            room = self.zab.image_room(sid)
            if room is None:
                del self.images[sid]
                continue
            while room > 0 and at < len(state):
                self.zab.image_chunk(sid, pack(state[at : at + 3]))
                at += 3
                room -= 1
            self.images[sid] = (state, at)
            if at >= len(state):
                self.zab.image_end(sid, digest_of(state))
                del self.images[sid]

    def keep_dialing(self) -> None:
        sid = self.zab.dial
        if sid is not None and sid not in self.links and not self.dialing:
            self.dialing = True
            self.world.after(self.world.rng.randrange(1, 30), lambda: self.input(self.dial))

    def dial(self) -> None:
        self.dialing = False
        sid = self.zab.dial
        if sid is not None and sid not in self.links:
            self.world.connect(self, sid)

    def arm(self) -> None:
        deadline = self.zab.deadline()
        if deadline is not None and deadline != self.timer:
            self.timer = deadline
            self.world.at(max(deadline, self.world.now), lambda: self.on_timer(deadline))

    def on_timer(self, deadline: int) -> None:
        if self.alive and self.timer == deadline:
            self.timer = -1
            self.input(lambda: self.zab.handle_timer(self.world.now))

    @property
    def is_member(self) -> bool:
        identity = self.disk.identity
        return identity is not None and not identity.founding


class World:
    """Time, network and the watcher of invariants."""

    def __init__(
        self, seed: int, voters: VoterSet, sids: list[int] | None = None, **options: Any
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 1000
        self.options = ZabOptions(voters, tick_ms=200, founding_wait_ms=1000, yield_ms=5000)
        self.options = replace(self.options, **options)
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.sids = sids or voters.everyone()
        self.disks = {sid: Disk() for sid in self.sids}
        self.configured: dict[int, VoterSet] = {}
        """Where it differs from the others': what a member's configuration says."""
        self.blocked: dict[tuple[int, int], None] = {}
        self.loss = 0.0
        self.history: State = []
        """Everything that any node ever applied, in order: A2, A3 and A9 hang on it."""
        self.leaders: dict[int, int] = {}
        self.mismatches = 0
        self.checks = True
        self.slow_disk = 20
        self.nodes: dict[int, Node] = {}
        self.down: dict[int, None] = dict.fromkeys(self.sids)
        self.proposed = 0

    # --- time

    def at(self, time: int, do: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.heap, (time, self.count, do))

    def after(self, delay: int, do: Callable[[], None]) -> None:
        self.at(self.now + delay, do)

    def run(self, duration: int) -> None:
        end = self.now + duration
        while self.heap and self.heap[0][0] <= end:
            self.now, _, do = heapq.heappop(self.heap)
            do()
        self.now = end

    def run_until(self, wanted: Callable[[], bool], limit: int) -> None:
        end = self.now + limit
        while not wanted():
            assert self.heap and self.heap[0][0] <= end, "not reached in time"
            self.now, _, do = heapq.heappop(self.heap)
            do()

    # --- nodes

    def start(self, *sids: int, suspect: bool = False) -> None:
        for sid in sids or self.sids:
            if sid in self.down:
                del self.down[sid]
                self.nodes[sid] = Node(sid, self, suspect)

    def crash(self, sid: int) -> None:
        """All that was not durable is gone; of the batch under way any beginning may be there."""
        node = self.nodes.get(sid)
        if node is None or not node.alive:
            return
        node.alive = False
        self.down[sid] = None
        if node.batch:
            for step in node.batch.steps[: self.rng.randrange(len(node.batch.steps) + 1)]:
                node.disk.carry_out(step)
        for link in list(node.links.values()):
            self.cut(link)

    def wipe(self, sid: int) -> None:
        assert sid in self.down
        self.disks[sid] = Disk()

    def pause(self, sid: int, duration: int) -> None:
        node = self.nodes.get(sid)
        if node is not None and node.alive and node.backlog is None:
            node.backlog = []
            self.after(duration, node.resume)

    def damage(self, rng: random.Random) -> None:
        """One member loses its directory, or its log is damaged; never a second one meanwhile."""
        members = [sid for sid in self.sids if sid in self.nodes and self.nodes[sid].is_member]
        if len(members) == len(self.sids) and not any(n.zab.member.suspect for n in self.up()):
            sid = rng.choice(self.sids)
            self.crash(sid)
            if rng.random() < 0.5:
                self.wipe(sid)
            self.start(sid, suspect=self.disks[sid].identity is not None)

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive]

    def write(self, node: Node, batch: DiskBatch) -> None:
        assert node.batch is None, "two batches under way"
        node.batch = batch

        def done() -> None:
            if node.alive:
                node.batch = None
                for step in batch.steps:
                    node.disk.carry_out(step)
                node.input(lambda: node.zab.saved(batch.number, self.now))

        self.after(self.rng.randrange(1, self.slow_disk), done)

    # --- network

    def connect(self, node: Node, sid: int) -> None:
        peer = self.nodes.get(sid)
        reachable = (node.sid, sid) not in self.blocked and (sid, node.sid) not in self.blocked
        if peer is None or not peer.alive or not reachable or peer.zab.dial == node.sid:
            return
        old = peer.links.get(node.sid)
        if old:
            self.cut(old)
        if node.alive and node.zab.dial == sid and sid not in node.links:
            link = Link(node.sid, sid)
            node.links[sid] = peer.links[node.sid] = link
            self.after(1, lambda: self.tell_up(peer, node.sid, link))
            link.told[node.sid] = None
            node.zab.link_up(sid, self.now)

    def tell_up(self, node: Node, sid: int, link: Link) -> None:
        if node.links.get(sid) is link:
            node.input(lambda: self._accept(node, sid, link))

    def _accept(self, node: Node, sid: int, link: Link) -> None:
        if node.zab.dial == sid:
            self.cut(link)
        elif link.open:
            link.told[node.sid] = None
            node.zab.link_up(sid, self.now)

    def cut(self, link: Link) -> None:
        """Each end hears of it a little later, before it hears of any newer link."""
        if not link.open:
            return
        link.open = False
        for sid, other in link.ends.items():
            node = self.nodes[sid]
            if node.links.get(other) is link:
                del node.links[other]
                self.at(self.now, partial(self.tell_down, node, other, link))

    def tell_down(self, node: Node, sid: int, link: Link) -> None:
        if node.sid in link.told:
            node.input(lambda: node.zab.link_down(sid, self.now))

    def transmit(self, node: Node, link: Link, message: object) -> None:
        """Bytes to the other end, in order; lost ones mean that no later ones arrive."""
        data = encode_message(message)
        receiver = link.ends[node.sid]
        if (node.sid, receiver) in self.blocked:
            link.deaf[receiver] = None
        arrival = max(link.arrival[receiver], self.now + self.rng.randrange(2, 20))
        link.arrival[receiver] = arrival
        self.at(arrival, lambda: self.deliver(link, receiver, node.sid, data))

    def deliver(self, link: Link, receiver: int, sender: int, data: bytes) -> None:
        node = self.nodes[receiver]
        if not link.open or receiver in link.deaf or node.links.get(sender) is not link:
            return
        for message in link.decoders[receiver].receive_data(data):
            node.input(partial(node.zab.receive, sender, message, self.now))

    def datagram(self, sender: int, receiver: int, data: bytes) -> None:
        assert len(data) <= 512
        for _ in range(1 + (self.rng.random() < self.loss)):
            lost = (sender, receiver) in self.blocked or self.rng.random() < self.loss
            if not lost:
                delay = self.rng.randrange(1, 40)
                self.after(delay, lambda: self.deliver_vote(sender, receiver, data))

    def deliver_vote(self, sender: int, receiver: int, data: bytes) -> None:
        node = self.nodes.get(receiver)
        if node is None or not node.alive:
            return
        try:
            vote = decode_notification(data)
        except RemoteProtocolError:
            raise AssertionError("a datagram that cannot be read back") from None
        node.input(lambda: node.zab.receive_vote(sender, vote, self.now))

    def block(self, *pairs: tuple[int, int]) -> None:
        for pair in pairs:
            self.blocked[pair] = None

    def isolate(self, side: list[int]) -> None:
        for a in side:
            for b in self.sids:
                if b not in side:
                    self.block((a, b), (b, a))

    def heal(self) -> None:
        self.blocked.clear()
        self.loss = 0.0

    # --- clients and invariants

    def has_leader(self) -> bool:
        """Whether one serves."""
        return self.leader() is not None

    def leader(self) -> Node | None:
        """A node that believes it leads, and serves; of several, the one of the latest epoch."""
        serving = [n for n in self.nodes.values() if n.alive and n.zab.serving]
        leading = [n for n in serving if n.zab.role is Role.LEADING]
        return max(leading, key=lambda n: n.zab.epoch, default=None)

    def propose(self, node: Node, count: int = 1) -> None:
        for _ in range(count):
            if node.alive and node.zab.serving and node.zab.role is Role.LEADING:
                self.proposed += 1
                data = b"txn %d" % self.proposed
                node.input(partial(self._propose, node, data))

    @staticmethod
    def _propose(node: Node, data: bytes) -> None:
        if node.zab.serving:
            node.zab.propose(EntryKind.TXN, data)

    def check(self, node: Node) -> None:
        """A2, A3, A5, A7, A9: one history; every node has applied a beginning of it."""
        if not self.checks:
            return
        known, start = len(self.history), node.checked
        mine = node.checked = len(node.state)
        assert node.state[start:known] == self.history[start:mine], f"{node.sid} diverged"
        for zxid, data in node.state[known:]:
            assert not self.history or zxid > self.history[-1][0]
            self.history.append((zxid, data))
        zab = node.zab
        window = zab.log
        assert window.applied <= min(window.committed, window.saved) and window.saved <= window.last
        if zab.role is Role.LEADING and zab.serving:
            assert self.leaders.setdefault(zab.epoch, node.sid) == node.sid, "two leaders"

    def all_equal(self) -> bool:
        """Everybody that is up has applied all there is, and there is a leader."""
        return self.leader() is not None and all(
            node.zab.serving and node.state == self.history for node in self.up()
        )
