"""A whole ensemble in one process: replicas, their disks, their links, on virtual time.

A `Member` is what `zkpy.server` is around one Replica, and does the same things in the same
order, but on the simulated network and disk: inputs at once, `ready()` once per pass,
one disk batch at a time, images by a second hand, a link to `zab.dial`, the newest link per
server id.  And it can be crashed at every boundary, paused, wiped, and given a clock that
drifts.

What a crash finds half done is decided when it comes: of a batch that is under way, a
random number of file-system calls happened, and of what they left unsynced, `MemFileSystem`
keeps what its dice say.
"""

import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import attrs

from wire.errors import RemoteProtocolError
from wire.link import PeerConnection, Side
from wire.peer import Hello, decode_notification, encode_notification
from zkpy.effects import DiskBatch, DiskStep, ImageStep, Ready, Recovered
from zkpy.errors import CorruptionError, StorageError
from zkpy.pipeline.auth import Authenticator, digest_id
from zkpy.replica.core import Replica, ReplicaOptions
from zkpy.replica.local import LocalSessionRules
from zkpy.replica.membership import MembershipRules
from zkpy.storage import Storage, StorageOptions
from zkpy.storage.identity import IDENTITY_NAME
from zkpy.storage.inspect import find_segments, open_segment
from zkpy.testing.memfs import MemFileSystem, PowerCut
from zkpy.testing.network import CLIENT, PEER, Conditions, Network, Socket
from zkpy.testing.setup import SUPERUSER, WALL_START_MS, Setup
from zkpy.testing.timeline import NETWORK, Timeline
from zkpy.testing.world import MS, SECOND, Violation, World, exponential

DATA_DIR: Final = "/data"
REDIAL: Final = 100 * MS
GREETING_TIMEOUT: Final = 2 * SECOND
DISK_TIME_MAX: Final = 3 * SECOND


class Clock:
    """One machine's clocks: monotonic with a drift, and wall time that may jump."""

    def __init__(self, world: World, rng: random.Random, drift_ppm: int) -> None:
        self._world = world
        self._rate = 1_000_000 + (rng.randint(-drift_ppm, drift_ppm) if drift_ppm else 0)
        self._offset = rng.randrange(1_000_000) * MS
        self.wall_jump_ms = 0

    def now_ms(self) -> int:
        return (self._offset + self._world.now * self._rate // 1_000_000) // MS

    def when(self, ms: int) -> int:
        """The virtual time at which `now_ms` shows that."""
        return -((self._offset - ms * MS) * 1_000_000 // self._rate)

    def wall_ms(self) -> int:
        return WALL_START_MS + self._world.now // MS + self.wall_jump_ms


class Watcher:
    """What an observer of the ensemble is told (see `invariants`); this one ignores it."""

    def booted(self, member: "Member", recovered: Recovered) -> None: ...
    def asked(self, member: "Member", ready: Ready) -> None: ...
    def made_durable(self, member: "Member", batch: DiskBatch) -> None: ...
    def stepped(self, member: "Member") -> None: ...
    def heard(self, member: "Member", sid: int, message: object) -> None: ...
    def heard_client(self, member: "Member", link: int) -> None: ...
    def wiped(self, member: "Member") -> None: ...
    def rotted(self, member: "Member") -> None: ...


@attrs.define(eq=False)
class PeerLink:
    """A connection to another member, before and after both said Hello."""

    socket: Socket
    wire: PeerConnection
    sid: int
    greeted: bool = False


class Member:
    """One server: a process that comes and goes, on a machine whose disk stays."""

    def __init__(self, sid: int, ensemble: "Ensemble") -> None:
        self.sid = sid
        self.ensemble = ensemble
        self.world = ensemble.world
        self.network = ensemble.network
        self.setup = ensemble.setup
        self.watcher = ensemble.watcher
        self.rng = self.world.stream(f"member {sid}")
        self.fs = MemFileSystem(self.world.stream(f"disk {sid}"))
        self.clock = Clock(self.world, self.rng, self.setup.drift_ppm)
        self.alive = False
        self.paused = False
        self.life = 0
        """Counts process starts: what belongs to an earlier one is void."""
        self.replica: Replica
        self.storage: Storage
        self.slow_disk = 1
        """Factor on the time of each batch."""
        self.crash_in_batches: int | None = None
        """It dies while this one of the batches that are still to come is being written."""
        self.crash_in_passes: int | None = None
        """And in this one of the passes to come, between two of the things that it does there."""
        self.crash_power = True
        """Whether the power goes too, in the two cases above."""
        self.unfinished: list[DiskStep] = []
        """Steps that were under way when the process ended: some of them may have happened."""
        self.pauses: list[tuple[int, int]] = []
        """Of this process, which are over: local ms from, to."""
        self._paused_at = 0

    # --- life and death

    def boot(self) -> None:
        """Start the process: read the disk, then join."""
        assert not self.alive
        self.life += 1
        self.fs.kill()
        if self.ensemble.boot_crash_chance and self.rng.random() < self.ensemble.boot_crash_chance:
            self.fs.cut_power_at(self.fs.calls + self.rng.randrange(1, 30))
        try:
            self.storage, recovered = Storage.open(
                self.fs, DATA_DIR, options=StorageOptions(self.setup.segment_bytes, 4096)
            )
        except PowerCut as cut:
            self.ensemble.count_boundary(cut)
            self.note("crash", "power cut while starting")
            self.fs.crash()
            self.ensemble.restart_later(self)
            return
        self.fs.cut_power_at(1 << 62)
        self._start(recovered)

    def _start(self, recovered: Recovered) -> None:
        self.alive, self.paused = True, False
        self._sockets: dict[int, Socket] = {}
        self._links: dict[int, PeerLink] = {}
        self._dialling: PeerLink | None = None
        self._redial_at = 0
        self._last_link = 0
        self._batch: DiskBatch | None = None
        self._image_steps: deque[ImageStep] = deque()
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._pass_due = False
        self._timer_at: int | None = None
        self._shown: tuple[object, ...] = ()
        self.pauses = []
        suspect = f", suspect: {recovered.suspect}" if recovered.suspect else ""
        last = recovered.entries[-1].zxid if recovered.entries else recovered.image_zxid
        self.note("boot", f"last {last:#x}, committed {recovered.committed:#x}{suspect}")
        self.watcher.booted(self, recovered)
        self.replica = Replica(
            self.options(),
            recovered,
            # Dice of its own: a draw more in the core moves nothing in the world around it.
            rng=self.world.stream(f"replica {self.sid} {self.life}"),
            wall_clock=self.clock.wall_ms,
            now=self.clock.now_ms(),
        )
        self.network.listen(self.sid, PEER, self._accept_peer)
        self.network.listen(self.sid, CLIENT, self._accept_client)
        self.network.listen_datagrams(self.sid, self._datagram)
        self.watcher.stepped(self)
        self._request_pass()

    def options(self) -> ReplicaOptions:
        return ReplicaOptions(
            self.sid,
            self.setup.zab_options(),
            standalone=len(self.setup.ids) == 1,
            limits=self.setup.limits(),
            read_only_mode=self.setup.read_only,
            leader_serves=self.setup.leader_serves,
            membership=MembershipRules(self.setup.changes, 1, self.setup.configuration),
            authenticator=Authenticator(digest_id(SUPERUSER)),
            local_sessions=LocalSessionRules(True) if self.setup.local_sessions else None,
        )

    def crash(self, *, power: bool, why: str = "") -> None:
        """End the process, or cut the machine's power, in the middle of whatever it does."""
        if not self.alive:
            return
        self.note("crash", ("power cut" if power else "killed") + (f", {why}" if why else ""))
        self.alive = False
        self.crash_in_batches = self.crash_in_passes = None
        self.network.process_ends(self.sid, silent=power)
        if power:
            self.network.switch(self.sid, on=False)
        self._leave_batch_half_done()
        self._leave_image_half_done()
        if power:
            self.fs.crash()
        else:
            self.fs.kill()

    def _leave_batch_half_done(self) -> None:
        self.unfinished = self._batch.steps if self._batch is not None else []
        if self._batch is None:
            return
        calls = self.rng.choice((0, 1, 1, 2, 2, 3, 4, 6, 10, 20))
        self.fs.cut_power_at(self.fs.calls + 1 + calls)
        self._until_cut(self.storage.execute, self._batch)

    def _leave_image_half_done(self) -> None:
        self.fs.cut_power_at(self.fs.calls + 1 + self.rng.randrange(6))
        for step in list(self._image_steps)[: self.rng.randrange(3)]:
            if not self._until_cut(self.storage.image_step, step):
                return

    def _until_cut(self, work: Callable[[Any], object], what: Any) -> bool:
        """Whether it was done before the end came."""
        try:
            work(what)
        except PowerCut as cut:
            self.ensemble.count_boundary(cut)
            return False
        except StorageError:
            return False
        return True

    def fail_disk(self, operation: str) -> None:
        """The next call of that kind fails; what a failing sync should have kept is lost."""
        self.fs.fail(lambda call: call.operation == operation)

    def wipe(self) -> None:
        """Somebody emptied the data directory of a stopped server."""
        assert not self.alive
        if self.fs.is_dir(DATA_DIR):
            self.fs.wipe(DATA_DIR)
            self.watcher.wiped(self)
            self.note("fault", "data directory wiped")

    def rot(self, rng: random.Random) -> bool:
        """One bit of what a stopped server keeps turns over; whether there was anything.

        Never in the last batch of the log: that cannot be told from a torn tail (rule D5).
        """
        assert not self.alive
        places = self.places_to_rot()
        if not places:
            return False
        path, start, length = rng.choice(places)
        self.fs.flip(path, start + rng.randrange(length), rng.randrange(8))
        self.watcher.rotted(self)
        self.note("fault", f"a bit of {path.removeprefix(DATA_DIR)} turned over")
        return True

    def places_to_rot(self) -> list[tuple[str, int, int]]:
        """(path, offset, length): the record of who it is, and batches of its log."""
        record = f"{DATA_DIR}/{IDENTITY_NAME}"
        if not self.fs.exists(record):
            return []
        batches = []
        for path in find_segments(self.fs, DATA_DIR):
            with suppress(CorruptionError):  # a crash may have left half of a segment's header
                segment = open_segment(self.fs, path)
                batches += [
                    (path, each.offset, each.header.total_bytes) for each in segment.batches()
                ]
        return [(record, 0, len(self.fs.get(record))), *batches[:-1]] if batches else []

    def pause(self) -> None:
        """SIGSTOP."""
        if self.alive and not self.paused:
            self.paused = True
            self._paused_at = self.clock.now_ms()
            self.note("pause", "paused")

    def resume(self) -> None:
        """SIGCONT: what waits in the sockets is read first, then timers run."""
        if not self.alive or not self.paused:
            return
        self.paused = False
        self.pauses.append((self._paused_at, self.clock.now_ms()))
        self.note("resume", self._role_text() or "looking")
        backlog, self._backlog = self._backlog, []
        life = self.life
        for act, arguments in backlog:
            if self.life == life and self.alive:
                act(*arguments)
        if self.life == life and self.alive:
            self._request_pass()

    def _halt(self, why: str) -> None:
        self.note("crash", f"halted: {why}")
        raise Violation("halt", f"server {self.sid} stops: {why}")

    def _die_of_disk(self, error: StorageError) -> None:
        """A storage error ends the process (D6); one that no fault ordered is a bug."""
        if not isinstance(error.__cause__, OSError):
            raise Violation("storage", f"server {self.sid}: {error}") from error
        self._die_writing(power=False, why=f"storage: {error}")

    def _die_writing(self, *, power: bool, why: str) -> None:
        """What the batch under way left on the disk is there already."""
        unfinished = self._batch.steps if self._batch is not None else []
        self._batch = None
        self.crash(power=power, why=why)
        self.unfinished = unfinished
        self.ensemble.restart_later(self)

    # --- inputs

    def _input(self, life: int, act: Callable[..., None], *arguments: Any) -> None:
        """All that comes from outside goes through here."""
        if life != self.life or not self.alive:
            return
        if self.paused:
            self._backlog.append((act, arguments))
        else:
            act(*arguments)

    def _request_pass(self) -> None:
        self.watcher.stepped(self)
        if not self._pass_due:
            self._pass_due = True
            delay = self.rng.randrange(self.setup.pass_delay + 1) + 1
            self.world.after(delay, self._run, self.life)

    def _run(self, life: int) -> None:
        if life == self.life and self.alive and self._pass_due:
            if self.paused:
                self._pass_due = False  # `resume` asks for another
            else:
                self._pass()

    # --- the pass

    def _pass(self) -> None:
        """As the server's driver: timer, ready, then carry it all out."""
        self._pass_due = False
        now = self.clock.now_ms()
        deadline = self.replica.deadline()
        if deadline is not None and deadline <= now:
            self.replica.handle_timer(now)
        ready = self.replica.ready()
        if ready.halt is not None:
            self._halt(ready.halt)
        if ready.alarm is not None:
            self.note("alarm", ready.alarm)
        self.watcher.asked(self, ready)
        self.watcher.stepped(self)
        steps = self._steps_of(ready)
        if self.crash_in_passes is not None:
            steps = self._maybe_crash_within(steps)
        for act, arguments in steps:
            act(*arguments)
        if self.alive:
            self._after_pass()

    def _steps_of(self, ready: Ready) -> list[tuple[Callable[..., None], tuple[Any, ...]]]:
        steps: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        if ready.disk is not None:
            steps.append((self._submit, (ready.disk,)))
        steps += [(self._send_client, pair) for pair in ready.clients]
        steps += [(self._close_client, (link,)) for link in ready.closes]
        steps += [(self._submit_image, (step,)) for step in ready.image]
        steps += [(self._send_peer, item) for item in self._frames_of(ready)]
        steps += [(self._close_peer, (sid,)) for sid in ready.peer_closes]
        steps += [(self._send_vote, pair) for pair in ready.votes]
        return steps

    def _frames_of(self, ready: Ready) -> list[tuple[int, list[object]]]:
        """One write per link."""
        frames: dict[int, list[object]] = {}
        for sid, message in ready.peers:
            frames.setdefault(sid, []).append(message)
        return list(frames.items())

    def _maybe_crash_within(
        self, steps: list[tuple[Callable[..., None], tuple[Any, ...]]]
    ) -> list[tuple[Callable[..., None], tuple[Any, ...]]]:
        assert self.crash_in_passes is not None
        self.crash_in_passes -= bool(steps)
        if self.crash_in_passes > 0 or not steps:
            return steps
        kept = steps[: self.rng.randrange(len(steps))]
        return [*kept, (self._crash_as_planned, ("between sends",))]

    def _crash_as_planned(self, why: str) -> None:
        self.crash(power=self.crash_power, why=why)
        self.ensemble.restart_later(self)

    def _after_pass(self) -> None:
        self._show()
        self._keep_link()
        deadline = self.replica.deadline()
        if deadline is None:
            return
        if deadline <= self.clock.now_ms():
            self._request_pass()
            return
        at = self.clock.when(deadline)
        if self._timer_at is None or at < self._timer_at:
            self._timer_at = at
            self.world.at(at, self._timer, self.life, at)

    def _timer(self, life: int, at: int) -> None:
        if life == self.life and self.alive and at == self._timer_at:
            self._timer_at = None
            if not self.paused:
                self._pass_due = True
                self._pass()

    def _show(self) -> None:
        zab = self.replica.zab
        shown = zab.role, zab.leader, zab.epoch, zab.serving
        if shown != self._shown:
            self._shown = shown
            self.note("role", self._role_text())

    def _role_text(self) -> str:
        zab = self.replica.zab
        text = zab.role.name.lower()
        if zab.leader not in (None, self.sid):
            text += f" {zab.leader}"
        if zab.epoch:
            text += f", epoch {zab.epoch}"
        if zab.serving:
            text += ", serving"
        if text == "looking":
            text += f" ({zab.why_looking})"
        return text

    def note(self, kind: str, text: str) -> None:
        self.ensemble.timeline.add(self.world.now, self.sid, kind, text)

    # --- disk

    def _submit(self, batch: DiskBatch) -> None:
        assert self._batch is None, "one batch at a time"
        self._batch = batch
        if self.crash_in_batches is not None:
            self.crash_in_batches -= 1
            if self.crash_in_batches <= 0:
                self.world.after(self._disk_time() // 2, self._crash_on_disk, self.life)
        self.world.after(self._disk_time(), self._disk_done, self.life, batch)

    def _crash_on_disk(self, life: int) -> None:
        if life == self.life and self.alive:
            self._crash_as_planned("while writing")

    def _disk_time(self) -> int:
        setup = self.setup
        time = setup.fsync if setup.steady else exponential(self.rng, setup.fsync)
        if setup.fsync_spike_chance and self.rng.random() < setup.fsync_spike_chance:
            time += self.rng.randrange(setup.fsync_spike)
        return min(time * self.slow_disk, DISK_TIME_MAX)

    def _disk_done(self, life: int, batch: DiskBatch) -> None:
        if life != self.life or not self.alive:
            return
        try:
            self.storage.execute(batch)
        except StorageError as error:
            self._die_of_disk(error)
            return
        except PowerCut as cut:  # whoever said `fs.cut_power_at` chose this very call
            self.ensemble.count_boundary(cut)
            self._die_writing(power=True, why=str(cut))
            return
        self._batch = None
        if self.storage.wants_slice():  # by another thread, which takes its time
            self.world.after(self.setup.fsync, self._prepare_slice, self.life)
        self.watcher.made_durable(self, batch)
        self._input(life, self._saved, batch)

    def _prepare_slice(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        try:
            self.storage.prepare_slice()
        except StorageError as error:
            self._die_of_disk(error)
        except PowerCut as cut:
            self.ensemble.count_boundary(cut)
            self._die_writing(power=True, why=str(cut))

    def _saved(self, batch: DiskBatch) -> None:
        following = self.replica.saved(batch.number, self.clock.now_ms())
        if following is not None:
            self.watcher.asked(self, Ready(disk=following))
            self._submit(following)
        self._request_pass()

    def _submit_image(self, step: ImageStep) -> None:
        self._image_steps.append(step)
        if len(self._image_steps) == 1:
            self.world.after(self._disk_time(), self._image_done, self.life)
        self.replica.images.paused = len(self._image_steps) >= 4

    def _image_done(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        try:
            zxid = self.storage.image_step(self._image_steps[0])
            if zxid is not None:
                self.storage.purge(2)
        except StorageError as error:
            self._die_of_disk(error)
            return
        self._image_steps.popleft()
        if zxid is not None:
            self._input(life, self._image_saved, zxid)
        if self._image_steps:
            self.world.after(self._disk_time(), self._image_done, life)
        elif self.replica.images.paused:
            self.replica.images.paused = False
            self._input(life, self._request_pass)

    def _image_saved(self, zxid: int) -> None:
        self.replica.image_saved(zxid, self.clock.now_ms())
        self._request_pass()

    # --- clients

    def _accept_client(self, socket: Socket) -> None:
        self._last_link += 1
        link, life = self._last_link, self.life
        self._sockets[link] = socket
        socket.on_data = lambda data: self._input(life, self._client_data, link, data)
        socket.on_close = lambda: self._input(life, self._client_down, link)
        self._input(life, self._client_up, link)

    def _client_up(self, link: int) -> None:
        self.replica.client_up(link, f"10.0.0.1:{link}", self.clock.now_ms())
        self._request_pass()

    def _client_data(self, link: int, data: bytes) -> None:
        if link in self._sockets:
            self.watcher.heard_client(self, link)
            self.replica.receive_client(link, data, self.clock.now_ms())
            self._request_pass()

    def _client_down(self, link: int) -> None:
        if self._sockets.pop(link, None) is not None:
            self.replica.client_down(link, self.clock.now_ms())
            self._request_pass()

    def _send_client(self, link: int, data: bytes) -> None:
        socket = self._sockets.get(link)
        if socket is not None:
            socket.send(data)

    def _close_client(self, link: int) -> None:
        socket = self._sockets.pop(link, None)
        if socket is not None:
            socket.close()
            self.replica.client_down(link, self.clock.now_ms())

    @property
    def open_client_links(self) -> int:
        """But for those of which this end cannot know yet that the other one is gone."""
        return sum(not socket.black for socket in self._sockets.values())

    # --- peers

    def _keep_link(self) -> None:
        """A link to `zab.dial`, dialled again until it stands."""
        target = self.replica.zab.dial
        if self._dialling is not None and self._dialling.sid != target:
            self._drop(self._dialling)
        if target is None or target in self._links or self._dialling is not None:
            return
        if self.world.now < self._redial_at:
            return
        self._redial_at = self.world.now + REDIAL
        socket = self.network.dial(self.sid, target, PEER)
        link = PeerLink(socket, PeerConnection(Side.LEARNER), target)
        self._dialling = link
        life = self.life
        socket.on_open = lambda: self._input(life, self._greet, link)
        self._listen(link)
        self.world.after(GREETING_TIMEOUT, self._input, life, self._give_up_greeting, link)

    def _give_up_greeting(self, link: PeerLink) -> None:
        """No Hello came back: the other end may never have heard of us."""
        if self._dialling is link:
            self._peer_lost(link)

    def _listen(self, link: PeerLink) -> None:
        life = self.life
        link.socket.on_data = lambda data: self._input(life, self._peer_data, link, data)
        link.socket.on_close = lambda: self._input(life, self._peer_lost, link)

    def _accept_peer(self, socket: Socket) -> None:
        link = PeerLink(socket, PeerConnection(Side.LEADER), socket.remote)
        self._listen(link)
        self._input(self.life, self._greet, link)

    def _greet(self, link: PeerLink) -> None:
        link.socket.send(link.wire.send(self.replica.hello()))

    def _peer_data(self, link: PeerLink, data: bytes) -> None:
        try:
            messages = link.wire.receive_data(data)
        except RemoteProtocolError as error:
            if not link.socket.doomed:
                raise Violation(
                    "wire", f"server {self.sid} hears from {link.sid}: {error}"
                ) from error
            self._peer_lost(link)
            return
        for message in messages:
            if isinstance(message, Hello):
                self._peer_up(link)
            elif self._links.get(link.sid) is link:
                self.watcher.heard(self, link.sid, message)
                self.replica.receive_peer(link.sid, message, self.clock.now_ms())
        self._request_pass()

    def _peer_up(self, link: PeerLink) -> None:
        """The newest link to a server wins; but a learner talks to its leader on a link that
        it dialled itself, or both would take the other for the leader."""
        if self._dialling is link:
            self._dialling = None
        dialled = link.wire.side is Side.LEARNER
        if dialled != (self.replica.zab.dial == link.sid):
            self._drop(link)
            return
        old = self._links.get(link.sid)
        if old is not None:
            self._drop(old)
        link.greeted = True
        self._links[link.sid] = link
        self.replica.link_up(link.sid, self.clock.now_ms())

    def _drop(self, link: PeerLink) -> None:
        """The core is told once for each link that stood."""
        link.socket.close()
        if self._dialling is link:
            self._dialling = None
        if self._links.get(link.sid) is link:
            del self._links[link.sid]
            self.replica.link_down(link.sid, self.clock.now_ms())

    def _peer_lost(self, link: PeerLink) -> None:
        self._drop(link)
        self._request_pass()
        self.world.after(REDIAL, self._input, self.life, self._request_pass)

    def _send_peer(self, sid: int, messages: list[object]) -> None:
        link = self._links.get(sid)
        if link is not None:
            link.socket.send(b"".join([link.wire.send(message) for message in messages]))

    def _close_peer(self, sid: int) -> None:
        link = self._links.get(sid)
        if link is not None:
            self._drop(link)
            self._request_pass()
            self.world.after(REDIAL, self._input, self.life, self._request_pass)

    # --- votes

    def decide(self, leader: int) -> None:
        """What an oracle says in place of the election."""
        if self.alive and not self.paused:
            now = self.clock.now_ms()
            self.replica.zab.decide(leader, now)
            self.replica.handle_timer(now)
            self._request_pass()

    def _send_vote(self, sid: int, notification: Any) -> None:
        self.network.send_datagram(self.sid, sid, encode_notification(notification))

    def _datagram(self, source: int, data: bytes) -> None:
        self._input(self.life, self._vote, source, data)

    def _vote(self, source: int, data: bytes) -> None:
        self.replica.receive_vote(source, decode_notification(data), self.clock.now_ms())
        self._request_pass()


class Ensemble:
    """All members and the network between them."""

    def __init__(
        self,
        world: World,
        setup: Setup,
        conditions: Conditions | None = None,
        watcher: Watcher | None = None,
        member_type: type[Member] = Member,
    ) -> None:
        self.world = world
        self.setup = setup
        self.watcher = watcher or Watcher()
        self.timeline = Timeline()
        self.network = Network(world, conditions or Conditions())
        self.boot_crash_chance = 0.0
        self.boundaries: dict[str, int] = {}
        """Call and kind of file before which a process died -> how often."""
        self.restart_mean = SECOND
        self._rng = world.stream("ensemble")
        self.members = {sid: member_type(sid, self) for sid in setup.ids}

    def boot(self) -> None:
        for member in self.members.values():
            self.world.after(self._rng.randrange(50 * MS), self.restart, member)

    def restart(self, member: Member) -> None:
        if not member.alive:
            self.network.switch(member.sid, on=True)
            member.boot()

    def count_boundary(self, cut: PowerCut) -> None:
        name = cut.path.rpartition("/")[2].partition(".")[0].partition("-")[0]
        boundary = f"{cut.operation} {name}"
        self.boundaries[boundary] = self.boundaries.get(boundary, 0) + 1

    def restart_later(self, member: Member) -> None:
        self.world.after(exponential(self._rng, self.restart_mean), self.restart, member)

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members.values() if member.alive]

    def leader(self) -> Member | None:
        """The one that serves as leader, of the latest epoch if there are two."""
        leading = [
            member
            for member in self.alive
            if member.replica.zab.serving and member.replica.zab.leader == member.sid
        ]
        return max(leading, key=lambda member: member.replica.zab.epoch, default=None)

    def note(self, kind: str, text: str) -> None:
        self.timeline.add(self.world.now, NETWORK, kind, text)
