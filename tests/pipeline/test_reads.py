"""Reads: the bytes of the reply, who may, and which watch is left behind."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.pipeline import leader as ask
from tests.pipeline.leader import ANN, BOB, JANE, NOBODY, SUPER, Preparing, Seat, Step
from wire import records
from wire.codes import CreateMode, ErrorCode, EventType, OpCode, Perm, WatcherType, WatchMode
from wire.jute import Record
from wire.records import ACL, OPEN_ACL, MultiResponse, MultiResult, Stat
from zkpy.errors import ZkError
from zkpy.pipeline.reads import Reads
from zkpy.pipeline.watches import Kind, WatchTable

Left = list[tuple[Kind, str]]


class Reading:
    """A tree with reads on it."""

    def __init__(self, *steps: Step) -> None:
        self.leader = Preparing()
        self.watches = WatchTable()
        self.reads = Reads(self.leader.state, self.watches)
        for step in steps:
            self.run(step)

    def run(self, step: Step, session: int = ANN) -> int:
        """The zxid of a write."""
        self.leader.run(step, session, SUPER)
        return self.leader.state.zxid

    @property
    def left(self) -> Left:
        return [(kind, path) for kind, path, _ in self.watches.paths_watched()]


def stat(created: int, **facts: int) -> Stat:
    """Of a znode with 4 bytes of data, created at that zxid; the leader's clock is its low half."""
    known = {
        "czxid": created,
        "mzxid": created,
        "ctime": created & 0xFFFF,
        "mtime": created & 0xFFFF,
        "version": 0,
        "cversion": 0,
        "aversion": 0,
        "ephemeral_owner": 0,
        "data_length": 4,
        "num_children": 0,
        "pzxid": created,
    }
    return Stat(**{**known, **facts})


def refused(read: Callable[..., Any], *arguments: Any) -> ErrorCode:
    with pytest.raises(ZkError) as refusal:
        read(*arguments)
    return refusal.value.code


MADE = ask.create("/a", data=b"four")


# Bytes.


def test_get_data_is_data_and_stat() -> None:
    reading = Reading()
    created = reading.run(MADE)
    reply = reading.reads.get_data(Seat(), records.GetDataRequest("/a", False))
    assert reply == records.GetDataResponse(b"four", stat(created)).encode()
    changed = reading.run(ask.set_data("/a", data=b"longer"))
    reply = reading.reads.get_data(Seat(), records.GetDataRequest("/a", False))
    now = stat(created, mzxid=changed, mtime=changed & 0xFFFF, version=1, data_length=6)
    assert reply == records.GetDataResponse(b"longer", now).encode()


def test_null_data_stays_null() -> None:
    reading = Reading()
    created = reading.run(ask.create("/a", data=None))
    reply = reading.reads.get_data(Seat(), records.GetDataRequest("/a", False))
    assert reply == records.GetDataResponse(None, stat(created, data_length=0)).encode()


@pytest.mark.parametrize(
    ("request_", "shown"),
    [
        (ask.create("/a", CreateMode.EPHEMERAL, b"four"), ANN),
        (ask.create("/a", CreateMode.CONTAINER, b"four"), 0),
    ],
)
def test_exists_is_the_stat(request_: Step, shown: int) -> None:
    """A container's owner is nobody's business."""
    reading = Reading()
    created = reading.run(request_)
    reply = reading.reads.exists(Seat(), records.ExistsRequest("/a", False))
    assert reply == records.ExistsResponse(stat(created, ephemeral_owner=shown)).encode()


def test_get_children_are_names() -> None:
    reading = Reading(MADE, ask.create("/a/y"), ask.create("/a/é"), ask.create("/a/y/deeper"))
    reply = reading.reads.get_children(Seat(), records.GetChildrenRequest("/a", False))
    assert reply == records.GetChildrenResponse(["y", "é"]).encode()
    reply = reading.reads.get_children(Seat(), records.GetChildrenRequest("/", False))
    assert reply == records.GetChildrenResponse(["zookeeper", "a"]).encode()


def test_get_children2_has_the_stat_too() -> None:
    reading = Reading()
    created = reading.run(MADE)
    for step in (ask.create("/a/x"), ask.create("/a/y")):
        reading.run(step)
    deleted = reading.run(ask.delete("/a/x"))
    reply = reading.reads.get_children2(Seat(), records.GetChildren2Request("/a", False))
    now = stat(created, cversion=3, num_children=1, pzxid=deleted)
    assert reply == records.GetChildren2Response(["y"], now).encode()


def test_get_children_of_a_leaf_is_empty() -> None:
    reading = Reading(MADE)
    reply = reading.reads.get_children(Seat(), records.GetChildrenRequest("/a", False))
    assert reply == records.GetChildrenResponse([]).encode()


def test_get_acl_of_an_open_znode() -> None:
    reading = Reading()
    created = reading.run(MADE)
    changed = stat(created, aversion=0)
    reply = reading.reads.get_acl(Seat(), records.GetACLRequest("/a"))
    assert reply == records.GetACLResponse(list(OPEN_ACL), changed).encode()


def test_get_acl_masks_hashes_without_admin() -> None:
    acl = [ACL(Perm.ALL, "digest", "jane:hash"), ACL(Perm.READ, "world", "anyone")]
    reading = Reading()
    created = reading.run(ask.create("/a", data=b"four", acl=acl))
    masked = [ACL(Perm.ALL, "digest", "jane:x"), ACL(Perm.READ, "world", "anyone")]
    for identities, shown in ((NOBODY, masked), (JANE, acl), (SUPER, acl)):
        reply = reading.reads.get_acl(Seat(1, ANN, identities), records.GetACLRequest("/a"))
        assert reply == records.GetACLResponse(shown, stat(created)).encode()


def test_get_all_children_number_counts_descendants() -> None:
    reading = Reading(MADE, ask.create("/a/b"), ask.create("/a/b/c"), ask.create("/ab"))
    for path, number in (("/a", 2), ("/a/b/c", 0), ("/", 7), ("/zookeeper", 2)):
        request = records.GetAllChildrenNumberRequest(path)
        reply = reading.reads.get_all_children_number(Seat(), request)
        assert reply == records.GetAllChildrenNumberResponse(number).encode(), path


@pytest.mark.parametrize(
    ("prefix", "paths"),
    [
        ("/", ["/a", "/b", "/ab"]),
        ("", ["/a", "/b", "/ab"]),
        (" ", ["/a", "/b", "/ab"]),
        (" / ", ["/a", "/b", "/ab"]),
        (" /a", []),
        ("/a", ["/a", "/ab"]),
        ("/b/", []),
        ("/c", []),
    ],
)
def test_get_ephemerals_by_prefix_of_text(prefix: str, paths: list[str]) -> None:
    """Of the own session alone; a prefix is not an element of the path."""
    reading = Reading(*(ask.ephemeral(path) for path in ("/a", "/b", "/ab")))
    reading.run(ask.ephemeral("/abc"), BOB)
    reply = reading.reads.get_ephemerals(Seat(), records.GetEphemeralsRequest(prefix))
    assert reply == records.GetEphemeralsResponse(paths).encode()


def test_exists_alone_refuses_a_path_with_nul() -> None:
    reading = Reading()
    request = records.ExistsRequest("/a\0", True)
    assert refused(reading.reads.exists, Seat(), request) == ErrorCode.BAD_ARGUMENTS
    assert reading.left == []
    assert refused(reading.reads.get_data, Seat(), request) == ErrorCode.NO_NODE


def test_get_ephemerals_forgets_deleted_ones() -> None:
    reading = Reading(ask.ephemeral("/a"), ask.delete("/a"))
    reply = reading.reads.get_ephemerals(Seat(), records.GetEphemeralsRequest("/"))
    assert reply == records.GetEphemeralsResponse([]).encode()


def test_who_am_i_tells_no_hash() -> None:
    identities = (*JANE, ("super", ""), ("x509", "CN=jane:1"))
    reply = Reading().reads.who_am_i(Seat(1, ANN, identities), None)
    shown = [("ip", "10.0.0.7"), ("digest", "jane"), ("super", ""), ("x509", "CN=jane:1")]
    infos = [records.ClientInfo(scheme, user) for scheme, user in shown]
    assert reply == records.WhoAmIResponse(infos).encode()


def test_read_shows_nothing_that_is_only_prepared() -> None:
    reading = Reading(MADE)
    before = reading.reads.get_data(Seat(), records.GetDataRequest("/a", False))
    reading.leader.propose(ask.set_data("/a"))
    reading.leader.propose(ask.create("/b"))
    assert reading.reads.get_data(Seat(), records.GetDataRequest("/a", False)) == before
    missing = refused(reading.reads.exists, Seat(), records.ExistsRequest("/b", False))
    assert missing == ErrorCode.NO_NODE


# Who may, and what is left behind.

Read = tuple[str, Callable[[str], Any], Left]
READS: list[Read] = [
    ("get_data", lambda path: records.GetDataRequest(path, True), [(Kind.DATA, "/a")]),
    ("exists", lambda path: records.ExistsRequest(path, True), [(Kind.DATA, "/a")]),
    ("get_children", lambda path: records.GetChildrenRequest(path, True), [(Kind.CHILD, "/a")]),
    ("get_children2", lambda path: records.GetChildren2Request(path, True), [(Kind.CHILD, "/a")]),
    ("get_acl", records.GetACLRequest, []),
    ("get_all_children_number", records.GetAllChildrenNumberRequest, []),
]
each_read = pytest.mark.parametrize(("name", "request_of", "left"), READS)


@each_read
def test_watch_left_by(name: str, request_of: Callable[[str], Any], left: Left) -> None:
    reading = Reading(MADE)
    request = request_of("/a")
    getattr(reading.reads, name)(Seat(), request)
    assert reading.left == left
    if left:
        request.watch = False
        reading.watches.forget(1)
        getattr(reading.reads, name)(Seat(), request)
        assert reading.left == []


@each_read
def test_missing_znode(name: str, request_of: Callable[[str], Any], left: Left) -> None:
    """Only exists may watch what is not there."""
    reading = Reading()
    code = refused(getattr(reading.reads, name), Seat(), request_of("/a"))
    assert code == ErrorCode.NO_NODE
    assert reading.left == (left if name == "exists" else [])


@each_read
def test_read_needs_read(name: str, request_of: Callable[[str], Any], left: Left) -> None:
    """getACL makes do with ADMIN; a refused read leaves no watch."""
    acl = ask.allowing_all_but(Perm.READ)
    reading = Reading(ask.create("/a", acl=acl))
    if name == "get_acl":
        reading.reads.get_acl(Seat(), request_of("/a"))
        reading.run(ask.set_acl("/a", [ACL(Perm.ALL & ~17, "world", "anyone")]))
    assert refused(getattr(reading.reads, name), Seat(), request_of("/a")) == ErrorCode.NO_AUTH
    assert reading.left == []
    getattr(reading.reads, name)(Seat(1, ANN, SUPER), request_of("/a"))


@each_read
def test_read_is_enough(name: str, request_of: Callable[[str], Any], left: Left) -> None:
    reading = Reading(ask.create("/a", acl=ask.acl_for(Perm.READ)))
    assert refused(getattr(reading.reads, name), Seat(), request_of("/a")) == ErrorCode.NO_AUTH
    getattr(reading.reads, name)(Seat(1, ANN, JANE), request_of("/a"))


def test_acl_in_force_now_counts() -> None:
    reading = Reading(MADE)
    request = records.GetDataRequest("/a", False)
    reading.reads.get_data(Seat(), request)
    reading.run(ask.set_acl("/a", ask.acl_for(Perm.ALL)))
    assert refused(reading.reads.get_data, Seat(), request) == ErrorCode.NO_AUTH
    reading.run(ask.set_acl("/a"))
    reading.reads.get_data(Seat(), request)


def test_exists_watch_on_nothing_fires_on_create() -> None:
    reading = Reading()
    refused(reading.reads.exists, Seat(4), records.ExistsRequest("/a", True))
    firings = reading.watches.trigger(reading.leader.run(MADE).changes)
    assert firings == [(4, EventType.NODE_CREATED, "/a")]


# multiRead.


def test_multi_read_answers_each_item_by_itself() -> None:
    reading = Reading()
    created = reading.run(MADE)
    reading.run(ask.create("/secret", acl=ask.acl_for(Perm.ALL)))
    reads: list[tuple[int, Record]] = [
        (OpCode.GET_DATA, records.GetDataRequest("/a", True)),
        (OpCode.GET_DATA, records.GetDataRequest("/nothing", True)),
        (OpCode.GET_CHILDREN, records.GetChildrenRequest("/", True)),
        (OpCode.GET_CHILDREN, records.GetChildrenRequest("/secret", True)),
    ]
    reply = reading.reads.multi_read(Seat(), records.MultiRequest(reads))
    no_node, no_auth = ErrorCode.NO_NODE, ErrorCode.NO_AUTH
    expected = [
        MultiResult(OpCode.GET_DATA, 0, records.GetDataResponse(b"four", stat(created))),
        MultiResult(OpCode.ERROR, no_node, records.ErrorResponse(no_node)),
        MultiResult(
            OpCode.GET_CHILDREN, 0, records.GetChildrenResponse(["zookeeper", "a", "secret"])
        ),
        MultiResult(OpCode.ERROR, no_auth, records.ErrorResponse(no_auth)),
    ]
    assert reply == MultiResponse(expected).encode()
    assert reading.left == []


def test_multi_read_of_nothing() -> None:
    reply = Reading().reads.multi_read(Seat(), records.MultiRequest([]))
    assert reply == MultiResponse([]).encode()


def test_write_among_reads_refuses_the_whole() -> None:
    mixed = records.MultiRequest(
        [
            (OpCode.GET_DATA, records.GetDataRequest("/", False)),
            (OpCode.DELETE, records.DeleteRequest("/a", -1)),
        ]
    )
    reading = Reading(MADE)
    assert refused(reading.reads.multi_read, Seat(), mixed) == ErrorCode.MARSHALLING_ERROR


# Watches as requests.


@pytest.mark.parametrize(
    ("mode", "left"),
    [
        (WatchMode.PERSISTENT, [(Kind.PERSISTENT_DATA, "/x"), (Kind.PERSISTENT_CHILD, "/x")]),
        (WatchMode.PERSISTENT_RECURSIVE, [(Kind.RECURSIVE, "/x")]),
    ],
)
def test_add_watch_needs_no_znode(mode: WatchMode, left: Left) -> None:
    reading = Reading()
    reply = reading.reads.add_watch(Seat(), records.AddWatchRequest("/x", mode))
    assert reply == records.ErrorResponse(0).encode()
    assert reading.left == left


@pytest.mark.parametrize("mode", [2, -1])
def test_add_watch_refuses(mode: int) -> None:
    reading = Reading()
    code = refused(reading.reads.add_watch, Seat(), records.AddWatchRequest("/x", mode))
    assert (code, reading.left) == (ErrorCode.MARSHALLING_ERROR, [])


def test_remove_and_check_watches() -> None:
    reading, seat = Reading(MADE), Seat()
    reading.reads.get_data(seat, records.GetDataRequest("/a", True))
    look = records.CheckWatchesRequest("/a", WatcherType.DATA)
    take = records.RemoveWatchesRequest("/a", WatcherType.DATA)
    for _ in range(2):
        assert reading.reads.check_watches(seat, look) == b""
    assert refused(reading.reads.check_watches, Seat(2), look) == ErrorCode.NO_WATCHER
    assert refused(reading.reads.remove_watches, Seat(2), take) == ErrorCode.NO_WATCHER
    assert reading.reads.remove_watches(seat, take) == b""
    assert reading.left == []
    assert refused(reading.reads.check_watches, seat, look) == ErrorCode.NO_WATCHER
    assert refused(reading.reads.remove_watches, seat, take) == ErrorCode.NO_WATCHER


@pytest.mark.parametrize("watcher_type", [0, 6, -1])
def test_unknown_watcher_type(watcher_type: int) -> None:
    reads = Reading().reads
    look = records.CheckWatchesRequest("/a", watcher_type)
    take = records.RemoveWatchesRequest("/a", watcher_type)
    assert refused(reads.check_watches, Seat(), look) == ErrorCode.MARSHALLING_ERROR
    assert refused(reads.remove_watches, Seat(), take) == ErrorCode.MARSHALLING_ERROR


# setWatches: what happened to each kind of watch while the client was away.

DELETED, CREATED = EventType.NODE_DELETED, EventType.NODE_CREATED
CHANGED, CHILDREN = EventType.NODE_DATA_CHANGED, EventType.NODE_CHILDREN_CHANGED


@pytest.mark.parametrize(
    ("kind", "meanwhile", "event"),
    [
        ("data", (), None),
        ("data", (ask.set_data("/a"),), CHANGED),
        ("data", (ask.create("/a/b"),), None),
        ("data", (ask.set_acl("/a"),), None),
        ("data", (ask.delete("/a"),), DELETED),
        ("data", (ask.delete("/a"), MADE), CHANGED),
        ("exist", (), CREATED),  # it watched nothing, and there it is
        ("exist", (ask.delete("/a"),), None),
        ("child", (), None),
        ("child", (ask.create("/a/b"),), CHILDREN),
        ("child", (ask.create("/a/b"), ask.delete("/a/b")), CHILDREN),
        ("child", (ask.create("/a/b"), ask.create("/a/b/c")), CHILDREN),
        ("child", (ask.set_data("/a"),), None),
        ("child", (ask.delete("/a"),), DELETED),
        ("child", (ask.delete("/a"), MADE), CHILDREN),
        ("persistent", (ask.set_data("/a"),), None),
        ("persistent", (ask.delete("/a"),), None),
        ("recursive", (ask.create("/a/b"),), None),
    ],
)
def test_set_watches(kind: str, meanwhile: tuple[Step, ...], event: EventType | None) -> None:
    reading = Reading()
    seen = reading.run(MADE)
    for step in meanwhile:
        reading.run(step)
    lists = [["/a"] if each == kind else [] for each in KINDS]
    missed = reading.reads.set_watches(Seat(5), records.SetWatches2(seen, *lists))
    assert missed == ([] if event is None else [(5, event, "/a")])
    assert reading.left == ([(each, "/a") for each in KINDS[kind]] if event is None else [])


KINDS: dict[str, tuple[Kind, ...]] = {
    "data": (Kind.DATA,),
    "exist": (Kind.DATA,),
    "child": (Kind.CHILD,),
    "persistent": (Kind.PERSISTENT_DATA, Kind.PERSISTENT_CHILD),
    "recursive": (Kind.RECURSIVE,),
}


def test_set_watches_of_old_clients_has_no_persistent_ones() -> None:
    reading = Reading()
    seen = reading.run(MADE)
    request = records.SetWatches(seen, ["/a", "/b"], ["/c"], ["/a"])
    assert reading.reads.set_watches(Seat(), request) == [(1, DELETED, "/b")]
    assert reading.left == [(Kind.DATA, "/a"), (Kind.DATA, "/c"), (Kind.CHILD, "/a")]


def test_change_at_the_zxid_seen_is_not_missed() -> None:
    """The client has had the event of its relativeZxid, or the reply that shows it."""
    reading = Reading(MADE)
    seen = reading.run(ask.multi(ask.set_data("/a"), ask.create("/a/b")))
    for since, events in ((seen, []), (seen - 1, [CHANGED, CHILDREN])):
        missed = reading.reads.set_watches(Seat(), records.SetWatches(since, ["/a"], [], ["/a"]))
        assert [event for _, event, _ in missed] == events


def test_set_watches_leaves_the_acl_to_whoever_sends() -> None:
    """What fired is to be checked as any event is; the watch is used up either way, as it is
    when a change fires one that may not be told."""
    reading = Reading()
    seen = reading.run(ask.create("/a", acl=ask.acl_for(Perm.ALL)))
    reading.run(ask.set_data("/a"))
    missed = reading.reads.set_watches(Seat(), records.SetWatches(seen, ["/a"], ["/a"], []))
    assert missed == [(1, CHANGED, "/a"), (1, CREATED, "/a")]
    assert reading.left == []
