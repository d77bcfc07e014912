"""What rules say of instances, consumers and calls, and which rules are none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.config import InvalidConfigError, Schema
from recipes.registry import Access, Route, ServiceInstance, ServiceRules
from recipes.registry.rules import Condition, attributes_of, matching, parse_conditions

SCHEMA = Schema(ServiceRules)


def instance(name: str, **metadata: str) -> ServiceInstance:
    found = ServiceInstance("orders", f"10.0.0.{ord(name) - 96}", 80, name)
    return found.with_metadata(**metadata) if metadata else found


ALL = [
    instance("a", zone="x", version="1"),
    instance("b", zone="y", version="1"),
    instance("c", zone="x", version="2", tag="gray"),
]


def routed(*routes: str | Route, **call: str) -> str:
    rules = ServiceRules(routes=[Route(e) if isinstance(e, str) else e for e in routes])
    return "".join(each.id for each in rules.route(ALL, call))


# --- conditions ------------------------------------------------------------------------------


def test_conditions() -> None:
    assert parse_conditions("  ") == ()
    assert parse_conditions("method=get*, list & host != 10.0.0.1") == (
        Condition("method", True, ("get*", "list")),
        Condition("host", False, ("10.0.0.1",)),
    )


@pytest.mark.parametrize(
    "rule",
    ["", "a=b", "a => b=1", "=> b==1", "=> b=1,", "=> b=", "a=1 => b=1 => c=1", "a=1 & => b=1"],
)
def test_what_is_no_route(rule: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        Route(rule)


@given(st.text(max_size=20))
def test_nothing_else_is_raised(text: str) -> None:
    try:
        Route(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("rule", "call", "left"),
    [
        ("=> zone=x", {}, "ac"),
        ("=> zone!=x", {}, "b"),
        ("=> zone=x & version=1", {}, "a"),
        ("=> host=10.0.0.2", {}, "b"),
        ("=> address=10.0.0.3:80", {}, "c"),
        ("=> port=80 & id=a,b", {}, "ab"),
        ("=> host=10.*.2", {}, "b"),
        # What is absent is not equal to anything.
        ("=> tag!=gray", {}, "ab"),
        ("=> tag=*", {}, "c"),
        ("method=get* => zone=y", {"method": "get_all"}, "b"),
        ("method=get* => zone=y", {"method": "put"}, "abc"),
        ("method=get* => zone=y", {}, "abc"),
        ("method!=get* => zone=y", {}, "b"),
        ("=> zone=$zone", {"zone": "y"}, "b"),
        # The nearest datacenter, and others only if there is none.
        ("=> zone=$zone", {"zone": "z"}, "abc"),
        ("=> zone=$zone", {}, "abc"),
        # Nobody.
        ("host=10.1.* =>", {"host": "10.1.2.3"}, ""),
        ("host=10.1.* =>", {"host": "10.2.2.3"}, "abc"),
    ],
)
def test_routes(rule: str, call: dict[str, str], left: str) -> None:
    assert routed(rule, **call) == left


def test_a_route_with_force_may_leave_nobody() -> None:
    assert routed(Route("=> zone=z", force=True)) == ""
    assert routed(Route("=> zone=z", force=True), "=> zone=x") == ""


def test_routes_follow_each_other() -> None:
    gray = ("tag=gray => version=2", "tag!=gray => version!=2", "=> zone=$zone")
    assert routed(*gray, tag="gray", zone="y") == "c"
    assert routed(*gray, zone="y") == "b"
    assert routed(*gray) == "ab"


def test_attributes() -> None:
    assert attributes_of(instance("a", zone="x", host="forged", port="1")) == {
        "zone": "x",
        "id": "a",
        "host": "10.0.0.1",
        "address": "10.0.0.1:80",
        "port": "80",
    }
    assert attributes_of(ServiceInstance("orders", id="a")) == {"id": "a"}


# --- access ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "admitted"),
    [
        (Access(), "abc"),
        (Access(allow=["10.0.0.0/31"]), "a"),
        (Access(allow=["10.0.0.0/31", "c"]), "ac"),
        (Access(deny=["10.0.0.2"]), "ac"),
        (Access(allow=["10.0.0.0/8"], deny=["a", "10.0.0.3/32"]), "b"),
        (Access(allow=["::/0"]), ""),
        (Access(allow=["10.0.0.1"]), "a"),
    ],
)
def test_whose_registrations_count(access: Access, admitted: str) -> None:
    rules = ServiceRules(providers=access)
    assert "".join(each.id for each in ALL if rules.admit(each)) == admitted


@pytest.mark.parametrize("entry", ["10.1.2.3", "10.0.0.0/8"])
def test_an_id_that_looks_like_an_address_is_none(entry: str) -> None:
    """Whoever registers chooses it."""
    feigned = ServiceInstance("orders", "192.168.6.6", 80, "10.1.2.3")
    assert not ServiceRules(providers=Access(allow=[entry])).admit(feigned)
    assert ServiceRules(providers=Access(deny=[entry])).admit(feigned)
    shop = {"host": "192.168.6.6", "application": "10.1.2.3"}
    assert not ServiceRules(consumers=Access(allow=[entry])).admit_consumer(shop)


def test_who_may_call() -> None:
    rules = ServiceRules(consumers=Access(allow=["10.0.0.0/8", "shop"], deny=["10.9.0.0/16"]))
    assert rules.admit_consumer({"host": "10.1.0.1"})
    assert rules.admit_consumer({"host": "not an address", "application": "shop"})
    assert not rules.admit_consumer({"host": "10.9.0.1", "application": "shop"})
    assert not rules.admit_consumer({"zone": "shop"})
    assert ServiceRules().admit_consumer({})


def test_disabled() -> None:
    rules = ServiceRules(disabled=["b"])
    assert "".join(each.id for each in ALL if rules.admit(each)) == "ac"


# --- as a configuration ------------------------------------------------------------------------


def test_read_as_written() -> None:
    rules = ServiceRules(
        weights={"a": 0},
        disabled=["b"],
        providers=Access(allow=["10.0.0.0/8"]),
        consumers=Access(deny=["test"]),
        routes=[Route("=> zone=$zone"), Route("a=1 =>", force=True)],
    )
    assert SCHEMA.read(SCHEMA.write(rules)) == rules
    assert SCHEMA.read({}) == ServiceRules()


@pytest.mark.parametrize(
    ("plain", "problem"),
    [
        ({"weights": {"a": -1}}, "the weight of a is negative"),
        ({"weights": {"a": "1"}}, r"weights\[a\]: not an int"),
        ({"disabled": "a"}, "disabled: not a list"),
        ({"providers": {"allow": ["10.0.0.1/8"]}}, "providers: 10.0.0.1/8 has host bits set"),
        ({"consumers": {"deny": [" "]}}, "consumers: an entry is empty"),
        ({"routes": [{"rule": "zone=x"}]}, r"routes\[0\]: 'zone=x' is not: which calls"),
        ({"routes": [{"rule": "=> zone"}]}, r"routes\[0\]: 'zone' is not key=value"),
        ({"routes": [{}]}, r"routes\[0\].rule: missing"),
    ],
)
def test_malformed(plain: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidConfigError, match=problem):
        SCHEMA.read(plain)


def test_one_where_several_are_meant() -> None:
    with pytest.raises(TypeError, match="not its letters"):
        ServiceRules(disabled="orders-1")


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "found", "is_so"),
    [
        ("*", "", True),
        ("a*b", "ab", True),
        ("a*a", "a", False),
        ("a*b*c", "abbc", True),
        ("a*bc*c", "abc", False),
        ("*b*", "a", False),
        ("**", "x\ny", True),
        ("a.c", "abc", False),
    ],
)
def test_stars(pattern: str, found: str, is_so: bool) -> None:
    assert matching(pattern, found, {}) == is_so


def test_no_pattern_takes_long() -> None:
    """Measured by the end of the test: as a regular expression it would take years."""
    assert not matching("*a" * 50 + "*b", "a" * 10_000 + "c", {})


def test_no_condition_takes_long() -> None:
    with pytest.raises(ValueError, match="is not key=value"):
        parse_conditions("a=" + " " * 100_000 + "!")
    with pytest.raises(ValueError, match="is not key=value"):
        parse_conditions("a=x" + " " * 100_000 + "y!")
