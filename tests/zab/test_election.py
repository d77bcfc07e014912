"""Election datagrams: votes, who hears whom, and what forged or stray ones cannot do."""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from tests.zab.network import World
from tests.zab.scripted import (
    CLUSTER,
    OPTIONS,
    VOTERS,
    Driver,
    log_to,
    member,
    vote_from,
)
from wire.peer import (
    NO_VOTE,
    Notification,
    Role,
    Standing,
    decode_notification,
    encode_notification,
)
from zkpy.zab.election import GUESTS_MAX, ROUND_MAX
from zkpy.zab.quorum import Members, VoterSet
from zkpy.zab.zab import Zab

LOG = log_to((1, 4))
ELECTING = replace(OPTIONS, elects=True)


class Voter(Driver):
    """A member that looks for a leader; `hear` delivers votes, `said` is what it answers."""

    def __init__(self, **changes: object) -> None:
        super().__init__(member(1), LOG, LOG[3].zxid, options=ELECTING, **changes)  # type: ignore[arg-type]
        self.sequences = iter(range(1, 1000))
        self.said()

    def said(self) -> list[tuple[int, Notification]]:
        self.sent()
        votes = [(to, vote) for to, vote in self.votes if isinstance(vote, Notification)]
        self.votes.clear()
        return votes

    def hear(self, sid: int, **changes: object) -> list[tuple[int, Notification]]:
        changes = {"sequence": next(self.sequences), "zxid": LOG[3].zxid, "leader": sid} | changes
        self.zab.receive_vote(sid, vote_from(self.zab, sid, **changes), self.now)
        return self.said()

    @property
    def vote(self) -> int:
        return self.zab._election.vote[1]


def test_begins_with_a_vote_for_itself() -> None:
    driver = Driver(member(1), LOG, options=ELECTING)
    driver.sent()
    votes = [vote for _, vote in driver.votes if isinstance(vote, Notification)]
    assert [to for to, _ in driver.votes] == [2, 3, 4]
    assert {(v.leader, v.zxid, v.round, v.role) for v in votes} == {
        (1, LOG[3].zxid, 1, Role.LOOKING)
    }


def test_takes_the_better_vote_and_says_so() -> None:
    voter = Voter()
    voter.hear(2, zxid=LOG[2].zxid)
    assert voter.vote == 1, "a longer log first"
    told = voter.hear(3)
    assert voter.vote == 3 and {to for to, _ in told} >= {2, 3}
    voter.hear(2)
    assert voter.vote == 3, "then the greater id"


def test_a_quorum_waits_a_moment_for_a_better_vote() -> None:
    voter = Voter()
    voter.hear(3)
    voter.pass_time(ELECTING.finalize_ms - 1)
    assert voter.zab.dial is None
    voter.pass_time(1)
    assert voter.zab.role is Role.FOLLOWING and voter.zab.dial == 3


def test_unanimity_needs_no_waiting() -> None:
    voter = Voter()
    voter.hear(2, leader=3)
    voter.hear(3)
    assert voter.zab.dial == 3


def test_its_own_election() -> None:
    voter = Voter()
    voter.hear(2, leader=1)
    voter.hear(3, leader=1)
    assert voter.zab.role is Role.LEADING


@pytest.mark.parametrize(("age", "takes_office"), [(0, True), (1, False)])
def test_elected_by_members_that_settled_before_it(age: int, takes_office: bool) -> None:
    """2 votes for it, then follows it already; 3 was quicker still.  Of an earlier round, their
    word is about a leadership that was given up."""
    voter = Voter()
    voter.hear(2, leader=1)
    earlier = voter.zab._election.round - age
    for sid in (2, 3):
        voter.hear(sid, leader=1, role=Role.FOLLOWING, round=earlier)
    voter.pass_time(ELECTING.finalize_ms)
    assert (voter.zab.role is Role.LEADING) == takes_office


def test_a_leader_that_was_started_again_is_not_put_back_by_its_followers() -> None:
    """They have not noticed, and its rounds begin anew; of the epoch of its log they speak."""
    voter = Voter()
    for sid in (2, 3):
        voter.hear(sid, leader=1, role=Role.FOLLOWING, epoch=1)
    voter.pass_time(ELECTING.finalize_ms)
    assert voter.zab.role is Role.LOOKING


def test_no_number_of_forged_rounds_keeps_a_joiner_out() -> None:
    voter = Voter()
    for _ in range(5):
        voter.hear(2, round=voter.zab._election.round + (1 << 32))
    joiner = Voter()
    later = voter.zab._election.round
    for sid, role in ((2, Role.FOLLOWING), (3, Role.LEADING)):
        joiner.hear(sid, role=role, leader=3, epoch=4, round=later)
    joiner.pass_time(500)
    assert joiner.zab.dial == 3


def test_at_the_last_round_there_are_elections_still() -> None:
    voter = Voter()
    voter.hear(2, round=ROUND_MAX, zxid=LOG[2].zxid)
    voter.hear(3, round=ROUND_MAX, zxid=LOG[2].zxid)
    voter.zab._look(voter.now)
    assert voter.zab._election.round == ROUND_MAX
    for sid in (2, 3):
        voter.hear(sid, round=ROUND_MAX, leader=3)
    voter.pass_time(ELECTING.finalize_ms)
    assert voter.zab.dial == 3


def test_a_straggler_ends_nothing() -> None:
    """Nor does a copy: what was received before is no news of a partner's mind."""
    voter = Voter()
    voter.hear(2, leader=3)
    voter.hear(3, sequence=500)
    assert voter.zab.dial == 3
    voter.hear(3, round=9, sequence=500)
    assert voter.zab.dial == 3
    voter.hear(3, round=9, sequence=501)
    assert voter.zab.role is Role.LOOKING


def test_rounds() -> None:
    voter = Voter()
    assert [(to, v.round) for to, v in voter.hear(2, round=0)][-1] == (2, 1), "told of the later"
    assert voter.vote == 1
    voter.hear(2, round=7, zxid=LOG[2].zxid)
    assert voter.zab._election.round == 7 and voter.vote == 1
    voter.hear(3, round=5)
    assert voter.vote == 1, "of an earlier round"


@pytest.mark.parametrize(
    "changes",
    [
        {"echo": 0},
        {"echo": 12345},
        {"cluster_id": b"another ensemble"},
        {"standing": Standing.BLANK, "cluster_id": bytes(16)},
        {"standing": Standing.SUSPECT},
        {"role": Role.LEADING, "cluster_id": b"another ensemble"},
    ],
)
def test_these_change_nothing(changes: dict[str, object]) -> None:
    voter = Voter()
    for sid in (2, 3):
        assert len(voter.hear(sid, **changes)) <= 1, "at most one datagram for one"
    voter.pass_time(5_000)
    assert voter.vote == 1 and voter.zab.role is Role.LOOKING


def test_copies_and_stragglers_are_dropped() -> None:
    voter = Voter()
    voter.hear(3, sequence=5)
    for sequence in (5, 4):
        assert voter.hear(3, sequence=sequence, round=9) == []
    assert voter.zab._election.round == 1
    voter.hear(3, sequence=1, incarnation=77, round=9)
    assert voter.zab._election.round == 9, "a new start of the sender counts from one again"


@pytest.mark.parametrize("settled", [False, True])
def test_of_senders_that_nobody_named_the_newest_are_remembered(settled: bool) -> None:
    """Anybody can be a thousand servers; what they say must not add up for ever."""
    voter = Voter()
    if settled:
        voter.hear(2, leader=3)
        voter.hear(3)
    else:
        voter.hear(2)
    alike = {"standing": Standing.MEMBER, "cluster_id": b"another ensemble"}
    ids = range(1000, 1200)
    for sid in ids:
        voter.hear(sid, **alike)
        voter.hear(sid, role=Role.LEADING, round=0, leader=sid, **alike)
    election = voter.zab._election
    remembered = [sid for sid in election._peers if sid >= 1000]
    assert remembered == list(ids[-GUESTS_MAX:]), "the oldest went first"
    assert set(election._strangers) == set(remembered)
    for table in (election._words, election._ballots, election._claims):
        assert set(table) <= set(election._peers)
    assert {2, 3} & set(election._peers) == ({2, 3} if settled else {2}), "members stay"
    assert not voter.hear(2, sequence=1), "nor is a copy taken for news after that"


def test_the_sender_is_who_the_transport_says() -> None:
    voter = Voter()
    voter.zab.receive_vote(2, vote_from(voter.zab, 3, round=9), voter.now)
    assert voter.zab._election.round == 1


def test_first_contact_earns_one_answer_with_the_echo() -> None:
    voter = Voter()
    ((to, answer),) = voter.hear(3, echo=0)
    assert (to, answer.echo) == (3, 1003)
    ((to, answer),) = [x for x in voter.hear(2, zxid=LOG[2].zxid) if x[0] == 2]
    assert answer.echo == 1002, "it is told ours, and then counts us too"
    assert voter.hear(2, zxid=LOG[2].zxid) == [], "known: nothing new to tell"


def test_resends_ever_more_slowly() -> None:
    voter = Voter()
    times = []
    for _ in range(10_000):
        voter.pass_time(1)
        if voter.said():
            times.append(voter.now)
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert gaps[0] >= ELECTING.resend_ms and max(gaps) <= 1.25 * ELECTING.resend_cap_ms
    assert gaps[-1] >= ELECTING.resend_cap_ms


def claims(voter: Voter, leader: int = 3) -> Iterator[list[tuple[int, Notification]]]:
    yield voter.hear(2, role=Role.FOLLOWING, leader=leader, epoch=4)
    yield voter.hear(leader, role=Role.LEADING, leader=leader, epoch=4)


def test_joins_a_leader_that_a_quorum_names() -> None:
    voter = Voter()
    list(claims(voter))
    assert voter.zab.dial == 3


def test_a_leader_alone_is_believed_after_a_while() -> None:
    voter = Voter()
    voter.hear(3, role=Role.LEADING, epoch=4)
    assert voter.zab.dial is None
    voter.pass_time(ELECTING.resend_ms)
    assert voter.zab.dial == 3


def test_a_quorum_without_the_leaders_own_word_is_not_enough() -> None:
    """T-net-2: the member cut from the leader only must not follow hearsay, nor disturb anybody."""
    voter = Voter()
    for _ in range(30):
        voter.hear(2, role=Role.FOLLOWING, leader=3, epoch=4)
        voter.pass_time(100)
    assert voter.zab.role is Role.LOOKING


def test_of_two_leaders_the_later() -> None:
    voter = Voter()
    voter.hear(2, role=Role.LEADING, epoch=4)
    voter.hear(3, role=Role.LEADING, epoch=3)
    voter.pass_time(ELECTING.resend_ms)
    assert voter.zab.dial == 2


def test_a_settled_member_answers_and_changes_nothing() -> None:
    voter = Voter()
    list(claims(voter))
    voter.hear(2, role=Role.FOLLOWING, leader=3, epoch=4)
    ((to, answer),) = voter.hear(2, round=50, zxid=LOG[3].zxid + 9)
    assert (to, answer.role, answer.leader) == (2, Role.FOLLOWING, 3)
    assert voter.hear(2, role=Role.FOLLOWING, leader=3) == [], "settled members do not chat"


def test_an_observer_votes_for_no_one_of_its_own() -> None:
    voter = Voter(me=4)
    assert voter.vote == NO_VOTE
    voter.hear(2)
    voter.hear(3)
    voter.pass_time(5_000)
    assert voter.zab.dial is None, "it waits for a leader's word"
    list(claims(voter))
    assert voter.zab.role is Role.OBSERVING


def test_a_damaged_member_has_no_vote() -> None:
    voter = Voter(suspect=True)
    assert voter.vote == NO_VOTE
    voter.hear(3)
    assert voter.vote == NO_VOTE


def test_a_member_with_a_wrong_state_votes_but_is_no_candidate() -> None:
    voter = Voter()
    voter.zab.on_digest_mismatch(voter.now)
    assert voter.vote == NO_VOTE
    voter.hear(2, round=2)
    assert voter.vote == 2


# --- T-el-1, T-fuzz-el: whatever came before

STALE: list[dict[str, object]] = [
    {"role": Role.LOOKING, "leader": leader, "round": round_, "zxid": LOG[length].zxid}
    for leader in (1, 2, 3)
    for round_ in (1, 9)
    for length in (2, 3)
]
STALE += [{"role": Role.FOLLOWING, "leader": leader, "epoch": 3} for leader in (1, 2, 3)]
STALE += [{"role": Role.LEADING, "epoch": epoch} for epoch in (0, 3)]


def learn_the_truth(voter: Voter) -> None:
    """3 leads epoch 4 and 2 follows it: both say so whenever they are asked."""
    for _ in range(60):
        if voter.zab.dial == 3:
            return
        if voter.zab.role is Role.LOOKING:
            voter.hear(2, role=Role.FOLLOWING, leader=3, epoch=4)
            voter.hear(3, role=Role.LEADING, epoch=4)
        voter.pass_time(500)
    raise AssertionError("it never joined")


@pytest.mark.parametrize("first", range(len(STALE)))
def test_t_el_1_a_late_joiner_with_any_two_stale_votes(first: int) -> None:
    """975, 1732, 1805, 1818: it may be misled for as long as initLimit, but not for good."""
    for second in STALE:
        voter = Voter()
        voter.hear(2, **STALE[first])
        voter.hear(3, **second)
        learn_the_truth(voter)


@pytest.mark.parametrize("round_", [1, 2, 50])
def test_t_el_1_the_rounds_of_a_live_ensemble_do_not_matter(round_: int) -> None:
    """1818: those that elected the leader, and those that joined it, disagree on what does not
    matter."""
    voter = Voter()
    voter.hear(2, role=Role.FOLLOWING, leader=3, epoch=4, round=round_, zxid=LOG[1].zxid)
    voter.hear(3, role=Role.LEADING, epoch=4, round=51 - round_)
    assert voter.zab.dial == 3


EXTREMES = (-(2**63), -1, 0, 1, 2**31, 2**63 - 1)
UNSIGNED = (0, 1, 2**31, 2**63, 2**64 - 1)


@pytest.mark.parametrize("number", range(100))
def test_t_fuzz_el_any_datagram_leaves_the_election_alive(seed: int, number: int) -> None:
    """3769, 4787, 2186: each field at its extremes, from anybody, the echo right or wrong; what
    it answers can be encoded, and it still finds a leader that is there."""
    rng = random.Random(f"{seed} {number}")
    voter = Voter()
    for _ in range(30):
        sid = rng.choice([1, 2, 3, 4, 99, -1, 2**63 - 1])
        odd = {
            "role": rng.choice(list(Role)),
            "standing": rng.choice(list(Standing)),
            "cluster_id": rng.choice([CLUSTER, CLUSTER, bytes(16)]),
            "incarnation": rng.choice([*UNSIGNED, 1000 + sid if sid > 0 else 0]),
            "sequence": rng.choice(UNSIGNED),
            "round": rng.choice(UNSIGNED),
            "leader": rng.choice([1, 2, 3, *EXTREMES]),
            "zxid": rng.choice(EXTREMES),
            "epoch": rng.choice(EXTREMES),
        }
        some = {key: odd[key] for key in rng.sample(sorted(odd), rng.randrange(1, len(odd)))}
        for _, answer in voter.hear(sid, **some):
            decode_notification(encode_notification(answer))
        voter.pass_time(rng.choice([0, 50, 5000]))
        for _, vote in voter.said():
            decode_notification(encode_notification(vote))
    learn_the_truth_from_new_starts(voter)


def learn_the_truth_from_new_starts(voter: Voter) -> None:
    """As `learn_the_truth`; of sequences that were forged, only a new start is free."""
    for turn in range(60):
        if voter.zab.dial == 3:
            return
        if voter.zab.role is Role.LOOKING:
            new = {"incarnation": 5000, "sequence": turn + 1, "epoch": 4}
            voter.hear(2, role=Role.FOLLOWING, leader=3, **new)
            voter.hear(3, role=Role.LEADING, leader=3, **new)
        voter.pass_time(500)
    raise AssertionError("it never joined")


# --- several


def change(zab: Zab, voters: Members) -> None:
    zab.propose_voters(voters)


def test_elects_the_longest_log_quickly() -> None:
    for seed in range(10):
        world = World(seed, VOTERS)
        world.start()
        world.run_until(world.all_equal, 5_000)
        leader = world.leader()
        assert leader is not None
        began = world.now
        world.crash(leader.sid)
        world.run_until(world.has_leader, 5_000)
        assert world.now - began < 1_000


def test_a_returning_member_disturbs_nobody() -> None:
    world = World(3, VOTERS)
    world.start()
    world.run_until(world.all_equal, 5_000)
    leader = world.leader()
    assert leader is not None
    epoch = leader.zab.epoch
    follower = next(sid for sid in (1, 2, 3) if sid != leader.sid)
    for _ in range(10):
        world.crash(follower)
        world.run(700)
        world.start(follower)
        world.run(700)
    assert world.leader() is leader and leader.zab.epoch == epoch


def test_a_follower_cut_from_the_leader_alone_disturbs_nobody() -> None:
    """T-net-2, also one way only."""
    for pairs in ("both", "to", "from"):
        world = World(4, VOTERS)
        world.start()
        world.run_until(world.all_equal, 5_000)
        leader = world.leader()
        assert leader is not None
        cut = next(sid for sid in (1, 2, 3) if sid != leader.sid)
        if pairs != "from":
            world.block((cut, leader.sid))
        if pairs != "to":
            world.block((leader.sid, cut))
        epoch = leader.zab.epoch
        world.run(30_000)
        assert world.leader() is leader and leader.zab.epoch == epoch
        world.heal()
        world.run_until(world.all_equal, 10_000)
        assert leader.zab.epoch <= epoch + 1


def test_votes_of_a_bigger_ensemble_carry_an_old_member() -> None:
    """Its voter set is an old one: the leader it must find is not in it."""
    world = World(5, VoterSet.of([1, 2, 3], [4, 5]))
    world.start()
    world.run_until(world.all_equal, 5_000)
    world.crash(1)
    world.run_until(lambda: world.leader() is not None, 5_000)
    world.run(1_000)
    leader = world.leader()
    assert leader is not None
    new = VoterSet.of([1, 2, 3, 4, 5]).members
    leader.input(partial(change, leader.zab, new))
    world.run(1_000)
    world.crash(leader.sid)
    world.start(1)
    world.run_until(world.all_equal, 10_000)
