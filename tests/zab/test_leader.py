"""A real leader against scripted learners: who counts, what waits for the disk, when it ends."""

from dataclasses import replace
from typing import Any

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
from zkpy.effects import Entry, EntryKind
from zkpy.zab.election import NOBODY
from zkpy.zab.leader import LEGAL, Stage
from zkpy.zab.quorum import VoterSet

LOG = log_to((1, 4), (2, 3))
LAST = LOG[-1].zxid
FIRST = zxids.make(3, 1)
"""(e,1) of the leadership in most tests here."""


def mark_of(entries: list[Entry]) -> list[tuple[int, int]]:
    return [(entries[-1].zxid, entries[-1].chain)] if entries else [(0, 0)]


def leading(committed: int = LOG[3].zxid, **changes: Any) -> Driver:
    driver = Driver(member(2), LOG, committed, **changes)
    driver.zab.decide(1, driver.now)
    assert driver.zab.role is Role.LEADING
    return driver


def call(
    driver: Driver,
    sid: int,
    epoch: int = 2,
    standing: Standing = Standing.MEMBER,
    cluster: bytes = CLUSTER,
) -> list[object]:
    driver.zab.link_up(sid, driver.now)
    return driver.tell(sid, FollowerInfo(epoch, standing, cluster))


def promise(
    driver: Driver, sid: int, entries: list[Entry] = LOG, fresh: bool = True
) -> list[object]:
    return driver.tell(sid, AckEpoch(fresh, mark_of(entries), entries[-1].zxid if entries else 0))


def join(driver: Driver, sid: int, entries: list[Entry] = LOG, **changes: Any) -> list[object]:
    """From FOLLOWERINFO to ACKEPOCH."""
    call(driver, sid, **changes)
    driver.save()
    return promise(driver, sid, entries)


def serving(**changes: Any) -> Driver:
    """Established by 1 and 2; the pass's messages are sent."""
    driver = leading(**changes)
    join(driver, 2)
    driver.save()
    driver.tell(2, Ack(FIRST))
    assert driver.zab.serving and driver.zab.epoch == 3
    return driver


def standing_of(driver: Driver) -> Standing:
    return driver.zab.member.standing


def gave_up(driver: Driver) -> bool:
    return driver.zab.role is Role.LOOKING and not driver.zab.serving


# --- discovery


def test_leaderinfo_waits_for_the_leaders_own_promise() -> None:
    driver = leading()
    assert driver.sent() == [] and not driver.is_writing(), "no quorum has called"
    assert call(driver, 2) == []
    assert driver.batch is not None
    assert driver.save(2) == [LeaderInfo(3, CLUSTER, False)]
    assert driver.zab.identity is not None and driver.zab.identity.accepted_epoch == 3


def test_the_epoch_is_above_every_promise() -> None:
    driver = leading()
    call(driver, 4, epoch=9)
    call(driver, 2, epoch=7)
    assert LeaderInfo(10, CLUSTER, False) in driver.save(2)


@pytest.mark.parametrize(
    ("sid", "standing", "cluster"),
    [
        (4, Standing.MEMBER, CLUSTER),
        (99, Standing.MEMBER, CLUSTER),
        (3, Standing.BLANK, bytes(16)),
        (3, Standing.SUSPECT, CLUSTER),
        (3, Standing.FOUNDING, b"half founded...."),
        (3, Standing.MEMBER, b"another ensemble"),
    ],
    ids=["observer", "stranger", "blank", "suspect", "other founding", "other ensemble"],
)
def test_these_never_count(sid: int, standing: Standing, cluster: bytes) -> None:
    """A13 (ZOOKEEPER-1113, -2959): not for the epoch, not for (e,1), not for a commit."""
    driver = leading()
    call(driver, sid, standing=standing, cluster=cluster)
    driver.save()
    assert driver.zab.epoch == 0, "for the choice of an epoch"
    join(driver, 2)
    driver.save()
    assert driver.zab.log.last == FIRST
    if sid in driver.zab.member.links:
        promise(driver, sid)
        driver.tell(sid, Ack(FIRST))
    assert not driver.zab.serving
    assert driver.zab.log.committed < FIRST


@pytest.mark.parametrize("sid", [4, 99], ids=["observer", "stranger"])
def test_promises_of_those_without_a_vote_open_no_epoch(sid: int) -> None:
    """A13 (ZOOKEEPER-2959): a voter has called, so that there is an epoch to promise."""
    driver = leading()
    call(driver, 2)
    join(driver, sid)
    driver.save()
    assert driver.zab.log.last == LAST
    promise(driver, 2)
    assert driver.zab.log.last == FIRST


def test_an_old_promise_does_not_count() -> None:
    """A7: it may have been given to another candidate for the same epoch."""
    driver = leading()
    call(driver, 2)
    driver.save()
    promise(driver, 2, fresh=False)
    assert driver.zab.log.last == LAST
    join(driver, 3)
    assert driver.zab.log.last == FIRST


def test_a_promise_outlives_its_link() -> None:
    options = replace(OPTIONS, voters=VoterSet.of([1, 2, 3, 4, 5]))
    entries = log_to((1, 1), (2, 3))
    voters = options.voters.encode()
    identity = member(2, voters=voters, proposed_voters=voters)
    driver = Driver(identity, entries, options=options)
    driver.zab.decide(1, driver.now)
    call(driver, 2)
    call(driver, 3)
    driver.save()
    promise(driver, 2, entries)
    driver.zab.link_down(2, driver.now)
    promise(driver, 3, entries)
    assert driver.zab.log.last == FIRST


@pytest.mark.parametrize(
    ("standing", "resigns"), [(Standing.MEMBER, True), (Standing.SUSPECT, False)]
)
def test_gives_way_to_a_longer_log(standing: Standing, resigns: bool) -> None:
    """This check, not the election, gives A6 and A9; but only for those that count."""
    driver = leading()
    call(driver, 3, standing=standing)
    call(driver, 2)
    driver.save()
    longer = log_to((1, 4), (2, 4))
    promise(driver, 3, longer)
    assert gave_up(driver) is resigns


def test_a_longer_log_counts_until_the_leader_is_established() -> None:
    driver = leading()
    join(driver, 2)
    driver.save()
    assert driver.zab.log.last == FIRST
    join(driver, 3, log_to((1, 4), (2, 4)))
    assert gave_up(driver)


def test_a_longer_log_is_cut_once_it_is() -> None:
    """Nothing in it was committed: a quorum without it has established the leader."""
    driver = serving()
    call(driver, 3)
    longer = log_to((1, 4), (2, 4))
    marks = [(longer[-1].zxid, longer[-1].chain), (LOG[3].zxid, LOG[3].chain)]
    sent = driver.tell(3, AckEpoch(True, marks, longer[-1].zxid))
    assert sent[0] == Trunc(LAST, LOG[-1].chain, driver.zab.log.last)


def test_gives_up_without_a_quorum() -> None:
    driver = leading()
    driver.pass_time(OPTIONS.init_ms - 1)
    assert driver.zab.role is Role.LEADING
    driver.pass_time(1)
    assert gave_up(driver)


def test_gives_up_when_a_supporter_looks_again() -> None:
    """T-el-2 (ZOOKEEPER-3109)."""
    driver = leading()
    driver.zab.receive_vote(3, vote_from(driver.zab, 3, round=4), driver.now)
    assert gave_up(driver)
    driver = serving()
    driver.zab.receive_vote(3, vote_from(driver.zab, 3, round=4), driver.now)
    assert driver.zab.serving, "an established one is not disturbed"


# --- synchronisation


def test_the_history_is_committed_with_the_epoch_and_not_before() -> None:
    driver = leading()
    join(driver, 2)
    driver.save()
    driver.tell(2, Ack(LAST))
    assert driver.zab.log.committed == LOG[3].zxid, "of an earlier epoch: a quorum is no proof"
    sent = driver.tell(2, Ack(FIRST))
    assert driver.zab.log.committed == FIRST and driver.applied[-1] == FIRST
    assert sent == [UpToDate(FIRST), Commit(FIRST, FIRST, 5)]


def test_the_leader_counts_itself_only_when_it_is_durable() -> None:
    driver = leading()
    join(driver, 2)
    driver.tell(2, Ack(FIRST))
    assert not driver.zab.serving
    driver.save()
    assert driver.zab.serving


def test_diff_is_one_stream_with_the_broadcast() -> None:
    """ZOOKEEPER-4394, -3023: no gap into which a proposal or a commit could fall."""
    driver = serving()
    zxid = driver.zab.propose(EntryKind.TXN, b"new")
    sent = join(driver, 3, LOG[:5])
    assert sent[0] == Diff(LOG[4].zxid, LOG[4].chain, zxid)
    frame = sent[1]
    assert isinstance(frame, Propose)
    assert [z for z, _, _ in frame.entries] == [LOG[5].zxid, LAST, FIRST, zxid]
    assert frame.committed == FIRST, "the leader's commit level"
    assert driver.tell(3, Ack(FIRST)) == [], "not yet at its target"
    driver.save()
    assert UpToDate(zxid) in driver.tell(3, Ack(zxid))


@pytest.mark.parametrize("standing", [Standing.SUSPECT, Standing.BLANK])
def test_who_does_not_count_waits_until_it_is_established(standing: Standing) -> None:
    """Losing schedule: A and S acked w; S is damaged; B, without w, copies its log to S, and
    then {B, S} looks like a quorum (D5)."""
    driver = leading()
    call(driver, 3, standing=standing, cluster=bytes(16))
    join(driver, 2)
    driver.save(3)
    assert driver.tell(3, AckEpoch(True, [], 0)) == [] and driver.images == []
    driver.tell(2, Ack(FIRST))
    assert driver.images == [3]


def test_a_joined_member_counts_from_then_on() -> None:
    driver = serving()
    join(driver, 3, standing=Standing.BLANK, cluster=bytes(16))
    proof = prove(driver, 3)
    assert told_up_to_date(acknowledged(driver, 2, proof))
    driver.zab.link_down(2, driver.now)
    zxid = driver.zab.propose(EntryKind.TXN, b"x")
    driver.save()
    driver.tell(3, Ack(zxid))
    assert driver.zab.log.committed == proof
    driver.tell(3, Joined())
    assert driver.zab.log.committed == zxid


def test_only_members_are_timed() -> None:
    driver = serving()
    for sid in (3, 1000):
        join(driver, sid)
        assert told_up_to_date(driver.tell(sid, Ack(FIRST)))
    zxid = driver.zab.propose(EntryKind.TXN, b"x")
    driver.zab.time_proposals(driver.now)
    driver.save()
    driver.now += 7
    for sid in (3, 1000):
        driver.tell(sid, Ack(zxid))
    acks = driver.zab.timings.acks
    assert 1000 not in acks
    assert acks[3].summary().total == 7


def prove(driver: Driver, newcomer: int) -> int:
    """It has all there is; the entry that the leader proposes then, durable here and there."""
    before = driver.zab.log.last
    assert not told_up_to_date(driver.tell(newcomer, Ack(before)))
    proof = driver.zab.log.last
    assert proof == before + 1
    assert driver.zab.log.entries[-1].kind == EntryKind.PROOF
    driver.save()
    assert not told_up_to_date(driver.tell(newcomer, Ack(proof))), "its own word proves nothing"
    assert driver.zab.log.committed == before
    return proof


def acknowledged(driver: Driver, sid: int, zxid: int) -> list[object]:
    """What is sent to 3 when this one acknowledges that."""
    driver.zab.receive(sid, Ack(zxid), driver.now)
    return driver.sent(3)


def told_up_to_date(sent: list[object]) -> bool:
    return any(isinstance(message, UpToDate) for message in sent)


def test_any_later_entry_proves_that_it_still_leads_but_no_earlier_one() -> None:
    """A leader that is cut off could otherwise make a quorum of itself and one that was wiped."""
    driver = serving()
    under_way = driver.zab.propose(EntryKind.TXN, b"proposed before it came")
    call(driver, 3, standing=Standing.BLANK, cluster=bytes(16))
    later = driver.zab.propose(EntryKind.TXN, b"and after")
    driver.save()
    promise(driver, 3)
    driver.save()
    assert not told_up_to_date(acknowledged(driver, 3, later))
    assert not told_up_to_date(acknowledged(driver, 2, under_way))
    assert driver.zab.log.last == later, "there is one on its way already"
    assert told_up_to_date(acknowledged(driver, 2, later))


def test_joined_before_its_time_ends_the_link() -> None:
    driver = serving()
    join(driver, 3, LOG[:4], standing=Standing.BLANK, cluster=bytes(16))
    driver.tell(3, Joined())
    assert driver.closed == [3]


def test_snap_is_an_image_and_everything_behind_it() -> None:
    driver = serving()
    zxid = driver.zab.propose(EntryKind.TXN, b"not committed")
    call(driver, 3)
    sent = driver.tell(3, AckEpoch(True, [], 0))
    assert driver.images == [3]
    chain = driver.zab.log.chain_at(FIRST)
    assert chain is not None
    voters = VOTERS.at(zxids.make(1, 2)).encode()
    assert sent == [SnapBegin(FIRST, chain, zxid, voters)]
    room = driver.zab.image_room(3)
    assert room == OPTIONS.image_chunks_inflight
    for _ in range(room):
        driver.zab.image_chunk(3, b"chunk")
    assert driver.zab.image_room(3) == 0
    assert driver.sent(3) == [SnapChunk(b"chunk")] * room, "no entries before the image's end"
    driver.tell(3, SnapAck(3, FIRST))
    assert driver.zab.image_room(3) == 3
    driver.zab.image_end(3, 99)
    end, frame = driver.sent(3)
    assert end == SnapEnd(99) and isinstance(frame, Propose)
    assert [z for z, _, _ in frame.entries] == [zxid]
    assert driver.zab.image_room(3) is None


def test_an_image_for_a_lost_link_is_forgotten() -> None:
    driver = serving()
    call(driver, 3)
    driver.tell(3, AckEpoch(True, [], 0))
    driver.zab.link_down(3, driver.now)
    assert driver.zab.image_room(3) is None


# --- broadcast


def test_one_frame_per_learner_and_pass() -> None:
    driver = serving()
    join(driver, 4)
    driver.save()
    driver.tell(4, Ack(FIRST))
    zxids_of = [driver.zab.propose(EntryKind.TXN, b"%d" % n) for n in range(20)]
    assert len(driver.sent()) == 2
    driver.save()
    sent = driver.tell(2, Ack(zxids_of[-1]))
    assert sent == [Commit(zxids_of[-1], zxids_of[-1], 5)], "the observer has its own, alike"
    assert driver.zab.log.committed == zxids_of[-1]


def test_doubled_acks_of_one_learner_are_one() -> None:
    """ZOOKEEPER-1113, with five voters."""
    options = replace(OPTIONS, voters=VoterSet.of([1, 2, 3, 4, 5]))
    voters = options.voters.encode()
    driver = Driver(
        member(2, voters=voters, proposed_voters=voters), log_to((1, 1), (2, 1)), options=options
    )
    driver.zab.decide(1, driver.now)
    for sid in (2, 3):
        call(driver, sid)
    driver.save()
    for sid in (2, 3):
        promise(driver, sid, log_to((1, 1), (2, 1)))
    driver.save()
    driver.tell(2, Ack(FIRST), Ack(FIRST), Ack(FIRST))
    assert driver.zab.log.committed < FIRST
    driver.tell(3, Ack(FIRST))
    assert driver.zab.log.committed >= FIRST


def test_a_founder_is_a_member_once_the_voter_set_is_committed() -> None:
    """Not by (e,1): whoever has only that may found an ensemble of its own."""
    driver = Driver(None, [])
    driver.zab.decide(1, driver.now)
    for sid in (2, 3):
        call(driver, sid, epoch=0, standing=Standing.BLANK, cluster=bytes(16))
    driver.save()
    epoch_entry, set_entry = zxids.make(1, 1), zxids.make(1, 2)
    for sid in (2, 3):
        promise(driver, sid, [])
    driver.save()
    assert driver.zab.log.last == epoch_entry
    sent = [*driver.tell(2, Ack(epoch_entry)), *driver.save()]
    assert driver.zab.log.committed == epoch_entry and driver.zab.log.last == set_entry
    assert standing_of(driver) == Standing.FOUNDING
    assert not any(isinstance(message, UpToDate) for message in sent)
    sent = [*driver.tell(2, Ack(set_entry)), *driver.save()]
    assert standing_of(driver) == Standing.MEMBER
    assert UpToDate(set_entry) in sent


@pytest.mark.parametrize("zxid", [FIRST + 1, LAST])
def test_an_ack_of_what_was_not_sent_or_taken_back(zxid: int) -> None:
    driver = serving()
    driver.tell(2, Ack(zxid))
    assert driver.closed == [2]


def test_a_slow_learner_costs_bounded_memory() -> None:
    """T-slow-1: it gets so much unacknowledged, no more; then it has to come for a SNAP."""
    options = replace(OPTIONS, window_bytes_max=20_000, inflight_bytes_max=2_000)
    driver = serving(options=options)
    join(driver, 3)
    driver.save()
    frames = 0
    for _ in range(200):
        zxid = driver.zab.propose(EntryKind.TXN, b"x" * 200)
        frames += sum(isinstance(m, Propose) for m in driver.save(3))
        driver.tell(2, Ack(zxid))
    assert 3 < frames < 12
    assert driver.zab.log.held_bytes <= 2 * 20_000 + 1_000
    assert driver.closed == [3] and driver.zab.serving


@pytest.mark.parametrize("windows", [3, 15, 17])
def test_what_is_written_during_an_image_waits_for_its_end(windows: int) -> None:
    """Up to a bound: else, under steady writes, the next image is as late as this one."""
    bytes_max = 20_000
    driver = serving(
        options=replace(
            OPTIONS, window_bytes_max=bytes_max, inflight_bytes_max=8_000, frame_bytes_max=2_000
        )
    )
    call(driver, 3)
    driver.tell(3, AckEpoch(True, [], 0))
    driver.save()
    while driver.zab.log.held_bytes < windows * bytes_max and 3 not in driver.closed:
        zxid = driver.zab.propose(EntryKind.TXN, b"x" * 200)
        driver.save()
        driver.tell(2, Ack(zxid))
        if driver.zab.log.base > FIRST:
            break
    driver.zab.image_end(3, 99)
    progress = driver.zab._leading.progress[3] if driver.zab._leading else None
    assert progress is not None
    driver.save()
    while driver.closed == [] and progress.acked < driver.zab.log.last:
        driver.tell(3, Ack(progress.sent))  # it is up to date long before it has caught up
        driver.save()
    assert (driver.closed == [3]) is (windows > 16)


# --- giving up


def hang(*acking: int) -> Driver:
    """Its disk has one batch for longer than syncLimit; those learners have it durable."""
    driver = serving(options=replace(OPTIONS, elects=True))
    join(driver, 3)
    driver.save()
    driver.tell(3, Ack(FIRST))
    driver.save()
    zxid = driver.zab.propose(EntryKind.TXN, b"not durable here")
    driver.sent()
    for sid in acking:
        driver.tell(sid, Ack(zxid))
    begun = driver.now
    while not gave_up(driver) and driver.now - begun <= OPTIONS.sync_ms + 3 * OPTIONS.beat_ms:
        driver.pass_time(OPTIONS.beat_ms)
        for ping in [m for m in driver.sent(2) if isinstance(m, Ping)]:
            driver.tell(2, ping)
    assert driver.now - begun > OPTIONS.sync_ms
    return driver


def test_a_leader_whose_own_disk_hangs_stays_where_nobody_gets_on_without_it() -> None:
    assert hang(2).zab.serving


def test_a_leader_whose_own_disk_hangs_gives_up_and_is_not_voted_for() -> None:
    driver = hang(2, 3)
    assert gave_up(driver)
    assert driver.zab.why_looking == "the disk here has written nothing within syncLimit"
    assert driver.is_writing()
    assert driver.zab._election.vote == NOBODY
    driver.save()
    assert driver.zab._election.vote == (driver.zab.log.last, 1), "and stands again"


def test_a_batch_after_the_other_is_no_disk_that_hangs() -> None:
    driver = serving()
    for _ in range(40):
        driver.zab.propose(EntryKind.TXN, b"x")
        driver.pass_time(OPTIONS.beat_ms)
        for ping in [m for m in driver.sent(2) if isinstance(m, Ping)]:
            driver.tell(2, ping)
        driver.save()
    assert driver.zab.serving


def test_stops_serving_without_a_quorum() -> None:
    driver = serving()
    driver.pass_time(OPTIONS.sync_ms - OPTIONS.beat_ms)
    assert driver.zab.serving
    driver.pass_time(2 * OPTIONS.beat_ms)
    assert gave_up(driver)


def test_is_kept_by_pings() -> None:
    driver = serving()
    for _ in range(40):
        driver.pass_time(OPTIONS.beat_ms)
        pings = [m for m in driver.sent(2) if isinstance(m, Ping)]
        assert len(pings) == 1, "once per half tick"
        driver.tell(2, pings[0])
    assert driver.zab.serving


def test_meets_a_later_promise_once_in_a_while() -> None:
    """T-el-5: the member cannot join this epoch; a later one can be led, but not all the time."""
    driver = serving()
    call(driver, 3, epoch=8)
    assert gave_up(driver)
    driver.zab.decide(1, driver.now)
    call(driver, 2, epoch=3)
    assert LeaderInfo(9, CLUSTER, False) in driver.save(2), "above what 3 had promised"
    promise(driver, 2, driver.zab.log.entries)
    driver.save()
    driver.tell(2, Ack(zxids.make(9, 1)))
    assert driver.zab.serving
    call(driver, 3, epoch=20)
    assert driver.zab.serving and driver.closed[-1] == 3
    driver.now += OPTIONS.yield_ms
    driver.zab.receive(2, Ping(driver.zab._leading.round if driver.zab._leading else 0, b""), 0)
    call(driver, 3, epoch=20)
    assert gave_up(driver)


def test_confirms_its_leadership_by_a_later_round() -> None:
    """C5: the answers must be to a round that began after the question."""
    driver = serving()
    driver.pass_time(OPTIONS.beat_ms)
    (early,) = (m for m in driver.sent(2) if isinstance(m, Ping))
    token = driver.zab.confirm_leadership()
    assert driver.zab.confirm_leadership() == token, "one round for the whole pass"
    driver.zab.receive(2, early, driver.now)
    assert driver.zab.confirmed < token
    (ping,) = (m for m in driver.sent(2) if isinstance(m, Ping))
    driver.tell(2, ping)
    assert driver.zab.confirmed >= token


def test_an_answer_to_no_round_ends_the_link() -> None:
    driver = serving()
    driver.tell(2, Ping(1000, b""))
    assert driver.closed == [2]


def test_after_standing_still_it_asks_before_it_answers() -> None:
    driver = serving()
    driver.now += 20 * OPTIONS.sync_ms
    driver.zab.handle_timer(driver.now)
    assert driver.is_paused() and driver.zab.serving, "what waits in the sockets comes first"
    (ping,) = (m for m in driver.sent(2) if isinstance(m, Ping))
    driver.tell(2, ping)
    assert not driver.is_paused()
    driver.pass_time(OPTIONS.beat_ms)
    assert driver.zab.serving


def test_after_standing_still_too_long_it_resigns() -> None:
    driver = serving()
    driver.now += 20 * OPTIONS.sync_ms
    driver.zab.handle_timer(driver.now)
    driver.pass_time(OPTIONS.beat_ms)
    assert gave_up(driver)


def test_closes_all_links_when_it_gives_up() -> None:
    driver = serving()
    driver.pass_time(2 * OPTIONS.sync_ms)
    driver.sent()
    assert driver.closed == [2] and driver.zab.member.links == {}


def test_learners_may_call_before_the_election_is_over() -> None:
    driver = Driver(member(2), LOG)
    assert call(driver, 2) == [] and driver.closed == []
    driver.zab.decide(1, driver.now)
    assert driver.save(2) == [LeaderInfo(3, CLUSTER, False)]
    driver = Driver(member(2), LOG)
    call(driver, 2)
    driver.zab.decide(3, driver.now)
    driver.sent()
    assert driver.closed == [2], "it is sent away as soon as it called in vain"


def test_a_leader_with_a_wrong_state_lets_another_lead() -> None:
    driver = serving()
    driver.zab.on_digest_mismatch(driver.now)
    assert gave_up(driver) and not driver.zab.member.may_lead


# --- voter sets


def test_a_joint_set_needs_both_quorums() -> None:
    """T-el-4 (ZOOKEEPER-1699)."""
    driver = serving()
    for sid in (3, 4):
        join(driver, sid)
        driver.save()
        driver.tell(sid, Ack(FIRST))
    new = VoterSet.of([1, 4]).members
    assert not driver.zab.may_change_voters(VoterSet.of([8, 9]).members)
    assert driver.zab.may_change_voters(new)
    joint = driver.zab.propose_voters(new)
    assert not driver.zab.may_change_voters(new), "one change at a time"
    driver.save()
    driver.tell(2, Ack(joint))
    driver.tell(3, Ack(joint))
    assert driver.zab.log.committed == FIRST, "not of the new set"
    driver.tell(4, Ack(joint))
    assert driver.zab.log.committed == joint
    final = driver.zab.log.last
    assert final == joint + 1, "the new set alone follows by itself"
    driver.save()
    driver.tell(4, Ack(final))
    assert driver.zab.log.committed == final and driver.zab.voters.voters() == [1, 4]
    driver.save()
    assert driver.zab.identity is not None
    assert VoterSet.decode(driver.zab.identity.voters).voters() == [1, 4]


def test_a_leader_that_is_voted_out_leaves() -> None:
    driver = serving()
    for sid in (3, 4):
        join(driver, sid)
        driver.save()
        driver.tell(sid, Ack(FIRST))
    joint = driver.zab.propose_voters(VoterSet.of([2, 3, 4]).members)
    driver.save()
    told: list[object] = []
    for zxid in (joint, joint + 1):
        for sid in (2, 3, 4):
            told += driver.tell(sid, Ack(zxid))
    assert Commit(joint + 1, 0, 0) in [
        attrs.evolve(m, digest_zxid=0, digest=0) for m in told if isinstance(m, Commit)
    ]
    assert driver.zab.serving and driver.zab.deadline() != 0, "it is not answered here yet"
    driver.save()
    driver.pass_time(0)
    assert gave_up(driver) and driver.zab.why_looking == "no longer a voter"


def test_a_change_of_voters_may_take_the_last_zxid_of_an_epoch() -> None:
    options = replace(OPTIONS, epoch_entries_max=(FIRST & zxids.COUNTER_MAX) + 2)
    driver = serving(options=options)
    joint = driver.zab.propose_voters(VoterSet.of([1, 2]).members)
    driver.save()
    driver.tell(2, Ack(joint))
    assert driver.zab.log.last == joint + 1, "the set that follows it"
    assert not driver.zab.serving
    driver.save()
    driver.tell(2, Ack(joint + 1))
    driver.pass_time(0)
    assert gave_up(driver) and driver.zab.why_looking == "the epoch is full"


# --- order

MESSAGES = [
    FollowerInfo(2, Standing.MEMBER, CLUSTER),
    AckEpoch(True, [], 0),
    SnapAck(0, 0),
    Ack(0),
    Joined(),
    Upper(b""),
    LeaderInfo(3, CLUSTER, False),
    Diff(0, 0, 0),
    Commit(0, 0, 0),
]


def at_stage(stage: Stage | None) -> Driver:
    driver = serving()
    driver.zab.link_up(3, driver.now)
    if stage in (None, Stage.CALLED):
        if stage:
            driver = leading()
            call(driver, 3)
        return driver
    driver.tell(3, FollowerInfo(2, Standing.MEMBER, CLUSTER))
    driver.save()
    if stage is Stage.PROMISED:
        driver = leading()
        call(driver, 2)
        call(driver, 3, standing=Standing.SUSPECT)
        driver.save()
        driver.tell(3, AckEpoch(True, [], 0))
    elif stage is Stage.IMAGING:
        driver.tell(3, AckEpoch(True, [], 0))
    elif stage is Stage.STREAMING:
        promise(driver, 3)
    return driver


ILLEGAL = [
    (stage, message)
    for stage in (None, *Stage)
    for message in MESSAGES
    if (stage, type(message)) not in LEGAL
]


@pytest.mark.parametrize(("stage", "message"), ILLEGAL)
def test_a_frame_out_of_order_ends_the_link(stage: Stage | None, message: object) -> None:
    driver = at_stage(stage)
    leading_now = driver.zab._leading
    assert leading_now is not None
    progress = leading_now.progress.get(3)
    assert (progress.stage if progress else None) is stage
    driver.tell(3, message)
    assert driver.closed == [3] and 3 not in leading_now.progress
