"""Who gets a call, by exact numbers: weights, warm-up, turns, active calls, positions."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.registry import ServiceInstance
from recipes.registry.choosing import (
    Balancer,
    Call,
    Candidate,
    ConsistentHash,
    LeastActive,
    RandomChoice,
    RoundRobin,
    candidates_of,
    owner_of,
    positions_of,
    ring_of,
    warm,
)

MINUTE = 60_000
WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1)


def of(**weights: int) -> list[Candidate]:
    return [
        Candidate(ServiceInstance("s", f"10.0.0.{ord(name) - 96}", 80, name), weight)
        for name, weight in weights.items()
    ]


def series(balancer: Balancer, candidates: list[Candidate], count: int, now: int = 0) -> str:
    return "".join(balancer.choose(candidates, Call(now)).id for _ in range(count))


# --- weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "weight"),
    [(-1, 1), (0, 1), (0.05, 1), (0.1, 1), (0.2, 2), (1, 10), (5, 50), (9.99, 99), (10, 100)],
)
def test_warm_up(minutes: float, weight: int) -> None:
    at = 1_700_000_000_000
    instance = ServiceInstance("s", registered_at=at)
    assert warm(100, instance, at + round(minutes * MINUTE), 10 * MINUTE) == weight


def test_no_warm_up() -> None:
    assert warm(100, ServiceInstance("s"), 5, MINUTE) == 100
    assert warm(0, ServiceInstance("s", registered_at=5), 5, MINUTE) == 0
    assert warm(100, ServiceInstance("s", registered_at=5), 5, 0) == 100


def test_candidates() -> None:
    plain, light = (
        ServiceInstance("s", id="a"),
        ServiceInstance("s", id="b").with_metadata(weight=5),
    )
    drained = ServiceInstance("s", id="c").with_metadata(weight=0)
    everyone = [plain, light, drained]
    assert [each.weight for each in candidates_of(everyone, 0)] == [100, 5]
    found = candidates_of(everyone, 0, {"a": 0, "c": 7, "gone": 1})
    assert [(each.id, each.weight) for each in found] == [("b", 5), ("c", 7)]


# --- random -----------------------------------------------------------------------------------


def test_random_is_by_weight() -> None:
    class Dice(random.Random):
        def randrange(self, *args: int) -> int:  # type: ignore[override]
            assert args == (6,)
            return next(rolls)

    rolls = iter(range(6))
    assert series(RandomChoice(Dice()), of(a=1, b=2, c=3), 6) == "abbccc"


def test_random_of_many() -> None:
    counted = Counter(series(RandomChoice(random.Random(7)), of(a=1, b=3), 4000))
    assert 900 < counted["a"] < 1100


# --- round robin ------------------------------------------------------------------------------


def test_turns_are_smooth() -> None:
    assert series(RoundRobin(), of(a=5, b=1, c=1), 14) == "aabacaa" * 2
    assert series(RoundRobin(), of(a=1, b=1, c=1), 7) == "abcabca"
    assert series(RoundRobin(), of(a=2, b=1), 6) == "abaaba"


@given(WEIGHTS)
def test_each_gets_its_weight_in_every_round(weights: dict[str, int]) -> None:
    balancer, total = RoundRobin(), sum(weights.values())
    for _ in range(2):
        assert Counter(series(balancer, of(**weights), total)) == weights


def test_who_is_away_for_a_minute_keeps_its_place() -> None:
    balancer = RoundRobin()
    assert series(balancer, of(a=1, b=1), 1, now=0) == "a"
    assert series(balancer, of(a=1), 1, now=MINUTE) == "a"
    # b has one turn to its credit, a none.
    assert series(balancer, of(a=1, b=1), 2, now=MINUTE) == "ba"
    assert series(balancer, of(a=1), 1, now=2 * MINUTE + 1) == "a"
    assert list(balancer._turns) == ["a"]


def test_another_weight_begins_anew() -> None:
    balancer = RoundRobin()
    assert series(balancer, of(a=1, b=1), 1) == "a"
    assert series(balancer, of(a=3, b=1), 4) == "abaa"


# --- least active -----------------------------------------------------------------------------


def test_least_active() -> None:
    balancer, candidates = LeastActive(), of(a=1, b=100, c=1)
    assert balancer.choose(candidates, Call(active={"a": 1, "b": 2})).id == "c"
    assert balancer.choose(candidates, Call(active={"a": 1, "b": 2, "c": 3})).id == "a"


def test_of_several_least_active_ones_by_weight() -> None:
    balancer = LeastActive(RandomChoice(random.Random(7)))
    call = Call(active={"c": 1})
    counted = Counter(balancer.choose(of(a=1, b=3, c=100), call).id for _ in range(4000))
    assert counted["c"] == 0
    assert 900 < counted["a"] < 1100


# --- consistent hash --------------------------------------------------------------------------


def test_positions() -> None:
    # MD5 of "a": 0cc175b9 c0f1b6a8 31c399e2 69772661
    assert positions_of("a") == (0xB975C10C, 0xA8B6F1C0, 0xE299C331, 0x61267769)


def test_what_utf8_cannot_hold_has_its_place_too() -> None:
    (lone,) = of(a=1)
    odd = Candidate(ServiceInstance("s", "\ud800", 80, "b"), 1)
    assert ConsistentHash().choose([odd, lone], Call(key="\udfff")) in (odd, lone)


def test_ring() -> None:
    ring = ring_of(["10.0.0.1:80", "10.0.0.2:80"])
    assert len(ring) == 320
    assert ring == sorted(ring)
    assert (positions_of("10.0.0.1:8039")[3], "10.0.0.1:80") in ring
    small = [(10, "a"), (20, "b")]
    assert [owner_of(small, at) for at in (0, 10, 11, 20, 21)] == ["a", "a", "b", "b", "a"]


def test_the_same_key_goes_to_the_same_instance() -> None:
    balancer, before = ConsistentHash(), of(a=1, b=1, c=1, d=1)
    keys = [str(number) for number in range(1000)]
    first = {key: balancer.choose(before, Call(key=key)).id for key in keys}
    assert first == {key: balancer.choose(before[::-1], Call(key=key)).id for key in keys}
    after = {key: balancer.choose(of(a=1, b=1, c=1), Call(key=key)).id for key in keys}
    assert all(after[key] == first[key] for key in keys if first[key] != "d")
    assert all(150 < count < 350 for count in Counter(first.values()).values())
