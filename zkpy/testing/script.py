"""Text scripts: an ensemble played by hand, with everything that happened as expected text.

A script is a sequence of blocks

    # comment
    command argument ...
    ----
    what it printed

    command ...

and its trace is its own test: `run_script` plays the commands and returns the whole text
anew, to be compared with the file, or to replace it (`pytest --rewrite`) and be read in the
diff (as etcd's interaction tests do).

    start [voters=3] [observers=0] [strangers=0] [delay=US] [jitter=US] [field=value ...]
                                                        boot; fields are those of `Setup`
    run 500ms | run 2s                                  let time pass
    until leader | serving | equal                      let time pass until it is so
    kill N | power N | boot N | wipe N | pause N | resume N
    damage N                                            one bit in the middle of its log; again:
                                                        the bit as it was
    crash-in-batch N [K]                                power cut within the K-th batch from now
    block A>B ... | unblock A>B ... | isolate N | heal
    slow N FACTOR                                       its disk
    client NAME N [super]                               connect to server N
    ask NAME OP PATH [DATA] [version=V] [watch]         and wait for the reply
    ask NAME reconfig [+N[:observer]] [-N] [=N[:observer]] ... [from=V]
                                                        join, leave, or all members
    send NAME OP ...                                    do not wait
    events NAME                                         watch events so far
    logs                                                how far each member is
    voters                                              by which set each member counts
    check                                               histories, and equal trees

N is a server id, or `leader`.  Every rule of `Invariants` is checked on the way.
"""

from collections.abc import Callable
from typing import Any, Final

import attrs

from wire import records
from wire.codes import CreateMode, ErrorCode, EventType, OpCode
from wire.records import OPEN_ACL
from zkpy.storage.record import BATCH_HEADER_BYTES, SEGMENT_HEADER_BYTES
from zkpy.testing import histories
from zkpy.testing.ensemble import DATA_DIR, Ensemble, Member
from zkpy.testing.histories import Connection, Event, History, Op
from zkpy.testing.invariants import Invariants
from zkpy.testing.network import Conditions, Direction
from zkpy.testing.setup import SUPERUSER, Setup, line_of
from zkpy.testing.timeline import Mark
from zkpy.testing.workload import Client, Mix
from zkpy.testing.world import MS, SECOND, Violation, World
from zkpy.zab.quorum import Members
from zkpy.zab.zab import Zab
from zkpy.zxid import show

PATIENCE: Final = 30 * SECOND
RULE: Final = "----"


class ScriptError(Exception):
    """The script itself is wrong."""


def run_script(text: str) -> str:
    """Play it; the same text with what really happened."""
    stage = Stage()
    out: list[str] = []
    for block in text.rstrip("\n").split("\n\n"):
        lines = block.split("\n")
        commands = lines[: lines.index(RULE)] if RULE in lines else lines
        printed: list[str] = []
        for line in commands:
            if line.strip() and not line.startswith("#"):
                printed += stage.play(line)
        played = any(line.strip() and not line.startswith("#") for line in commands)
        out.append("\n".join([*commands, *([RULE, *printed] if played else [])]))
    return "\n\n".join(out) + "\n"


class Stage:
    """The ensemble that a script plays on."""

    ensemble: Ensemble

    def __init__(self) -> None:
        self.world = World(1)
        self.clients: dict[str, Client] = {}
        self.connections: list[Connection] = []
        self._told = 0
        self._blocked: list[Direction] = []

    def play(self, line: str) -> list[str]:
        """Carry one command out; what it prints, behind what the members did meanwhile."""
        name, *arguments = line.split()
        command = _COMMANDS.get(name)
        if command is None:
            raise ScriptError(f"no such command: {line}")
        try:
            printed = command(self, arguments)
        except Violation as violation:
            return [*self._news(), f"VIOLATION {violation}"]
        return [*self._news(), *printed]

    def _news(self) -> list[str]:
        marks = self.ensemble.timeline.marks
        told, self._told = self._told, len(marks)
        return [_show_mark(mark) for mark in marks[told:]]

    def member(self, name: str) -> Member:
        if name == "leader":
            leader = self.ensemble.leader()
            if leader is None:
                raise ScriptError("there is no leader")
            return leader
        return self.ensemble.members[int(name)]

    @property
    def history(self) -> History:
        return History(self.connections, self.invariants.commits)

    # --- the ensemble

    def start(self, arguments: list[str]) -> list[str]:
        options = dict(argument.split("=") for argument in arguments)
        voters, observers = int(options.pop("voters", 3)), int(options.pop("observers", 0))
        members = voters + observers
        strangers = int(options.pop("strangers", 0))
        ids = tuple(range(1, members + strangers + 1))
        numbers = {key: int(value) for key, value in options.items()}
        conditions = Conditions(delay=numbers.pop("delay", 300), jitter=numbers.pop("jitter", 0))
        # No dice in the world, so that only what the members do can change a trace.
        steady = Setup(
            voters=ids[:voters],
            observers=ids[voters:members],
            strangers=ids[members:],
            pass_delay=0,
            steady=True,
        )
        values = {key: type(getattr(steady, key))(number) for key, number in numbers.items()}
        setup = attrs.evolve(steady, **values)
        self.invariants = Invariants(setup)
        self.ensemble = Ensemble(self.world, setup, conditions, self.invariants)
        self.invariants.ensemble = self.ensemble
        self.ensemble.boot()
        return []

    def run(self, arguments: list[str]) -> list[str]:
        self.world.run_until(self.world.now + _duration(arguments[0]))
        return []

    def until(self, arguments: list[str]) -> list[str]:
        holds = _CONDITIONS[arguments[0]]
        end = self.world.now + PATIENCE
        while self.world.now < end:
            if holds(self):
                return []
            self.world.run_until(self.world.now + 5 * MS)
        return [f"not {arguments[0]} within {PATIENCE // SECOND} s"]

    def has_leader(self) -> bool:
        return self.ensemble.leader() is not None

    def all_serve(self) -> bool:
        """Of those that are in the configuration, as they know it."""
        zabs = [member.replica.zab for member in self.ensemble.alive]
        return all(zab.serving or (zab.leader and not _is_named(zab)) for zab in zabs)

    def all_equal(self) -> bool:
        states = [member.replica.state for member in self.ensemble.alive]
        same = {(state.zxid, state.digest) for state in states}
        return self.all_serve() and len(same) == 1

    def logs(self, arguments: list[str]) -> list[str]:
        return [_show_log(member) for member in self.ensemble.members.values()]

    def voters(self, arguments: list[str]) -> list[str]:
        return [_show_voters(member) for member in self.ensemble.members.values()]

    def check(self, arguments: list[str]) -> list[str]:
        histories.check(self.history)
        return ["sound" if self.all_equal() else "members differ"]

    # --- faults

    def kill(self, arguments: list[str]) -> list[str]:
        self.member(arguments[0]).crash(power=False)
        return []

    def power(self, arguments: list[str]) -> list[str]:
        self.member(arguments[0]).crash(power=True)
        return []

    def boot(self, arguments: list[str]) -> list[str]:
        self.ensemble.restart(self.member(arguments[0]))
        return []

    def wipe(self, arguments: list[str]) -> list[str]:
        self.member(arguments[0]).wipe()
        return []

    def damage(self, arguments: list[str]) -> list[str]:
        member = self.member(arguments[0])
        directory = f"{DATA_DIR}/gen-0001"
        first = min(name for name in member.fs.listdir(directory) if name.startswith("log."))
        member.fs.flip(f"{directory}/{first}", SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES)
        return []

    def pause(self, arguments: list[str]) -> list[str]:
        self.member(arguments[0]).pause()
        return []

    def resume(self, arguments: list[str]) -> list[str]:
        self.member(arguments[0]).resume()
        return []

    def crash_in_batch(self, arguments: list[str]) -> list[str]:
        member = self.member(arguments[0])
        member.crash_in_batches = int(arguments[1]) if len(arguments) > 1 else 1
        self.ensemble.restart_mean = 1 << 50  # the script boots it again
        return []

    def slow(self, arguments: list[str]) -> list[str]:
        self.member(arguments[0]).slow_disk = int(arguments[1])
        return []

    def block(self, arguments: list[str]) -> list[str]:
        self._block([_direction(each) for each in arguments])
        return []

    def unblock(self, arguments: list[str]) -> list[str]:
        directions = [_direction(each) for each in arguments]
        for direction in directions:
            self._blocked.remove(direction)
        self.ensemble.network.unblock(directions)
        return []

    def isolate(self, arguments: list[str]) -> list[str]:
        one = self.member(arguments[0]).sid
        others = [sid for sid in self.ensemble.members if sid != one]
        self._block([pair for sid in others for pair in ((one, sid), (sid, one))])
        return []

    def heal(self, arguments: list[str]) -> list[str]:
        self.ensemble.network.unblock(self._blocked)
        self._blocked = []
        return []

    def _block(self, directions: list[Direction]) -> None:
        self.ensemble.network.block(directions)
        self._blocked += directions

    # --- clients

    def client(self, arguments: list[str]) -> list[str]:
        name, server = arguments[0], self.member(arguments[1]).sid
        mix = Mix({"get": 1}, timeout_ms=20 * self.ensemble.setup.tick_ms)
        number = len(self.clients) + 1
        client = Client(
            number, self.world, self.ensemble.network, [server], mix, self.connections.append
        )
        client.asks = False
        client.credential = SUPERUSER if "super" in arguments else None
        client.start()
        self.clients[name] = client
        self._wait(lambda: client.server is not None)
        return [f"{name} is connected to {server}" if client.server else f"{name} is not connected"]

    def ask(self, arguments: list[str]) -> list[str]:
        op = self._request(arguments)
        if op is None:
            return [f"{arguments[0]} is not connected"]
        client = self.clients[arguments[0]]
        self._wait(lambda: op.is_known or not client.is_busy)
        return [_show_reply(op)]

    def send(self, arguments: list[str]) -> list[str]:
        sent = self._request(arguments) is not None
        return [] if sent else [f"{arguments[0]} is not connected"]

    def events(self, arguments: list[str]) -> list[str]:
        session = self.clients[arguments[0]].session
        streams = [each.stream for each in self.connections if each.session == session]
        events = [item for stream in streams for item in stream if isinstance(item, Event)]
        return [f"{EventType(e.type).name} {e.path} {show(e.zxid)}" for e in events] or ["none"]

    def _request(self, arguments: list[str]) -> Op | None:
        name, operation, *rest = arguments
        opcode, body = _REQUESTS[operation](rest)
        return self.clients[name].request(opcode, body)

    def _wait(self, holds: Callable[[], bool]) -> None:
        end = self.world.now + 5 * SECOND
        self.world.run_until(end, stop=holds)


# --- words


def _duration(text: str) -> int:
    unit = MS if text.endswith("ms") else SECOND
    return int(text.rstrip("ms")) * unit


def _direction(text: str) -> Direction:
    source, _, target = text.partition(">")
    return int(source), int(target)


def _show_mark(mark: Mark) -> str:
    lane = f"{mark.lane}: " if mark.lane else ""
    return f"{mark.at / SECOND:6.2f} {lane}{mark.kind} {mark.text}"


def _show_log(member: Member) -> str:
    if not member.alive:
        return f"{member.sid}: down"
    window = member.replica.zab.member.window
    return (
        f"{member.sid}: last {show(window.last)}, saved {show(window.saved)}, "
        f"committed {show(window.committed)}, applied {show(window.applied)}"
    )


def _is_named(zab: Zab) -> bool:
    return zab.named or not zab.options.named_only


def _show_voters(member: Member) -> str:
    if not member.alive:
        return f"{member.sid}: down"
    zab = member.replica.zab
    sets = [_show_members(zab.voters.members)]
    sets += [_show_members(zab.voters.joining)] if zab.voters.joining else []
    serves = "serves" if zab.serving else "does not serve"
    return f"{member.sid}: {' and '.join(sets)}, {serves}"


def _show_members(members: Members) -> str:
    observers = f" observers {list(members.observers)}" if members.observers else ""
    return f"{list(members.voters)}{observers}"


def _show_reply(op: Op) -> str:
    if not op.is_known:
        return "lost"
    told = ErrorCode(op.error).name if op.error else _TOLD.get(type(op.reply), _tell_nothing)(op)
    return f"{show(op.zxid)} {told}".rstrip()


def _tell_nothing(op: Op) -> str:
    return ""


_TOLD: Final[dict[type, Callable[[Op], str]]] = {
    records.CreateResponse: lambda op: str(op.reply.path),
    records.SetDataResponse: lambda op: f"version {op.reply.stat.version}",
    records.GetDataResponse: lambda op: (
        f"{(op.reply.data or b'').decode()} version {op.reply.stat.version}"
    ),
    records.ReconfigResponse: lambda op: (op.reply.data or b"").decode().replace("\n", " "),
    records.GetChildrenResponse: lambda op: " ".join(sorted(op.reply.children)),
}


def _make_create(flags: CreateMode) -> Callable[[list[str]], tuple[int, Any]]:
    def make(rest: list[str]) -> tuple[int, Any]:
        data = rest[1].encode() if len(rest) > 1 else b""
        return OpCode.CREATE, records.CreateRequest(rest[0], data, list(OPEN_ACL), flags)

    return make


def _version(rest: list[str]) -> int:
    given = [word for word in rest if word.startswith("version=")]
    return int(given[0].removeprefix("version=")) if given else -1


def _make_set(rest: list[str]) -> tuple[int, Any]:
    body = records.SetDataRequest(rest[0], rest[1].encode(), _version(rest))
    return OpCode.SET_DATA, body


def _make_delete(rest: list[str]) -> tuple[int, Any]:
    return OpCode.DELETE, records.DeleteRequest(rest[0], _version(rest))


def _make_reconfig(rest: list[str]) -> tuple[int, Any]:
    given = [word for word in rest if word.startswith("from=")]
    version = int(given[0].removeprefix("from="), 16) if given else -1
    joining, members = (
        ",".join(_line(word[1:]) for word in rest if word[0] == sign) for sign in "+="
    )
    leaving = ",".join(word[1:] for word in rest if word[0] == "-")
    return OpCode.RECONFIG, records.ReconfigRequest(joining, leaving, members, version)


def _line(word: str) -> str:
    number, _, role = word.partition(":")
    return f"server.{number}={line_of(int(number), role == 'observer')}"


_REQUESTS: Final[dict[str, Callable[[list[str]], tuple[int, Any]]]] = {
    "reconfig": _make_reconfig,
    "create": _make_create(CreateMode.PERSISTENT),
    "ephemeral": _make_create(CreateMode.EPHEMERAL),
    "sequential": _make_create(CreateMode.PERSISTENT_SEQUENTIAL),
    "set": _make_set,
    "delete": _make_delete,
    "get": lambda rest: (OpCode.GET_DATA, records.GetDataRequest(rest[0], "watch" in rest)),
    "exists": lambda rest: (OpCode.EXISTS, records.ExistsRequest(rest[0], "watch" in rest)),
    "children": lambda rest: (
        OpCode.GET_CHILDREN,
        records.GetChildrenRequest(rest[0], "watch" in rest),
    ),
    "sync": lambda rest: (OpCode.SYNC, records.SyncRequest(rest[0])),
    "close": lambda rest: (OpCode.CLOSE_SESSION, None),
}
_CONDITIONS: Final[dict[str, Callable[[Stage], bool]]] = {
    "leader": Stage.has_leader,
    "serving": Stage.all_serve,
    "equal": Stage.all_equal,
}
_COMMANDS: Final[dict[str, Callable[[Stage, list[str]], list[str]]]] = {
    "start": Stage.start,
    "run": Stage.run,
    "until": Stage.until,
    "logs": Stage.logs,
    "voters": Stage.voters,
    "check": Stage.check,
    "kill": Stage.kill,
    "power": Stage.power,
    "boot": Stage.boot,
    "wipe": Stage.wipe,
    "damage": Stage.damage,
    "pause": Stage.pause,
    "resume": Stage.resume,
    "crash-in-batch": Stage.crash_in_batch,
    "slow": Stage.slow,
    "block": Stage.block,
    "unblock": Stage.unblock,
    "isolate": Stage.isolate,
    "heal": Stage.heal,
    "client": Stage.client,
    "ask": Stage.ask,
    "send": Stage.send,
    "events": Stage.events,
}
