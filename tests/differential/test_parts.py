"""The parts of the differential test that need no server."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.differential import known
from tests.differential.duel import Unit, only, units_of
from tests.differential.generator import generate
from tests.differential.player import Line, Names
from tests.differential.run import write_junit
from tests.differential.trace import Ask, Batch, Connect, How, Step, size_of
from wire import records
from wire.codes import ErrorCode, OpCode, WatcherType

PING = Ask(OpCode.PING)
STAT = records.Stat(5, 7, 100, 200, 1, 0, 0, 42, 3, 0, 5)


def told(ask: Ask, error: int = 0, what: object = None) -> Line:
    return Line(1, "reply", ask, error, what, "z1")


def shown(steps: list[Step], root: str) -> list[str]:
    return [str(step).replace(root, "") for step in steps]


@pytest.mark.parametrize("seed", range(20))
def test_a_trace_is_its_seed_whatever_its_root(seed: int) -> None:
    steps = generate(seed, "/one", 100)
    assert 100 <= size_of(steps) < 110
    assert shown(steps, "/one") == shown(generate(seed, "/two", 100), "/two")
    assert shown(steps, "/one") != shown(generate(seed + 1, "/one", 100), "/one")


def test_what_is_asked_can_be_sent() -> None:
    for seed in range(30):
        for step in generate(seed, "/one", 100):
            for ask in step.asks if isinstance(step, Batch) else ():
                assert ask.body is None or isinstance(ask.body.encode(), bytes)


def test_every_operation_is_asked_for() -> None:
    steps = [step for seed in range(40) for step in generate(seed, "/one", 100)]
    asked = {ask.opcode for step in steps if isinstance(step, Batch) for ask in step.asks}
    left_out = {OpCode.CHECK, OpCode.DELETE_CONTAINER, OpCode.RECONFIG, OpCode.SASL}
    assert records.REQUESTS.keys() - left_out <= asked


def test_any_units_of_a_trace_make_a_trace() -> None:
    steps: list[Step] = [Connect(0, How.FRESH), Batch(0, (PING, Ask(OpCode.WHO_AM_I)))]
    units: list[Unit] = [(0, -1), (1, 0), (1, 1)]
    assert units_of(steps) == units
    assert only(steps, units) == steps
    assert only(steps, [(1, 1)]) == [Batch(0, (Ask(OpCode.WHO_AM_I),))]


def test_zxids_are_named_in_order_of_appearance_and_sessions_by_number() -> None:
    names = Names(tells_event_zxids=True)
    names.sessions[42] = "session 0"
    stat = names.stat(STAT)
    assert stat[:3] == ("z0", "z1", "z0")
    assert stat[3:5] == ("its time", "its time")
    assert stat[8] == "session 0"
    assert [names.zxid(zxid) for zxid in (9, 7, 0, -1)] == ["z2", "z1", 0, -1]


def test_one_transaction_has_one_time() -> None:
    names = Names(tells_event_zxids=True)
    names.stat(STAT)
    assert names.time(100, 5) == "its time"
    assert names.time(101, 5) == "101, not 100"


def test_only_orders_of_hash_tables_are_not_compared() -> None:
    names = Names(tells_event_zxids=True)
    children = records.GetChildrenResponse(["b", "a"])
    assert names.shape(children) == ("GetChildrenResponse", ["a", "b"])
    results = [records.MultiResult(2, 0, None), records.MultiResult(1, 0, None)]
    assert [each[1] for each in names.shape(records.MultiResponse(results))[1]] == [2, 1]


@pytest.mark.parametrize("watch", [False, True])
def test_exists_without_read_is_known_and_its_watch_taken_away(watch: bool) -> None:
    exists = Ask(OpCode.EXISTS, records.ExistsRequest("/a", watch))
    found = known.find(told(exists, 0, "stat"), told(exists, ErrorCode.NO_AUTH))
    assert found is not None
    remove = Ask(OpCode.REMOVE_WATCHES, records.RemoveWatchesRequest("/a", WatcherType.DATA))
    assert found.mend(told(exists)) == (remove if watch else None)


def test_what_is_known_is_known_narrowly() -> None:
    exists = Ask(OpCode.EXISTS, records.ExistsRequest("/a", False))
    get = Ask(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    check = Ask(OpCode.CHECK_WATCHES, records.CheckWatchesRequest("/a", 1))
    for theirs, ours in (
        (told(exists, ErrorCode.NO_AUTH), told(exists)),
        (told(exists), told(exists, ErrorCode.NO_NODE)),
        (told(get), told(get, ErrorCode.NO_AUTH)),
        (told(exists), told(get, ErrorCode.NO_AUTH)),
        (told(check, ErrorCode.NO_WATCHER), told(check)),
        (None, told(exists)),
        (told(exists), None),
    ):
        assert known.find(theirs, ours) is None, (theirs, ours)


def test_create2_in_a_multi_may_be_typed_so_if_all_else_is_alike() -> None:
    create = records.CreateRequest("/a", b"", [], 0)
    multi = Ask(OpCode.MULTI, records.MultiRequest([(int(OpCode.CREATE2), create)]))

    def answer(opcode: int, *made: object) -> Line:
        return told(multi, 0, ("MultiResponse", [("MultiResult", opcode, 0, made)]))

    plain = answer(1, "CreateResponse", "/a")
    assert known.find(plain, answer(15, "Create2Response", "/a", "stat")) is not None
    assert known.find(plain, answer(15, "Create2Response", "/b", "stat")) is None


@pytest.mark.parametrize(
    ("outcome", "counts"), [("", ("0", "0")), ("failure", ("1", "0")), ("skipped", ("0", "1"))]
)
def test_the_report_can_be_counted(tmp_path: Path, outcome: str, counts: tuple[str, str]) -> None:
    write_junit(tmp_path, outcome, 'a <difference> "\x01\ud800"')
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("skipped")) == counts
