"""When sessions are due, and who carries them."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from zkpy.pipeline.expiry import SessionExpiry

TICK = 1000
ANN, BOB = 1, 2


def heard_nothing(session: int) -> int:
    return 0


def due(expiry: SessionExpiry, now: int) -> list[int]:
    return expiry.due(now, heard_nothing)


def test_deadline_is_rounded_up_to_the_next_tick() -> None:
    expiry = SessionExpiry(TICK)
    assert expiry.deadline() is None
    expiry.track(ANN, 2500, 1, 100)
    assert expiry.deadline() == 3000
    assert due(expiry, 2999) == []
    assert due(expiry, 3000) == [ANN]
    assert expiry.deadline() is None


def test_deadline_on_a_tick_is_the_next_one() -> None:
    """(t / tick + 1) * tick, as ZooKeeper's ExpiryQueue rounds."""
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 2000, 1, 0)
    assert expiry.deadline() == 3000


def test_session_expires_once_and_is_not_tracked_then() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 500, 1, 0)
    expiry.track(BOB, 5000, 2, 0)
    assert due(expiry, 1000) == [ANN]
    assert ANN not in expiry and BOB in expiry and len(expiry._tracked) == 1
    assert expiry.owner_of(ANN) is None
    assert due(expiry, 5999) == []
    assert due(expiry, 99999) == [BOB]


def test_touch_moves_the_deadline_forward_only() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 1500, 1, 0)
    expiry.touch(ANN, 900)
    expiry.touch(ANN, 300)  # word of a learner that comes late
    assert due(expiry, 2000) == []
    assert expiry.deadline() == 3000
    assert due(expiry, 3000) == [ANN]


def test_touch_of_an_unknown_session_does_nothing() -> None:
    expiry = SessionExpiry(TICK)
    expiry.touch(ANN, 5)
    assert (ANN in expiry, expiry.deadline()) == (False, None)


def test_what_the_own_connection_heard_counts() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 1500, 1, 0)
    assert expiry.due(2000, lambda session: 1900) == []
    assert expiry.deadline() == 4000
    assert expiry.due(4000, lambda session: 1900) == [ANN]


def test_connection_is_asked_only_when_a_bucket_is_due() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 1500, 1, 0)
    asked: list[int] = []
    for now in (0, 1000, 1999):
        expiry.due(now, lambda session: asked.append(session) or 0)  # type: ignore[func-returns-value]
    assert asked == []


def test_own_pause_expires_nobody() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 1500, 1, 0)
    expiry.extend(60_000, heard_nothing)
    assert due(expiry, 61_000) == []
    assert due(expiry, 62_000) == [ANN]


def test_a_pause_is_added_to_what_the_own_connection_heard_before_it() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 4000, 1, 0)
    expiry.extend(2000, lambda session: 3000)
    assert expiry.due(8000, lambda session: 3000) == []
    assert expiry.deadline() == 10_000
    assert expiry.due(10_000, lambda session: 3000) == [ANN]


def test_forgotten_session_never_expires() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 500, 1, 0)
    expiry.forget(ANN)
    expiry.forget(BOB)
    assert due(expiry, 9000) == []


def test_those_that_are_gone_leave_nothing() -> None:
    """Long before they would have been due: a time-out may be of days."""
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 86_400_000, 1, 0)
    for session in range(10, 1010):
        expiry.track(session, 86_400_000, 1, session)
        expiry.track(session, 86_400_000 + session * TICK, 2, session)
        expiry.forget(session)
    assert expiry.by_deadline() == {86_401_000: [ANN]}
    assert expiry._buckets == {86_401_000: {ANN: None}}


def test_tracked_anew_starts_anew() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 500, 1, 0)
    expiry.track(ANN, 4500, 2, 900)
    assert due(expiry, 1000) == []
    assert expiry.owner_of(ANN) == 2
    assert due(expiry, 6000) == [ANN]
    assert due(expiry, 9000) == []


def test_owner_moves() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 500, 1, 0)
    assert expiry.owner_of(ANN) == 1
    expiry.move(ANN, 3)
    assert expiry.owner_of(ANN) == 3
    assert due(expiry, 1000) == [ANN]


def test_listing_by_deadline_leaves_out_who_is_gone() -> None:
    expiry = SessionExpiry(TICK)
    expiry.track(ANN, 4500, 1, 0)
    expiry.track(BOB, 500, 1, 0)
    expiry.track(3, 4600, 1, 0)
    expiry.forget(3)
    assert list(expiry.by_deadline().items()) == [(1000, [BOB]), (5000, [ANN])]


ACTIONS = st.one_of(
    st.tuples(st.just("track"), st.integers(1, 4), st.integers(1, 6000)),
    st.tuples(st.just("touch"), st.integers(1, 4), st.integers(0, 1500)),
    st.tuples(st.just("forget"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("pause"), st.just(0), st.integers(1, 5000)),
    st.tuples(st.just("wait"), st.just(0), st.integers(0, 3000)),
    st.tuples(st.just("wait"), st.just(0), st.integers(0, 3000)),
)


@settings(max_examples=100)
@given(st.lists(ACTIONS, min_size=10, max_size=60))
def test_never_early_never_a_tick_late(actions: list[Any]) -> None:
    """Against the plainest table: session -> (last heard of, time-out)."""
    expiry = SessionExpiry(TICK)
    table: dict[int, tuple[int, int]] = {}
    now = 10_000
    for action, session, value in actions:
        if action == "track":
            expiry.track(session, value, 1, now)
            table[session] = (now, value)
        elif action == "touch":
            expiry.touch(session, now - value)
            if session in table:
                heard, timeout = table[session]
                table[session] = (max(heard, now - value), timeout)
        elif action == "forget":
            expiry.forget(session)
            table.pop(session, None)
        elif action == "pause":
            expiry.extend(value, heard_nothing)
            table = {each: (heard + value, out) for each, (heard, out) in table.items()}
            now += value
        else:
            now += value
            for gone in due(expiry, now):
                assert sum(table.pop(gone)) <= now, "early"
            for heard, timeout in table.values():
                at = ((heard + timeout) // TICK + 1) * TICK
                asked_again = expiry.deadline()
                assert at > now, "late"
                assert asked_again is not None and now < asked_again <= at
        assert len(expiry._tracked) == len(table)
        assert all(each in expiry for each in table)
