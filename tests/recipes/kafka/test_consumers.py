"""Groups of consumers on a real server: who owns what, under faults at each request."""

from collections.abc import Callable, Iterable
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.client import KazooClient

from recipes.kafka import paths
from recipes.kafka.assign import STRATEGIES, Owners
from recipes.kafka.consumer import Consumer, NotOwner, make_id
from recipes.kafka.formats import (
    WHITE_LIST,
    Broker,
    Subscription,
    ThreadId,
    decode_owner,
    decode_subscription,
    encode_broker,
)
from recipes.kafka.group import GroupView, Ownership, TwoOwners, plan_change, wanted_by
from recipes.kafka.paths import TopicPartition
from recipes.kafka.topics import add_partitions, create_topic
from tests.recipes.conftest import MakeProxy
from tests.recipes.faults import Fault, FaultProxy, When, until
from tests.recipes.kafka.conftest import FAULT_NAMES, FAULTS, MakeFault, Place, Witness, sweep
from tests.recipes.kafka.recording import ownership_of
from zkpy.testing.realserver import ZKPY

T = Subscription({"t": 1})
A, B, C = "g_a", "g_b", "g_c"
P = [TopicPartition("t", number) for number in range(4)]
OWNERS = st.dictionaries(st.sampled_from(P), st.sampled_from([ThreadId(A, 0), ThreadId(A, 1)]))

# --- decisions ----------------------------------------------------------------------------


@given(owned=OWNERS, wanted=OWNERS)
def test_change_leads_to_what_is_wanted(owned: Owners, wanted: Owners) -> None:
    change = plan_change(owned, wanted)
    left = {where: thread for where, thread in owned.items() if where not in change.release}
    assert not left.keys() & change.claim.keys(), "claimed before it is released"
    assert left | dict(change.claim) == wanted
    assert all(owned[each] != wanted.get(each) for each in change.release)


def test_without_brokers_nothing_is_done() -> None:
    view = GroupView({A: T}, {"t": [0]}, brokers=0)
    assert wanted_by(A, view, STRATEGIES["range"]) is None
    assert plan_change({P[0]: ThreadId(A, 0)}, None).release == ()


def test_record_of_ownership() -> None:
    record = Ownership()
    record.claimed(P[0], "a", 10)
    with pytest.raises(TwoOwners):
        record.claimed(P[0], "b", 11)
    record.released(P[0], 20)
    assert record.without_owner(P[:1]) == P[:1]
    record.claimed(P[0], "b", 25)
    assert [gap.length_ms for gap in record.gaps] == [5]


def test_id_is_kafkas() -> None:
    group, _, rest = make_id("g").partition("_")
    assert group == "g" and len(rest.rpartition("-")[2]) == 8


# --- on a server ----------------------------------------------------------------------------


class Group:
    """One topic of four partitions, a broker, and the group's znodes to wait for."""

    def __init__(self, place: Place, witness: Witness) -> None:
        self.place, self.witness = place, witness
        self.started: dict[str, Consumer] = {}
        data = encode_broker(Broker.at(1, "h1", 9092))
        witness.client.create(paths.broker(1), data, makepath=True)
        create_topic(witness.zk, "t", assignment={number: [1] for number in range(4)})
        witness.zk.ensure(paths.owners("g", "t"))

    def start(
        self, name: str, client: KazooClient | None = None, subscription: Subscription = T
    ) -> Consumer:
        client = client or self.place.client()
        return self.begin(Consumer(client, "g", subscription, consumer_id=name))

    def begin(self, consumer: Consumer) -> Consumer:
        consumer.start()
        self.started[consumer.consumer_id] = consumer
        return consumer

    def owners(self, topic: str = "t") -> dict[int, str]:
        path = paths.owners("g", topic)
        found = self.witness.zk.read_all(f"{path}/{n}" for n in self.witness.zk.children(path))
        return {
            int(name.rpartition("/")[2]): decode_owner(node.data).consumer
            for name, node in found.items()
            if node is not None
        }

    def until(self, expected: dict[int, str], topic: str = "t") -> None:
        """Owners change one by one, and each change is an event of its parent.  The znodes show it
        before the answer has come to who asked for it, so those are waited for too."""
        self.witness.until_children(
            paths.owners("g", topic), lambda _: self.owners(topic) == expected
        )
        until(lambda: all(self._knows(each, expected, topic) for each in self.started.values()))

    def _knows(self, consumer: Consumer, expected: dict[int, str], topic: str) -> bool:
        """One that stopped, or has none, is not waited for."""
        its = {number for number, name in expected.items() if name == consumer.consumer_id}
        return not its or its == {each.partition for each in consumer.owned if each.topic == topic}

    def check_record(self, claims: int = 0) -> None:
        """At no zxid two owners of a partition; only zkpy's log is read here."""
        if tuple(self.place.server.command) != ZKPY:
            return
        data = self.place.server.directory / "data-0"
        record = ownership_of(data, self.place.root, "g")
        assert record.claims >= claims


@pytest.fixture
def group(place: Place, witness: Witness) -> Group:
    return Group(place, witness)


def split(*names: str) -> dict[int, str]:
    return dict(enumerate(names))


def test_alone_then_two_then_alone(group: Group) -> None:
    first = group.start(A)
    group.until(split(A, A, A, A))
    found = group.witness.read(paths.group_id("g", A))
    assert found is not None and decode_subscription(found.data).streams == {"t": 1}
    second = group.start(B)
    group.until(split(A, A, B, B))
    assert sorted(first.owned) == P[:2] and sorted(second.owned) == P[2:]
    first.stop()
    group.until(split(B, B, B, B))
    assert first.owned == {}
    second.stop()
    group.until({})
    assert group.witness.zk.children(paths.group_ids("g")) == []
    group.check_record(claims=4 + 2 + 2)


def test_what_stays_is_not_given_back(group: Group) -> None:
    group.start(A)
    group.until(split(A, A, A, A))
    before = [group.witness.read(paths.owner("g", each)) for each in P[:2]]
    group.start(C)
    group.until(split(A, A, C, C))
    group.start(B)
    group.until(split(A, A, B, C))
    assert [group.witness.read(paths.owner("g", each)) for each in P[:2]] == before
    group.check_record()


def test_callbacks_and_offsets(group: Group) -> None:
    told: list[tuple[str, list[TopicPartition]]] = []

    def note(what: str) -> Callable[[Iterable[TopicPartition]], None]:
        return lambda partitions: told.append((what, sorted(partitions)))

    def commit(partitions: Iterable[TopicPartition]) -> None:
        note("revoked")(partitions)
        for each in partitions:
            consumer.commit(each, 40 + each.partition)

    client, assigned = group.place.client(), note("assigned")
    consumer = group.begin(
        Consumer(client, "g", T, consumer_id=A, on_assigned=assigned, on_revoked=commit)
    )
    group.until(split(A, A, A, A))
    other = group.start(B)
    group.until(split(A, A, B, B))
    assert told == [("assigned", P), ("revoked", P[2:])]
    assert [other.offset(each) for each in P] == [None, None, 42, 43]
    other.commit(P[3], 50)
    assert consumer.offset(P[3]) == 50
    for consumer_, where in ((consumer, P[3]), (other, P[0])):
        with pytest.raises(NotOwner):
            consumer_.commit(where, 1)
    found = group.witness.read(paths.offset("g", P[3]))
    assert found is not None and found.data == b"50"
    until(lambda: any(each.released for each in consumer.rebalances))
    (rebalance,) = [each for each in consumer.rebalances if each.released]
    assert (rebalance.released, rebalance.claimed, rebalance.waiting) == (2, 0, 0)


def test_stop_lets_commit_what_was_done(group: Group) -> None:
    def commit(partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            consumer.commit(each, 7)

    client = group.place.client()
    consumer = group.begin(Consumer(client, "g", T, consumer_id=A, on_revoked=commit))
    group.until(split(A, A, A, A))
    consumer.stop()
    assert [consumer.offset(each) for each in P] == [7, 7, 7, 7]
    assert group.owners() == {}


def test_callbacks_that_fail_hold_up_nobody(group: Group, caplog: pytest.LogCaptureFixture) -> None:
    def fail(partitions: Iterable[TopicPartition]) -> None:
        raise ValueError("a callback's own trouble")

    client = group.place.client()
    consumer = group.begin(
        Consumer(client, "g", T, consumer_id=A, on_assigned=fail, on_revoked=fail)
    )
    group.until(split(A, A, A, A))
    group.start(B)
    group.until(split(A, A, B, B))
    assert consumer.failure is None
    consumer.stop()
    group.until(split(B, B, B, B))
    assert caplog.text.count("a callback's own trouble") >= 3


def test_topic_grows_and_brokers_go_and_come(group: Group) -> None:
    group.witness.client.delete(paths.broker(1))
    consumer = group.start(A)
    group.witness.until(paths.group_id("g", A), lambda node: node is not None)
    assert group.owners() == {}
    data = encode_broker(Broker.at(1, "h1", 9092))
    group.witness.client.create(paths.broker(1), data)
    group.until(split(A, A, A, A))
    add_partitions(group.witness.zk, "t", 6)
    group.until(split(A, A, A, A, A, A))
    group.witness.client.delete(paths.broker(1))
    group.witness.client.delete(paths.topic("t"))
    assert len(group.owners()) == 6
    assert consumer.failure is None


def test_several_share_a_session(group: Group) -> None:
    """None takes away what another has claimed, though the server sees one owner."""
    client = group.place.client()
    names = [A, B, C, "g_d"]
    consumers = [group.start(each, client) for each in names]
    group.until(split(*names))
    # What was left by a step that was broken off is another's by now.
    consumers[0]._sent |= dict.fromkeys(P)
    consumers[0].wake()
    consumers[3].stop()
    group.until(split(A, A, B, C))
    consumers[1].stop()
    group.until(split(A, A, C, C))
    consumers[1]._sent |= dict.fromkeys(P)
    consumers[1]._stopping.clear()
    consumers[1]._clear_up({})
    assert group.owners() == split(A, A, C, C)
    group.check_record()


def test_pattern_follows_new_topics(group: Group) -> None:
    group.start(A, subscription=Subscription({"t.*": 1}, WHITE_LIST))
    group.until(split(A, A, A, A))
    create_topic(group.witness.zk, "tt", assignment={0: [1]})
    group.witness.zk.ensure(paths.owners("g", "tt"))
    group.until(split(A), "tt")


@pytest.mark.parametrize(
    "data", [b"{", b'{"subscription":{"*":1},"pattern":"white_list","timestamp":"0"}']
)
def test_member_that_cannot_be_read(
    data: bytes, group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets nothing, and the others go on."""
    first = group.start(A)
    group.until(split(A, A, A, A))
    group.witness.client.create(paths.group_id("g", "bad"), data, ephemeral=True)
    second = group.start(B)
    group.until(split(A, A, B, B))
    first.stop()
    group.until(split(B, B, B, B))
    assert (first.failure, second.failure) == (None, None)
    assert "a member has no subscriptions: consumer bad" in caplog.text


def test_roundrobin(group: Group) -> None:
    clients = [group.place.client() for _ in range(2)]
    for name, client in zip((A, B), clients, strict=True):
        Consumer(client, "g", T, consumer_id=name, strategy="roundrobin").start()
    group.witness.until_children(
        paths.owners("g", "t"), lambda _: sorted(group.owners().values()) == [A, A, B, B]
    )
    group.check_record()


def test_owner_of_another_kind_is_waited_for(group: Group) -> None:
    """A consumer of Kafka holds a partition, and gives it back later."""
    client = group.place.client()
    client.create(paths.owner("g", P[0]), b"g_kafka-0", ephemeral=True)
    group.start(A)
    group.until(split("g_kafka", A, A, A))
    client.delete(paths.owner("g", P[0]))
    group.until(split(A, A, A, A))


def test_zombie_commits_nothing(group: Group, proxy: FaultProxy) -> None:
    """Its session has ended on the server, and it does not know yet."""
    consumer = group.start(A, group.place.client(proxy))
    group.until(split(A, A, A, A))
    consumer.commit(P[0], 7)
    losses: list[TopicPartition] = []
    consumer._lost = losses.extend
    proxy.arm(Fault(1, When.BEFORE, do=lambda link: link.expire()))
    with pytest.raises(NotOwner):
        consumer.commit(P[0], 8)
    found = group.witness.read(paths.offset("g", P[0]))
    assert found is not None and found.data == b"7"
    group.until(split(A, A, A, A))
    assert sorted(losses) == P
    group.check_record()


def test_commit_from_a_session_before_is_refused(group: Group) -> None:
    client, told = group.place.client(), Event()
    consumer = group.start(A, client)
    group.until(split(A, A, A, A))
    client.handler.callback_queue.put(told.wait)  # no watch speaks, so it does not register anew
    try:
        group.witness.client.delete(paths.group_id("g", A))
        with pytest.raises(NotOwner, match="is gone"):
            consumer.commit(P[0], 8)
    finally:
        told.set()


def story(group: Group, client: KazooClient) -> None:
    """One is there and stays; ours comes, gets half, and leaves."""
    ours = group.start(B, client)
    group.until(split(A, A, B, B))
    ours.stop()
    client.stop()
    group.until(split(A, A, A, A))
    assert ours.owned == {} and ours.failure is None


@pytest.mark.parametrize("make_fault", FAULTS, ids=FAULT_NAMES)
def test_fault_at_each_request(make_fault: MakeFault, group: Group, make_proxy: MakeProxy) -> None:
    steady = group.start(A)
    group.until(split(A, A, A, A))
    requests = sweep(group.place, make_proxy, make_fault, lambda client: story(group, client))
    assert requests >= 10
    assert steady.failure is None
    group.check_record(claims=4 * requests)


@pytest.mark.slow
@pytest.mark.parametrize("make_fault", FAULTS, ids=FAULT_NAMES)
def test_fault_at_each_request_of_the_one_that_gives(
    make_fault: MakeFault, group: Group, make_proxy: MakeProxy
) -> None:
    """Others come and go: ours has to give, under faults, and must not take away what it gave."""

    def give(client: KazooClient) -> None:
        ours = group.start(A, client)
        group.until(split(A, A, A, A))
        other = group.start(B)
        group.until(split(A, A, B, B))
        other.stop()
        group.until(split(A, A, A, A))
        other.client.stop()
        ours.stop()
        client.stop()
        group.until({})
        assert ours.failure is None

    assert sweep(group.place, make_proxy, make_fault, give) >= 20
    group.check_record()
