"""One seed, from the draw of its faults to its verdict.

Two phases.  *Safety*: clients work, everything that the seed drew goes
wrong, and `Invariants` looks on.  *Liveness*: all is mended; within a bound there must be a
leader, every member must serve and hold the same log and tree, and a new write must
commit.  Then the clients leave, and their sessions, ephemerals and watches with them.  Last,
the histories are checked against the log.

The same `Plan` gives the same run, event for event; `Result.trace_hash` says so.
"""

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from wire import records
from wire.codes import CreateMode, OpCode
from wire.records import OPEN_ACL
from zkpy.state import znode as zn
from zkpy.testing import histories
from zkpy.testing.ensemble import Ensemble, Member
from zkpy.testing.faults import (
    Faults,
    Nemesis,
    Oracle,
    Reconfigurer,
    draw_conditions,
    draw_faults,
    draw_rot,
)
from zkpy.testing.histories import Connection, History, Summary, linearizable, register_ops
from zkpy.testing.invariants import Invariants
from zkpy.testing.model import CONFIG, Model
from zkpy.testing.network import Conditions
from zkpy.testing.setup import SUPERUSER, Setup
from zkpy.testing.timeline import NETWORK
from zkpy.testing.workload import REGISTER, SETUP, Client, Mix, draw_mix
from zkpy.testing.world import MS, SECOND, Violation, World
from zkpy.zxid import show

RECONFIG_CHANCE: Final = 0.2
WEIGHTS_CHANCE: Final = 0.25
LOCAL_CHANCE: Final = 0.15
SMALL_WINDOW_BYTES: Final = 100_000
LEADER_TICKS: Final = 40
"""After the last mending: a leader. Part of it is an attempt that has to run into its initLimit."""
LIVENESS_TICKS: Final = 120
"""Ticks after the last mending in which everything must be well again."""


@attrs.define(frozen=True)
class Plan:
    """What one run consists of; all of it follows from seed and command line."""

    seed: int
    setup: Setup
    conditions: Conditions
    faults: Faults
    mixes: tuple[Mix, ...]
    """One per client."""
    duration: int
    """Of the first phase, in microseconds."""
    reconfig_interval: int = 0
    """Mean time between two changes of membership, in microseconds; 0: there are none."""


@attrs.define(frozen=True)
class Choice:
    """What the command line says about all seeds."""

    members: int | None = None
    """Voters; drawn if None."""
    observers: int | None = None
    oracle: bool = False
    faults: bool = True
    reconfig: bool | None = None
    """Whether the membership changes; drawn if None."""
    seconds: int | None = None
    """Virtual time of the first phase; drawn if None."""


DRAWN: Final = Choice()
"""Nothing is said: all is drawn."""


@attrs.define
class Result:
    seed: int
    virtual: int = 0
    """Microseconds simulated."""
    cpu: float = 0.0
    """Seconds spent on it."""
    events: int = 0
    trace_hash: int = 0
    elections: int = 0
    faults: dict[str, int] = attrs.Factory(dict)
    boundaries: dict[str, int] = attrs.Factory(dict)
    """Where processes died within their writes."""
    summary: Summary | None = None
    violation: Violation | None = None
    text: str = ""
    """What went wrong, with the exception behind it if there is one."""


def draw_plan(seed: int, choice: Choice = DRAWN) -> Plan:
    rng = random.Random(f"{seed} plan")
    duration = (choice.seconds or rng.choice((4, 8, 8, 15, 30))) * SECOND
    setup = _draw_setup(rng, choice)
    faults = draw_faults(rng, duration) if choice.faults else Faults({})
    if choice.faults:
        faults.intervals.update(draw_rot(random.Random(f"{seed} rot"), duration))
    conditions = draw_conditions(rng)
    count = rng.choice((1, 2, 3, 3, 5, 8))
    mixes = [draw_mix(rng, 4 * setup.tick_ms) for _ in range(count)]
    setup, interval = _draw_reconfigs(seed, choice, setup, duration)
    if not setup.changes:
        setup = _draw_weights(random.Random(f"{seed} weights"), setup)
    if random.Random(f"{seed} local").random() < LOCAL_CHANCE:
        setup = attrs.evolve(setup, local_sessions=len(setup.ids) > 1)
    return Plan(seed, setup, conditions, faults, tuple(mixes), duration, interval)


def _draw_reconfigs(seed: int, choice: Choice, setup: Setup, duration: int) -> tuple[Setup, int]:
    """With dice of its own: all else is as it would be without."""
    rng = random.Random(f"{seed} reconfig")
    drawn = rng.random() < RECONFIG_CHANCE and not choice.oracle
    if not (drawn if choice.reconfig is None else choice.reconfig):
        return setup, 0
    count = len(setup.ids)
    strangers = range(count + 1, count + 1 + rng.choice((0, 1, 2, 2)))
    interval = duration // rng.choice((5, 15, 40))
    return attrs.evolve(setup, strangers=tuple(strangers), reconfig=True), interval


def _draw_weights(rng: random.Random, setup: Setup) -> Setup:
    """Voters that count for more than others, or for nothing, and groups of them."""
    count = len(setup.voters)
    if count < 2 or rng.random() >= WEIGHTS_CHANCE:
        return setup
    weights = [rng.choice((0, 1, 1, 2, 3)) for _ in range(count)]
    weights[rng.randrange(count)] = 1
    groups = [rng.randrange(1, 4) for _ in range(count)] if rng.random() < 0.4 else []
    return attrs.evolve(setup, weights=tuple(weights), groups=tuple(groups))


def _draw_setup(rng: random.Random, choice: Choice) -> Setup:
    voters = choice.members or rng.choice((1, 2, 3, 3, 3, 3, 3, 4, 5, 5))
    observers = choice.observers if choice.observers is not None else rng.choice((0, 0, 0, 1, 2))
    if voters == 1 and choice.observers is None:
        observers = 0
    return Setup(
        voters=tuple(range(1, voters + 1)),
        observers=tuple(range(voters + 1, voters + 1 + observers)),
        tick_ms=rng.choice((100, 200, 200, 500)),
        sync_ticks=rng.choice((2, 5, 5, 10)),
        snap_entries=rng.choice((5, 20, 100, 100_000)),
        segment_bytes=rng.choice((4096, 1 << 16)),
        window_bytes=rng.choice((10_000, 50_000, 1 << 20, 1 << 20)),
        frame_bytes=rng.choice((500, 1 << 16, 1 << 16)),
        image_slice_nodes=rng.choice((5, 50, 400)),
        fsync=rng.choice((100, 500, 500, 5000, 20_000)),
        fsync_spike_chance=rng.choice((0.0, 0.0, 0.02)),
        pass_delay=rng.choice((50, 100, 1000)),
        drift_ppm=rng.choice((0, 0, 10_000)),
        elects=not choice.oracle,
        finalize_ms=rng.choice((0, 1, 20)),
    )


class Simulation:
    """The parts of one run, and their order."""

    def __init__(self, plan: Plan, member_type: type[Member] = Member) -> None:
        self.plan = plan
        self.world = World(plan.seed)
        self.invariants = Invariants(plan.setup)
        self.ensemble = Ensemble(
            self.world, plan.setup, plan.conditions, self.invariants, member_type
        )
        self.invariants.ensemble = self.ensemble
        self.connections: list[Connection] = []
        self.clients = [self._client(number, mix) for number, mix in enumerate(plan.mixes, start=1)]
        self.nemesis = Nemesis(self.world, self.ensemble, self.clients, plan.faults)
        self.nemesis.is_full = lambda member: self.invariants.disks[member.sid].is_full
        self.reconfigurer = self._reconfigurer() if plan.reconfig_interval else None
        self.oracle = None if plan.setup.elects else Oracle(self.world, self.ensemble)
        self.summary: Summary | None = None

    def _reconfigurer(self) -> Reconfigurer:
        plan = self.plan
        mix = Mix({"get": 1}, timeout_ms=20 * plan.setup.tick_ms)
        self._admin = self._client(len(self.clients) + 2, mix)
        self._admin.asks, self._admin.credential = False, SUPERUSER
        reconfigurer = Reconfigurer(
            self.world, self._admin, plan.setup.ids, plan.reconfig_interval, self._is_mending
        )
        self.nemesis.may_wipe = lambda: reconfigurer.is_quiet
        return reconfigurer

    def _is_mending(self) -> bool:
        return any(disk.wiped for disk in self.invariants.disks.values())

    def _client(self, number: int, mix: Mix) -> Client:
        return Client(
            number,
            self.world,
            self.ensemble.network,
            list(self.plan.setup.ids),
            mix,
            self.connections.append,
        )

    def run(self) -> None:
        """Raises Violation."""
        self._found()
        self._break()
        self._heal()
        self._leave()
        self.check()

    # --- phases

    def _found(self) -> None:
        """The first start, and the znodes that the workload relies on."""
        self.ensemble.boot()
        if self.oracle is not None:
            self.oracle.start()
        if self._founds_in_peace:
            self._await("founding", self._has_leader)
        for client in self.clients:
            client.start()
        timeout_ms = 20 * self.plan.setup.tick_ms
        self._probe = self._client(len(self.clients) + 1, Mix({"set": 1}, timeout_ms=timeout_ms))
        self._probe.asks = False
        self._probe.start()
        if self.reconfigurer is not None:
            self._admin.start()
        if self._founds_in_peace:
            self._await("first session", lambda: self._probe.server is not None)
            for path in SETUP:
                self._create(path)

    @property
    def _founds_in_peace(self) -> bool:
        """Faults meet the founding in one seed of four; never without datagrams, by which
        blank members learn that somebody is not."""
        return self.plan.seed % 4 != 0 or not self.plan.setup.elects

    def _create(self, path: str) -> None:
        body = records.CreateRequest(path, b"", list(OPEN_ACL), CreateMode.PERSISTENT)
        self._probe.request(OpCode.CREATE, body)

    def _break(self) -> None:
        self.nemesis.start()
        if self.reconfigurer is not None:
            self.reconfigurer.start()
        if self.oracle is not None:
            self.oracle.settle(False)
        self.world.run_until(self.world.now + self.plan.duration)

    def _heal(self) -> None:
        self.ensemble.note("note", "healing")
        self.nemesis.heal()
        if self.reconfigurer is not None:
            self.reconfigurer.stop()
        if self.oracle is not None:
            self.oracle.settle()
        self.world.run_until(self.world.now + SECOND)
        self._await("a leader", self._has_leader, ticks=LEADER_TICKS)
        self._catch_up()
        self._await("a write commits", self._probe_writes)
        self._quiet()
        self._await("everyone holds the same", self._all_equal)

    def _catch_up(self) -> None:
        """Under load; but where the window holds a few entries only, a SNAP may take longer than
        the window reaches back, again and again: then the load has to end first."""
        try:
            self._await("every member serves", self._all_serve)
        except Violation:
            if self.plan.setup.window_bytes > SMALL_WINDOW_BYTES:
                raise
            self._quiet()
            self._await("every member serves", self._all_serve)

    def _quiet(self) -> None:
        for client in self.clients:
            client.asks = False

    def _leave(self) -> None:
        """Nothing stays of clients that are gone."""
        for client in (*self.clients, self._probe):
            client.stop()
        if self.reconfigurer is not None:
            self._admin.stop()
        self._await("sessions end", self._no_sessions, ticks=400)
        self._await("everyone holds the same", self._all_equal)
        # One that was dialled and never said a word is borne for as long as a handshake may take.
        patience = self.plan.setup.limits().handshake_ms // self.plan.setup.tick_ms + 2
        self._await("connections end", self._no_links, ticks=patience)
        for member in self.ensemble.members.values():
            self._check_left(member)

    def _await(self, what: str, holds: Callable[[], bool], ticks: int = LIVENESS_TICKS) -> None:
        """Let time pass until it holds: A14 if it does not in time."""
        tick = self.plan.setup.tick_ms * MS
        for _ in range(2 * ticks):
            if holds():
                return
            self.world.run_until(self.world.now + tick // 2)
        raise Violation("A14", f"not within {ticks} ticks: {what}; {self._describe()}")

    def _describe(self) -> str:
        parts = []
        for member in self.ensemble.members.values():
            state = member._role_text() if member.alive else "down"
            zxid = show(member.replica.state.zxid) if member.alive else "?"
            parts.append(f"server {member.sid} {state} at {zxid}")
        return "; ".join(parts)

    # --- what must hold

    def _has_leader(self) -> bool:
        return self.ensemble.leader() is not None

    def _all_serve(self) -> bool:
        """Who is in the configuration; the others learn."""
        leader = self.ensemble.leader()
        members = self.ensemble.members.values()
        return leader is not None and all(
            member.alive and (member.replica.zab.serving or _only_learns(member, leader))
            for member in members
        )

    def _probe_writes(self) -> bool:
        """Its session may be new, and so may be the znode."""
        if self._probe.acknowledged and self._wrote_after_healing():
            return True
        if self._probe.server is not None and not self._probe.is_busy:
            self._create(REGISTER)
            body = records.SetDataRequest(REGISTER, self._probe.value(), -1)
            self._probed = self._probe.request(OpCode.SET_DATA, body)
        return False

    _probed: histories.Op | None = None

    def _wrote_after_healing(self) -> bool:
        return self._probed is not None and self._probed.is_known and not self._probed.error

    def _all_equal(self) -> bool:
        """A3, A12 at quiescence."""
        leader = self.ensemble.leader()
        if leader is None or not self._all_serve():
            return False
        last = leader.replica.zab.member.window.last
        states = [member.replica.state for member in self.ensemble.members.values()]
        return all(state.zxid == last for state in states) and (
            len({state.digest for state in states}) == 1
        )

    def _no_sessions(self) -> bool:
        replicas = [member.replica for member in self.ensemble.members.values()]
        return not any(len(r.state.sessions) + r.clients.local_sessions for r in replicas)

    def _no_links(self) -> bool:
        return not any(member.open_client_links for member in self.ensemble.members.values())

    def _check_left(self, member: Member) -> None:
        clients, lifetimes = member.replica.clients, member.replica.state.lifetimes
        left = {
            "watches": clients.watches.count,
            "ephemerals": lifetimes.ephemeral_count,
            "requests": len(clients.gate),
            "local sessions": clients.local_sessions,
        }
        if any(left.values()):
            raise Violation("leak", f"server {member.sid} keeps {left} of clients that are gone")

    # --- the end

    @property
    def history(self) -> History:
        return History(self.connections, self.invariants.commits)

    def check(self) -> None:
        self.summary = histories.check(self.history)
        for member in self.ensemble.members.values():
            _compare_trees(member, self.summary.model)

    def check_registers(self) -> bool | None:
        """The search without zxids, where it can end soon; None where it could not."""
        ops = register_ops(self.history, REGISTER)
        if len(ops) > 60 or not ops:
            return None
        return linearizable(ops, (b"", 0))


def _only_learns(member: Member, leader: Member) -> bool:
    zab = member.replica.zab
    at_rest = zab.configured is zab.voters and not zab.voters.joint
    return member.setup.changes and at_rest and not zab.named and zab.leader == leader.sid


def _compare_trees(member: Member, model: Model) -> None:
    """C7: the tree is what all acknowledged writes, and some unknown ones, make."""
    sessions = member.replica.state.sessions.sessions
    opened = {session: ms for session, ms in model.sessions.items() if ms != histories.LOCAL}
    if {session: each.timeout_ms for session, each in sessions.items()} != opened:
        raise Violation("C7", f"server {member.sid} knows other sessions than the history opens")
    nodes = member.replica.state.tree.nodes
    if sorted(nodes) != sorted(model.nodes):
        raise Violation("C7", f"server {member.sid} has other znodes than the history makes")
    if zn.data_of(nodes[CONFIG]) != model.nodes[CONFIG].data:
        raise Violation("C7", f"server {member.sid} shows another configuration")
    for path, node in model.nodes.items():
        if path in ("/", "/zookeeper") or path.startswith("/zookeeper/"):
            continue
        shown = zn.data_of(nodes[path]), records.Stat.parse(zn.stat_of(nodes[path]), 0, 68)
        if shown != (node.data, node.stat()):
            raise Violation("C7", f"server {member.sid}: {path} is {shown}, not {node}")


def run_seed(
    seed: int,
    choice: Choice = DRAWN,
    member_type: type[Member] = Member,
    clock: Callable[[], float] = float,
) -> tuple[Result, Simulation]:
    """Run one seed; a violation is in the result.  `clock` measures what it costs, in seconds."""
    simulation = Simulation(draw_plan(seed, choice), member_type)
    result = Result(seed)
    started = clock()
    with _without_collector():
        try:
            simulation.run()
        except Violation as violation:
            result.violation, result.text = violation, str(violation)
        except Exception as error:
            result.violation = Violation("crash", f"{type(error).__name__}: {error}")
            result.violation.__cause__ = error
            result.text = str(result.violation)
    result.cpu = clock() - started
    _fill(result, simulation)
    return result, simulation


def _fill(result: Result, simulation: Simulation) -> None:
    world = simulation.world
    if result.violation is not None:
        simulation.ensemble.timeline.add(world.now, NETWORK, "violation", result.text)
    result.virtual, result.events = world.now, world.events
    result.trace_hash = world.trace_hash
    result.elections = len(simulation.invariants.leaders)
    result.faults = dict(simulation.nemesis.counts)
    if simulation.reconfigurer is not None:
        result.faults["reconfig"] = simulation.reconfigurer.asked
    result.boundaries = dict(simulation.ensemble.boundaries)
    result.summary = simulation.summary


@contextmanager
def _without_collector() -> Iterator[None]:
    """A run lives for a second and is dropped whole; the collector would walk it all the time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
