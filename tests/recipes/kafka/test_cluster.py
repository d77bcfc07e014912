"""A controller's decisions over whole stories, with writes that fail, and no server."""

import random
from collections.abc import Callable

import attrs
import pytest

from recipes.kafka.cluster import (
    Cluster,
    DropDeletion,
    DropPreferred,
    DropTopic,
    Known,
    LeaderAndIsr,
    Order,
    PutMoves,
    PutState,
    PutTopic,
    StaleBroker,
    StopReplica,
    Writes,
)
from recipes.kafka.formats import NO_LEADER, Leadership, Replicas, Topic
from recipes.kafka.paths import TopicPartition

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
CZXID = 7
"""Of the topic."""


def cluster_of(*brokers: int, epoch: int = 1) -> Cluster:
    return Cluster(epoch, brokers={each: each * 10 for each in brokers})


def settle(cluster: Cluster) -> list[Order]:
    """All writes go through, until there are none."""
    told: list[Order] = []
    for _ in range(20):
        steps = cluster.plan()
        check_disjoint(steps)
        if not steps:
            return [*told, *cluster.orders()]
        for step in steps:
            told += cluster.apply(step)
    pytest.fail(f"never at rest: {cluster.plan()}")


def check_disjoint(steps: list[Writes]) -> None:
    names = [key_of(write) for step in steps for write in step]
    assert len(names) == len(set(names)), names


def key_of(write: object) -> object:
    match write:
        case PutState(where):
            return where
        case PutTopic(name) | DropTopic(name):
            return name
        case DropDeletion(name):
            return ("deletion", name)
    return type(write)


def lead(cluster: Cluster, where: TopicPartition) -> tuple[int, tuple[int, ...], int]:
    known = cluster.states[where].leadership
    return known.leader, known.isr, known.leader_epoch


def with_topic(*brokers: int) -> Cluster:
    cluster = cluster_of(*brokers)
    cluster.set_topic("t", Topic.of({0: [1, 2, 3], 1: [2, 3, 1]}), 0, CZXID)
    settle(cluster)
    return cluster


def kill(cluster: Cluster, *dead: int) -> list[Order]:
    return change(cluster, {k: v for k, v in cluster.brokers.items() if k not in dead})


def change(cluster: Cluster, alive: dict[int, int]) -> list[Order]:
    told: list[Order] = []
    for brokers in cluster.changed_brokers(alive):
        told += cluster.set_brokers(brokers) + settle(cluster)
    return told


def test_new_topic() -> None:
    cluster = cluster_of(1, 3)
    cluster.set_topic("t", Topic.of({0: [1, 2, 3], 1: [2, 3]}), 0, CZXID)
    (first, second) = cluster.plan()
    assert first == (PutState(P0, Leadership(1, (1, 3), 0, 1), None),)
    assert second == (PutState(P1, Leadership(3, (3,), 0, 1), None),)
    orders = cluster.apply(first)
    assert orders == [LeaderAndIsr(P0, (1, 3), Leadership(1, (1, 3), 0, 1), Replicas((1, 2, 3)))]


def test_broker_down_and_up() -> None:
    cluster = with_topic(1, 2, 3)
    kill(cluster, 1)
    assert lead(cluster, P0) == (2, (2, 3), 1)
    assert lead(cluster, P1) == (2, (2, 3), 1)
    told = change(cluster, dict(cluster.brokers) | {1: 99})
    assert [each.brokers for each in told if isinstance(each, LeaderAndIsr)] == [(1,), (1,)]
    assert lead(cluster, P0) == (2, (2, 3), 1), "it has to catch up first"


def test_bounced_broker_leads_no_longer() -> None:
    cluster = with_topic(1, 2, 3)
    change(cluster, dict(cluster.brokers) | {1: 99})
    assert lead(cluster, P0) == (2, (2, 3), 1)


def test_all_dead_and_one_back() -> None:
    cluster = with_topic(1, 2, 3)
    kill(cluster, 1, 2, 3)
    assert lead(cluster, P0) == (NO_LEADER, (1, 2, 3), 1)
    change(cluster, {3: 99})
    assert lead(cluster, P0) == (3, (3,), 2)


def test_unclean_only_where_allowed() -> None:
    cluster = with_topic(1, 2, 3)
    kill(cluster, 2, 3)
    cluster.set_brokers({})
    settle(cluster)
    change(cluster, {2: 99})
    assert lead(cluster, P0)[0] == NO_LEADER
    cluster.unclean_once[P0] = None
    settle(cluster)
    assert lead(cluster, P0)[:2] == (2, (2,)) and cluster.states[P0].leadership.recovering
    assert lead(cluster, P1)[0] == NO_LEADER
    cluster.unclean_topics["t"] = True
    settle(cluster)
    assert lead(cluster, P1)[0] == 2
    assert not cluster.unclean_once


def test_leave_to_lose_records_ends_with_the_topic() -> None:
    cluster = with_topic(1, 2, 3)
    cluster.unclean_topics["t"] = True
    cluster.unclean_once[P1] = None
    cluster.set_topics([])
    cluster.set_topic("t", Topic.of({0: [1, 2, 3], 1: [2, 3, 1]}), 0, CZXID)
    settle(cluster)
    kill(cluster, 2, 3)
    kill(cluster, 1)
    change(cluster, {2: 99})
    assert (lead(cluster, P0)[0], lead(cluster, P1)[0]) == (NO_LEADER, NO_LEADER)


def test_controlled_shutdown() -> None:
    cluster = with_topic(1, 2, 3)
    with pytest.raises(StaleBroker):
        cluster.start_shutdown(1, broker_epoch=9)
    cluster.start_shutdown(1, broker_epoch=10)
    told = settle(cluster)
    assert cluster.led_by(1) == []
    assert lead(cluster, P0) == (2, (2, 3), 1)
    assert StopReplica(P0, 1, delete=False) in told
    kill(cluster, 1)
    assert cluster.leaving == set()
    with pytest.raises(StaleBroker):
        cluster.start_shutdown(1)


def test_shutdown_of_the_only_one_in_sync_keeps_the_leader() -> None:
    cluster = with_topic(1)
    cluster.start_shutdown(1)
    settle(cluster)
    assert cluster.led_by(1) == [P0, P1]


def test_preferred_leader() -> None:
    cluster = with_topic(1, 2, 3)
    kill(cluster, 1)
    change(cluster, dict(cluster.brokers) | {1: 99})
    cluster.set_preferred([P0, TopicPartition("gone", 0)], asked=True)
    catch_up(cluster, P0, 1)
    settle(cluster)
    assert lead(cluster, P0)[0] == 1 and not cluster.preferred


def catch_up(cluster: Cluster, where: TopicPartition, *brokers: int) -> None:
    """As the leader writes it."""
    known = cluster.states[where]
    isr = (*known.leadership.isr, *brokers)
    cluster.set_state(where, Known(attrs.evolve(known.leadership, isr=isr), known.version + 1))


def test_move() -> None:
    cluster = with_topic(1, 2, 3, 4)
    cluster.set_moves({P0: (4, 2), P1: (3, 4)}, 5)
    settle(cluster)
    assert cluster.topics["t"].topic.partitions[0] == Replicas((4, 2, 1, 3), (4,), (1, 3))
    assert cluster.moves == {P0: (4, 2), P1: (3, 4)}
    catch_up(cluster, P0, 4)
    told = settle(cluster)
    assert cluster.topics["t"].topic.partitions[0] == Replicas((4, 2))
    assert lead(cluster, P0) == (4, (2, 4), 2)
    assert [each for each in told if isinstance(each, StopReplica)] == [
        StopReplica(P0, 1, delete=True),
        StopReplica(P0, 3, delete=True),
    ]
    assert cluster.moves == {P1: (3, 4)} and cluster.moves_version == 6
    catch_up(cluster, P1, 4)
    settle(cluster)
    assert cluster.moves_version == -1, "the znode with the requests is gone"


def test_two_moves_of_a_topic_end_one_after_the_other() -> None:
    """They share the topic's znode, so two transactions would refuse each other for ever."""
    cluster = with_topic(1, 2, 3, 4)
    cluster.set_moves({P0: (4, 2), P1: (3, 4)}, 5)
    settle(cluster)
    catch_up(cluster, P0, 4)
    catch_up(cluster, P1, 4)
    settle(cluster)
    assert cluster.topics["t"].topic == Topic.of({0: (4, 2), 1: (3, 4)})


@pytest.mark.parametrize(
    "moves", [{TopicPartition("gone", 0): (1,)}, {P0: ()}, {P0: (1, 1)}, {P0: (-1,)}, {}]
)
def test_moves_that_cannot_be(moves: dict[TopicPartition, tuple[int, ...]]) -> None:
    cluster = with_topic(1, 2, 3)
    cluster.set_moves(moves, 0)
    assert cluster.plan() == [(PutMoves({}, 0),)]


def test_topic_deletion() -> None:
    cluster = with_topic(1, 2, 3)
    cluster.set_deletions(["t", "gone"])
    told = settle(cluster)
    assert len(told) == 6 and "gone" not in cluster.deletions
    for order in told:
        assert isinstance(order, StopReplica) and order.delete
        assert "t" in cluster.topics
        cluster.replica_deleted(order.where, order.broker)
    assert cluster.plan() == [(DropTopic("t", 0, CZXID),)]
    settle(cluster)
    assert not (cluster.topics or cluster.states or cluster.deleted or cluster.deletions)


def test_topic_in_the_place_of_another() -> None:
    """It was deleted and made again between two looks: nothing of the old one holds for it."""
    cluster = with_topic(1, 2, 3)
    cluster.set_deletions(["t"])
    for order in settle(cluster):
        assert isinstance(order, StopReplica)
        cluster.replica_deleted(order.where, order.broker)
    cluster.set_topics(["t"])
    cluster.set_topic("t", Topic.of({0: [3, 2]}), 0, CZXID + 1)
    assert not (cluster.states or cluster.deleted or cluster.deletions)
    assert cluster.plan() == [(PutState(P0, Leadership(3, (3, 2), 0, 1), None),)]


def test_deletion_waits_for_a_broker_that_is_dead() -> None:
    cluster = with_topic(1, 2, 3)
    cluster.set_deletions(["t"])
    told = [each for each in settle(cluster) if isinstance(each, StopReplica)]
    for order in told:
        if order.broker != 3:
            cluster.replica_deleted(order.where, order.broker)
    assert kill(cluster, 3) == []
    assert cluster.plan() == []
    again = change(cluster, dict(cluster.brokers) | {3: 99})
    stops = [each for each in again if isinstance(each, StopReplica)]
    assert sorted(each.broker for each in stops) == [3, 3]
    for order in stops:
        cluster.replica_deleted(order.where, order.broker)
    settle(cluster)
    assert cluster.topics == {}


def test_deletion_that_a_broker_could_not_do_is_tried_when_it_returns() -> None:
    cluster = with_topic(1, 2, 3)
    cluster.set_deletions(["t"])
    settle(cluster)
    cluster.replica_deleted(P0, 1, failed=True)
    assert settle(cluster) == []
    kill(cluster, 1)
    told = change(cluster, dict(cluster.brokers) | {1: 99})
    assert StopReplica(P0, 1, delete=True) in told


def test_deletion_that_is_called_off_and_asked_for_again() -> None:
    """What was deleted the first time is there again, and is to be deleted anew."""
    cluster = with_topic(1, 2, 3)
    cluster.set_deletions(["t"])
    first = settle(cluster)
    cluster.replica_deleted(P0, 1)
    called_off = cluster.set_deletions([])
    assert called_off == {P0: [1, 2, 3], P1: [2, 3, 1]}
    known, replicas = cluster.states[P0].leadership, cluster.replicas_of(P0)
    assert replicas is not None
    assert cluster.restore(called_off)[0] == LeaderAndIsr(P0, (1, 2, 3), known, replicas)
    assert settle(cluster) == []
    assert cluster.set_deletions(["t"]) == {}
    assert settle(cluster) == first
    cluster.replica_deleted(P0, 1)
    late = [each for each in first if (each.where, getattr(each, "broker", 0)) != (P0, 1)]
    for _ in range(2):
        assert cluster.plan() == []
        for order in late:
            assert isinstance(order, StopReplica)
            cluster.replica_deleted(order.where, order.broker)
    assert cluster.plan() == [(DropTopic("t", 0, CZXID),)]
    assert not cluster.owed


def test_a_broker_that_is_dead_owes_no_answer() -> None:
    cluster = with_topic(1, 2, 3)
    cluster.set_deletions(["t"])
    settle(cluster)
    cluster.set_deletions([])
    kill(cluster, 1, 2, 3)
    assert not cluster.owed


def test_state_that_a_deletion_took_away_before_it_was_called_off() -> None:
    cluster = with_topic(1, 2, 3)
    kill(cluster, 1)
    assert lead(cluster, P0) == (2, (2, 3), 1)
    change(cluster, {1: 11, 2: 20, 3: 30})
    cluster.set_deletions(["t"])
    for order in settle(cluster):
        assert isinstance(order, StopReplica)
        cluster.replica_deleted(order.where, order.broker)
    for where in cluster.set_deletions([]):
        cluster.set_state(where, None)
    settle(cluster)
    assert lead(cluster, P0) == (1, (1, 2, 3), 2)


def test_topic_on_the_move_is_deleted_afterwards() -> None:
    cluster = with_topic(1, 2, 3, 4)
    cluster.set_moves({P0: (4,)}, 0)
    settle(cluster)
    cluster.set_deletions(["t"])
    assert settle(cluster) == []
    catch_up(cluster, P0, 4)
    assert StopReplica(P0, 4, delete=True) in settle(cluster)


def test_preferred_is_dropped_when_nothing_can_be_done() -> None:
    cluster = with_topic(1, 2, 3)
    cluster.set_preferred([P0], asked=True)
    assert cluster.plan() == [(DropPreferred(),)]
    cluster.set_preferred([], asked=True)
    assert cluster.plan() == [(DropPreferred(),)]


def test_what_cannot_be_read_is_left_alone() -> None:
    cluster = with_topic(1, 2, 3)
    cluster.set_broken(P0)
    cluster.set_moves({P0: (1,)}, 0)
    kill(cluster, 2)
    assert P0 not in cluster.states and lead(cluster, P1)[0] == 3
    assert cluster.moves_version == -1
    cluster.set_state(P0, Known(Leadership(2, (1, 2)), 0))
    settle(cluster)
    assert lead(cluster, P0)[0] == 1


# --- stories drawn at random ------------------------------------------------------------------


class Story:
    """Brokers, topics, moves and deletions at random; some writes are refused or lost on the way,
    and some topics made again as soon as they are gone.

    What is on the server is kept beside what the controller believes, and a new controller takes
    over now and then, from the server's state alone.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.cluster = Cluster(1)
        self.topics: dict[str, tuple[Topic, int, int]] = {}
        self.creations = 0
        self.states: dict[TopicPartition, Known] = {}
        self.deletions: dict[str, None] = {}
        self.alive: dict[int, int] = {}
        self.registrations = 0
        self.leader_epochs: dict[TopicPartition, int] = {}

    def act(self) -> None:
        acts: list[Callable[[], None]] = [self.bounce, self.bounce, self.create, self.grow_isr]
        acts += [self.grow_isr, self.move, self.delete, self.shut_down, self.fail_over]
        acts += [self.call_off]
        self.dice.choice(acts)()
        self.settle()

    def bounce(self) -> None:
        broker, self.registrations = self.dice.randint(1, 4), self.registrations + 1
        alive = dict(self.alive)
        if alive.pop(broker, None) is None or self.dice.random() < 0.3:
            alive[broker] = self.registrations
        self.alive = alive
        for brokers in self.cluster.changed_brokers(alive):
            self.cluster.set_brokers(brokers)
            self.settle()

    def create(self) -> None:
        name = f"t{self.dice.randint(0, 3)}"
        if name not in self.topics and len(self.alive) >= 2:
            self.make(name)
            self.cluster.set_topic(name, *self.topics[name])

    def make(self, name: str) -> None:
        self.creations += 1
        brokers = [self.dice.sample(sorted(self.alive), 2) for _ in range(2)]
        self.topics[name] = (Topic.of(dict(enumerate(brokers))), 0, self.creations)

    def grow_isr(self) -> None:
        """The leader of one adds all that are alive, behind the controller's back."""
        for where, known in self.states.items():
            if known.leadership.leader in self.alive and where.topic not in self.deletions:
                replicas = self.topics[where.topic][0].partitions[where.partition].brokers
                isr = tuple(each for each in replicas if each in self.alive)
                grown = attrs.evolve(known.leadership, isr=isr)
                self.states[where] = Known(grown, known.version + 1)
                if self.dice.random() < 0.5:
                    self.cluster.set_state(where, self.states[where])

    def move(self) -> None:
        for where in self.states:
            if len(self.alive) >= 2 and where.topic not in self.deletions:
                self.cluster.set_moves({where: tuple(self.dice.sample(sorted(self.alive), 2))}, 0)
                return

    def delete(self) -> None:
        if self.topics and self.dice.random() < 0.4:
            self.deletions[self.dice.choice(list(self.topics))] = None
            self.cluster.set_deletions(self.deletions)

    def call_off(self) -> None:
        if self.deletions and self.dice.random() < 0.5:
            del self.deletions[self.dice.choice(list(self.deletions))]
            for where in self.cluster.set_deletions(self.deletions):
                self.cluster.set_state(where, self.states.get(where))

    def shut_down(self) -> None:
        if self.alive:
            self.cluster.start_shutdown(self.dice.choice(list(self.alive)))

    def fail_over(self) -> None:
        self.cluster = Cluster(self.cluster.epoch + 1, brokers=dict(self.alive))
        for name, topic in self.topics.items():
            self.cluster.set_topic(name, *topic)
        self.cluster.states = dict(self.states)
        self.cluster.set_deletions(self.deletions)

    def settle(self) -> None:
        for _ in range(60):
            steps = self.cluster.plan()
            check_disjoint(steps)
            for step in steps:
                self.write(step)
            stops = [each for each in self.cluster.orders() if isinstance(each, StopReplica)]
            for order in stops:
                self.cluster.replica_deleted(order.where, order.broker)
            if not steps and not stops:
                return self.check()
        raise AssertionError(f"never at rest: {self.cluster.plan()}")

    def write(self, step: Writes) -> None:
        luck = self.dice.random()
        done = luck > 0.2 and all(self.is_current(write) for write in step)
        if done:
            for write in step:
                self.store(write)
        if done and luck > 0.3:
            self.cluster.apply(step)
            self.follow()
        else:
            self.reread(step)

    def follow(self) -> None:
        """The watch on topics: one that was made as soon as another had gone."""
        for name in self.cluster.set_topics(self.topics):
            self.cluster.set_topic(name, *self.topics[name])

    def is_current(self, write: object) -> bool:
        match write:
            case PutState(where, _, version):
                known = self.states.get(where)
                return version == (known.version if known else None)
            case PutTopic(name, _, version):
                return self.topics[name][1] == version
            case DropTopic(name, version, czxid):
                assert name in self.deletions, "nobody asked for it"
                return self.topics[name][1:] == (version, czxid)
        return True

    def store(self, write: object) -> None:
        match write:
            case PutState(where, leadership, version):
                assert leadership.leader_epoch > self.leader_epochs.get(where, -1)
                self.leader_epochs[where] = leadership.leader_epoch
                self.states[where] = Known(leadership, 0 if version is None else version + 1)
            case PutTopic(name, topic, version):
                self.topics[name] = (topic, version + 1, self.topics[name][2])
            case DropTopic(name):
                self.drop(name)
                if len(self.alive) >= 2 and self.dice.random() < 0.5:
                    self.make(name)
            case DropDeletion(name):
                self.deletions.pop(name, None)

    def drop(self, name: str) -> None:
        del self.topics[name]
        self.deletions.pop(name, None)
        self.states = {w: known for w, known in self.states.items() if w.topic != name}
        self.leader_epochs = {w: n for w, n in self.leader_epochs.items() if w.topic != name}

    def reread(self, step: Writes) -> None:
        self.cluster.set_topics(self.topics)
        for write in step:
            match write:
                case PutState(where):
                    self.cluster.set_state(where, self.states.get(where))
                case PutTopic(name) | DropTopic(name) if name in self.topics:
                    self.cluster.set_topic(name, *self.topics[name])
                case PutMoves() if self.dice.random() < 0.5:
                    self.cluster.set_moves({}, -1)
        self.cluster.set_deletions(self.deletions)

    def check(self) -> None:
        """At rest: what the controller believes is so, and every leader is alive and in sync."""
        alive = set(self.cluster.brokers)
        known = {n: (k.topic, k.version, k.czxid) for n, k in self.cluster.topics.items()}
        assert known == self.topics
        assert self.cluster.states.keys() == self.states.keys()
        for where, state in self.cluster.states.items():
            leader, isr = state.leadership.leader, state.leadership.isr
            replicas = self.topics[where.topic][0].partitions[where.partition].brokers
            assert isr and set(isr) <= set(replicas)
            if where.topic not in self.deletions:
                assert leader == NO_LEADER or (leader in alive and leader in isr)
                assert leader != NO_LEADER or not set(isr) & alive - self.cluster.leaving


@pytest.mark.parametrize("number", range(40))
def test_story(number: int, seed: int) -> None:
    story = Story(seed * 1000 + number)
    for _ in range(60):
        story.act()
