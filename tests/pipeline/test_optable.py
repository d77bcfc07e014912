"""The table of opcodes: complete, and its replies are the protocol's records."""

from typing import Any

import pytest

from tests.pipeline import leader as ask
from tests.pipeline.leader import ANN, CLOSE, Preparing, Step
from wire import records
from wire.codes import CreateMode, ErrorCode, OpCode
from wire.records import ACL, MULTI_REPLIES, REPLIES, REQUESTS, MultiResponse, MultiResult
from zkpy.pipeline.optable import OPS, Work, write_reply
from zkpy.pipeline.reads import Reads
from zkpy.state import znode as zn
from zkpy.state.apply import Applied

NOT_FOR_CLIENTS = {
    OpCode.CHECK,  # within multi only
    OpCode.DELETE_CONTAINER,  # the leader's own; nobody's rights would be checked
}


def test_every_request_of_the_protocol_has_a_row_but_two() -> None:
    assert set(OPS) == set(REQUESTS) - NOT_FOR_CLIENTS


def test_each_row_has_what_its_work_needs() -> None:
    for opcode, op in OPS.items():
        assert (op.read is not None) == (op.work is Work.READ), opcode
        answers_by_itself = op.work is Work.WRITE and opcode != OpCode.MULTI
        assert (op.reply is not None) == answers_by_itself, opcode


def test_reads_are_methods_of_reads() -> None:
    for opcode, op in OPS.items():
        if op.read is not None:
            assert getattr(Reads, OpCode(opcode).name.lower()) is op.read


MADE = ask.create("/a", data=b"four")
WRITES: list[Step] = [
    ask.create("/b", data=b"x"),
    (OpCode.CREATE2, records.CreateRequest("/b", b"x", [ACL(31, "world", "anyone")], 2)),
    ask.container("/b"),
    ask.create_ttl("/b", 5, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL),
    ask.delete("/a"),
    ask.set_data("/a"),
    ask.set_acl("/a"),
    CLOSE,
]


@pytest.mark.parametrize("step", WRITES, ids=[OpCode(step[0]).name for step in WRITES])
def test_reply_to_a_write(step: Step) -> None:
    leader = Preparing()
    leader.run(MADE)
    reply = write_reply(*step, leader.run(step))
    shape = REPLIES[step[0]]
    assert reply == (b"" if shape is None else expected_reply(shape, leader).encode())


def expected_reply(shape: type[Any], leader: Preparing) -> Any:
    """The record from what the tree shows: the newest znode, or the one that changed."""
    nodes = leader.state.tree.nodes
    path = list(nodes)[-1]
    stat, _ = records.Stat.decode(zn.stat_of(nodes[path]), 0, zn.STAT_BYTES)
    fields = {"path": path, "stat": stat}
    return shape(*[fields[field.name] for field in shape.__attrs_attrs__])


def test_reply_to_a_sequential_create_names_it() -> None:
    leader = Preparing()
    step = ask.sequential("/n-")
    reply = write_reply(*step, leader.run(step))
    assert reply == records.CreateResponse("/n-0000000000").encode()


def test_reply_to_multi() -> None:
    leader = Preparing()
    leader.run(MADE)
    step = ask.multi(
        ask.create("/b"),
        (OpCode.CREATE2, records.CreateRequest("/c", b"", [ACL(31, "world", "anyone")], 0)),
        ask.container("/d"),
        ask.create_ttl("/e", 5),
        ask.set_data("/a"),
        ask.check("/a", 1),
        ask.delete("/b"),
    )
    applied = leader.run(step)
    reply = records.MultiResponse.parse(*whole(write_reply(*step, applied)))
    typed = [1, 15, 15, 15, 5, 13, 2]
    assert [(result.opcode, result.error) for result in reply.results] == [(t, 0) for t in typed]
    for result in reply.results:
        shape = MULTI_REPLIES[result.opcode]
        assert type(result.body) is (shape or type(None))
    names = [getattr(result.body, "path", None) for result in reply.results]
    assert names == ["/b", "/c", "/d", "/e", None, None, None]
    stats = [result.body.stat for result in reply.results[1:5]]  # type: ignore[union-attr]
    assert [stat.mzxid for stat in stats] == [leader.state.zxid] * 4
    assert (stats[3].version, stats[3].data_length, stats[1].ephemeral_owner) == (1, 3, 0)


def whole(reply: bytes) -> tuple[bytes, int, int]:
    return reply, 0, len(reply)


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_reply_to_a_failed_multi(failing: int) -> None:
    leader = Preparing()
    steps = [ask.create(f"/n{number}") for number in range(4)]
    steps[failing] = ask.create("/x/y")
    step = ask.multi(*steps)
    applied = leader.run(step)
    assert applied.error == 0, "the header says that all is well"
    codes = [0] * failing + [ErrorCode.NO_NODE] + [ErrorCode.RUNTIME_INCONSISTENCY] * (3 - failing)
    results = [MultiResult(OpCode.ERROR, code, records.ErrorResponse(code)) for code in codes]
    reply = write_reply(*step, applied)
    assert reply == MultiResponse(results).encode()


def test_reply_to_an_empty_multi() -> None:
    step = ask.multi()
    assert write_reply(*step, Preparing().run(step)) == MultiResponse([]).encode()


class Counting(list[Applied]):
    """Tells how often it was gone through."""

    walks = 0

    def __iter__(self) -> Any:
        self.walks += 1
        return super().__iter__()


def test_reply_to_a_long_multi_costs_one_walk_per_question() -> None:
    """One per item would hold up everybody behind a multi of ten thousand."""
    leader = Preparing()
    step = ask.multi(*(ask.sequential("/n") for _ in range(50)))
    applied = leader.run(step)
    assert applied.results is not None
    applied.results = results = Counting(applied.results)
    write_reply(*step, applied)
    assert results.walks <= 2


def test_session_of_close_is_gone() -> None:
    leader = Preparing()
    assert write_reply(*CLOSE, leader.run(CLOSE)) == b""
    assert ANN not in leader.state.sessions
