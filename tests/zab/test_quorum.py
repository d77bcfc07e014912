"""Voter sets against a deliberately dumb version that tries every subset."""

import itertools
import random
from dataclasses import replace

import pytest

from zkpy.zab.quorum import Members, Voter, VoterHistory, VoterSet

Sids = tuple[int, ...]


def dumb_is_quorum(members: Members, yes: Sids) -> bool:
    groups = {voter.group for voter in members.voters.values()}
    won = counted = 0
    for group in groups:
        weights = {s: v.weight for s, v in members.voters.items() if v.group == group}
        total = sum(weights.values())
        if total == 0:
            continue
        counted += 1
        won += sum(weights[s] for s in weights if s in yes) > total / 2
    return won > counted / 2


def dumb_wins(voters: VoterSet, yes: Sids) -> bool:
    sets = [voters.members] + ([voters.joining] if voters.joining else [])
    return all(dumb_is_quorum(members, yes) for members in sets)


def subsets(sids: list[int]) -> list[Sids]:
    sizes = range(len(sids) + 1)
    return [subset for size in sizes for subset in itertools.combinations(sids, size)]


def random_members(rng: random.Random) -> Members:
    sids = sorted(rng.sample(range(1, 8), rng.randrange(1, 6)))
    grouped = rng.random() < 0.5
    voters = {
        sid: Voter(rng.choice([0, 1, 1, 1, 2, 3]), rng.randrange(1, 4) if grouped else 0)
        for sid in sids
    }
    first = sids[0]
    voters[first] = replace(voters[first], weight=1)
    return Members(voters, tuple(sorted(rng.sample(range(20, 25), rng.randrange(3)))))


def random_set(rng: random.Random) -> VoterSet:
    joining = random_members(rng) if rng.random() < 0.4 else None
    return VoterSet(random_members(rng), joining, rng.randrange(1 << 40), rng.randbytes(5))


@pytest.mark.parametrize("number", range(150))
def test_every_subset_wins_or_does_not(seed: int, number: int) -> None:
    rng = random.Random(f"{seed} {number}")
    voters = random_set(rng)
    observers = [s for s in voters.everyone() if s not in voters.voters()]
    for yes in subsets(voters.voters()):
        wins = dumb_wins(voters, yes)
        assert voters.won(yes) is wins
        assert voters.won((*yes, *observers, 99)) is wins


@pytest.mark.parametrize("number", range(150))
def test_agreed_is_the_greatest_value_of_a_quorum(seed: int, number: int) -> None:
    rng = random.Random(f"{seed} agreed {number}")
    voters = random_set(rng)
    for _ in range(20):
        values = {s: rng.randrange(5) for s in [*voters.everyone(), 99] if rng.random() < 0.8}
        reached = [
            v
            for v in range(6)
            if dumb_wins(voters, tuple(s for s in voters.voters() if values.get(s, 0) >= v))
        ]
        assert voters.agreed(values) == max(reached)


@pytest.mark.parametrize("number", range(50))
def test_any_two_quorums_meet(seed: int, number: int) -> None:
    voters = random_set(random.Random(f"{seed} meet {number}"))
    quorums = [set(s) for s in subsets(voters.voters()) if voters.won(s)]
    assert quorums
    assert all(a & b for a, b in itertools.product(quorums, quorums))


@pytest.mark.parametrize("number", range(50))
def test_a_joint_set_meets_both(seed: int, number: int) -> None:
    rng = random.Random(f"{seed} joint {number}")
    old = VoterSet(random_members(rng))
    joint = old.join(random_members(rng), b"note")
    new = joint.leave()
    assert new.members == joint.joining and not new.joint
    sids = joint.voters()
    for both, one in itertools.product(subsets(sids), subsets(sids)):
        if joint.won(both) and (old.won(one) or new.won(one)):
            assert set(both) & set(one)


@pytest.mark.parametrize("number", range(50))
def test_encoding(seed: int, number: int) -> None:
    voters = random_set(random.Random(f"{seed} encoding {number}"))
    data = voters.encode()
    assert VoterSet.decode(data) == voters
    for cut in range(len(data)):
        with pytest.raises(ValueError, match="voter set"):
            VoterSet.decode(data[:cut])
    with pytest.raises(ValueError, match="wrong length"):
        VoterSet.decode(data + b"\0")


def test_a_set_of_format_1_is_read() -> None:
    """Before sets knew what had decided on them."""
    voters = VoterSet.of([1, 2], [3]).at(7)
    data = voters.encode()
    assert VoterSet.decode(b"\1" + data[1:9] + data[17:]) == voters
    with pytest.raises(ValueError, match="voter set of format 3"):
        VoterSet.decode(b"\3" + data[1:])


def test_what_decided_on_a_set_goes_with_it() -> None:
    joint = VoterSet.of([1]).at(4).join(VoterSet.of([1, 2]).members, b"note").at(5)
    assert joint.decided == 0
    final = VoterSet.decode(joint.leave().encode()).at(6)
    assert (final.decided, final.version, final.note) == (5, 6, b"note")


def test_observers_and_strangers_never_count() -> None:
    voters = VoterSet.of([1, 2, 3], [4, 5])
    assert not voters.won([1, 4, 5, 99])
    assert voters.agreed({1: 9, 4: 9, 5: 9, 99: 9}) == 0
    assert voters.everyone() == [1, 2, 3, 4, 5] and not voters.is_voter(4)


def test_a_quorum_of_nobody_does_not_exist() -> None:
    weightless = VoterSet(Members({1: Voter(weight=0)}))
    assert not weightless.won([1]) and weightless.agreed({1: 5}) == 0


def test_alone() -> None:
    assert VoterSet.of([7]).alone(7) and not VoterSet.of([7]).alone(8)
    assert not VoterSet.of([1, 2]).alone(1)
    assert VoterSet(Members({1: Voter(), 2: Voter(weight=0)})).alone(1)


def test_history() -> None:
    first, second, third = (VoterSet.of([n]).at(n * 10) for n in (1, 2, 3))
    history = VoterHistory([first])
    history.add(second)
    history.add(third)
    assert history.in_force == third
    assert [history.at(z) for z in (5, 10, 19, 20, 35)] == [first, first, first, second, third]
    history.truncate(25)
    assert history.sets == [first, second]
    history.forget(19)
    assert history.sets == [first, second]
    history.forget(20)
    assert history.sets == [second]
    history.truncate(0)
    assert history.sets == [second]
