"""What an observer decides: the table of events, grace, and protection against a mass of losses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.membership.node import decode_departed, decode_member, encode_member, newest_by_name
from recipes.membership.view import Event, Kind, Member, Seat, Status, View, choose_master

GRACE = 100
ALL = "abcdefgh"


def member(name: str, incarnation: str = "1", joined: int = 0, **metadata: Any) -> Member:
    return Member(name, incarnation, joined or ord(name), metadata)


def present(names: str) -> dict[str, Member]:
    return {name: member(name) for name in names}


def kinds(events: list[Event]) -> list[str]:
    return [
        f"{each.kind.value} {each.member.name if each.member else ''}".strip() for each in events
    ]


@pytest.fixture
def view() -> View:
    """Of a to d, at 0."""
    view = View(GRACE)
    assert kinds(view.observe(0, present("abcd"))) == [
        "joined a",
        "joined b",
        "joined c",
        "joined d",
        "fresh",
    ]
    return view


def test_suspect_then_left(view: View) -> None:
    assert kinds(view.observe(10, present("abc"))) == ["suspect d"]
    assert view.seats["d"].status is Status.SUSPECT
    assert view.deadline() == 110
    assert view.pass_time(109) == []
    assert kinds(view.pass_time(110)) == ["left d"]
    assert list(view.seats) == ["a", "b", "c"]
    assert view.deadline() is None


def test_suspect_then_returned(view: View) -> None:
    view.observe(10, present("abc"))
    assert kinds(view.observe(50, present("abcd"))) == ["returned d"]
    assert view.pass_time(500) == []


def test_said_that_it_leaves(view: View) -> None:
    assert kinds(view.observe(10, present("abc"), frozenset(["1"]))) == ["left d"]


def test_a_departure_of_an_earlier_incarnation_says_nothing(view: View) -> None:
    assert kinds(view.observe(10, present("abc"), frozenset(["0"]))) == ["suspect d"]


def test_restarted(view: View) -> None:
    again = {**present("abc"), "d": member("d", "2")}
    assert kinds(view.observe(10, again)) == ["left d", "joined d"]


def test_changed(view: View) -> None:
    changed = {**present("abc"), "d": member("d", load=1)}
    assert kinds(view.observe(10, changed)) == ["changed d"]
    assert view.seats["d"].member.metadata == {"load": 1}


def test_everybody_vanishes(view: View) -> None:
    events = kinds(view.observe(10, {}))
    assert events == ["suspect a", "suspect b", "suspect c", "suspect d", "stale"]
    assert view.deadline() is None
    assert view.pass_time(10_000) == []
    assert list(view.seats) == ["a", "b", "c", "d"]
    assert kinds(view.observe(10_000, present("ab"))) == ["returned a", "returned b", "fresh"]
    assert view.pass_time(10_099) == []
    assert kinds(view.pass_time(10_100)) == ["left c", "left d"]


def test_half_may_leave(view: View) -> None:
    assert kinds(view.observe(10, present("ab"))) == ["suspect c", "suspect d"]
    assert kinds(view.pass_time(110)) == ["left c", "left d"]


def test_the_only_one_may_leave() -> None:
    view = View(GRACE)
    view.observe(0, present("a"))
    view.observe(10, {})
    assert kinds(view.pass_time(110)) == ["left a"]


def test_accept(view: View) -> None:
    view.observe(10, {})
    assert kinds(view.accept()) == ["left a", "left b", "left c", "left d", "fresh"]
    assert view.seats == {}


def test_an_observer_without_connection_lets_nobody_leave(view: View) -> None:
    view.observe(10, present("abc"))
    assert kinds(view.disconnect()) == ["stale"]
    assert view.disconnect() == []
    assert view.pass_time(10_000) == []
    assert kinds(view.observe(10_000, present("abc"))) == ["fresh"]
    assert view.deadline() == 10_100
    assert kinds(view.pass_time(10_100)) == ["left d"]


STEPS = st.lists(
    st.tuples(st.integers(0, 300), st.none() | st.sets(st.sampled_from(ALL))), max_size=20
)


@given(STEPS, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_events_tell_the_whole_view(steps: list[tuple[int, set[str] | None]], share: float) -> None:
    """Who follows the events knows the view; and nobody leaves that was not missed for the whole of
    grace by an observer with a connection, in a time when no mass was missed."""
    view, now = View(GRACE, share), 0
    told: dict[str, Kind] = {}
    stale = True
    missed: dict[str, int] = {}
    for passed, there in steps:
        now += passed
        events = view.disconnect() if there is None else view.observe(now, present_of(there))
        missed = {} if there is None else {n: missed.get(n, now) for n in ALL if n not in there}
        for each in events:
            if each.member is None:
                stale = each.kind is Kind.STALE
            elif each.kind is Kind.LEFT:
                assert now - missed[each.member.name] >= GRACE
                assert not view.is_stale
                del told[each.member.name]
            else:
                told[each.member.name] = each.kind
        assert stale == view.is_stale
        assert told.keys() == view.seats.keys()
        for name, kind in told.items():
            assert (kind is Kind.SUSPECT) == (view.seats[name].status is Status.SUSPECT)


def present_of(names: set[str]) -> dict[str, Member]:
    return present("".join(sorted(names)))


def test_master_is_the_oldest_that_is_alive() -> None:
    seats = {"a": Seat(member("a", joined=5)), "b": Seat(member("b", joined=3), gone_at=1)}
    seats["c"] = Seat(member("c", joined=9))
    found = choose_master(seats)
    assert found is not None
    assert found.name == "a"
    assert choose_master({}) is None


def test_nodes() -> None:
    data = encode_member("db-1", "ab", {"zone": "x"})
    assert data == b'{"format":1,"name":"db-1","incarnation":"ab","metadata":{"zone":"x"}}'
    assert decode_member(data, 7) == Member("db-1", "ab", 7, {"zone": "x"})
    for bad in (b"", b"[]", b'{"format":1}', b'{"format":2,"name":"a"}', b"\xff"):
        assert decode_member(bad, 7) is None
        assert decode_departed(bad) == []


def test_nodes_that_cannot_be_read_or_written() -> None:
    for data in (b"", b"\xff", b"[" * 100_000, b"{}", b'{"format":1,"name":"a"}'):
        assert decode_member(data, 1) is None
        assert decode_departed(data) == []
    with pytest.raises(ValueError, match="at most"):
        encode_member("a", "0", {"x": "y" * 1_000_000})


def test_of_two_nodes_of_one_name_the_newer_counts() -> None:
    old, new = member("a", "1", 5), member("a", "2", 9)
    assert newest_by_name([new, old]) == {"a": new}
