"""Instances as bytes: exactly Curator's, and what others may have written instead."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.registry import FormatError, ServiceInstance, ServiceType
from recipes.registry.instance import SPRING, decode, encode

ORDERS = ServiceInstance("orders", "10.0.0.5", 8080, "8a6c", registered_at=1_700_000_000_000)
CURATOR = (
    b'{"name":"orders","id":"8a6c","address":"10.0.0.5","port":8080,"sslPort":null,"payload":null,'
    b'"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":{"parts":['
    b'{"value":"scheme","variable":true},{"value":"://","variable":false},'
    b'{"value":"address","variable":true},{"value":":","variable":false},'
    b'{"value":"port","variable":true}]}}'
)
SPRING_CLOUD = (
    b'{"name":"orders","id":"8a6c","address":"h","port":80,"sslPort":null,"payload":{"@class":'
    b'"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"app-1","name":"orders",'
    b'"metadata":{"zone":"x","instance_status":"OUT_OF_SERVICE"}},"registrationTimeUTC":5,'
    b'"serviceType":"DYNAMIC","uriSpec":null}'
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NAMES = TEXT.filter(lambda text: text.isprintable() and text not in ("", ".", "..", "/")).map(
    lambda text: text.replace("/", "-")
)
PORTS = st.none() | st.integers(0, 65535)
PAYLOADS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)
INSTANCES = st.builds(
    ServiceInstance,
    NAMES,
    st.none() | TEXT,
    PORTS,
    NAMES,
    PORTS,
    PAYLOADS,
    st.integers(0, 2**62),
    st.sampled_from(ServiceType),
    st.sampled_from([None, "", "{scheme}://{address}:{port}", "x/{id}"]),
    st.booleans(),
)


def test_written_as_curator_does() -> None:
    assert encode(ORDERS) == CURATOR
    assert decode(CURATOR, "8a6c") == ORDERS
    assert ORDERS.url == "http://10.0.0.5:8080"
    assert ORDERS.endpoint == "10.0.0.5:8080"
    assert attrs.evolve(ORDERS, ssl_port=8443).url == "https://10.0.0.5:8080"


def test_enabled_is_written_only_if_false() -> None:
    away = ORDERS.put_in_service(False)
    assert not away.is_in_service
    assert encode(away) == CURATOR[:-1] + b',"enabled":false}'
    assert decode(encode(away), "8a6c") == away
    assert away.put_in_service(True) == ORDERS
    assert decode(CURATOR[:-1] + b',"enabled":true,"unheard":[1]}', "8a6c") == ORDERS


def test_spring_cloud() -> None:
    found = decode(SPRING_CLOUD, "8a6c")
    assert found.metadata == {"zone": "x", "instance_status": "OUT_OF_SERVICE"}
    assert not found.is_in_service
    assert found.put_in_service(True).is_in_service
    assert encode(found) == SPRING_CLOUD


def test_metadata() -> None:
    instance = ORDERS.with_metadata(zone="x", weight=50)
    assert instance.payload == {
        "@class": SPRING,
        "id": "8a6c",
        "name": "orders",
        "metadata": {"zone": "x", "weight": "50"},
    }
    assert (instance.weight, ORDERS.weight) == (50, 100)
    assert instance.with_metadata(zone=None).metadata == {"weight": "50"}
    assert instance.put_in_service(False).metadata["instance_status"] == "OUT_OF_SERVICE"
    assert instance.with_metadata(weight="-1").weight == 100
    kept = attrs.evolve(ORDERS, payload={"@class": "a.B", "more": 1}).with_metadata(zone="x")
    assert (kept.payload["@class"], kept.payload["more"]) == ("a.B", 1)


def test_the_name_of_the_znode_is_the_id() -> None:
    plain = json.loads(CURATOR) | {"serviceType": "DYNAMIC_SEQUENTIAL"}
    found = decode(json.dumps(plain).encode(), "8a6c0000000007")
    assert (found.id, found.kind) == ("8a6c0000000007", ServiceType.DYNAMIC_SEQUENTIAL)


def test_what_is_missing_has_curators_defaults() -> None:
    found = decode(b'{"name":"orders","id":"a"}', "a")
    assert found == ServiceInstance("orders", id="a", uri=None)
    assert (found.endpoint, found.url) == ("", "")


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": "a/b"},
        {"id": 7},
        {"port": "8080"},
        {"port": True},
        {"port": 65_536},
        {"sslPort": -1},
        {"address": []},
        {"serviceType": "OTHER"},
        {"uriSpec": {"parts": 1}},
        {"registrationTimeUTC": "now"},
        {"enabled": None},
    ],
)
def test_malformed_fields(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="8a6c: not an instance"):
        decode(json.dumps(json.loads(CURATOR) | change).encode(), "8a6c")


@pytest.mark.parametrize("data", [None, b"", b"\xff", b"[]", b"null", b"[" * 100_000, b"192.0.2.1"])
def test_malformed_nodes(data: bytes | None) -> None:
    with pytest.raises(FormatError):
        decode(data, "a")


@given(st.binary(max_size=30))
def test_nothing_else_is_raised(data: bytes) -> None:
    try:
        decode(data, "a")
    except FormatError:
        return


@given(INSTANCES)
def test_read_as_written(instance: ServiceInstance) -> None:
    assert decode(encode(instance), instance.id) == instance


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "a\n"])
def test_names(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        ServiceInstance(name)
    with pytest.raises(ValueError, match="cannot be the name"):
        ServiceInstance("orders", id=name)


def test_what_cannot_be_written() -> None:
    for payload in ({1: 2}, float("nan"), "x" * 1_000_000):
        with pytest.raises(ValueError, match=r"same|JSON"):
            encode(attrs.evolve(ORDERS, payload=payload))
    with pytest.raises(TypeError):
        encode(attrs.evolve(ORDERS, payload={"at": object()}))
    with pytest.raises(ValueError, match="not an instance"):
        encode(attrs.evolve(ORDERS, port="80"))  # type: ignore[arg-type]
