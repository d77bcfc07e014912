"""The watch table, row by row, and against a plain list of who watches what."""

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline import leader as ask
from tests.pipeline.leader import ANN, BOB, CLOSE, Preparing, Step
from wire.codes import EventType, WatcherType
from wire.txn import CloseSessionTxn, CreateTxn, DeleteTxn, MultiTxn, SetDataTxn, Txn
from zkpy.pipeline.watches import Firing, Kind, WatchTable
from zkpy.state import paths

CREATED, DELETED = EventType.NODE_CREATED, EventType.NODE_DELETED
CHANGED, CHILDREN = EventType.NODE_DATA_CHANGED, EventType.NODE_CHILDREN_CHANGED


class Watched:
    """A tree, and a table that is told of its changes."""

    def __init__(self, *steps: Step) -> None:
        self.leader = Preparing()
        self.table = WatchTable()
        for step in steps:
            self.run(step)

    def run(self, step: Step, session: int = ANN) -> list[Firing]:
        return self.table.trigger(self.leader.run(step, session).changes)

    def add(self, mode: str, path: str, connection: int = 1) -> None:
        add_watch(self.table, mode, path, connection)


def add_watch(table: WatchTable, mode: str, path: str, connection: int) -> None:
    if mode == "persistent":
        table.add_persistent(path, connection)
    else:
        kind = {"data": Kind.DATA, "child": Kind.CHILD, "recursive": Kind.RECURSIVE}[mode]
        table.add(kind, path, connection)


A = (ask.create("/a"),)
AB = (*A, ask.create("/a/b"))

ROWS: list[tuple[str, tuple[Step, ...], Step, str, list[tuple[EventType, str]]]] = [
    # mode, situation, change, watched path, events
    ("data", A, ask.create("/a/b"), "/a/b", [(CREATED, "/a/b")]),
    ("data", A, ask.create("/a/b"), "/a", []),
    ("child", A, ask.create("/a/b"), "/a", [(CHILDREN, "/a")]),
    ("child", A, ask.create("/a/b"), "/", []),
    ("persistent", A, ask.create("/a/b"), "/a/b", [(CREATED, "/a/b")]),
    ("persistent", A, ask.create("/a/b"), "/a", [(CHILDREN, "/a")]),
    ("persistent", A, ask.create("/a/b"), "/", []),
    ("recursive", A, ask.create("/a/b"), "/a/b", [(CREATED, "/a/b")]),
    ("recursive", A, ask.create("/a/b"), "/a", [(CREATED, "/a/b")]),
    ("recursive", A, ask.create("/a/b"), "/", [(CREATED, "/a/b")]),
    ("recursive", A, ask.create("/ab"), "/a", []),
    ("recursive", (), ask.create("/a"), "/", [(CREATED, "/a")]),
    ("child", (), ask.create("/a"), "/", [(CHILDREN, "/")]),
    ("data", A, ask.set_data("/a"), "/a", [(CHANGED, "/a")]),
    ("child", A, ask.set_data("/a"), "/a", []),
    ("persistent", A, ask.set_data("/a"), "/a", [(CHANGED, "/a")]),
    ("recursive", A, ask.set_data("/a"), "/", [(CHANGED, "/a")]),
    ("recursive", (), ask.set_data("/"), "/", [(CHANGED, "/")]),
    ("child", A, ask.set_data("/a"), "/", []),
    ("data", AB, ask.delete("/a/b"), "/a/b", [(DELETED, "/a/b")]),
    ("child", AB, ask.delete("/a/b"), "/a/b", [(DELETED, "/a/b")]),
    ("data", AB, ask.delete("/a/b"), "/a", []),
    ("child", AB, ask.delete("/a/b"), "/a", [(CHILDREN, "/a")]),
    ("persistent", AB, ask.delete("/a/b"), "/a/b", [(DELETED, "/a/b")]),
    ("persistent", AB, ask.delete("/a/b"), "/a", [(CHILDREN, "/a")]),
    ("recursive", AB, ask.delete("/a/b"), "/a", [(DELETED, "/a/b")]),
    *((mode, A, ask.set_acl("/a"), "/a", []) for mode in ("data", "child", "persistent")),
    ("recursive", A, ask.set_acl("/a"), "/a", []),
]


@pytest.mark.parametrize(
    ("mode", "situation", "change", "path", "events"),
    ROWS,
    ids=[f"{row[0]} {row[3]} {row[2][1]!r}" for row in ROWS],
)
def test_row_of_the_table(
    mode: str,
    situation: tuple[Step, ...],
    change: Step,
    path: str,
    events: list[tuple[EventType, str]],
) -> None:
    watched = Watched(*situation)
    watched.add(mode, path)
    assert watched.run(change) == [(1, event, path) for event, path in events]
    stays = mode in ("persistent", "recursive") or not events
    assert (watched.table.count > 0) == stays


def test_one_shot_fires_once_and_persistent_again() -> None:
    watched = Watched(*A)
    watched.add("data", "/a", 1)
    watched.add("persistent", "/a", 2)
    watched.add("recursive", "/a", 3)
    assert watched.run(ask.set_data("/a")) == [(each, CHANGED, "/a") for each in (1, 2, 3)]
    assert watched.run(ask.set_data("/a")) == [(each, CHANGED, "/a") for each in (2, 3)]


def test_persistent_survives_deletion_and_sees_the_next_create() -> None:
    watched = Watched(*A)
    watched.add("persistent", "/a", 1)
    watched.add("recursive", "/a", 2)
    watched.run(ask.delete("/a"))
    assert watched.run(ask.create("/a")) == [(1, CREATED, "/a"), (2, CREATED, "/a")]


def test_connection_is_told_once_however_it_watches() -> None:
    watched = Watched(*AB)
    for mode in ("data", "child", "persistent", "recursive"):
        watched.add(mode, "/a/b")
        watched.add(mode, "/a")
    assert watched.run(ask.delete("/a/b")) == [(1, DELETED, "/a/b"), (1, CHILDREN, "/a")]
    assert watched.run(ask.set_data("/a")) == [(1, CHANGED, "/a")]


def test_modes_on_one_path_do_not_disturb_each_other() -> None:
    """ZOOKEEPER-4466, 4475: one mode replaced another there."""
    watched = Watched(*A)
    for mode in ("recursive", "persistent", "data"):
        watched.add(mode, "/a")
    assert watched.table.remove(WatcherType.PERSISTENT_RECURSIVE, "/a", 1)
    assert watched.run(ask.create("/a/b")) == [(1, CHILDREN, "/a")]
    assert watched.table.remove(WatcherType.PERSISTENT, "/a", 1)
    assert watched.run(ask.set_data("/a")) == [(1, CHANGED, "/a")]
    assert watched.table.count == 0


def test_multi_fires_in_its_order() -> None:
    watched = Watched(*A)
    watched.add("data", "/a", 1)
    watched.add("recursive", "/", 2)
    watched.add("child", "/a", 3)
    both = ask.multi(ask.set_data("/a"), ask.create("/a/b"), ask.set_data("/a"), ask.delete("/a/b"))
    assert watched.run(both) == [
        (1, CHANGED, "/a"),
        (2, CHANGED, "/a"),
        (2, CREATED, "/a/b"),
        (3, CHILDREN, "/a"),
        (2, CHANGED, "/a"),
        (2, DELETED, "/a/b"),
    ]


def test_refused_request_fires_nothing() -> None:
    watched = Watched(*A)
    watched.add("persistent", "/a")
    assert watched.run(ask.create("/a")) == []
    assert watched.run(ask.multi(ask.set_data("/a"), ask.create("/a"))) == []


def test_close_session_tells_of_its_ephemerals() -> None:
    watched = Watched(*A, ask.ephemeral("/a/e"), ask.ephemeral("/a/f"))
    watched.add("data", "/a/e", 1)
    watched.add("child", "/a", 2)
    watched.add("persistent", "/a", 3)
    assert watched.run(CLOSE) == [
        (1, DELETED, "/a/e"),
        (2, CHILDREN, "/a"),
        (3, CHILDREN, "/a"),
        (3, CHILDREN, "/a"),
    ]


def test_overflow_of_a_version_is_seen() -> None:
    """From -1 to 0 the version changes like any other."""
    watched = Watched(*A)
    watched.add("persistent", "/a")
    for _ in range(3):
        assert watched.run(ask.set_data("/a", data=b"same")) == [(1, CHANGED, "/a")]


def test_watching_twice_counts_once() -> None:
    table = WatchTable()
    for _ in range(2):
        table.add(Kind.DATA, "/a", 1)
        table.add(Kind.CHILD, "/a", 1)
        table.add_persistent("/a", 2)
    assert (table.count, table.connection_count) == (4, 2)


def test_what_is_watched_is_told_once_for_each_path_and_connection() -> None:
    table = WatchTable()
    table.add(Kind.CHILD, "/b", 2)
    for mode in ("data", "child", "persistent", "recursive"):
        add_watch(table, mode, "/a", 1)
    table.add(Kind.DATA, "/a", 2)
    assert list(table.watched_paths()) == ["/a", "/b"]
    assert [table.watchers(path) for path in ("/a", "/b", "/c")] == [[1, 2], [2], []]
    assert table.connections() == [2, 1]
    assert [list(table.paths_of(each)) for each in (1, 2, 3)] == [["/a"], ["/b", "/a"], []]


def test_paths_of_a_connection_come_one_by_one() -> None:
    """It may have a million: nobody waits for all of them."""
    table = WatchTable()
    for i in range(3):
        table.add(Kind.DATA, f"/{i}", 1)
    found = table.paths_of(1)
    assert next(found) == "/0"
    table.remove(WatcherType.DATA, "/1", 1)
    table.add(Kind.DATA, "/late", 1)
    assert list(found) == ["/2"]


def test_forget_leaves_nothing_of_a_connection() -> None:
    table = WatchTable()
    for mode in ("data", "child", "persistent", "recursive"):
        for path in ("/a", "/b"):
            add_watch(table, mode, path, 1)
    table.add(Kind.DATA, "/a", 2)
    table.forget(1)
    table.forget(3)
    assert (table.count, table.connection_count) == (1, 1)
    assert [(kind, path, list(who)) for kind, path, who in table.paths_watched()] == [
        (Kind.DATA, "/a", [2])
    ]


@pytest.mark.parametrize(
    ("watcher_type", "removed"),
    [
        (WatcherType.CHILDREN, {Kind.CHILD}),
        (WatcherType.DATA, {Kind.DATA}),
        (WatcherType.PERSISTENT, {Kind.PERSISTENT_DATA, Kind.PERSISTENT_CHILD}),
        (WatcherType.PERSISTENT_RECURSIVE, {Kind.RECURSIVE}),
        (WatcherType.ANY, set(Kind)),
    ],
)
def test_remove_takes_one_type_of_one_connection(
    watcher_type: WatcherType, removed: set[Kind]
) -> None:
    table = WatchTable()
    for connection in (1, 2):
        for mode in ("data", "child", "persistent", "recursive"):
            add_watch(table, mode, "/a", connection)
    assert table.contains(watcher_type, "/a", 1)
    assert table.remove(watcher_type, "/a", 1)
    assert not table.contains(watcher_type, "/a", 1)
    assert not table.remove(watcher_type, "/a", 1)
    assert not table.remove(watcher_type, "/a/b", 2)
    left = {kind for kind, _, who in table.paths_watched() if 1 in who}
    assert left == set(Kind) - removed
    assert all(2 in who for _, _, who in table.paths_watched())


# Against a plain list.


@attrs.define
class Model:
    """Every watch as (connection, mode, path), and ZooKeeper's rules said aloud."""

    watches: list[tuple[int, str, str]] = attrs.field(factory=list)

    def add(self, mode: str, path: str, connection: int) -> None:
        if (connection, mode, path) not in self.watches:
            self.watches.append((connection, mode, path))

    def matching(self, watcher_type: int, path: str, connection: int) -> list[tuple[int, str, str]]:
        modes = {1: "child", 2: "data", 4: "persistent", 5: "recursive"}
        return [
            watch
            for watch in self.watches
            if watch[0] == connection
            and watch[2] == path
            and watcher_type in (WatcherType.ANY, *(t for t in modes if modes[t] == watch[1]))
        ]

    def remove(self, watcher_type: int, path: str, connection: int) -> bool:
        found = self.matching(watcher_type, path, connection)
        self.watches = [watch for watch in self.watches if watch not in found]
        return bool(found)

    def forget(self, connection: int) -> None:
        self.watches = [watch for watch in self.watches if watch[0] != connection]

    def fire(self, event: EventType, path: str) -> set[Firing]:
        told = [watch for watch in self.watches if concerns(watch, event, path)]
        self.watches = [
            watch for watch in self.watches if watch not in told or len(watch[1]) > len("child")
        ]
        return {(connection, event, path) for connection, _, _ in told}

    @property
    def count(self) -> int:
        """A persistent watch stands in both of ZooKeeper's tables."""
        return sum(2 if mode == "persistent" else 1 for _, mode, _ in self.watches)


def concerns(watch: tuple[int, str, str], event: EventType, path: str) -> bool:
    _, mode, watched = watch
    if event == CHILDREN:
        return watched == path and mode in ("child", "persistent")
    if mode == "recursive":
        return paths.is_within(path, watched)
    if mode == "child":
        return watched == path and event == DELETED
    return watched == path


def events_of(txn: Txn, ephemerals: list[str]) -> Iterator[tuple[EventType, str]]:
    """What a transaction means to watchers; by what it says, not by what apply reports."""
    if isinstance(txn, CreateTxn):
        yield CREATED, txn.path
        yield CHILDREN, paths.parent(txn.path)
    elif isinstance(txn, DeleteTxn):
        yield DELETED, txn.path
        yield CHILDREN, paths.parent(txn.path)
    elif isinstance(txn, SetDataTxn):
        yield CHANGED, txn.path
    elif isinstance(txn, MultiTxn):
        for part in txn.txns:
            yield from events_of(part, ephemerals)
    elif isinstance(txn, CloseSessionTxn):
        for path in ephemerals:
            yield from events_of(DeleteTxn(path), ephemerals)


PATHS = st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/ab"])
CONNECTIONS = st.integers(1, 3)
STEPS = st.one_of(
    st.builds(ask.create, PATHS, st.sampled_from([0, 0, 1])),
    st.builds(ask.create, PATHS, st.sampled_from([0, 0, 1])),
    st.builds(ask.delete, PATHS),
    st.builds(ask.set_data, PATHS),
)
COMMANDS = st.one_of(
    st.tuples(
        st.just("add"),
        st.sampled_from(["data", "child", "persistent", "recursive"]),
        PATHS,
        CONNECTIONS,
    ),
    st.tuples(st.just("remove"), st.integers(1, 5), PATHS, CONNECTIONS),
    st.tuples(st.just("forget"), CONNECTIONS),
    st.tuples(st.just("run"), STEPS),
    st.tuples(st.just("run"), STEPS),
    st.tuples(st.just("run"), st.builds(ask.set_acl, PATHS)),
    st.tuples(st.just("run"), st.lists(STEPS, min_size=2, max_size=3).map(lambda s: ask.multi(*s))),
    st.tuples(st.just("run"), st.just(CLOSE)),
)


@settings(max_examples=150)
@given(st.lists(COMMANDS, min_size=20, max_size=80))
def test_table_does_as_the_plain_list_does(commands: list[Any]) -> None:
    watched, model = Watched(), Model()
    for command, *arguments in commands:
        if command == "run":
            fired, expected = run_both(watched, model, arguments[0])
            assert fired == expected
        elif command == "remove":
            assert watched.table.contains(*arguments) == bool(model.matching(*arguments))
            assert watched.table.remove(*arguments) == model.remove(*arguments)
        elif command == "forget":
            watched.table.forget(*arguments)
            model.forget(*arguments)
        else:
            watched.add(*arguments)
            model.add(*arguments)
        assert watched.table.count == model.count
        assert watched.table.connection_count == len({who for who, _, _ in model.watches})
    for connection in (1, 2, 3):
        watched.table.forget(connection)
    assert (watched.table.count, list(watched.table.paths_watched())) == (0, [])


def run_both(watched: Watched, model: Model, step: Step) -> tuple[Any, Any]:
    """What fired, event by event, in order; who is told of an event first is free."""
    leader = watched.leader
    session = ANN if ANN in leader.state.sessions else BOB
    ephemerals = leader.state.lifetimes.ephemerals_of(session)
    txn = leader.propose(step, session)
    fired = watched.table.trigger(leader.apply_next().changes)
    expected = [model.fire(*event) for event in events_of(txn, ephemerals)]
    return list(cut(fired, [len(group) for group in expected])), expected


def cut(firings: list[Firing], sizes: list[int]) -> Iterator[set[Firing]]:
    """Sets of those sizes, and what is left, which should be nothing."""
    for size in sizes:
        yield set(firings[:size])
        firings = firings[size:]
    if firings:
        yield set(firings)
