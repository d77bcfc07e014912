"""plan_sync over every pair of small logs: what comes out is the leader's log, at little cost."""

import itertools

import pytest

from tests.zab.test_window import log_of
from zkpy import zxid as zxids
from zkpy.effects import CHAIN_START, Entry
from zkpy.zab.sync import Plan, Way, plan_sync
from zkpy.zab.window import Window

EPOCHS = 4


def grow_logs() -> list[list[Entry]]:
    """A family of logs: each epoch's leader continues some prefix of a lineage, and makes two.

    Different members of it may hold different entries under one zxid, as after two foundings;
    only chains tell them apart.
    """
    logs: dict[tuple[int, ...], list[Entry]] = {(): []}
    for forks in itertools.product(range(3), repeat=EPOCHS - 1):
        for shape in shapes_of(forks):
            entries = log_of(shape)
            logs[tuple(entry.zxid for entry in entries)] = entries
    return list(logs.values())


def shapes_of(forks: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    """Logs of one lineage, as (epoch, count): epoch n+2 keeps `forks[n]` entries of the epoch
    before it."""
    lineage = [(1, 2)]
    shapes = [[(1, 1)], [(1, 2)]]
    for epoch, kept in enumerate(forks, 2):
        before, count = lineage.pop()
        if kept:
            lineage.append((before, min(kept, count)))
        shapes += [[*lineage, (epoch, 1)], [*lineage, (epoch, 2)]]
        lineage.append((epoch, 2))
    return shapes


LOGS = grow_logs()


def common_prefix(a: list[Entry], b: list[Entry]) -> int:
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    return sum(1 for _ in pairs)


def carry_out(plan: Plan, learner: list[Entry], leader: Window, floor: int) -> list[Entry] | None:
    """What the learner holds then; None for a SNAP, or if its own check sends it away for one."""
    if plan.way is Way.SNAP:
        return None
    own = Window(0, CHAIN_START, learner)
    if own.chain_at(plan.zxid) != plan.chain:
        return None
    assert plan.zxid >= floor, "what is committed would be cut"
    if plan.way is Way.DIFF:
        assert plan.zxid == own.last
    kept = [entry for entry in learner if entry.zxid <= plan.zxid]
    return kept + leader.after(plan.zxid, 1 << 30)


def test_the_family_of_logs_is_rich() -> None:
    assert len(LOGS) > 50
    assert any(len({zxids.epoch_of(e.zxid) for e in log}) == 4 for log in LOGS)


@pytest.mark.parametrize("dropped", [0, 1, 3])
def test_every_pair_of_logs(dropped: int) -> None:
    ways = dict.fromkeys(Way, 0)
    for leader_log, learner_log in itertools.product(LOGS, LOGS):
        base = leader_log[:dropped][-1] if leader_log[:dropped] else Entry(0, 0, b"", CHAIN_START)
        leader = Window(base.zxid, base.chain, leader_log[dropped:])
        shared = common_prefix(leader_log, learner_log)
        for committed in range(shared + 1):
            # A committed entry is in the leader's log: the leader was elected with it.
            floor = learner_log[committed - 1].zxid if committed else 0
            marks = Window(0, CHAIN_START, learner_log).ends_of_epochs(floor)
            plan = plan_sync(marks, leader)
            ways[plan.way] += 1
            result = carry_out(plan, learner_log, leader, floor)
            assert result is None or result == leader_log
            point = leader_log[shared - 1].zxid if shared else 0
            if plan.way is Way.SNAP:
                assert point < leader.base or not _is_plain(leader_log, learner_log, shared)
    assert ways[Way.DIFF] and ways[Way.TRUNC]
    assert bool(ways[Way.SNAP]) is bool(dropped), "with all of its log a leader needs no SNAP"


def _is_plain(leader: list[Entry], learner: list[Entry], shared: int) -> bool:
    """Whether the common point is the learner's end, or an end of one of the two in its epoch."""
    if shared == len(learner):
        return True
    return shared == len(leader) or zxids.counter_of(leader[shared].zxid) == 1


def test_equal_logs_cost_nothing() -> None:
    for log in LOGS:
        window = Window(0, CHAIN_START, log)
        plan = plan_sync(window.ends_of_epochs(0), window)
        assert (plan.way, plan.zxid, plan.chain) == (Way.DIFF, window.last, window.chain)


def test_the_same_zxid_with_another_chain_is_no_common_point() -> None:
    """Two founders both made (1,1): only the chain tells."""
    ours, theirs = log_of([(1, 2)], b"ours"), log_of([(1, 2)], b"theirs")
    plan = plan_sync([(theirs[1].zxid, theirs[1].chain)], Window(0, CHAIN_START, ours))
    assert plan.way is Way.SNAP
    marks = [(theirs[1].zxid, theirs[1].chain), (0, CHAIN_START)]
    assert plan_sync(marks, Window(0, CHAIN_START, ours)) == Plan(Way.TRUNC, 0, CHAIN_START)


def test_without_marks_only_a_snap_will_do() -> None:
    assert plan_sync([], Window(0, CHAIN_START, log_of([(1, 2)]))).way is Way.SNAP


def test_too_old() -> None:
    entries = log_of([(1, 9)])
    window = Window(entries[4].zxid, entries[4].chain, entries[5:])
    old = [(entries[3].zxid, entries[3].chain)]
    just = [(entries[4].zxid, entries[4].chain)]
    assert plan_sync(old, window).way is Way.SNAP
    assert plan_sync(just, window) == Plan(Way.DIFF, *just[0])


def test_a_deposed_leaders_own_entry_is_cut() -> None:
    """ZOOKEEPER-1154, -2832: it holds (3,1) that nobody else has; the others went on with 4."""
    theirs = log_of([(1, 2), (3, 1)])
    ours = log_of([(1, 2), (4, 2)])
    marks = Window(0, CHAIN_START, theirs).ends_of_epochs(theirs[0].zxid)
    assert plan_sync(marks, Window(0, CHAIN_START, ours)) == Plan(
        Way.TRUNC, ours[1].zxid, ours[1].chain
    )
