"""What operators say about a service, and what follows for a call (pure).

    ServiceRules(
        weights={"orders-1": 10},                     # by id, instead of the instance's own
        disabled=["orders-2"],                        # ids
        providers=Access(allow=["10.0.0.0/8"]),       # whose registrations count
        consumers=Access(deny=["test-shop"]),         # who may call
        routes=[Route("tag=gray => version=2"), Route("=> zone=$zone")],
    )

A route is a condition as Dubbo writes them: which calls => to which instances. On the left are
attributes of the call and of the consumer, on the right those of an instance: `id`, `host`, `port`,
`address` (host:port), and its metadata.  Conditions are joined by `&`; each is `key=values` or
`key!=values`, values separated by commas, with `*` for anything, and `$key` for the value that the
call has on the left.  Nothing on the left: all calls.  Nothing on the right: no instance.

Routes follow each other.  One that leaves no instance is passed over, unless it has `force`, or
nothing on its right.
"""

import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from recipes.registry.instance import ServiceInstance

ARROW: Final = "=>"
CONDITION: Final = re.compile(r"([\w.\-]+)\s*(!?=)([^=&!<>]+)")
Attributes = Mapping[str, str]
HOST: Final = "host"
APPLICATION: Final = "application"
"""Attributes by which a consumer is known to `Access`."""


# --- conditions -----------------------------------------------------------------------------------


@attrs.frozen
class Condition:
    key: str
    is_one_of: bool
    """False: is none of them."""
    values: tuple[str, ...]

    def holds(self, of: Attributes, call: Attributes) -> bool:
        """An attribute that is not there is none of them."""
        found = of.get(self.key)
        matches = found is not None and any(matching(v, found, call) for v in self.values)
        return matches == self.is_one_of


def matching(pattern: str, found: str, call: Attributes) -> bool:
    if pattern.startswith("$"):
        return found == call.get(pattern[1:])
    first, *others = pattern.split("*")
    if not others:
        return found == pattern
    last, at = others.pop(), len(first)
    end = len(found) - len(last)
    # No regular expression: many stars in one would take time without end.
    for piece in others:
        start = found.find(piece, at, end)
        if start < 0:
            return False
        at = start + len(piece)
    return at <= end and found.startswith(first) and found.endswith(last)


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Raises ValueError."""
    return tuple(parse_condition(each) for each in text.split("&")) if text.strip() else ()


def parse_condition(text: str) -> Condition:
    found = CONDITION.fullmatch(text.strip())
    values = [each.strip() for each in found[3].split(",")] if found else []
    if found is None or not all(values):
        raise ValueError(f"{text.strip()!r} is not key=value or key!=value")
    return Condition(found[1], found[2] == "=", tuple(values))


@functools.lru_cache(maxsize=1024)
def parse_route(text: str) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
    """Raises ValueError."""
    sides = text.split(ARROW)
    if len(sides) != 2:
        raise ValueError(f"{text!r} is not: which calls => to which instances")
    return parse_conditions(sides[0]), parse_conditions(sides[1])


# --- the rules ------------------------------------------------------------------------------------


def _is_route(instance: object, field: "attrs.Attribute[str]", value: str) -> None:
    parse_route(value)


def _are_entries(instance: object, field: object, value: Sequence[str]) -> None:
    for each in value:
        if "/" in each:
            ipaddress.ip_network(each)
        elif not each.strip():
            raise ValueError("an entry is empty")


def _are_weights(instance: object, field: object, value: Mapping[str, int]) -> None:
    for name, weight in value.items():
        if weight < 0:
            raise ValueError(f"the weight of {name} is negative")


def names(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"{values!r}: several are meant, not its letters")
    return tuple(values)


@attrs.frozen
class Route:
    rule: str = attrs.field(validator=_is_route)
    force: bool = False


@attrs.frozen
class Access:
    """Addresses, networks (10.0.0.0/8) and names. Who is denied is out; if some are allowed, all
    others are out."""

    allow: tuple[str, ...] = attrs.field(default=(), converter=names, validator=_are_entries)
    deny: tuple[str, ...] = attrs.field(default=(), converter=names, validator=_are_entries)

    def admits(self, address: str | None, name: str | None) -> bool:
        if any(is_entry_of(each, address, name) for each in self.deny):
            return False
        return not self.allow or any(is_entry_of(each, address, name) for each in self.allow)


def is_entry_of(entry: str, address: str | None, name: str | None) -> bool:
    """What looks like an address or a network is compared with the address alone: a name is what
    its owner calls itself."""
    network = network_of(entry)
    if network is None:
        return entry in (address, name)
    own = None if address is None else network_of(address)
    return own is not None and own.version == network.version and own.network_address in network


def network_of(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An address is the network of itself; None of what is neither."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def in_order(routes: Iterable[Route]) -> tuple[Route, ...]:
    return tuple(routes)


@attrs.frozen
class ServiceRules:
    """The values of a configuration (recipes.config): published whole, checked on both sides."""

    weights: dict[str, int] = attrs.field(factory=dict, validator=_are_weights)
    """By id; 0 for no new calls."""
    disabled: tuple[str, ...] = attrs.field(default=(), converter=names)
    """Ids."""
    providers: Access = Access()
    """By address and id of the instance."""
    consumers: Access = Access()
    """By the attributes `host` and `application` of the consumer."""
    routes: tuple[Route, ...] = attrs.field(default=(), converter=in_order)

    def admit_consumer(self, consumer: Attributes) -> bool:
        return self.consumers.admits(consumer.get(HOST), consumer.get(APPLICATION))

    def admit(self, instance: ServiceInstance) -> bool:
        if instance.id in self.disabled:
            return False
        return self.providers.admits(instance.address, instance.id)

    def route(
        self, instances: Sequence[ServiceInstance], call: Attributes
    ) -> list[ServiceInstance]:
        left = list(instances)
        for each in self.routes:
            left = follow(each, left, call)
        return left


def follow(
    route: Route, instances: list[ServiceInstance], call: Attributes
) -> list[ServiceInstance]:
    when, then = parse_route(route.rule)
    if not all(each.holds(call, call) for each in when):
        return instances
    if not then:
        return []
    found = [i for i in instances if all(each.holds(attributes_of(i), call) for each in then)]
    return found if found or route.force else instances


def attributes_of(instance: ServiceInstance) -> dict[str, str]:
    """Its own come before metadata of the same names."""
    port = instance.ssl_port if instance.port is None else instance.port
    own = {"id": instance.id, "host": instance.address, "address": instance.endpoint}
    known = {**own, "port": None if port is None else str(port)}
    return {**instance.metadata, **{key: value for key, value in known.items() if value}}
