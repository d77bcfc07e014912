"""Controllers on a real server: election, fencing, a whole story under faults at each request."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import attrs
import pytest
from kazoo.client import KazooClient

from recipes.kafka import paths
from recipes.kafka.cluster import DropTopic, LeaderAndIsr, Order, PutState, StaleBroker, StopReplica
from recipes.kafka.controller import Controller
from recipes.kafka.formats import (
    NO_LEADER,
    Broker,
    Leadership,
    Replicas,
    decode_controller,
    decode_epoch,
    decode_leadership,
    decode_topic,
    encode_broker,
    encode_config,
    encode_leadership,
)
from recipes.kafka.office import ControllerMoved, NotController, Office
from recipes.kafka.paths import TopicPartition
from recipes.kafka.topics import (
    add_partitions,
    change_isr,
    create_topic,
    delete_topic,
    request_moves,
    request_preferred,
)
from recipes.kafka.znodes import Znode
from tests.recipes.conftest import MakeProxy
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, When, meet_all, until
from tests.recipes.kafka.conftest import FAULT_NAMES, FAULTS, MakeFault, Place, Witness, sweep

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@attrs.define
class Scene:
    """Brokers that a test lets come and go, and what it can wait for."""

    place: Place
    witness: Witness

    def up(self, *brokers: int) -> None:
        for each in brokers:
            data = encode_broker(Broker.at(each, f"h{each}", 9092))
            self.witness.client.create(paths.broker(each), data, makepath=True)

    def down(self, *brokers: int) -> None:
        for each in brokers:
            self.witness.client.delete(paths.broker(each))

    def until_led(self, where: TopicPartition, holds: Callable[[Leadership], Any]) -> Leadership:
        def is_such(node: Znode | None) -> bool:
            return node is not None and bool(holds(decode_leadership(node.data)))

        found = self.witness.until(paths.state(where), is_such)
        assert found is not None
        return decode_leadership(found.data)

    def until_gone(self, path: str) -> None:
        self.witness.until(path, lambda node: node is None)

    def until_controller(self, broker: int) -> None:
        self.witness.until(
            paths.CONTROLLER,
            lambda n: n is not None and decode_controller(n.data).broker_id == broker,
        )

    def replicas(self, where: TopicPartition) -> Replicas:
        found = self.witness.read(paths.topic(where.topic))
        assert found is not None
        return decode_topic(where.topic, found.data).partitions[where.partition]

    def change_isr(self, where: TopicPartition, *isr: int) -> None:
        """As the partition's leader."""
        now = self.until_led(where, lambda led: led.leader != NO_LEADER)
        change_isr(self.witness.zk, where, isr, leader=now.leader, leader_epoch=now.leader_epoch)

    def epoch(self) -> int:
        found = self.witness.read(paths.CONTROLLER_EPOCH)
        assert found is not None
        return decode_epoch(found.data)


@pytest.fixture
def scene(place: Place, witness: Witness) -> Scene:
    return Scene(place, witness)


def started(place: Place, broker: int = 1, **options: Any) -> Controller:
    controller = Controller(place.client(), broker, **options)
    controller.start()
    return controller


def into(told: SimpleQueue[Order]) -> Callable[[Sequence[Order]], None]:
    def tell(orders: Sequence[Order]) -> None:
        for each in orders:
            told.put(each)

    return tell


def answer_of(future: Future[Any]) -> Any:
    return future.result(LIMIT_S)


def test_who_asks_one_that_is_stopped_is_told(place: Place, scene: Scene) -> None:
    controller = started(place)
    scene.until_controller(1)
    controller.stop()
    for answer in (controller.resign(), controller.shut_down(1)):
        assert isinstance(answer.exception(LIMIT_S), NotController)


def test_and_who_asks_when_it_stops(place: Place) -> None:
    controller = Controller(place.client(), 1)
    answer = controller.resign()
    controller.stop()
    assert isinstance(answer.exception(LIMIT_S), NotController)


# --- election and fencing ------------------------------------------------------------------


def test_one_is_elected_and_the_next_after_it(place: Place, scene: Scene) -> None:
    first = started(place, 1)
    scene.until_controller(1)
    second = started(place, 2)
    with pytest.raises(NotController):
        answer_of(second.resign())
    assert scene.epoch() == 1
    first.stop()
    scene.until_controller(2)
    assert answer_of(second.elect_unclean([])) is None
    assert (second.epoch, first.epoch, scene.epoch()) == (2, None, 2)
    second.stop()
    scene.until_gone(paths.CONTROLLER)


def test_resigned_stands_again(place: Place, scene: Scene) -> None:
    controller = started(place)
    scene.until_controller(1)
    with pytest.raises(NotController, match="resigned"):
        answer_of(controller.resign())
    answer_of(controller.elect_unclean([]))
    assert controller.epoch == scene.epoch() == 2
    controller.stop()


def elected(place: Place, broker: int) -> Office:
    """One that takes a single step, and then sleeps."""
    controller = Controller(place.client(), broker)
    controller.step()
    assert controller.office is not None
    return controller.office


def test_writes_of_a_deposed_controller_are_refused(place: Place, scene: Scene) -> None:
    scene.up(1, 2)
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2]})
    old = elected(place, 1)
    before = scene.witness.read(paths.state(P0))
    assert before is not None
    late = (PutState(P0, Leadership(2, (2,), 1, 1), before.version),)
    scene.witness.client.delete(paths.CONTROLLER)
    with pytest.raises(ControllerMoved):
        old._write_all([late])
    assert scene.witness.read(paths.state(P0)) == before, "between two controllers"
    new = elected(place, 2)
    assert new.term.epoch == old.term.epoch + 1
    with pytest.raises(ControllerMoved):
        old._write_all([late])
    with pytest.raises(ControllerMoved):
        old._drop_topic(DropTopic("t", 0, old.cluster.topics["t"].czxid))
    with pytest.raises(ControllerMoved):
        old.give_up()
    assert scene.witness.read(paths.state(P0)) == before
    assert scene.witness.read(paths.CONTROLLER) is not None


def test_deposed_while_it_slept(place: Place, proxy: FaultProxy, scene: Scene) -> None:
    """Its connection stalls, its session ends, another is elected; then its writes arrive."""
    scene.up(1, 2)
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2]})
    controller = Controller(place.client(proxy), 1)
    controller.step()
    assert controller.office is not None
    proxy.expire()
    second = started(place, 2)
    scene.until_controller(2)
    scene.down(1)
    scene.until_led(P0, lambda led: led.leader == 2)
    controller.start()
    with pytest.raises(NotController):
        answer_of(controller.shut_down(2))
    assert scene.until_led(P0, lambda led: True) == Leadership(2, (2,), 1, 2)
    second.stop()
    scene.until_controller(1)
    controller.stop()


@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
def test_resigns_though_that_was_lost(when: When, place: Place, proxy: FaultProxy) -> None:
    """Before: it is asked again, or it would stay in office, under the same epoch."""
    controller = Controller(place.client(proxy), 1)
    controller.start()
    until(lambda: controller.epoch == 1)
    # Answered when all else is done: the next request is the one.
    answer_of(controller.elect_unclean([]))
    fault = proxy.arm(Fault(1, when))
    with pytest.raises(NotController):
        answer_of(controller.resign())
    assert fault.seen is not None
    assert fault.seen.operation == "multi"
    until(lambda: controller.epoch == 2)
    controller.stop()


# --- the work -------------------------------------------------------------------------------


def test_brokers_die_and_return(place: Place, scene: Scene) -> None:
    scene.up(1, 2, 3)
    controller = started(place)
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2, 3], 1: [2, 3, 1]})
    assert scene.until_led(P0, lambda led: True) == Leadership(1, (1, 2, 3), 0, 1)
    scene.down(1)
    assert scene.until_led(P0, lambda led: led.leader == 2) == Leadership(2, (2, 3), 1, 1)
    scene.until_led(P1, lambda led: led.isr == (2, 3))
    scene.up(1)
    scene.change_isr(P0, 2, 3, 1)
    scene.witness.until_children(paths.ISR_CHANGES, lambda names: not names)
    request_preferred(scene.witness.zk, [P0])
    assert scene.until_led(P0, lambda led: led.leader == 1).isr == (2, 3, 1)
    scene.until_gone(paths.PREFERRED_ELECTION)
    scene.down(1, 2, 3)
    scene.until_led(P0, lambda led: led.leader == NO_LEADER)
    scene.up(3)
    assert scene.until_led(P0, lambda led: led.leader == 3).isr == (3,)
    assert controller.failure is None
    controller.stop()


def test_topic_grows_and_moves(place: Place, scene: Scene) -> None:
    scene.up(1, 2, 3)
    controller = started(place)
    create_topic(scene.witness.zk, "t", assignment={0: [1]})
    scene.until_led(P0, lambda led: led.leader == 1)
    add_partitions(scene.witness.zk, "t", 2)
    scene.until_led(P1, lambda led: led.leader == 2)
    request_moves(scene.witness.zk, {P0: (3,), TopicPartition("gone", 0): (1,)})
    scene.until_led(P0, lambda led: led.leader_epoch == 1)
    assert scene.replicas(P0) == Replicas((3, 1), (3,), (1,))
    scene.change_isr(P0, 1, 3)
    assert scene.until_led(P0, lambda led: led.leader == 3) == Leadership(3, (3,), 2, 1)
    scene.until_gone(paths.REASSIGN_PARTITIONS)
    assert scene.replicas(P0) == Replicas((3,))
    controller.stop()


def test_move_without_a_notification(place: Place, scene: Scene) -> None:
    """Kafka 0.8's leaders write the ISR and say nothing: the state itself is watched."""
    scene.up(1, 2)
    controller = started(place)
    create_topic(scene.witness.zk, "t", assignment={0: [1]})
    scene.until_led(P0, lambda led: led.leader == 1)
    request_moves(scene.witness.zk, {P0: (2,)})
    now = scene.until_led(P0, lambda led: led.leader_epoch == 1)
    caught_up = attrs.evolve(now, isr=(1, 2))
    scene.witness.client.set(paths.state(P0), encode_leadership(caught_up))
    scene.until_led(P0, lambda led: led.leader == 2)
    controller.stop()


def test_topic_is_deleted_when_brokers_say_so(place: Place, scene: Scene) -> None:
    scene.up(1, 2)
    told: SimpleQueue[Order] = SimpleQueue()
    controller = started(place, tell=into(told))
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2]})
    first = told.get(timeout=LIMIT_S)
    assert first == LeaderAndIsr(P0, (1, 2), Leadership(1, (1, 2), 0, 1), Replicas((1, 2)))
    delete_topic(scene.witness.zk, "t")
    for broker in (1, 2):
        assert told.get(timeout=LIMIT_S) == StopReplica(P0, broker, delete=True)
    answer_of(controller.report_deleted(P0, 1))
    assert scene.witness.read(paths.state(P0)) is not None
    answer_of(controller.report_deleted(P0, 2))
    for path in (paths.topic("t"), paths.config("topics", "t"), paths.delete_topic("t")):
        assert scene.witness.read(path) is None
    controller.stop()


def asleep_while_deleting(place: Place, scene: Scene, client: KazooClient) -> Controller:
    """Its topic is to be deleted once the one broker says so; it takes no step by itself."""
    scene.up(1)
    create_topic(scene.witness.zk, "t", assignment={0: [1]})
    controller = Controller(client, 1, tell=lambda orders: None)
    controller.step()
    delete_topic(scene.witness.zk, "t")
    until(lambda: paths.DELETE_TOPICS in controller._noted)
    controller.step()
    return controller


@pytest.mark.parametrize("cut", [False, True], ids=["answered", "lost"])
def test_topic_is_made_again_as_soon_as_it_is_gone(
    cut: bool, place: Place, scene: Scene, make_proxy: MakeProxy
) -> None:
    """Nobody has asked for the end of the new one, though the old one's was just planned."""
    met: list[str] = []

    def play(fault: Fault) -> None:
        made: list[int] = []

        def make(_: object) -> None:
            if scene.witness.read(paths.topic("t")) is None:
                create_topic(scene.witness.zk, "t", assignment={0: [1]})
                found = scene.witness.read(paths.topic("t"))
                assert found is not None
                made.append(found.czxid)

        proxy = make_proxy()
        controller = asleep_while_deleting(place, scene, place.client(proxy))
        assert controller.office is not None
        fault.do = make
        proxy.arm(fault)
        controller.office.replica_deleted(P0, 1, failed=False)
        met.extend(fault.seen.operation for _ in made if fault.seen is not None)
        make(None)
        controller.start()
        scene.until_led(P0, lambda led: led.leader == 1)
        found = scene.witness.read(paths.topic("t"))
        assert found is not None and made == [found.czxid]
        controller.stop()
        scene.witness.client.delete(paths.topic("t"), recursive=True)
        scene.down(1)

    meet_all(play, lambda at: Fault(at, When.AFTER, cut=cut), most=30)
    assert "multi" in met


@pytest.mark.parametrize("asked", [False, True], ids=["kept", "to be deleted"])
def test_topic_is_made_again_while_nobody_looks(asked: bool, place: Place, scene: Scene) -> None:
    """By hand, past the controller: it may not take the new one for the one that it knows, and
    what is asked of the new one is heard, though the old one is forgotten after that."""
    scene.up(1, 2)
    create_topic(scene.witness.zk, "t", assignment={0: [1]})
    controller = Controller(place.client(), 1)
    controller.step()
    if asked:
        delete_topic(scene.witness.zk, "t")
    scene.witness.client.delete(paths.topic("t"), recursive=True)
    create_topic(scene.witness.zk, "t", assignment={0: [2]})
    controller.start()
    if asked:
        scene.until_gone(paths.delete_topic("t"))
        assert scene.witness.read(paths.topic("t")) is None
    else:
        scene.until_led(P0, lambda led: led.leader == 2)
    controller.stop()


def test_request_for_a_topic_that_was_taken_away_by_hand(place: Place, scene: Scene) -> None:
    """Left behind, it would end the next topic of that name, under the next controller."""
    controller = asleep_while_deleting(place, scene, place.client())
    scene.witness.client.delete(paths.topic("t"), recursive=True)
    controller.start()
    scene.until_gone(paths.delete_topic("t"))
    controller.stop()


def test_topic_is_made_again_before_the_old_one_is_dropped(place: Place, scene: Scene) -> None:
    """By hand; that brokers have deleted the old one says nothing of the new one's replicas."""
    controller = asleep_while_deleting(place, scene, place.client())
    scene.witness.client.delete(paths.topic("t"), recursive=True)
    create_topic(scene.witness.zk, "t", assignment={0: [1]})
    assert controller.office is not None
    controller.office.replica_deleted(P0, 1, failed=False)
    assert scene.witness.read(paths.topic("t")) is not None
    controller.office.replica_deleted(P0, 1, failed=False)
    assert scene.witness.read(paths.topic("t")) is None
    controller.stop()


def test_deletion_that_is_called_off(place: Place, scene: Scene) -> None:
    """By hand, as operators do, and before the controller hears of it."""
    controller = asleep_while_deleting(place, scene, place.client())
    scene.witness.client.delete(paths.delete_topic("t"))
    assert controller.office is not None
    controller.office.replica_deleted(P0, 1, failed=False)
    assert scene.witness.read(paths.topic("t")) is not None
    assert scene.witness.read(paths.state(P0)) is not None
    controller.stop()


def test_deletion_that_is_called_off_is_asked_for_again(place: Place, scene: Scene) -> None:
    scene.up(1)
    told: SimpleQueue[Order] = SimpleQueue()
    create_topic(scene.witness.zk, "t", assignment={0: [1]})
    controller = started(place, tell=into(told))
    stop = StopReplica(P0, 1, delete=True)
    led = told.get(timeout=LIMIT_S)
    delete_topic(scene.witness.zk, "t")
    assert told.get(timeout=LIMIT_S) == stop
    scene.witness.client.delete(paths.delete_topic("t"))
    assert told.get(timeout=LIMIT_S) == led
    delete_topic(scene.witness.zk, "t")
    assert told.get(timeout=LIMIT_S) == stop
    answer_of(controller.report_deleted(P0, 1))
    assert scene.witness.read(paths.topic("t")) is not None
    answer_of(controller.report_deleted(P0, 1))
    assert scene.witness.read(paths.topic("t")) is None
    controller.stop()


def test_deletion_that_is_called_off_halfway(place: Place, scene: Scene) -> None:
    """Some of the topic's znodes have gone already: they are made again."""
    controller = asleep_while_deleting(place, scene, place.client())
    scene.witness.client.delete(paths.delete_topic("t"))
    scene.witness.client.delete(paths.partitions("t"), recursive=True)
    until(lambda: paths.DELETE_TOPICS in controller._noted)
    controller.step()
    assert scene.until_led(P0, lambda led: led.leader == 1).leader_epoch == 1
    controller.stop()


def test_controlled_shutdown(place: Place, scene: Scene) -> None:
    scene.up(1, 2)
    controller = started(place)
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2], 1: [2, 1]})
    create_topic(scene.witness.zk, "alone", assignment={0: [1]})
    for where in (P0, P1, TopicPartition("alone", 0)):
        scene.until_led(where, lambda led: True)
    assert answer_of(controller.shut_down(1)) == [TopicPartition("alone", 0)]
    assert scene.until_led(P0, lambda led: True) == Leadership(2, (2,), 1, 1)
    assert scene.until_led(P1, lambda led: True) == Leadership(2, (2,), 1, 1)
    with pytest.raises(StaleBroker):
        answer_of(controller.shut_down(9))
    controller.stop()


def test_unclean(place: Place, scene: Scene) -> None:
    scene.up(1, 2)
    controller = started(place)
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2]})
    unclean = {"unclean.leader.election.enable": "true"}
    create_topic(scene.witness.zk, "u", assignment={0: [1, 2]}, config=unclean)
    for topic in ("t", "u"):
        scene.until_led(TopicPartition(topic, 0), lambda led: led.leader == 1)
        scene.change_isr(TopicPartition(topic, 0), 1)
    scene.down(1)
    assert scene.until_led(TopicPartition("u", 0), lambda led: led.leader == 2).recovering
    assert scene.until_led(P0, lambda led: led.leader != 1).leader == NO_LEADER
    answer_of(controller.elect_unclean([P0]))
    assert scene.until_led(P0, lambda led: True).leader == 2
    controller.stop()


def test_unclean_no_longer(place: Place, scene: Scene) -> None:
    """Its configuration has changed by the time at which the topic is read again."""
    scene.up(1, 2)
    unclean = {"unclean.leader.election.enable": "true"}
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2]}, config=unclean)
    controller = started(place)
    scene.until_led(P0, lambda led: led.leader == 1)
    scene.witness.client.set(paths.config("topics", "t"), encode_config({}))
    add_partitions(scene.witness.zk, "t", 2)
    scene.until_led(P1, lambda led: led.leader != NO_LEADER)
    scene.change_isr(P0, 1)
    scene.down(1)
    assert scene.until_led(P0, lambda led: led.leader != 1).leader == NO_LEADER
    controller.stop()


def test_what_cannot_be_read_stops_nothing(
    place: Place, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.up(1, 2)
    client = scene.witness.client
    for path in (paths.topic("broken"), paths.REASSIGN_PARTITIONS, paths.PREFERRED_ELECTION):
        client.create(path, b"{", makepath=True)
    client.create(f"{paths.isr_change()}0000000001", b"{", makepath=True)
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2], 1: [1, 2]})
    client.create(paths.state(P0), b"{", makepath=True)
    with caplog.at_level(logging.ERROR):
        controller = started(place)
        scene.until_led(P1, lambda led: led.leader == 1)
    for path in (paths.REASSIGN_PARTITIONS, paths.PREFERRED_ELECTION):
        scene.until_gone(path)
    scene.witness.until_children(paths.ISR_CHANGES, lambda names: not names)
    found = scene.witness.read(paths.state(P0))
    assert found is not None and found.data == b"{"
    assert "is left alone" in caplog.text
    delete_topic(scene.witness.zk, "broken")
    scene.until_gone(paths.topic("broken"))
    controller.stop()


def test_successor_goes_on_in_the_middle(place: Place, scene: Scene) -> None:
    """A move and a deletion are under way, a broker has died, and a notification waits."""
    scene.up(1, 2, 3)
    first = started(place, 1, tell=lambda orders: None)
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2]})
    create_topic(scene.witness.zk, "old", assignment={0: [2]})
    scene.until_led(P0, lambda led: led.leader == 1)
    request_moves(scene.witness.zk, {P0: (2, 3)})
    scene.until_led(P0, lambda led: led.leader_epoch == 1)
    delete_topic(scene.witness.zk, "old")
    first.stop()
    scene.change_isr(P0, 1, 2, 3)
    scene.down(1)
    second = started(place, 2)
    end = scene.until_led(P0, lambda led: led.leader == 2)
    for path in (paths.topic("old"), paths.delete_topic("old"), paths.REASSIGN_PARTITIONS):
        scene.until_gone(path)
    assert end.controller_epoch == 2 and end.isr == (2, 3)
    assert scene.replicas(P0) == Replicas((2, 3))
    scene.witness.until_children(paths.ISR_CHANGES, lambda names: not names)
    second.stop()


# --- under faults ------------------------------------------------------------------------------


def story(scene: Scene, client: KazooClient) -> None:
    """A topic is made, its leader dies, it moves, and is deleted; in the end nothing is left."""
    scene.up(1, 2, 3)
    controller = Controller(client, 1)
    controller.start()
    create_topic(scene.witness.zk, "t", assignment={0: [1, 2], 1: [2, 1]})
    begun = scene.until_led(P0, lambda led: led.leader == 1)
    scene.until_led(P1, lambda led: led.leader == 2)
    scene.down(1)
    scene.until_led(P1, lambda led: led.isr == (2,))
    led = scene.until_led(P0, lambda led: led.leader == 2)
    assert led.leader_epoch > begun.leader_epoch and led.isr == (2,)
    request_moves(scene.witness.zk, {P0: (3,)})
    scene.until_led(P0, lambda now: now.leader_epoch > led.leader_epoch)
    scene.change_isr(P0, 2, 3)
    assert scene.until_led(P0, lambda led: led.leader == 3).isr == (3,)
    scene.until_gone(paths.REASSIGN_PARTITIONS)
    assert scene.replicas(P0) == Replicas((3,))
    scene.up(1)
    delete_topic(scene.witness.zk, "t")
    scene.until_gone(paths.delete_topic("t"))
    assert not scene.witness.zk.children(paths.TOPICS)
    assert not scene.witness.zk.children("/config/topics")
    scene.witness.until_children(paths.ISR_CHANGES, lambda names: not names)
    assert controller.failure is None
    controller.stop()
    client.stop()
    scene.until_gone(paths.CONTROLLER)
    scene.down(1, 2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("make_fault", FAULTS, ids=FAULT_NAMES)
def test_fault_at_each_request(make_fault: MakeFault, scene: Scene, make_proxy: MakeProxy) -> None:
    requests = sweep(scene.place, make_proxy, make_fault, lambda client: story(scene, client))
    assert requests >= 60
