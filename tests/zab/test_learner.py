"""A real learner against a scripted leader: what is durable before what is said (3.6), and that
every frame out of order ends the link."""

from dataclasses import replace

import attrs
import pytest

from tests.zab.scripted import CLUSTER, OPTIONS, VOTERS, Driver, log_to, member, vote_from
from wire.peer import (
    Ack,
    AckEpoch,
    Commit,
    Diff,
    FollowerInfo,
    Joined,
    LeaderInfo,
    Ping,
    Propose,
    Role,
    SnapAck,
    SnapBegin,
    SnapChunk,
    SnapEnd,
    Standing,
    Trunc,
    Upper,
    UpToDate,
)
from zkpy import zxid as zxids
from zkpy.effects import (
    BeginGeneration,
    EndGeneration,
    Entry,
    EntryKind,
    GenerationChunk,
    Truncate,
    WriteIdentity,
    chain_next,
)
from zkpy.zab.learner import LEGAL, Phase
from zkpy.zab.member import SnapAborted, SnapAdopted, SnapData, SnapFinished, SnapStarted
from zkpy.zab.quorum import VoterSet

OLD = log_to((1, 4))
NEW = log_to((1, 4), (3, 2))
"""What the leader of epoch 3 has: its EPOCH entry and one transaction."""
TARGET = NEW[4]


def propose(entries: list[Entry], committed: int = 0) -> Propose:
    rows = [(entry.zxid, entry.kind, entry.data) for entry in entries]
    return Propose(committed, 0, 0, entries[-1].chain, rows)


def linked(driver: Driver, leader: int = 2) -> list[object]:
    driver.zab.decide(leader, driver.now)
    assert driver.zab.dial == leader
    driver.zab.link_up(leader, driver.now)
    return driver.sent(leader)


def promised(driver: Driver) -> Driver:
    linked(driver)
    driver.tell(2, LeaderInfo(3, CLUSTER, False))
    driver.save()
    return driver


def following(driver: Driver | None = None) -> Driver:
    """Synchronised by DIFF, and up to date."""
    driver = promised(driver or Driver(member(2), OLD, OLD[3].zxid))
    driver.tell(2, Diff(OLD[3].zxid, OLD[3].chain, TARGET.zxid), propose(NEW[4:5]))
    driver.save()
    driver.tell(2, Commit(TARGET.zxid, 0, 0), UpToDate(TARGET.zxid))
    assert driver.zab.serving and driver.zab.role is Role.FOLLOWING and driver.zab.epoch == 3
    return driver


def gave_up(driver: Driver) -> bool:
    driver.sent()
    return driver.zab.role is Role.LOOKING and driver.zab.dial is None and driver.closed == [2]


# --- discovery


def test_says_what_it_promised() -> None:
    driver = Driver(member(2), OLD)
    assert linked(driver) == [FollowerInfo(2, Standing.MEMBER, CLUSTER)]


def test_a_promise_is_durable_before_it_is_sent() -> None:
    driver = Driver(member(2), OLD, OLD[2].zxid)
    linked(driver)
    assert driver.tell(2, LeaderInfo(3, CLUSTER, False)) == []
    assert driver.batch is not None
    (step,) = driver.batch.steps
    assert isinstance(step, WriteIdentity) and step.identity.accepted_epoch == 3
    marks = [(OLD[3].zxid, OLD[3].chain), (OLD[2].zxid, OLD[2].chain)]
    assert driver.save(2) == [AckEpoch(True, marks, OLD[3].zxid)]


def test_the_same_promise_again_does_not_count() -> None:
    driver = Driver(member(3), OLD)
    linked(driver)
    (ack,) = driver.tell(2, LeaderInfo(3, CLUSTER, False))
    assert isinstance(ack, AckEpoch) and not ack.fresh and driver.batch is None


@pytest.mark.parametrize(
    "info", [LeaderInfo(2, CLUSTER, False), LeaderInfo(9, b"another ensemble", False)]
)
def test_refuses_a_leader(info: LeaderInfo) -> None:
    driver = Driver(member(3), OLD)
    linked(driver)
    assert driver.tell(2, info) == [] and gave_up(driver)


def test_gives_up_when_there_is_no_link() -> None:
    driver = Driver(member(2), OLD)
    driver.zab.decide(2, driver.now)
    driver.pass_time(OPTIONS.tick_ms * OPTIONS.connect_ticks - 1)
    assert driver.zab.dial == 2
    driver.pass_time(1)
    assert driver.zab.dial is None


# --- DIFF and TRUNC


def test_diff_is_acknowledged_when_durable() -> None:
    """ZOOKEEPER-3911, -4643, -4646: ACK-NEWLEADER is the ACK of (e,1), behind everything else."""
    driver = promised(Driver(member(2), OLD, OLD[3].zxid))
    answers = driver.tell(2, Diff(OLD[3].zxid, OLD[3].chain, TARGET.zxid))
    assert answers == [Ack(OLD[3].zxid)], "what it has is durable"
    assert driver.tell(2, propose(NEW[4:])) == []
    assert driver.written() == [NEW[4].zxid, NEW[5].zxid]
    assert driver.save(2) == [Ack(NEW[5].zxid)]
    assert not driver.zab.serving
    driver.tell(2, UpToDate(NEW[4].zxid))
    assert driver.zab.serving


def test_trunc_cuts_before_anything_is_appended() -> None:
    mine = log_to((1, 4), (2, 3))
    driver = promised(Driver(member(2), mine, OLD[1].zxid))
    driver.tell(2, Trunc(OLD[3].zxid, OLD[3].chain, TARGET.zxid), propose(NEW[4:5]))
    assert driver.batch is not None
    assert driver.batch.steps[0] == Truncate(OLD[3].zxid)
    assert driver.written() == [TARGET.zxid]
    assert driver.save(2) == [Ack(TARGET.zxid)]
    assert driver.zab.log.entries == NEW[:5]


def test_a_write_under_way_does_not_save_what_was_cut() -> None:
    """The batch holds the old (2,4); when it is done, only what is left of it counts."""
    driver = following(Driver(member(2), OLD, OLD[3].zxid))
    driver.tell(2, propose(NEW[5:6]))
    assert driver.written() == [NEW[5].zxid]
    driver.zab.link_down(2, driver.now)
    linked(driver)
    driver.tell(2, LeaderInfo(4, CLUSTER, False))
    driver.save()
    theirs = log_to((1, 4), (3, 1), (4, 1))
    driver.tell(2, Trunc(theirs[4].zxid, theirs[4].chain, theirs[5].zxid), propose(theirs[5:]))
    assert driver.zab.log.saved == theirs[4].zxid
    assert driver.save(2)[-1] == Ack(theirs[5].zxid)
    assert driver.zab.log.entries == theirs


def test_never_cuts_what_is_committed() -> None:
    driver = promised(Driver(member(2), OLD, OLD[3].zxid))
    driver.tell(2, Trunc(OLD[1].zxid, OLD[1].chain, TARGET.zxid))
    assert driver.last is not None and "committed" in (driver.last.halt or "")


def test_a_point_that_is_not_shared_leads_to_a_snap() -> None:
    driver = promised(Driver(member(2), OLD))
    driver.tell(2, Trunc(OLD[1].zxid, OLD[1].chain ^ 1, TARGET.zxid))
    assert gave_up(driver) and driver.zab.log.last == OLD[3].zxid
    linked(driver)
    (ack,) = driver.tell(2, LeaderInfo(3, CLUSTER, False))
    assert isinstance(ack, AckEpoch) and ack.marks == []


# --- broadcast


def test_acknowledges_and_applies_what_is_durable() -> None:
    driver = following()
    more = log_to((1, 4), (3, 4))
    assert driver.tell(2, propose(more[5:7])) == []
    driver.tell(2, propose(more[7:8], committed=more[6].zxid))
    assert driver.applied[-1] == TARGET.zxid, "committed, but not durable here (ZOOKEEPER-4882)"
    assert driver.save(2) == [Ack(more[6].zxid), Ack(more[7].zxid)]
    assert driver.applied[-1] == more[6].zxid


@pytest.mark.parametrize(
    "entries",
    [
        log_to((1, 4), (3, 4))[6:7],
        log_to((1, 4), (3, 4))[4:5],
        log_to((1, 4), (2, 1))[4:5],
        log_to((1, 4), (3, 1), (4, 2))[6:7],
    ],
    ids=["hole", "again", "backwards", "inside another epoch"],
)
def test_only_the_next_entry_may_come(entries: list[Entry]) -> None:
    driver = following()
    assert driver.tell(2, propose(entries)) == [] and gave_up(driver)
    assert driver.zab.log.last == TARGET.zxid


def test_another_chain_leads_to_a_snap() -> None:
    driver = following()
    frame = propose(NEW[5:6])
    frame.chain ^= 1
    driver.tell(2, frame)
    assert gave_up(driver) and driver.zab.member.wants_image


def test_a_commit_of_what_was_not_proposed() -> None:
    driver = following()
    driver.tell(2, Commit(TARGET.zxid + 1, 0, 0))
    assert gave_up(driver)


def test_digests_are_kept_until_they_are_reached() -> None:
    driver = following()
    zab = driver.zab
    driver.tell(2, propose(NEW[5:6]))
    zab.receive(2, Commit(NEW[5].zxid, NEW[5].zxid, 0xABC), driver.now)
    assert zab.digests == {NEW[5].zxid: 0xABC}
    driver.save()
    assert zab.digests == {}, "an old one is of no use"
    zab.on_digest_mismatch(driver.now)
    assert gave_up(driver)
    linked(driver)
    (ack,) = driver.tell(2, LeaderInfo(3, CLUSTER, False))
    assert isinstance(ack, AckEpoch) and ack.marks == []


def test_pings_and_touches() -> None:
    driver = following()
    driver.zab.set_ping_payload(lambda: b"touched")
    assert driver.tell(2, Ping(7, b"from the leader")) == [Ping(7, b"touched")]
    assert driver.zab.take_pings() == [(2, b"from the leader")] and driver.zab.take_pings() == []


def test_replicas_talk_over_the_same_link() -> None:
    driver = following()
    assert driver.zab.send(2, b"forward") and not driver.zab.send(3, b"nobody")
    driver.zab.receive(2, Upper(b"answer"), driver.now)
    assert driver.sent(2) == [Upper(b"forward")]
    assert driver.zab.take_upper() == [(2, b"answer")]


def test_silence_ends_it() -> None:
    driver = following()
    driver.pass_time(OPTIONS.sync_ms - 10)
    driver.tell(2, Ping(1, b""))
    driver.pass_time(OPTIONS.sync_ms)
    assert driver.zab.serving
    driver.pass_time(2)
    assert gave_up(driver) and not driver.zab.serving


def test_a_pause_of_its_own_is_not_the_leaders_silence() -> None:
    driver = following()
    driver.now += 10 * OPTIONS.sync_ms
    driver.zab.handle_timer(driver.now)
    assert driver.is_paused() and driver.zab.leader == 2
    driver.tell(2, Ping(1, b""))
    driver.pass_time(OPTIONS.beat_ms)
    assert not driver.is_paused() and driver.zab.serving


def test_a_pause_after_which_nobody_speaks() -> None:
    driver = following()
    driver.now += 10 * OPTIONS.sync_ms
    driver.zab.handle_timer(driver.now)
    driver.pass_time(OPTIONS.beat_ms)
    assert gave_up(driver)


# --- SNAP

IMAGE = log_to((1, 4), (2, 6))
SNAP = [
    SnapBegin(IMAGE[6].zxid, IMAGE[6].chain, IMAGE[9].zxid, VOTERS.at(zxids.make(1, 2)).encode()),
    SnapChunk(b"first"),
    SnapChunk(b"second"),
    SnapEnd(99),
    propose(IMAGE[7:9], committed=IMAGE[7].zxid),
    propose(IMAGE[9:]),
]


def snap_wanted(**changes: object) -> Driver:
    return promised(Driver(member(2), log_to((1, 2)), zxids.make(1, 2), **changes))  # type: ignore[arg-type]


def test_snap_is_adopted_whole() -> None:
    driver = snap_wanted()
    zab = driver.zab
    answers = driver.tell(2, *SNAP)
    assert answers == []
    assert zab.take_snap() == [
        SnapStarted(IMAGE[6].zxid),
        SnapData(b"first"),
        SnapData(b"second"),
        SnapFinished(99),
    ]
    assert zab.log.last == zxids.make(1, 2), "the old log is in force"
    assert driver.save(2) == [SnapAck(2, IMAGE[9].zxid)], "flow control only, no ACK"
    zab.snap_loaded(driver.now)
    assert driver.sent(2) == [] and zab.take_snap() == []
    number, driver.batch = driver.batch.number if driver.batch else 0, None
    zab.saved(number, driver.now)
    with pytest.raises(AssertionError, match="take_snap"):
        zab.take_committed()
    assert zab.take_snap() == [SnapAdopted(IMAGE[6].zxid)]
    assert driver.sent(2) == [Ack(IMAGE[9].zxid)]
    assert zab.log.entries == IMAGE[7:]
    assert driver.applied[-1] == IMAGE[7].zxid
    assert zab.identity is not None and zab.identity.generation == 2
    driver.tell(2, UpToDate(IMAGE[7].zxid))
    assert zab.serving


def test_snap_steps_are_in_order() -> None:
    driver = snap_wanted()
    driver.tell(2, *SNAP)
    driver.zab.snap_loaded(driver.now)
    driver.save()
    driver = snap_wanted()
    for message in SNAP:
        driver.zab.receive(2, message, driver.now)
    driver.zab.snap_loaded(driver.now)
    driver.sent()
    assert driver.batch is not None
    kinds = [type(step).__name__ for step in driver.batch.steps]
    assert kinds == [
        BeginGeneration.__name__,
        *[GenerationChunk.__name__] * 2,
        EndGeneration.__name__,
        "Append",
        "WriteIdentity",
    ]


def test_no_adoption_before_the_tail_is_complete() -> None:
    """Losing schedule: w is acked by {L, B, C}; B adopts the image without the tail, C dies."""
    driver = snap_wanted()
    driver.tell(2, *SNAP[:4])
    driver.zab.snap_loaded(driver.now)
    driver.save()
    assert driver.zab.identity is not None and driver.zab.identity.generation == 1
    driver.tell(2, SNAP[4])
    driver.save()
    assert driver.zab.identity.generation == 1
    driver.tell(2, SNAP[5])
    assert driver.save(2)[-1] == Ack(IMAGE[9].zxid)
    assert driver.zab.identity.generation == 2


@pytest.mark.parametrize("cut", range(len(SNAP)))
@pytest.mark.parametrize("saved", [False, True])
def test_an_interrupted_snap_leaves_all_as_it_was(cut: int, saved: bool) -> None:
    """T-sync-6 (ZOOKEEPER-3642, -2872, -5094): the link is cut after every message."""
    driver = snap_wanted()
    before = list(driver.zab.log.entries)
    driver.tell(2, *SNAP[: cut + 1])
    if saved:
        driver.save()
    driver.zab.link_down(2, driver.now)
    assert isinstance(driver.zab.take_snap()[-1], SnapAborted)
    driver.save()
    assert driver.zab.log.entries == before
    assert driver.zab.identity is not None and driver.zab.identity.generation == 1
    driver = promised(driver)
    driver.tell(2, *SNAP)
    driver.zab.snap_loaded(driver.now)
    assert driver.save(2)[-1] == Ack(IMAGE[9].zxid)


def test_an_adoption_under_way_is_awaited() -> None:
    """The link is cut when the record that adopts is being written: the new log is the log."""
    driver = snap_wanted()
    driver.tell(2, *SNAP)
    driver.save()
    driver.zab.snap_loaded(driver.now)
    driver.sent()
    driver.zab.link_down(2, driver.now)
    driver.zab.take_snap()
    driver.zab.decide(2, driver.now)
    assert driver.zab.dial is None, "no new leader before it is known which log this is"
    driver.save()
    assert driver.events[-1] == SnapAdopted(IMAGE[6].zxid)
    assert driver.zab.log.last == IMAGE[9].zxid
    assert driver.zab.log.saved == IMAGE[9].zxid


def test_a_suspect_member_is_mended_and_then_counts() -> None:
    driver = Driver(member(2), [], suspect=True)
    assert linked(driver) == [FollowerInfo(2, Standing.SUSPECT, CLUSTER)]
    driver.tell(2, LeaderInfo(3, CLUSTER, False))
    (ack,) = driver.save(2)
    assert isinstance(ack, AckEpoch) and ack.marks == []
    driver.tell(2, *SNAP)
    driver.zab.snap_loaded(driver.now)
    driver.save()
    assert not driver.zab.member.suspect
    assert Joined() in driver.tell(2, UpToDate(IMAGE[7].zxid)) + driver.save(2)


def test_a_blank_member_joins_without_counting() -> None:
    driver = Driver(None, [])
    assert linked(driver) == [FollowerInfo(0, Standing.BLANK, bytes(16))]
    (ack,) = driver.tell(2, LeaderInfo(3, CLUSTER, False))
    assert isinstance(ack, AckEpoch) and not driver.is_writing(), "nobody relies on its promise"
    driver.tell(2, Diff(0, 0, TARGET.zxid), propose(NEW[:5]))
    assert driver.batch is not None
    assert isinstance(driver.batch.steps[0], WriteIdentity)
    assert driver.batch.steps[0].identity.cluster_id == bytes(16), "still as good as blank"
    driver.save()
    assert driver.tell(2, UpToDate(TARGET.zxid)) == [], "first its record"
    assert driver.save(2) == [Joined()]
    identity = driver.zab.identity
    assert identity is not None
    assert (identity.cluster_id, identity.founding, identity.accepted_epoch) == (CLUSTER, False, 3)


# --- order

MESSAGES = {
    LeaderInfo: LeaderInfo(3, CLUSTER, False),
    Diff: Diff(0, 0, 0),
    Trunc: Trunc(0, 0, 0),
    SnapBegin: SNAP[0],
    SnapChunk: SnapChunk(b""),
    SnapEnd: SnapEnd(0),
    Propose: propose(NEW[5:6]),
    Commit: Commit(0, 0, 0),
    UpToDate: UpToDate(0),
    Upper: Upper(b""),
    FollowerInfo: FollowerInfo(0, 0, CLUSTER),
    AckEpoch: AckEpoch(True, [], 0),
    Ack: Ack(0),
    SnapAck: SnapAck(0, 0),
    Joined: Joined(),
}


def at_phase(phase: Phase) -> Driver:
    driver = Driver(member(2), log_to((1, 2)))
    steps: list[object] = [LeaderInfo(3, CLUSTER, False)]
    linked(driver)
    if phase in (Phase.LINKING, Phase.GREETING):
        return driver
    driver.tell(2, *steps)
    if phase is Phase.PROMISING:
        return driver
    driver.save()
    if phase is Phase.SYNCING:
        driver.tell(2, Diff(zxids.make(1, 2), log_to((1, 2))[1].chain, TARGET.zxid))
    elif phase is Phase.IMAGING:
        driver.tell(2, SNAP[0])
    elif phase is Phase.TAIL:
        driver.tell(2, *SNAP[:4])
    elif phase is Phase.BROADCAST:
        return following()
    return driver


ILLEGAL = [
    (phase, cls)
    for phase in Phase
    for cls in MESSAGES
    if (phase, cls) not in LEGAL and phase is not Phase.LINKING
]


@pytest.mark.parametrize(("phase", "cls"), ILLEGAL)
def test_a_frame_out_of_order_ends_the_link(phase: Phase, cls: type) -> None:
    driver = at_phase(phase)
    assert driver.zab._learning is not None and driver.zab._learning.phase is phase
    driver.tell(2, MESSAGES[cls])
    assert gave_up(driver) and not driver.zab.serving
    assert cls.__name__ in driver.zab.why_looking


def test_frames_of_an_old_link_are_ignored() -> None:
    driver = following()
    driver.zab.link_down(2, driver.now)
    assert driver.tell(2, UpToDate(0)) == []
    assert driver.zab.role is Role.LOOKING


def test_others_who_call_a_follower_are_sent_away() -> None:
    driver = following()
    driver.zab.link_up(3, driver.now)
    driver.tell(3, FollowerInfo(2, Standing.MEMBER, CLUSTER))
    assert driver.closed == [3] and driver.zab.leader == 2


def test_an_observer_follows_alike() -> None:
    driver = Driver(member(2), OLD, OLD[3].zxid, me=4)
    promised(driver)
    assert driver.zab.role is Role.OBSERVING
    driver.tell(2, Diff(OLD[3].zxid, OLD[3].chain, TARGET.zxid), propose(NEW[4:5]))
    assert driver.save(2) == [Ack(TARGET.zxid)]
    driver.tell(2, UpToDate(TARGET.zxid))
    assert driver.zab.serving


def test_who_is_not_in_the_configuration_learns_but_does_not_serve() -> None:
    """Neither a member that is about to join, nor one that was removed."""
    options = replace(OPTIONS, named_only=True)
    driver = following(Driver(member(2), OLD, OLD[3].zxid, options=options))
    for voters, serves in (([2, 3], False), ([1, 2, 3], True)):
        last = driver.zab.log.last
        data = VoterSet.of(voters).encode()
        chain = chain_next(driver.zab.log.chain, last + 1, int(EntryKind.CONFIG), data)
        rows = [(last + 1, int(EntryKind.CONFIG), data)]
        driver.tell(2, Propose(last, 0, 0, chain, rows))
        driver.save()
        assert [driver.zab.serving, driver.zab.named] == [not serves] * 2, "not committed yet"
        driver.tell(2, Commit(last + 1, 0, 0))
        driver.tell(2, Ping(1, b""))
        assert [driver.zab.serving, driver.zab.named] == [serves] * 2
        assert driver.zab.log.applied == last + 1, "it goes on learning"


def test_a_leader_that_looks_again_is_left_at_once() -> None:
    """T-el-2, ZOOKEEPER-3109."""
    driver = Driver(member(2), OLD)
    linked(driver)
    vote = vote_from(driver.zab, 2, round=5)
    driver.zab.receive_vote(2, attrs.evolve(vote, echo=0), driver.now)
    assert driver.zab.leader == 2, "without the echo it is anybody's word"
    driver.zab.receive_vote(2, vote, driver.now)
    assert gave_up(driver)


def test_a_leader_that_votes_for_another_is_left_too() -> None:
    """Of this round: it had voted for itself when it was elected here (seed 1308)."""
    driver = Driver(member(2), OLD)
    linked(driver)
    own_round = driver.zab._election.round
    vote = vote_from(driver.zab, 2, round=own_round)
    driver.zab.receive_vote(2, vote, driver.now)
    assert driver.zab.leader == 2, "it was still for itself"
    driver.zab.receive_vote(2, attrs.evolve(vote, sequence=2, leader=3), driver.now)
    assert gave_up(driver)
