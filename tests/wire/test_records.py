"""Every record of the client protocol: kazoo's bytes, ZooKeeper's layouts, hostile bytes."""

import inspect
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kazoo.exceptions import EXCEPTIONS, NoNodeError, RuntimeInconsistency
from kazoo.protocol import serialization as kazoo
from kazoo.protocol.states import ZnodeStat
from kazoo.security import ACL as KazooACL
from kazoo.security import Id

from tests.wire import naive
from tests.wire.kazoo_samples import SAMPLES, read_golden, serialize
from wire import records
from wire.codes import ErrorCode, OpCode
from wire.errors import RemoteProtocolError
from wire.jute import Record

QUICK = settings(max_examples=100)
HAND_WRITTEN = (records.MultiRequest, records.MultiResponse)
COMPILED = [
    cls
    for _, cls in sorted(inspect.getmembers(records, inspect.isclass))
    if issubclass(cls, Record) and cls not in (Record, records.UnreadOperation, *HAND_WRITTEN)
]
STAT = records.Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
ACLS = [records.ACL(31, "world", "anyone"), records.ACL(1, "digest", "ada:x")]


# --- requests, against kazoo


def test_kazoo_still_sends_the_golden_bytes() -> None:
    assert {name: serialize(theirs) for name, (theirs, _) in SAMPLES.items()} == read_golden()


@pytest.mark.parametrize("name", SAMPLES)
def test_we_send_what_kazoo_sends(name: str) -> None:
    assert SAMPLES[name][1].encode() == read_golden()[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_we_read_what_kazoo_sends(name: str) -> None:
    golden, ours = read_golden()[name], SAMPLES[name][1]
    assert type(ours).parse(golden, 0, len(golden)) == ours


def test_kazoos_null_texts_are_empty_texts() -> None:
    data = serialize(kazoo.Reconfig(None, "", "server.1=a", 5))
    expected = records.ReconfigRequest("", "", "server.1=a", 5)
    assert records.ReconfigRequest.parse(data, 0, len(data)) == expected


@QUICK
@given(st.text(min_size=1, max_size=20), st.none() | st.binary(max_size=20), naive.ints(32))
def test_random_requests_are_kazoos(path: str, data: bytes | None, version: int) -> None:
    acl = records.ACL(version, path, path)
    theirs = KazooACL(version, Id(path, path))
    pairs: list[tuple[Any, Record]] = [
        (kazoo.SetData(path, data, version), records.SetDataRequest(path, data, version)),
        (
            kazoo.Create(path, data, [theirs] * 2, version),
            records.CreateRequest(path, data, [acl] * 2, version),
        ),
    ]
    for sent, expected in pairs:
        body = serialize(sent)
        assert expected.encode() == body
        assert type(expected).parse(body, 0, len(body)) == expected


# --- replies, read by kazoo


def test_kazoo_reads_our_stat() -> None:
    theirs = kazoo.Exists.deserialize(records.ExistsResponse(STAT).encode(), 0)
    assert theirs == ZnodeStat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    assert records.STAT.size == 68
    assert records.STAT.pack(*range(1, 12)) == STAT.encode()


@pytest.mark.parametrize(
    ("theirs", "reply", "expected"),
    [
        (kazoo.Create, records.CreateResponse("/a"), "/a"),
        (kazoo.Create2, records.Create2Response("/a", STAT), ("/a", tuple(range(1, 12)))),
        (kazoo.GetData, records.GetDataResponse(b"x", STAT), (b"x", tuple(range(1, 12)))),
        (kazoo.GetData, records.GetDataResponse(None, STAT), (None, tuple(range(1, 12)))),
        (kazoo.SetData, records.SetDataResponse(STAT), tuple(range(1, 12))),
        (kazoo.SetACL, records.SetACLResponse(STAT), tuple(range(1, 12))),
        (kazoo.GetChildren, records.GetChildrenResponse(["a", "b"]), ["a", "b"]),
        (
            kazoo.GetChildren2,
            records.GetChildren2Response(["a"], STAT),
            (["a"], tuple(range(1, 12))),
        ),
        (
            kazoo.GetACL,
            records.GetACLResponse(ACLS, STAT),
            (
                [KazooACL(31, Id("world", "anyone")), KazooACL(1, Id("digest", "ada:x"))],
                tuple(range(1, 12)),
            ),
        ),
        (kazoo.Sync, records.SyncResponse("/a"), "/a"),
        (kazoo.Reconfig, records.ReconfigResponse(b"c", STAT), (b"c", tuple(range(1, 12)))),
    ],
)
def test_kazoo_reads_our_replies(theirs: Any, reply: Record, expected: object) -> None:
    assert theirs.deserialize(reply.encode(), 0) == expected


def test_kazoo_reads_our_handshake_and_events() -> None:
    answer = records.ConnectResponse(0, 10000, 77, bytes(16), True)
    theirs, _ = kazoo.Connect.deserialize(answer.encode(), 0)
    assert theirs == kazoo.Connect(0, 0, 10000, 77, bytes(16), True)
    event, _ = kazoo.Watch.deserialize(records.WatcherEvent(3, 3, "/a").encode(), 0)
    assert event == kazoo.Watch(3, 3, "/a")


def test_kazoo_reads_the_reply_to_a_multi() -> None:
    reply = records.MultiResponse(
        [
            records.MultiResult(OpCode.CREATE, 0, records.CreateResponse("/a")),
            records.MultiResult(OpCode.SET_DATA, 0, records.SetDataResponse(STAT)),
            records.MultiResult(OpCode.CHECK, 0, None),
            records.MultiResult(OpCode.DELETE, 0, None),
        ]
    )
    theirs = kazoo.Transaction.deserialize(reply.encode(), 0)
    assert theirs == ["/a", tuple(range(1, 12)), True, True]


def test_kazoo_reads_the_failure_of_a_multi() -> None:
    codes = [0, ErrorCode.NO_NODE, ErrorCode.RUNTIME_INCONSISTENCY]
    data = records.encode_multi(map(records.encode_multi_error, codes))
    theirs = kazoo.Transaction.deserialize(data, 0)
    assert [type(error) for error in theirs] == [EXCEPTIONS[0], NoNodeError, RuntimeInconsistency]
    ours = records.MultiResponse.parse(data, 0, len(data))
    assert [(r.opcode, r.error) for r in ours.results] == [(-1, 0), (-1, -101), (-1, -2)]
    assert ours.results[1].body == records.ErrorResponse(ErrorCode.NO_NODE)


# --- layouts that kazoo does not know, from zookeeper.jute


def text(value: str) -> bytes:
    return struct.pack(">i", len(value)) + value.encode()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            records.CreateTTLRequest("/a", b"d", [], 5, 60000),
            text("/a") + text("d") + bytes(4) + struct.pack(">iq", 5, 60000),
        ),
        (records.CheckWatchesRequest("/a", 3), text("/a") + struct.pack(">i", 3)),
        (records.RemoveWatchesRequest("/a", 1), text("/a") + struct.pack(">i", 1)),
        (records.AddWatchRequest("/a", 1), text("/a") + struct.pack(">i", 1)),
        (records.DeleteContainerRequest("/a"), text("/a")),
        (
            records.SetWatches(9, ["/a"], [], ["/b", "/c"]),
            struct.pack(">qi", 9, 1)
            + text("/a")
            + struct.pack(">ii", 0, 2)
            + text("/b/c"[:2])
            + text("/c"),
        ),
        (
            records.SetWatches2(9, [], [], [], ["/p"], ["/r"]),
            struct.pack(">qiii", 9, 0, 0, 0)
            + struct.pack(">i", 1)
            + text("/p")
            + struct.pack(">i", 1)
            + text("/r"),
        ),
        (records.GetEphemeralsRequest("/"), text("/")),
        (records.GetEphemeralsResponse(["/e"]), struct.pack(">i", 1) + text("/e")),
        (records.GetAllChildrenNumberRequest("/"), text("/")),
        (records.GetAllChildrenNumberResponse(7), struct.pack(">i", 7)),
        (records.ErrorResponse(-8), struct.pack(">i", -8)),
        (
            records.WhoAmIResponse([records.ClientInfo("ip", "::1")]),
            struct.pack(">i", 1) + text("ip") + text("::1"),
        ),
        (records.SaslResponse(b""), bytes(4)),
        (records.MultiHeader(-1, True, -1), struct.pack(">i?i", -1, True, -1)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Record) else "",
)
def test_layouts(made: Record, expected: bytes) -> None:
    assert made.encode() == expected
    assert type(made).parse(expected, 0, len(expected)) == made


def test_an_old_clients_handshake_has_no_read_only_byte() -> None:
    new = records.ConnectRequest(0, 0, 1, 2, bytes(16), False)
    old = new.encode()[:-1]
    parsed = records.ConnectRequest.parse(old, 0, len(old))
    assert (parsed.read_only, parsed.has_read_only, new.has_read_only) == (None, False, True)
    assert parsed.encode() == old
    response = records.ConnectResponse(0, 1, 2, bytes(16), None)
    assert not response.has_read_only
    assert len(response.encode()) == 36


# --- the tables


def test_every_opcode_of_a_client_has_its_row_in_both_tables() -> None:
    internal = {OpCode.CREATE_SESSION, OpCode.ERROR}
    assert set(records.REQUESTS) == set(records.REPLIES) == set(OpCode) - internal


def test_every_reply_of_a_multi_is_that_of_its_operation() -> None:
    for opcode, reply in records.MULTI_REPLIES.items():
        if opcode != OpCode.ERROR:
            assert records.REPLIES[opcode] is reply
    for opcode, request in records.MULTI_REQUESTS.items():
        assert records.REQUESTS[opcode] is request


# --- round trips and hostile bytes, every class

multi_requests = st.lists(
    st.sampled_from(sorted(records.MULTI_REQUESTS.items(), key=lambda item: item[0])).flatmap(
        lambda item: st.tuples(st.just(int(item[0])), naive.records(item[1]))
    ),
    max_size=4,
).map(records.MultiRequest)


def results_of(item: tuple[int, type[Record] | None]) -> st.SearchStrategy[records.MultiResult]:
    opcode, body = item
    bodies = st.none() if body is None else naive.records(body)
    return st.builds(records.MultiResult, st.just(int(opcode)), naive.ints(32), bodies)


multi_responses = st.lists(
    st.sampled_from(sorted(records.MULTI_REPLIES.items(), key=lambda item: item[0])).flatmap(
        results_of
    ),
    max_size=4,
).map(records.MultiResponse)
any_record = st.sampled_from(COMPILED).flatmap(naive.records) | multi_requests | multi_responses


@QUICK
@given(any_record, st.binary(max_size=2))
def test_round_trip(made: Record, around: bytes) -> None:
    body = made.encode()
    data = around + body + around
    end = len(around) + len(body)
    assert type(made).parse(data, len(around), end) == made
    assert type(made).decode(data, len(around), end) == (made, end)


@QUICK
@given(any_record)
def test_a_body_cut_anywhere_is_refused(made: Record) -> None:
    body = made.encode()
    whole = getattr(made, "read_only", None)
    for cut in range(len(body) - (whole is not None)):
        assert naive.decode_outcome(type(made), body, 0, cut) == "RemoteProtocolError"
        assert naive.decode_outcome(type(made), body[:cut], 0, cut) == "RemoteProtocolError"


@QUICK
@given(st.sampled_from(COMPILED).flatmap(naive.records), st.data())
def test_counts_that_lie_are_refused(made: Record, data: st.DataObject) -> None:
    encoding = naive.encode(made)
    assert encoding.data == made.encode()
    for at in encoding.counts:
        left = len(encoding.data) - at - 4
        for lie in (-2, -(1 << 31), left + 1, (1 << 31) - 1):
            body = encoding.data[:at] + struct.pack(">i", lie) + encoding.data[at + 4 :]
            assert naive.decode_outcome(type(made), body, 0, len(body)) == "RemoteProtocolError"


@QUICK
@given(any_record, st.data())
def test_a_changed_byte_is_read_or_refused(made: Record, data: st.DataObject) -> None:
    body = bytearray(made.encode())
    if body:
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    outcome = naive.decode_outcome(type(made), bytes(body), 0, len(body))
    assert isinstance(outcome, type(made)) or outcome == "RemoteProtocolError"


@QUICK
@given(st.sampled_from([*COMPILED, *HAND_WRITTEN]), st.binary(max_size=100))
def test_garbage_is_read_or_refused(cls: type[Record], garbage: bytes) -> None:
    outcome = naive.decode_outcome(cls, garbage, 0, len(garbage))
    assert isinstance(outcome, cls) or outcome == "RemoteProtocolError"


NO_PARTS = [OpCode.EXISTS, OpCode.SET_ACL, OpCode.PING, OpCode.MULTI, -1, 99]


@pytest.mark.parametrize("opcode", NO_PARTS)
def test_a_multi_is_read_up_to_what_does_not_belong_there(opcode: int) -> None:
    """So that it can be refused, as in ZooKeeper, and its connection goes on."""
    create = records.CreateRequest("/a", b"", ACLS, 0)
    inner = b"whatever it is"
    body = records.encode_multi([(OpCode.CREATE, -1, create.encode()), (opcode, -1, inner)])
    parsed = records.MultiRequest.parse(body, 0, len(body))
    unread = records.UnreadOperation(inner)
    assert parsed == records.MultiRequest([(OpCode.CREATE, create), (opcode, unread)])
    assert parsed.encode() == body
    for cut in range(len(body)):
        with pytest.raises(RemoteProtocolError):
            records.MultiRequest.parse(body[:cut], 0, cut)


def test_the_results_of_a_multi_are_those_of_operations_that_it_may_hold() -> None:
    body = records.encode_multi([(OpCode.EXISTS, 0, b"")])
    with pytest.raises(RemoteProtocolError, match="operation 3"):
        records.MultiResponse.parse(body, 0, len(body))


def test_nothing_may_follow_the_end_of_a_multi() -> None:
    body = records.encode_multi([]) + b"\0"
    for cls in HAND_WRITTEN:
        with pytest.raises(RemoteProtocolError, match="multi ends"):
            cls.parse(body, 0, len(body))


def test_a_multi_of_reads_answers_each_by_itself() -> None:
    data = records.encode_multi(
        [
            (OpCode.GET_DATA, 0, records.GetDataResponse(b"x", STAT).encode()),
            records.encode_multi_error(ErrorCode.NO_NODE),
            (OpCode.GET_CHILDREN, 0, records.GetChildrenResponse(["c"]).encode()),
        ]
    )
    results = records.MultiResponse.parse(data, 0, len(data)).results
    assert [result.body for result in results] == [
        records.GetDataResponse(b"x", STAT),
        records.ErrorResponse(ErrorCode.NO_NODE),
        records.GetChildrenResponse(["c"]),
    ]


@pytest.mark.parametrize(
    "it",
    [
        records.ConnectRequest(0, 0, 10_000, 1, b"s3cret", False),
        records.ConnectResponse(0, 10_000, 1, b"s3cret", False),
        records.OpenSession(10_000, b"s3cret"),
        records.AuthPacket(0, "digest", b"ada:s3cret"),
    ],
    ids=lambda it: type(it).__name__,
)
def test_what_is_secret_is_not_shown(it: Record) -> None:
    """A repr ends up in logs."""
    assert "s3cret" not in repr(it)
    assert b"s3cret" in it.encode()
