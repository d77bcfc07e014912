"""What a consumer decides: the table of events, and protection against all being gone at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.registry import Kind, ServiceInstance
from recipes.registry.view import Event, Instances

WINDOW = 100


def instances(names: str) -> dict[str, ServiceInstance | None]:
    return {name: ServiceInstance("orders", name, 80, name) for name in names}


def kinds(events: list[Event]) -> list[str]:
    return [f"{e.kind.value} {e.instance.id if e.instance else ''}".strip() for e in events]


@pytest.fixture
def view() -> Instances:
    """Of a to d, at 0."""
    view = Instances(WINDOW)
    events = view.observe(0, instances("abcd"))
    assert kinds(events) == ["added a", "added b", "added c", "added d", "fresh"]
    return view


def test_added_removed_changed(view: Instances) -> None:
    assert kinds(view.observe(10, instances("abc"))) == ["removed d"]
    assert kinds(view.observe(20, instances("abce"))) == ["added e"]
    changed = ServiceInstance("orders", "a", 81, "a")
    assert view.observe(30, {**instances("bce"), "a": changed}) == [Event(Kind.CHANGED, changed)]
    assert view.by_id["a"] == changed
    assert kinds(view.observe(40, instances("abcde"))) == ["added d", "changed a"]


def test_half_may_go_at_once(view: Instances) -> None:
    assert kinds(view.observe(10, instances("ab"))) == ["removed c", "removed d"]
    assert not view.is_stale


def test_more_than_half_are_kept(view: Instances) -> None:
    assert kinds(view.observe(10, instances("a"))) == ["stale"]
    assert list(view.by_id) == list("abcd")
    assert view.deadline() is None
    assert view.observe(10_000, instances("a")) == []
    assert kinds(view.observe(10_010, instances("ab"))) == ["removed c", "removed d", "fresh"]


def test_also_if_they_go_one_after_the_other(view: Instances) -> None:
    assert kinds(view.observe(10, instances("abc"))) == ["removed d"]
    assert kinds(view.observe(20, instances("ab"))) == ["removed c"]
    assert kinds(view.observe(109, instances("a"))) == ["added c", "added d", "stale"]
    assert kinds(view.observe(200, {})) == []
    assert sorted(view.by_id) == list("abcd")


def test_beyond_the_window_all_of_them_may_go(view: Instances) -> None:
    for at, left in enumerate(("abc", "ab", "a", ""), 1):
        assert len(view.observe(at * WINDOW, instances(left))) == 1
        assert view.deadline() == (at + 1) * WINDOW
        assert sorted(view.by_id) == list(left)
    assert not view.is_stale


def test_who_says_that_it_leaves_may_go_in_any_number() -> None:
    view, born = Instances(WINDOW), {name: ord(name) for name in "abcd"}
    view.observe(0, instances("abcd"), born)
    departed = frozenset(str(ord(name)) for name in "abc")
    assert kinds(view.observe(10, {}, {}, departed)) == [f"removed {n}" for n in "abcd"]
    assert not view.is_stale


def test_a_departure_of_an_earlier_registration_says_nothing() -> None:
    view = Instances(WINDOW)
    view.observe(0, instances("ab"), {"a": 5, "b": 6})
    assert kinds(view.observe(10, {}, {}, frozenset(["3", "4"]))) == ["stale"]
    assert view.misses({"b"})
    assert not view.misses({"a", "b", "c"})


def test_registered_anew_is_the_same_instance(view: Instances) -> None:
    assert view.observe(10, instances("abcd"), dict.fromkeys("abcd", 7)) == []


def test_successors_let_those_go_that_are_kept(view: Instances) -> None:
    assert kinds(view.observe(10, instances("ef"))) == ["added e", "added f", "stale"]
    events = kinds(view.observe(20, instances("efgh")))
    assert events == [*(f"removed {n}" for n in "abcd"), "added g", "added h", "fresh"]


def test_accept(view: Instances) -> None:
    view.observe(10, {})
    assert kinds(view.accept()) == ["removed a", "removed b", "removed c", "removed d", "fresh"]
    assert view.by_id == {}


def test_without_a_connection_nothing_changes(view: Instances) -> None:
    view.observe(10, instances("abc"))
    assert kinds(view.disconnect()) == ["stale"]
    assert view.disconnect() == []
    assert list(view.by_id) == list("abc")
    # The window of d begins anew: two of four may go.
    assert kinds(view.observe(10_000, instances("ab"))) == ["removed c", "fresh"]
    assert view.deadline() == 10_000 + WINDOW


def test_what_comes_back_changed_is_told(view: Instances) -> None:
    view.observe(10, instances("a"))
    changed = ServiceInstance("orders", "b", 81, "b")
    events = view.observe(20, {**instances("a"), "b": changed})
    assert kinds(events) == ["removed c", "removed d", "changed b", "fresh"]


def test_one_that_cannot_be_read_stays_as_it_was(view: Instances) -> None:
    assert view.observe(10, {**instances("abcd"), "a": None, "e": None}) == []
    assert list(view.by_id) == list("abcd")


STEPS = st.lists(
    st.tuples(st.integers(0, 150), st.none() | st.sets(st.sampled_from("abcdef"))), max_size=20
)


@given(STEPS, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_events_tell_the_whole_view(steps: list[tuple[int, set[str] | None]], share: float) -> None:
    view, now = Instances(WINDOW, share), 0
    told: dict[str, ServiceInstance] = {}
    stale = True
    for passed, there in steps:
        now += passed
        before = list(view.by_id)
        if there is None:
            events = view.disconnect()
            assert list(view.by_id) == before
        else:
            events = view.observe(now, instances("".join(sorted(there))))
        for each in events:
            if each.instance is None:
                stale = each.kind is Kind.STALE
            elif each.kind is Kind.REMOVED:
                del told[each.instance.id]
            else:
                told[each.instance.id] = each.instance
        assert told == view.by_id
        assert stale == view.is_stale
        assert there is None or there <= told.keys()
        assert stale or told.keys() == there
