"""What goes wrong in a run, and how often: drawn anew for each seed (swarm testing).

`draw_faults` gives every kind of fault a mean time between two of them, or leaves it
out: half of all kinds are missing in any one seed, since a storm of everything hides what a
few faults in the right order would show.  `Nemesis` brings them about until it is told to
stop, and then heals all in random order.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs

from wire import records
from wire.codes import OpCode
from wire.peer import Role
from zkpy.testing.ensemble import Ensemble, Member
from zkpy.testing.invariants import is_quorum
from zkpy.testing.model import CONFIG
from zkpy.testing.network import SHAPES, Conditions, Direction, Socket
from zkpy.testing.setup import line_of
from zkpy.testing.workload import Client
from zkpy.testing.world import MS, SECOND, World, exponential

QUIET: Final = 5 * SECOND
DISK_CALLS: Final = ("write", "sync_data", "sync", "rename", "sync_dir", "create", "truncate")


@attrs.define(frozen=True)
class Faults:
    """The mix of one seed."""

    intervals: dict[str, int]
    """Kind -> mean time between two of it, in microseconds."""
    down: int = 1 * SECOND
    """Mean time until a dead process is started again."""
    duration: int = 2 * SECOND
    """Mean length of partitions, pauses, slow disks."""
    boot_crash_chance: float = 0.0
    aim_at_leader: float = 0.3


def draw_faults(rng: random.Random, span: int) -> Faults:
    intervals = {
        kind: rng.choice((span // 30, span // 10, span // 5, span // 2))
        for kind in _FAULTS
        if kind != "rot" and rng.random() < 0.4
    }
    return Faults(
        intervals,
        down=rng.choice((50, 300, 1000, 3000)) * MS,
        duration=rng.choice((200, 1000, 2000, 5000)) * MS,
        boot_crash_chance=rng.choice((0.0, 0.0, 0.1, 0.4)),
        aim_at_leader=rng.choice((0.0, 0.3, 0.8)),
    )


def draw_rot(rng: random.Random, span: int) -> dict[str, int]:
    """The interval of that kind, if it is among the seed's."""
    return {"rot": rng.choice((span // 10, span // 5, span // 2))} if rng.random() < 0.3 else {}


def draw_conditions(rng: random.Random) -> Conditions:
    return Conditions(
        delay=rng.choice((50, 200, 200, 2000, 10_000)),
        jitter=rng.choice((10, 300, 300, 5000)),
        spike_chance=rng.choice((0.0, 0.0, 0.01, 0.05)),
        loss=rng.choice((0.0, 0.0, 0.1, 0.3)),
        copies=rng.choice((0.0, 0.0, 0.1, 0.5)),
        reordering=rng.choice((0.0, 0.0, 0.2)),
    )


class Nemesis:
    """Carries the faults out, between `start` and `heal`."""

    def __init__(
        self, world: World, ensemble: Ensemble, clients: list[Client], faults: Faults
    ) -> None:
        self.faults = faults
        self.counts: dict[str, int] = {}
        self._world = world
        self._ensemble = ensemble
        self._network = ensemble.network
        self._clients = clients
        self._rng = world.stream("nemesis")
        self._on = False
        self._partitions: dict[int, tuple[str, list[Direction]]] = {}
        self._last_partition = 0
        self.may_wipe: Callable[[], bool] = lambda: True
        self.is_full: Callable[[Member], bool] = lambda member: False
        """Whether its disk holds the record of a full member: whoever watches the disks knows."""

    def start(self) -> None:
        self._on = True
        self._ensemble.boot_crash_chance = self.faults.boot_crash_chance
        self._ensemble.restart_mean = self.faults.down
        for kind in self.faults.intervals:
            self._schedule(kind)

    def heal(self) -> None:
        """No more faults; what is broken is mended piece by piece, in random order."""
        self._on = False
        ensemble = self._ensemble
        ensemble.boot_crash_chance = 0.0
        ensemble.restart_mean = 100 * MS
        self._network.conditions = Conditions()
        mends: list[Callable[[], None]] = [
            partial(self._end_partition, number) for number in self._partitions
        ]
        mends += [partial(self._mend, member) for member in ensemble.members.values()]
        self._rng.shuffle(mends)
        for mend in mends:
            self._world.after(self._rng.randrange(500 * MS), mend)

    def _mend(self, member: Member) -> None:
        member.slow_disk = 1
        member.crash_in_batches = member.crash_in_passes = None
        member.fs.forgive()
        member.resume()
        if not member.alive:
            self._ensemble.restart(member)

    def _schedule(self, kind: str) -> None:
        wait = exponential(self._rng, self.faults.intervals[kind])
        self._world.after(wait, self._strike, kind)

    def _strike(self, kind: str) -> None:
        if self._on:
            self._schedule(kind)
            if _FAULTS[kind](self):
                self.counts[kind] = self.counts.get(kind, 0) + 1

    # --- choices

    def _victim(self) -> Member | None:
        alive = self._ensemble.alive
        leader = self._ensemble.leader()
        if leader is not None and self._rng.random() < self.faults.aim_at_leader:
            return leader
        return self._rng.choice(alive) if alive else None

    def _duration(self) -> int:
        return exponential(self._rng, self.faults.duration)

    def _peer_socket(self) -> Socket | None:
        members = self._ensemble.members
        sockets = [s for sid in members for s in self._network.sockets_of(sid) if s.remote > 0]
        return self._rng.choice(sockets) if sockets else None

    def _client_socket(self) -> Socket | None:
        hosts = [client.host for client in self._clients]
        sockets = [s for host in hosts for s in self._network.sockets_of(host)]
        return self._rng.choice(sockets) if sockets else None

    # --- processes

    def _crash(self, member: Member, *, power: bool) -> bool:
        member.crash(power=power)
        self._ensemble.restart_later(member)
        return True

    def kill(self) -> bool:
        member = self._victim()
        return member is not None and self._crash(member, power=False)

    def power_cut(self) -> bool:
        member = self._victim()
        return member is not None and self._crash(member, power=True)

    def power_cut_of_all(self) -> bool:
        alive = self._ensemble.alive
        for member in alive:
            self._crash(member, power=True)
        return bool(alive)

    def kill_of_some(self) -> bool:
        alive = self._ensemble.alive
        for member in self._rng.sample(alive, self._rng.randrange(len(alive) + 1)):
            self._crash(member, power=self._rng.random() < 0.5)
        return bool(alive)

    def crash_while_writing(self) -> bool:
        """Most bugs of this kind sit between two writes: aim there."""
        member = self._victim()
        if member is None:
            return False
        member.crash_in_batches = self._rng.randrange(1, 5)
        member.crash_power = self._rng.random() < 0.7
        return True

    def crash_between_sends(self) -> bool:
        member = self._victim()
        if member is None:
            return False
        member.crash_in_passes = self._rng.randrange(1, 10)
        member.crash_power = self._rng.random() < 0.5
        return True

    def pause(self) -> bool:
        member = self._victim()
        if member is None:
            return False
        member.pause()
        self._world.after(self._duration(), member.resume)
        return True

    def jump_of_clock(self) -> bool:
        """Wall time only: it must not matter (ZOOKEEPER-2774)."""
        member = self._victim()
        if member is None:
            return False
        member.clock.wall_jump_ms += self._rng.choice((-86_400_000, 86_400_000, 5000, -5000))
        return True

    # --- disks

    def slow_disk(self) -> bool:
        member = self._victim()
        if member is None:
            return False
        member.slow_disk = self._rng.choice((10, 50, 300))
        self._world.after(self._duration(), self._quicken, member)
        return True

    def _quicken(self, member: Member) -> None:
        member.slow_disk = 1

    def disk_error(self) -> bool:
        member = self._victim()
        if member is None:
            return False
        member.fail_disk(self._rng.choice(DISK_CALLS))
        return True

    def wipe(self) -> bool:
        """Somebody empties a data directory, whatever else is the matter.  Not where an ensemble
        began as one server: emptied, that would begin anew, as its configuration says."""
        if self._ensemble.setup.founding_set().alone(1):
            return False
        member = self._stop_one_that_is_not_needed("wiped")
        if member is None:
            return False
        member.wipe()
        self._ensemble.restart_later(member)
        return True

    def rot(self) -> bool:
        """A disk does not keep what it took."""
        member = self._stop_one_that_is_not_needed("damaged")
        if member is None:
            return False
        self._ensemble.restart_later(member)
        return member.rot(self._rng)

    def _stop_one_that_is_not_needed(self, what: str) -> Member | None:
        """Only where all other voters have their records, and are a quorum, so that each quorum's
        data is somewhere."""
        ensemble, leader = self._ensemble, self._ensemble.leader()
        counting = leader.replica.zab.voters if leader is not None else None
        if counting is None or counting.joint or not self.may_wipe():
            return None
        voters = [ensemble.members[sid] for sid in counting.voters()]
        if not all(map(self.is_full, voters)):
            return None
        alive = [voter for voter in voters if voter.alive]
        member = self._rng.choice(alive) if alive else None
        if member is None or not is_quorum([v.sid for v in voters if v is not member], counting):
            return None
        member.crash(power=False, why=f"to be {what}")
        return member

    # --- network

    def partition(self) -> bool:
        hosts = list(self._ensemble.members)
        if len(hosts) < 2 or len(self._partitions) >= 3:
            return False
        shape = self._rng.choice(list(SHAPES))
        if shape == "bridge" and len(hosts) < 3:
            return False
        directions = SHAPES[shape](self._rng, hosts)
        return self._block(shape, directions)

    def _block(self, name: str, directions: list[Direction]) -> bool:
        self._last_partition += 1
        number = self._last_partition
        pairs = " ".join(f"{a}>{b}" for a, b in directions)
        text = f"{name} {number}: {pairs}"
        self._partitions[number] = text, directions
        self._network.block(directions)
        self._ensemble.note("fault", text)
        self._world.after(self._duration(), self._end_partition, number)
        return True

    def _end_partition(self, number: int) -> None:
        text, directions = self._partitions.pop(number, ("", []))
        if directions:
            self._network.unblock(directions)
            self._ensemble.note("heal", text)

    def partition_of_client(self) -> bool:
        """One client does not reach one member any more, or is not reached by it."""
        if not self._clients or len(self._partitions) >= 6:
            return False
        client = self._rng.choice(self._clients)
        sid = self._rng.choice(list(self._ensemble.members))
        pairs = [(client.host, sid), (sid, client.host)]
        directions = pairs if self._rng.random() < 0.5 else [self._rng.choice(pairs)]
        return self._block("client", directions)

    def cut(self) -> bool:
        return self._cut(self._peer_socket(), half_open=False)

    def depose(self) -> bool:
        """All links of the leader end at once: another election, with proposals in flight."""
        leader = self._ensemble.leader()
        if leader is None:
            return False
        for socket in self._network.sockets_of(leader.sid):
            if socket.remote > 0:
                self._network.cut(socket)
        return True

    def isolate_leader(self) -> bool:
        """The leader does not hear the others, is not heard, or both."""
        leader = self._ensemble.leader()
        if leader is None or len(self._partitions) >= 3:
            return False
        others = [sid for sid in self._ensemble.members if sid != leader.sid]
        out = [(leader.sid, sid) for sid in others]
        back = [(sid, leader.sid) for sid in others]
        return bool(others) and self._block("leader", self._rng.choice((out, back, out + back)))

    def half_open(self) -> bool:
        return self._cut(self._peer_socket(), half_open=True)

    def cut_of_client(self) -> bool:
        return self._cut(self._client_socket(), half_open=self._rng.random() < 0.3)

    def _cut(self, socket: Socket | None, *, half_open: bool) -> bool:
        if socket is None:
            return False
        self._network.cut(socket, half_open=half_open)
        return True

    def stall(self) -> bool:
        return self._stall(self._peer_socket())

    def stall_of_client(self) -> bool:
        return self._stall(self._client_socket())

    def _stall(self, socket: Socket | None) -> bool:
        if socket is None:
            return False
        socket.stall(self._duration())
        return True


_FAULTS: Final[dict[str, Callable[[Nemesis], bool]]] = {
    "kill": Nemesis.kill,
    "power cut": Nemesis.power_cut,
    "power cut of all": Nemesis.power_cut_of_all,
    "kill of some": Nemesis.kill_of_some,
    "crash while writing": Nemesis.crash_while_writing,
    "crash between sends": Nemesis.crash_between_sends,
    "pause": Nemesis.pause,
    "clock jump": Nemesis.jump_of_clock,
    "slow disk": Nemesis.slow_disk,
    "disk error": Nemesis.disk_error,
    "wipe": Nemesis.wipe,
    "rot": Nemesis.rot,
    "partition": Nemesis.partition,
    "client partition": Nemesis.partition_of_client,
    "isolated leader": Nemesis.isolate_leader,
    "depose": Nemesis.depose,
    "cut": Nemesis.cut,
    "half-open": Nemesis.half_open,
    "client cut": Nemesis.cut_of_client,
    "stall": Nemesis.stall,
    "client stall": Nemesis.stall_of_client,
}
KINDS: Final = tuple(_FAULTS)
"""Every kind of fault there is."""


class Reconfigurer:
    """Changes who the ensemble is, through a client of its own, between `start` and `stop`.

    Any server may become voter, observer or nothing, the leader included; half of the changes
    are small ones, as people make them, the rest draws everything anew.
    """

    def __init__(
        self,
        world: World,
        client: Client,
        ids: Sequence[int],
        interval: int,
        is_mending: Callable[[], bool],
    ) -> None:
        """`is_mending()`: a server lost its disk, and is no full member yet.

        Made one that decides alone just then, it would be a quorum lost with its data, which
        only an operator can mend.
        """
        self._is_mending = is_mending
        self._asked_at = -QUIET
        self._world = world
        self._client = client
        self._ids = list(ids)
        self._interval = interval
        self._rng = world.stream("reconfigurer")
        self._on = False
        self.asked = 0

    def start(self) -> None:
        self._on = True
        self._wait()

    def stop(self) -> None:
        self._on = False

    @property
    def is_quiet(self) -> bool:
        """Whether nothing that was asked for can be on its way any more."""
        return self._world.now - self._asked_at > QUIET

    def _wait(self) -> None:
        self._world.after(exponential(self._rng, self._interval), self._ask)

    def _ask(self) -> None:
        if not self._on:
            return
        self._wait()
        draw = self._small if self._rng.random() < 0.5 else self._whole
        if self._client.is_busy or self._is_mending():
            return
        self._asked_at = self._world.now
        if self._client.request(OpCode.RECONFIG, draw()):
            self.asked += 1
            if self._rng.random() < 0.3:
                self._client.request(OpCode.GET_DATA, records.GetDataRequest(CONFIG, True))

    def _small(self) -> records.ReconfigRequest:
        """One joins, or changes its role, and another leaves, or either."""
        joining, leaving = self._rng.choice(self._ids), self._rng.choice(self._ids)
        kind = self._rng.randrange(3)
        return records.ReconfigRequest(
            self._line(joining, self._rng.random() < 0.3) if kind != 1 else "",
            str(leaving) if kind != 0 and leaving != joining else "",
            "",
            self._rng.choice((-1, -1, -1, 5)),
        )

    def _whole(self) -> records.ReconfigRequest:
        chosen = self._rng.sample(self._ids, self._rng.randrange(1, len(self._ids) + 1))
        voters = self._rng.randrange(1, len(chosen) + 1)
        lines = [self._line(sid, index >= voters) for index, sid in enumerate(chosen)]
        return records.ReconfigRequest("", "", ",".join(lines), -1)

    def _line(self, sid: int, observer: bool) -> str:
        return f"server.{sid}={line_of(sid, observer)}"


class Oracle:
    """In place of the election: names leaders, at random, several at once.

    Only availability may suffer: elections are hints.  `settle` makes it name one and the
    same, which could win an election, so that liveness can be asked for.
    """

    def __init__(self, world: World, ensemble: Ensemble) -> None:
        self._world = world
        self._ensemble = ensemble
        self._rng = world.stream("oracle")
        self._interval = self._rng.choice((1, 2, 5)) * ensemble.setup.tick_ms * MS
        self._agree = self._rng.choice((0.0, 0.5, 0.9))
        self._settled = True

    def start(self) -> None:
        self._world.after(exponential(self._rng, self._interval), self._speak)

    def settle(self, settled: bool = True) -> None:
        self._settled = settled

    def _speak(self) -> None:
        self._world.after(exponential(self._rng, self._interval), self._speak)
        looking = [m for m in self._ensemble.alive if not m.paused and _is_looking(m)]
        setup = self._ensemble.setup
        voters = list(setup.ids if setup.changes else setup.voters)
        common = self._best() if self._settled else self._rng.choice(voters)
        for member in looking:
            agrees = self._settled or self._rng.random() < self._agree
            leader = common if agrees else self._rng.choice(voters)
            if leader is not None:
                member.decide(leader)

    def _best(self) -> int | None:
        leader = self._ensemble.leader()
        if leader is not None:
            return leader.sid
        fit = [m for m in self._ensemble.alive if m.replica.zab.member.may_lead]
        best = max(fit, key=lambda m: (m.replica.zab.member.window.last, m.sid), default=None)
        return best.sid if best is not None else None


def _is_looking(member: Member) -> bool:
    return member.replica.zab.role is Role.LOOKING
