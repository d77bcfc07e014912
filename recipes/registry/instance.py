"""An instance of a service, and its znode as bytes: those of Curator's x-discovery (pure).

    BASE/<name>/<id>   ephemeral; JSON, in the order in which Curator writes it:

    {"name":"orders","id":"a","address":"10.0.0.5","port":8080,"sslPort":null,"payload":null,
     "registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":{"parts":[...]}}

Fields that are not known are passed over. What is missing has the default that Curator gives it.

Metadata have no field of their own there: they are in the payload, as Spring Cloud Zookeeper and
Dubbo keep theirs.  Java checks the class of a payload; one that is null is of every class.
"""

import enum
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

import attrs

from recipes.config import InvalidConfigError, Schema

DEFAULT_WEIGHT: Final = 100
MOST_BYTES: Final = 1_000_000
MOST_PORT: Final = 65_535
SPRING: Final = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance"
"""The class of a payload with metadata, for readers in Java."""
STATUS: Final = "instance_status"
"""In metadata: what is neither absent nor UP is not in service (Spring Cloud Zookeeper)."""
UP, OUT_OF_SERVICE = "UP", "OUT_OF_SERVICE"
DEPARTED: Final = "/zkpy/departed"
URI: Final = "{scheme}://{address}:{port}"
VARIABLE: Final = re.compile(r"\{([^{}]+)\}")


class FormatError(ValueError):
    """A znode does not hold what a registrar would have written there."""


class ServiceType(enum.Enum):
    """How long a registration lives.  This recipe writes DYNAMIC ones."""

    DYNAMIC = "DYNAMIC"
    DYNAMIC_SEQUENTIAL = "DYNAMIC_SEQUENTIAL"
    STATIC = "STATIC"
    PERMANENT = "PERMANENT"


def check_name(name: str) -> str:
    """Raises ValueError."""
    if not name or "/" in name or name in (".", "..") or not name.isprintable():
        raise ValueError(f"{name!r} cannot be the name of a znode")
    return name


def _is_name(instance: object, field: "attrs.Attribute[str]", value: str) -> None:
    check_name(value)


def departures_of(path: str) -> str:
    """Where instances of the service at that path say that they leave: not under BASE, where
    Curator takes everything for a service or an instance."""
    return f"{DEPARTED}{path}"


def new_id() -> str:
    return str(uuid.uuid4())


@attrs.frozen
class ServiceInstance:
    """One process that offers a service."""

    name: str = attrs.field(validator=_is_name)
    """Of the service."""
    address: str | None = None
    port: int | None = None
    id: str = attrs.field(factory=new_id, validator=_is_name)
    """Of the instance, unique in its service."""
    ssl_port: int | None = None
    payload: Any = None
    """What JSON can hold."""
    registered_at: int = 0
    """Wall clock of its registrar, ms; 0: to be filled in by the registration."""
    kind: ServiceType = ServiceType.DYNAMIC
    uri: str | None = URI
    """Pattern of its URI."""
    enabled: bool = True

    @property
    def metadata(self) -> Mapping[str, str]:
        found = self.payload.get("metadata") if isinstance(self.payload, dict) else None
        items = found.items() if isinstance(found, dict) else ()
        return {key: value for key, value in items if isinstance(value, str)}

    def with_metadata(self, **values: str | float | None) -> "ServiceInstance":
        """With these, and those that it has; None takes one away."""
        known = {**self.metadata, **values}
        metadata = {key: str(value) for key, value in known.items() if value is not None}
        before = self.payload if isinstance(self.payload, dict) else {"@class": SPRING}
        payload = {**before, "id": self.id, "name": self.name, "metadata": metadata}
        return attrs.evolve(self, payload=payload)

    @property
    def is_in_service(self) -> bool:
        return self.enabled and (self.metadata.get(STATUS) or UP) == UP

    def put_in_service(self, flag: bool) -> "ServiceInstance":
        """So that it stays registered, and is chosen, or not."""
        changed = attrs.evolve(self, enabled=flag)
        if not self.metadata:
            return changed
        return changed.with_metadata(**{STATUS: UP if flag else OUT_OF_SERVICE})

    @property
    def endpoint(self) -> str:
        """Address and port."""
        port = self.ssl_port if self.port is None else self.port
        return f"{self.address or ''}:{port}" if port is not None else self.address or ""

    @property
    def weight(self) -> int:
        """100 if its metadata have none that can be read."""
        text = self.metadata.get("weight", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else DEFAULT_WEIGHT

    @property
    def url(self) -> str:
        """Its URI; with https if it has a port for that.  Variables that Curator does not know
        are left as they are."""
        known = {
            "scheme": "http" if self.ssl_port is None else "https",
            "name": self.name,
            "id": self.id,
            "address": self.address or "",
            "port": self.port if self.port is not None else self.ssl_port,
            "ssl-port": self.ssl_port,
            "registration-time-utc": self.registered_at,
            "service-type": self.kind.value.lower(),
        }
        return VARIABLE.sub(lambda found: str(known.get(found[1], found[0])), self.uri or "")


# --- bytes ------------------------------------------------------------------------------------


@attrs.frozen
class _Part:
    value: str
    variable: bool = False


@attrs.frozen
class _UriSpec:
    parts: tuple[_Part, ...] = ()


def _is_port(instance: object, field: "attrs.Attribute[int | None]", value: int | None) -> None:
    if value is not None and not 0 <= value <= MOST_PORT:
        raise ValueError(f"{value} is no {field.name}")


@attrs.frozen
class _Node:
    """As Curator names it, but for the payload, which may be anything."""

    name: str
    id: str
    address: str | None = None
    port: int | None = attrs.field(default=None, validator=_is_port)
    sslPort: int | None = attrs.field(default=None, validator=_is_port)
    registrationTimeUTC: int = 0
    serviceType: ServiceType = ServiceType.DYNAMIC
    uriSpec: _UriSpec | None = None
    enabled: bool = True


_NODE: Final = Schema(_Node)


def encode(instance: ServiceInstance) -> bytes:
    """`enabled` is written only if it is false: readers from before CURATOR-275 refuse it.

    Raises ValueError, TypeError for what JSON cannot hold, or a node cannot."""
    plain = {
        "name": instance.name,
        "id": instance.id,
        "address": instance.address,
        "port": instance.port,
        "sslPort": instance.ssl_port,
        "payload": instance.payload,
        "registrationTimeUTC": instance.registered_at,
        "serviceType": instance.kind.value,
        "uriSpec": None if instance.uri is None else {"parts": parts_of(instance.uri)},
    }
    if not instance.enabled:
        plain["enabled"] = False
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    data = text.encode()
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, of {MOST_BYTES} at most")
    if decode(data, instance.id) != instance:
        raise ValueError(f"{instance!r:.200} would not be read as the same")
    return data


def decode(data: bytes | None, node: str) -> ServiceInstance:
    """`node` is the name of the znode, and the id, also where another is written in it: a
    DYNAMIC_SEQUENTIAL one has a number behind it.  Raises FormatError."""
    try:
        # A znode without data has None in kazoo.
        plain = json.loads(data or b"")
        if not isinstance(plain, dict):
            raise FormatError("not a JSON object")
        payload = plain.pop("payload", None)
        return _instance(_NODE.read(plain), payload, node)
    except (InvalidConfigError, RecursionError, ValueError) as why:
        raise FormatError(f"{node}: not an instance: {why}") from why


def _instance(node: _Node, payload: Any, name: str) -> ServiceInstance:
    return ServiceInstance(
        node.name,
        node.address,
        node.port,
        name,
        node.sslPort,
        payload,
        node.registrationTimeUTC,
        node.serviceType,
        None if node.uriSpec is None else pattern_of(node.uriSpec),
        node.enabled,
    )


def parts_of(pattern: str) -> list[dict[str, Any]]:
    """Variables in braces, and what is between them."""
    texts = VARIABLE.split(pattern)
    found = [{"value": text, "variable": bool(at % 2)} for at, text in enumerate(texts)]
    return [each for each in found if each["value"]]


def pattern_of(spec: _UriSpec) -> str:
    return "".join(f"{{{each.value}}}" if each.variable else each.value for each in spec.parts)
