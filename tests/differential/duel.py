"""One trace on both servers: the first difference, and the shortest trace that shows it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Final

import attrs

from tests.differential.generator import SESSIONS
from tests.differential.known import UNREAD_EVENT, find
from tests.differential.player import Line, Names, Player
from tests.differential.servers import SUPER
from tests.differential.trace import Ask, Batch, Connect, Drop, How, Step
from wire import records
from wire.codes import ErrorCode, EventType, OpCode

INSPECTOR: Final = SESSIONS
"""The session that walks the tree, as super user."""


_SETS_WATCHES: Final = (OpCode.SET_WATCHES, OpCode.SET_WATCHES2)


@attrs.frozen
class Difference:
    at: int
    """Index of the step; behind the last step of a trace: the tree that it left."""
    step: Step
    theirs: Line | None
    ours: Line | None

    def __str__(self) -> str:
        ask = (self.theirs and self.theirs.ask) or (self.ours and self.ours.ask) or self.step
        return f"upon {ask}\n  zookeeper: {self.theirs}\n  zkpy:      {self.ours}"


class Duel:
    def __init__(self, zookeeper: int, zkpy: int, *, tells_event_zxids: bool) -> None:
        """Ports of the two; what ZooKeeper does since 3.9."""
        self._ports = (zookeeper, zkpy)
        self._tells_event_zxids = tells_event_zxids
        self.known: Counter[str] = Counter()
        """How often each known difference was met."""
        self.met: Counter[str] = Counter()
        """What was compared: answers by operation and error, events, other lines."""

    def play(self, steps: Sequence[Step], root: str) -> Difference | None:
        """The first difference, if there is one: in the answers, or in what is left at `root`."""
        theirs, ours = players = self._players()
        try:
            for at, step in enumerate([*steps, *ending()]):
                found = self._step(players, at, step)
                if found is not None:
                    return found
            return self._inspect(players, root, len(steps))
        finally:
            theirs.close()
            ours.close()

    def inspect(self, root: str) -> Difference | None:
        """Compare the trees below `root`."""
        theirs, ours = players = self._players()
        try:
            return self._inspect(players, root, 0)
        finally:
            theirs.close()
            ours.close()

    def _players(self) -> tuple[Player, Player]:
        theirs, ours = (
            Player(port, SESSIONS + 1, Names(tells_event_zxids=self._tells_event_zxids))
            for port in self._ports
        )
        return theirs, ours

    def _step(self, players: tuple[Player, Player], at: int, step: Step) -> Difference | None:
        for player in players:
            player.begin(step)
        theirs, ours = (player.finish(step) for player in players)
        for player in players:
            player.probe(step)
        more_theirs, more_ours = (player.collect(step) for player in players)
        self.met.update(map(_kind_of, (*theirs, *more_theirs)))
        theirs = self._without_unread(players, step, theirs, ours)
        for one, other in zip_longest([*theirs, *more_theirs], [*ours, *more_ours]):
            if one != other and not self._is_known(players, one, other):
                return Difference(at, step, one, other)
        return None

    def _without_unread(
        self, players: tuple[Player, Player], step: Step, theirs: list[Line], ours: list[Line]
    ) -> list[Line]:
        """Their answer to setWatches without events that zkpy keeps from those who may not READ."""
        if not isinstance(step, Batch) or step.asks[-1].opcode not in _SETS_WATCHES:
            return theirs
        kept = []
        for line in theirs:
            if line.kind == "event" and line not in ours:
                ask = Ask(OpCode.GET_DATA, records.GetDataRequest(line.what[3], False))
                if players[1].mend(line.session, ask) == ErrorCode.NO_AUTH:
                    self.known[UNREAD_EVENT] += 1
                    continue
            kept.append(line)
        return kept

    def _is_known(
        self, players: tuple[Player, Player], theirs: Line | None, ours: Line | None
    ) -> bool:
        known = find(theirs, ours)
        if known is None or theirs is None:
            return False
        self.known[known.name] += 1
        mend = known.mend(theirs)
        if mend is not None:
            for player in players:
                player.mend(theirs.session, mend)
        return True

    def _inspect(self, players: tuple[Player, Player], root: str, at: int) -> Difference | None:
        """Everything about every znode; both must have the same children, so one walk does."""
        auth = Ask(OpCode.AUTH, records.AuthPacket(0, "digest", SUPER))
        opening: list[Step] = [Connect(INSPECTOR, How.FRESH), Batch(INSPECTOR, (auth,))]
        for step in opening:
            found = self._step(players, at, step)
            if found is not None:
                return found
        pending = [root]
        while pending:
            path = pending.pop()
            step = Batch(INSPECTOR, look_at(path))
            found, names = self._look(players, at, step)
            if found is not None:
                return found
            pending += [f"{path.rstrip('/')}/{name}" for name in names]
        return self._step(players, at, Batch(INSPECTOR, (Ask(OpCode.CLOSE_SESSION),)))

    def _look(
        self, players: tuple[Player, Player], at: int, step: Step
    ) -> tuple[Difference | None, list[str]]:
        for player in players:
            player.begin(step)
        theirs, ours = (player.finish(step) for player in players)
        for one, other in zip_longest(theirs, ours):
            if one != other and not self._is_known(players, one, other):
                return Difference(at, step, one, other), []
        last = theirs[-1]
        return None, [] if last.error else last.what[1]


def _kind_of(line: Line) -> str:
    """`SET_DATA NO_NODE` for an answer; events by their type."""
    if line.kind == "event":
        return f"event {EventType(line.what[1]).name}"
    if line.kind != "reply" or line.ask is None:
        return line.kind
    return f"{line.ask.name} {ErrorCode(line.error).name}"


def look_at(path: str) -> tuple[Ask, ...]:
    return (
        Ask(OpCode.GET_ACL, records.GetACLRequest(path)),
        Ask(OpCode.GET_DATA, records.GetDataRequest(path, False)),
        Ask(OpCode.GET_CHILDREN2, records.GetChildren2Request(path, False)),
    )


def ending() -> list[Step]:
    """Every session comes back and closes."""
    steps: list[Step] = []
    for session in range(SESSIONS):
        steps += [Connect(session, How.AGAIN), Batch(session, (Ask(OpCode.CLOSE_SESSION),))]
    return steps


# --- shrinking

Unit = tuple[int, int]
"""(step, request in it); the request is -1 where the step is no batch."""


def units_of(steps: Sequence[Step]) -> list[Unit]:
    return [unit for at, step in enumerate(steps) for unit in _units_of_step(at, step)]


def _units_of_step(at: int, step: Step) -> Iterator[Unit]:
    if isinstance(step, Batch):
        yield from ((at, number) for number in range(len(step.asks)))
    else:
        yield at, -1


def only(steps: Sequence[Step], units: Iterable[Unit]) -> list[Step]:
    """The steps that are left when only these units are kept."""
    kept: dict[int, list[int]] = {}
    for at, number in units:
        kept.setdefault(at, []).append(number)
    return [_reduced(steps[at], numbers) for at, numbers in sorted(kept.items())]


def _reduced(step: Step, numbers: list[int]) -> Step:
    if isinstance(step, Connect | Drop):
        return step
    return Batch(step.session, tuple(step.asks[number] for number in sorted(numbers)))
