"""Registration of brokers on a real server, under faults at each of its requests."""

from queue import SimpleQueue

import attrs
import pytest
from kazoo.client import KazooClient

from recipes.kafka import paths
from recipes.kafka.brokers import BrokerRegistration, list_brokers, list_epochs
from recipes.kafka.formats import Broker, decode_broker
from recipes.kafka.znodes import SomebodyElse, Znodes
from tests.recipes.conftest import MakeProxy, Spawn
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, Link
from tests.recipes.kafka.conftest import FAULT_NAMES, FAULTS, MakeFault, Place, Witness, sweep

BROKER = Broker.at(1, "h1", 9092, rack="r1")
PATH = paths.broker(1)
STAMP_MS = 1700000000000


def registered(place: Place, proxy: FaultProxy | None = None) -> BrokerRegistration:
    broker = attrs.evolve(BROKER, timestamp_ms=STAMP_MS)
    registration = BrokerRegistration(place.client(proxy), broker)
    registration.start()
    return registration


def test_registered_and_gone(place: Place, witness: Witness) -> None:
    registration = registered(place)
    found = witness.read(PATH)
    assert found is not None
    assert decode_broker(1, found.data) == registration.broker
    assert registration.broker == attrs.evolve(BROKER, timestamp_ms=STAMP_MS)
    assert found.owner == registration.zk.session
    assert registration.epoch == found.czxid
    assert list_brokers(witness.zk) == {1: registration.broker}
    assert list_epochs(witness.zk) == {1: found.czxid}
    registration.stop()
    assert witness.read(PATH) is None
    assert registration.epoch is None


def test_unreadable_brokers_are_alive_but_not_listed(place: Place, witness: Witness) -> None:
    witness.client.create(paths.broker(7), b"{}", makepath=True)
    for name in ("no-number", "²", "٣", "1" * 5000):
        witness.client.create(f"{paths.BROKER_IDS}/{name}", b"")
    assert list_brokers(witness.zk) == {}
    assert list(list_epochs(witness.zk)) == [7]


@pytest.mark.parametrize("make_fault", FAULTS, ids=FAULT_NAMES)
def test_fault_at_each_request(
    make_fault: MakeFault, place: Place, make_proxy: MakeProxy, witness: Witness
) -> None:
    def register(client: KazooClient) -> None:
        registration = BrokerRegistration(client, BROKER)
        registration.start()
        check_registered(registration, witness)
        registration.stop()
        client.stop()
        witness.until(PATH, lambda node: node is None)
        assert registration.failure is None

    assert sweep(place, make_proxy, make_fault, register) >= 3


def check_registered(registration: BrokerRegistration, witness: Witness, after: int = -1) -> None:
    """By the session that lives, once and for all: nothing more is under way."""
    found = witness.until(PATH, lambda node: node is not None and node.czxid > after)
    assert found is not None
    assert registration.wait(LIMIT_S, after=found.czxid - 1)
    found = witness.read(PATH)
    assert found is not None and found.czxid == registration.epoch


def test_new_epoch_after_expiry(place: Place, proxy: FaultProxy, witness: Witness) -> None:
    epochs: list[int | None] = []
    registration = BrokerRegistration(place.client(proxy), BROKER, epochs.append)
    registration.start()
    first = registration.epoch
    assert first is not None
    proxy.expire()
    check_registered(registration, witness, after=first)
    assert epochs == [first, None, registration.epoch]
    registration.stop()


def test_id_is_taken(place: Place, proxy: FaultProxy, witness: Witness) -> None:
    first = registered(place)
    with pytest.raises(SomebodyElse, match="belongs to session"):
        registered(place)
    found = witness.read(PATH)
    assert found is not None and found.czxid == first.epoch
    first.stop()
    registered(place, proxy).stop()


def test_started_again(place: Place, witness: Witness, spawn: Spawn) -> None:
    """After a stop, and after it was refused, once the other has left."""
    first, second = registered(place), BrokerRegistration(place.client(), BROKER)
    with pytest.raises(SomebodyElse):
        second.start()
    first.stop()
    spawn(second.start).result(LIMIT_S)
    check_registered(second, witness)
    with pytest.raises(RuntimeError, match="runs already"):
        second.start()
    second.stop()
    spawn(first.start).result(LIMIT_S)
    check_registered(first, witness)
    first.stop()


def test_stopped_before_it_is_registered(place: Place, proxy: FaultProxy, spawn: Spawn) -> None:
    registration = BrokerRegistration(place.client(proxy), BROKER)
    fault = proxy.arm(Fault(1, do=Link.refuse))
    starting = spawn(registration.start)
    fault.wait()
    waited = spawn(registration.wait)
    registration.stop(0)
    starting.result(LIMIT_S)
    assert waited.result(LIMIT_S) is False
    assert registration.epoch is None


def test_rival_after_expiry_is_waited_for(
    place: Place, proxy: FaultProxy, witness: Witness
) -> None:
    """Somebody took the id while our session was over: we are back when it leaves."""
    rivals: SimpleQueue[int | None] = SimpleQueue()
    registration = BrokerRegistration(place.client(proxy), BROKER, on_rival=rivals.put)
    registration.start()
    proxy.refuse()
    proxy.expire()
    rival = registered(place)
    proxy.admit()
    assert rivals.get(timeout=LIMIT_S) == rival.zk.session
    assert registration.epoch is None
    rival.stop()
    assert rivals.get(timeout=LIMIT_S) is None
    assert registration.wait(LIMIT_S)
    check_registered(registration, witness)
    registration.stop()


def test_our_own_of_a_session_that_is_over(place: Place, witness: Witness) -> None:
    """The server has not removed it yet (ZOOKEEPER-2985): what is known to be ours is replaced."""
    stale = place.client()
    Znodes(stale).ensure(paths.BROKER_IDS)
    stale.create(PATH, b"old", ephemeral=True)
    registration = BrokerRegistration(place.client(), BROKER)
    registration.note_session(stale.client_id[0])
    registration.start()
    check_registered(registration, witness)
    registration.stop()


def test_removed_by_hand_is_put_back(place: Place, witness: Witness) -> None:
    registration = registered(place)
    first = registration.epoch
    assert first is not None
    witness.client.delete(PATH)
    check_registered(registration, witness, after=first)
    registration.stop()
