"""What stops while there is no connection leaves nothing behind in a session that lives on."""

from collections.abc import Callable

import attrs
import pytest
from kazoo.client import KazooClient

from recipes.kafka import paths
from recipes.kafka.brokers import BrokerRegistration
from recipes.kafka.consumer import Consumer
from recipes.kafka.controller import Controller
from recipes.kafka.formats import Broker, Subscription, encode_broker
from recipes.kafka.paths import TopicPartition
from recipes.kafka.topics import create_topic
from tests.recipes.conftest import Spawn
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, Link, until
from tests.recipes.kafka.conftest import Place, Witness, until_connected

Made = BrokerRegistration | Controller | Consumer


@attrs.frozen
class Kind:
    make: Callable[[KazooClient], Made]
    left: tuple[str, ...]
    """Ephemerals that it has once it is at work, the last one last."""


KINDS = {
    "broker": Kind(
        lambda client: BrokerRegistration(client, Broker.at(2, "h2", 9092)), (paths.broker(2),)
    ),
    "controller": Kind(lambda client: Controller(client, 2), (paths.CONTROLLER,)),
    "consumer": Kind(
        lambda client: Consumer(client, "g", Subscription({"t": 1}), consumer_id="g_a"),
        (paths.group_id("g", "g_a"), paths.owner("g", TopicPartition("t", 0))),
    ),
}


@attrs.define
class Scene:
    kind: Kind
    witness: Witness
    client: KazooClient
    proxy: FaultProxy
    made: Made

    def cut_off(self) -> None:
        self.proxy.refuse()
        self.proxy.cut()
        until(lambda: not self.client.connected)

    def left(self) -> list[str]:
        self.witness.zk.sync("/")
        return [each for each in self.kind.left if self.witness.read(each) is not None]


@pytest.fixture(params=list(KINDS))
def scene(
    request: pytest.FixtureRequest, place: Place, witness: Witness, proxy: FaultProxy
) -> Scene:
    """It is at work, and nothing is on its way."""
    kind = KINDS[request.param]
    data = encode_broker(Broker.at(1, "h1", 9092))
    witness.client.create(paths.broker(1), data, makepath=True)
    create_topic(witness.zk, "t", assignment={0: [1]})
    client = place.client(proxy)
    made = kind.make(client)
    made.start()
    for each in kind.left:
        witness.until(each, lambda node: node is not None)
    until(lambda: not isinstance(made, Controller) or made.office)
    until(lambda: not isinstance(made, Consumer) or made.owned)
    return Scene(kind, witness, client, proxy, made)


def test_stop_waits_for_the_connection(scene: Scene, spawn: Spawn) -> None:
    session = scene.client.client_id
    scene.cut_off()
    stopping = spawn(scene.made.stop, None)
    scene.proxy.wait_refused()
    assert not stopping.done()
    assert scene.left() == list(scene.kind.left)
    scene.proxy.admit()
    stopping.result(LIMIT_S)
    assert scene.left() == []
    until_connected(scene.client)
    assert scene.client.client_id == session


def test_started_again(scene: Scene) -> None:
    scene.made.stop()
    assert scene.left() == []
    scene.made.start()
    for each in scene.kind.left:
        scene.witness.until(each, lambda node: node is not None)
    scene.made.stop()
    assert scene.left() == []


def test_it_does_not_wait_for_ever(scene: Scene) -> None:
    scene.cut_off()
    scene.made.stop(0)
    assert scene.left() == list(scene.kind.left)
    scene.client.stop()
    scene.made.stop()


@pytest.mark.parametrize("at", [1, 2])
def test_nor_if_the_connection_breaks_in_the_middle(scene: Scene, at: int, spawn: Spawn) -> None:
    """Another stop takes away what the first one did not."""
    stop_meeting(Fault(at, do=Link.refuse), scene, spawn)
    assert scene.left() == list(scene.kind.left)
    scene.proxy.admit()
    scene.made.stop(None)
    assert scene.left() == []


def test_what_was_not_given_back_in_time_is_left_alone_later(scene: Scene, spawn: Spawn) -> None:
    """It may belong by then to another of the same name in the same session."""
    stop_meeting(Fault(1, do=Link.refuse), scene, spawn)
    leaver = scene.made._leaver
    assert leaver is not None
    scene.proxy.admit()
    leaver.join(LIMIT_S)
    assert not leaver.is_alive()
    assert scene.left() == list(scene.kind.left)


def stop_meeting(fault: Fault, scene: Scene, spawn: Spawn) -> None:
    """Stopped, in vain, with that fault; again, with more time, if there was too little for it."""
    timeout_s = 0.2
    scene.proxy.arm(fault)
    while not fault.met.is_set():
        spawn(scene.made.stop, timeout_s).result(LIMIT_S)
        timeout_s *= 2


def test_nor_for_a_request_that_waits(scene: Scene, spawn: Spawn) -> None:
    fault = scene.proxy.arm(Fault(1, do=Link.refuse))
    if isinstance(scene.made, Controller):
        scene.made.note(paths.BROKER_IDS)
    scene.made.wake()
    fault.wait()
    # It was asked again, and kazoo keeps that for the next connection.
    until(lambda: scene.client._queue)
    spawn(scene.made.stop, 0).result(LIMIT_S)
    scene.client.stop()
