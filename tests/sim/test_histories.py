"""The checkers of histories: they pass what is sound, and each rejects what it is there for."""

from collections.abc import Callable

import attrs
import pytest

from tests.sim.story import FIRST, Story
from wire import records
from wire.codes import CreateMode, ErrorCode, EventType, OpCode
from zkpy.testing.histories import RegisterOp, linearizable
from zkpy.testing.simulation import Choice, run_seed
from zkpy.testing.world import Violation

CHANGED, CREATED = EventType.NODE_DATA_CHANGED, EventType.NODE_CREATED
CHILDREN, DELETED = EventType.NODE_CHILDREN_CHANGED, EventType.NODE_DELETED


def test_a_sound_history_passes() -> None:
    story = Story()
    a, b = story.session(7), story.session(8)
    story.create(a, "/x", b"1")
    story.get(b, "/x", watch=True)
    changed = story.set(a, "/x", b"2")
    story.event(b, changed.zxid, CHANGED, "/x")
    story.sync(b)
    story.get(b, "/x")
    story.ephemeral(a, "/e")
    story.set(a, "/nowhere", b"")
    story.create(a, "/s-", flags=CreateMode.PERSISTENT_SEQUENTIAL)
    story.close(a)
    story.get(b, "/e")
    story.expire(8)
    summary = story.check()
    assert (summary.acknowledged, summary.reads, summary.events) == (6, 3, 1)
    assert summary.expired == 1
    assert sorted(summary.model.nodes)[:2] == ["/", "/s-0000000002"]


def test_an_unknown_write_may_be_there_or_not() -> None:
    story = Story()
    a = story.session()
    story.create(a, "/x")
    body = records.SetDataRequest("/x", b"lost", -1)
    story.ask(a, OpCode.SET_DATA, body)
    story.write(a, OpCode.SET_DATA, body, known=False)
    assert story.check().unknown_found == 1


Break = Callable[[Story], object]


def reply_with_another_stat(story: Story) -> None:
    op = story.create(story.session(), "/x")
    op = story.set(story.connections[0], "/x", b"1")
    op.reply = records.SetDataResponse(attrs.evolve(op.reply.stat, version=7))


def success_instead_of_an_error(story: Story) -> None:
    op = story.set(story.session(), "/nowhere", b"1")
    op.error, op.reply = 0, None


def judged_wrongly(story: Story) -> None:
    """The leader let a create of what exists pass."""
    a = story.session()
    story.create(a, "/x")
    op = story.create(a, "/x")
    story.commits[-1].txn = story.commits[-2].txn
    op.error = 0


def later_write_with_a_lower_zxid(story: Story) -> None:
    """In real time it began after the other one had returned."""
    a, b = story.session(7), story.session(8)
    first = story.create(a, "/x")
    second = story.create(b, "/y")
    first.invoked, first.returned = second.returned + 10, second.returned + 20


def replies_out_of_order(story: Story) -> None:
    a = story.session()
    story.get(a, "/")
    story.get(a, "/")
    a.stream.reverse()


def writes_overtake_each_other(story: Story) -> None:
    a = story.session()
    first = story.ask(a, OpCode.SET_DATA, records.SetDataRequest("/x", b"1", -1))
    second = story.ask(a, OpCode.SET_DATA, records.SetDataRequest("/x", b"2", -1))
    story.take_effect(a, second)
    story.take_effect(a, first)


def session_goes_back_on_another_server(story: Story) -> None:
    a, other = story.session(7), story.session(8)
    story.create(other, "/x")
    story.get(a, "/")
    again = story.reconnect(7)
    op = story.get(again, "/nowhere")
    op.zxid = FIRST + 1


def stale_read(story: Story) -> None:
    a = story.session()
    story.create(a, "/x", b"old")
    old = story.get(a, "/x")
    story.set(a, "/x", b"new")
    story.get(a, "/x").reply = old.reply


def read_of_what_never_was(story: Story) -> None:
    story.get(story.session(), "/").zxid = FIRST + 1000


def child_missing(story: Story) -> None:
    a = story.session()
    story.create(a, "/x")
    op = story.read(a, OpCode.GET_CHILDREN, records.GetChildrenRequest("/", False))
    op.reply = records.GetChildrenResponse(["zookeeper"])


def half_a_multi(story: Story) -> None:
    """A read in the middle sees the first half."""
    a = story.session()
    story.create(a, "/x", b"1")
    story.create(a, "/y", b"1")
    ops = [(int(OpCode.SET_DATA), records.SetDataRequest(path, b"2", -1)) for path in ("/x", "/y")]
    before = story.get(a, "/y").reply
    story.write(a, OpCode.MULTI, records.MultiRequest(list(ops)))
    story.get(a, "/y").reply = before


def failed_multi_that_did_something(story: Story) -> None:
    a = story.session()
    ops = [
        (int(OpCode.CREATE), records.CreateRequest("/x", b"", list(records.OPEN_ACL), 0)),
        (int(OpCode.DELETE), records.DeleteRequest("/nowhere", -1)),
    ]
    story.write(a, OpCode.MULTI, records.MultiRequest(list(ops)))
    op = story.get(a, "/x")
    op.error = 0
    op.reply = records.GetDataResponse(b"", story.model.nodes["/"].stat())


def sync_that_misses_a_write(story: Story) -> None:
    a, b = story.session(7), story.session(8)
    before = story.zxid
    story.create(a, "/x")
    story.sync(b).zxid = before


def acknowledged_but_not_in_the_log(story: Story) -> None:
    story.create(story.session(), "/x")
    story.commits.pop()


def acknowledged_under_another_zxid(story: Story) -> None:
    op = story.create(story.session(), "/x")
    story.get(story.connections[0], "/x")
    op.zxid -= 1


def committed_twice(story: Story) -> None:
    a = story.session()
    story.create(a, "/x")
    op = story.set(a, "/x", b"1")
    story.take_effect(a, op)


def nobody_asked_for_it(story: Story) -> None:
    a = story.session()
    op = story.create(a, "/x")
    a.ops.remove(op)
    a.stream.remove(op)


def missed_event(story: Story) -> None:
    a = story.session()
    story.create(a, "/x")
    story.get(a, "/x", watch=True)
    story.set(a, "/x", b"1")
    story.get(a, "/x")


def event_behind_the_reply(story: Story) -> None:
    a = story.session()
    story.create(a, "/x")
    story.get(a, "/x", watch=True)
    op = story.set(a, "/x", b"1")
    story.event(a, op.zxid, CHANGED, "/x")
    story.get(a, "/x")


def event_twice(story: Story) -> None:
    a, b = story.session(7), story.session(8)
    story.create(a, "/x")
    story.get(b, "/x", watch=True)
    for data in (b"1", b"2"):
        story.event(b, story.set(a, "/x", data).zxid, CHANGED, "/x")
    story.get(b, "/x")


def event_of_another_kind(story: Story) -> None:
    a, b = story.session(7), story.session(8)
    story.create(a, "/x")
    story.get(b, "/x", watch=True)
    story.event(b, story.set(a, "/x", b"1").zxid, DELETED, "/x")
    story.get(b, "/x")


def event_that_nobody_waited_for(story: Story) -> None:
    a, b = story.session(7), story.session(8)
    op = story.create(a, "/x")
    story.event(b, op.zxid, CREATED, "/x")
    story.get(b, "/x")


def events_in_another_order(story: Story) -> None:
    a, b = story.session(7), story.session(8)
    for path in ("/x", "/y"):
        story.create(a, path)
        story.get(b, path, watch=True)
    first, second = story.set(a, "/x", b"1"), story.set(a, "/y", b"1")
    story.event(b, second.zxid, CHANGED, "/y")
    story.event(b, first.zxid, CHANGED, "/x")
    story.get(b, "/x")


def lost_on_reconnect(story: Story) -> None:
    a, b = story.session(7), story.session(8)
    story.create(a, "/x")
    story.get(b, "/x", watch=True)
    seen = story.zxid
    story.set(a, "/x", b"1")
    again = story.reconnect(8)
    body = records.SetWatches(seen, ["/x"], [], [])
    story.answer(again, story.ask(again, OpCode.SET_WATCHES, body), story.zxid, 0, None)


def told_on_reconnect_though_nothing_changed(story: Story) -> None:
    a = story.session()
    story.create(a, "/x")
    story.get(a, "/x", watch=True)
    again = story.reconnect()
    body = records.SetWatches(story.zxid, ["/x"], [], [])
    op = story.ask(again, OpCode.SET_WATCHES, body)
    story.event(again, -1, CHANGED, "/x")
    story.answer(again, op, story.zxid, 0, None)


def ephemeral_of_a_dead_session(story: Story) -> None:
    a, b = story.session(7), story.session(8)
    story.ephemeral(a, "/e")
    there = story.get(b, "/e")
    story.close(a)
    op = story.get(b, "/e")
    op.error, op.reply = 0, there.reply


def write_of_a_dead_session(story: Story) -> None:
    a = story.session()
    story.expire(7)
    op = story.ask(a, OpCode.SET_DATA, records.SetDataRequest("/", b"", -1))
    story.take_effect(a, op)
    story.commits[-1].txn = records_set_data()  # type: ignore[assignment]


def session_that_dies_twice(story: Story) -> None:
    story.session()
    story.expire(7)
    story.commits.append(attrs.evolve(story.commits[-1], zxid=story.zxid + 1))


def write_of_a_connection_left_behind(story: Story) -> None:
    a = story.session()
    late = story.ask(a, OpCode.SET_DATA, records.SetDataRequest("/", b"", -1))
    again = story.reconnect()
    story.set(again, "/", b"1")
    story.take_effect(a, late)


def sequence_number_again(story: Story) -> None:
    a = story.session()
    first = story.create(a, "/s-", flags=CreateMode.PERSISTENT_SEQUENTIAL)
    second = story.create(a, "/s-", flags=CreateMode.PERSISTENT_SEQUENTIAL)
    second.reply = first.reply


def records_set_data() -> object:
    from wire.txn import SetDataTxn

    return SetDataTxn("/", b"", 1)


BROKEN: list[tuple[str, Break]] = [
    ("C1", reply_with_another_stat),
    ("C1", success_instead_of_an_error),
    ("C1", judged_wrongly),
    ("C1", later_write_with_a_lower_zxid),
    ("C2", replies_out_of_order),
    ("C2", writes_overtake_each_other),
    ("C3", session_goes_back_on_another_server),
    ("C4", stale_read),
    ("C4", read_of_what_never_was),
    ("C4", child_missing),
    ("C4", half_a_multi),
    ("C4", failed_multi_that_did_something),
    ("C5", sync_that_misses_a_write),
    ("C7", acknowledged_but_not_in_the_log),
    ("C7", acknowledged_under_another_zxid),
    ("C8", committed_twice),
    ("C8", nobody_asked_for_it),
    ("C9", missed_event),
    ("C9", event_behind_the_reply),
    ("C9", event_twice),
    ("C9", event_of_another_kind),
    ("C9", event_that_nobody_waited_for),
    ("C9", events_in_another_order),
    ("C9", lost_on_reconnect),
    ("C9", told_on_reconnect_though_nothing_changed),
    ("C4", ephemeral_of_a_dead_session),
    ("C1", write_of_a_dead_session),
    ("C10", session_that_dies_twice),
    ("C12", write_of_a_connection_left_behind),
    ("C1", sequence_number_again),
]


@pytest.mark.parametrize(
    ("rule", "spoil"), BROKEN, ids=[f"{rule}-{spoil.__name__}" for rule, spoil in BROKEN]
)
def test_a_broken_history_is_rejected(rule: str, spoil: Break) -> None:
    story = Story()
    spoil(story)
    with pytest.raises(Violation) as caught:
        story.check()
    assert caught.value.rule == rule


def test_a_write_refused_because_the_session_moved_is_no_effect() -> None:
    from wire.txn import ErrorTxn

    story = Story()
    a = story.session()
    late = story.ask(a, OpCode.SET_DATA, records.SetDataRequest("/", b"", -1))
    again = story.reconnect()
    story.set(again, "/", b"1")
    story.take_effect(a, late)
    story.commits[-1].txn = ErrorTxn(ErrorCode.SESSION_MOVED)
    story.check()


# --- the search without zxids

EMPTY = (b"", 0)


def write(
    invoked: int, returned: int, data: bytes, version: int = -1, ok: bool = True
) -> RegisterOp:
    return RegisterOp(invoked, returned, data, b"", version, ok)


def read(invoked: int, returned: int, data: bytes, version: int) -> RegisterOp:
    return RegisterOp(invoked, returned, None, data, version)


def test_search_accepts_any_order_of_what_overlaps() -> None:
    overlapping = [write(0, 10, b"a"), write(0, 10, b"b"), read(20, 30, b"a", 2)]
    assert linearizable(overlapping, EMPTY)
    assert linearizable([*overlapping[:2], read(20, 30, b"b", 2)], EMPTY)


def test_search_rejects_a_stale_read() -> None:
    assert not linearizable([write(0, 10, b"a"), read(20, 30, b"", 0)], EMPTY)
    assert linearizable([write(0, 25, b"a"), read(20, 30, b"", 0)], EMPTY)


def test_search_lets_unknown_writes_happen_late_or_never() -> None:
    lost = write(0, -1, b"a")
    assert linearizable([lost, read(10, 20, b"", 0), read(30, 40, b"a", 1)], EMPTY)
    assert linearizable([lost, read(10, 20, b"", 0)], EMPTY)
    assert not linearizable([lost, read(10, 20, b"a", 1), read(30, 40, b"", 0)], EMPTY)


def test_search_knows_versions() -> None:
    assert linearizable([write(0, 10, b"a", 0), write(20, 30, b"b", 0, ok=False)], EMPTY)
    assert not linearizable([write(0, 10, b"a", 0), write(20, 30, b"b", 0)], EMPTY)
    assert not linearizable([write(0, 10, b"a", 1)], EMPTY)


@pytest.mark.parametrize("seed", range(1, 5))
def test_search_and_replay_agree(seed: int) -> None:
    """The check of the checker: real runs, judged once more without looking at zxids."""
    result, simulation = run_seed(seed, Choice(members=3, observers=0, seconds=3))
    assert result.violation is None, result.text
    assert simulation.check_registers() is not False
