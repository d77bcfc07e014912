"""What an administrator, and the leader of a partition, write: topics, requests, the ISR.

All of it is read and acted on by a controller, Kafka's or `recipes.kafka.controller`'s.  Each
function takes `Znodes`, and finds out what was done where an answer was lost.
"""

import random
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import attrs
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from recipes.base import first_error, raise_first
from recipes.kafka import paths
from recipes.kafka.brokers import list_brokers
from recipes.kafka.formats import (
    Leadership,
    Moves,
    Replicas,
    Topic,
    decode_leadership,
    decode_topic,
    encode_config,
    encode_leadership,
    encode_partitions,
    encode_reassignment,
    encode_topic,
    new_uuid,
)
from recipes.kafka.paths import TopicPartition
from recipes.kafka.placement import check_manual, draw_start, place_replicas
from recipes.kafka.znodes import UNKNOWN_OUTCOME, Znode, Znodes

MOST_BYTES: Final = 1_000_000
"""Of a topic's replicas and its configuration, which are written in one request."""
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class TopicError(ValueError):
    """This topic cannot be made, changed or deleted."""


class TopicExists(TopicError):
    """There is one of this name, or of one that its metrics could not be told from."""


class StaleLeader(Exception):
    """The partition has another leader, or another leader epoch, than the caller believes."""


def prepare(zk: Znodes) -> None:
    """The znodes that Kafka makes at its start."""
    for path in paths.PERSISTENT:
        zk.ensure(path)


# --- topics ------------------------------------------------------------------------------


def create_topic(
    zk: Znodes,
    name: str,
    partitions: int = 1,
    copies: int = 1,
    *,
    assignment: Mapping[int, Sequence[int]] | None = None,
    config: Mapping[str, str] | None = None,
    dice: random.Random | None = None,
) -> Topic:
    """Configuration and replicas in one transaction; a controller does the rest.

    Replicas are placed on the brokers that are alive (`recipes.kafka.placement`), or as named in
    `assignment`.  TopicExists, PlacementError.
    """
    check_name(name)
    _check_collisions(name, zk.children(paths.TOPICS))
    placed = assignment or _place(zk, partitions, copies, dice or random.Random())
    check_manual(placed)
    topic = Topic.of(placed, new_uuid(uuid.uuid4()))
    data, values = encode_topic(topic), encode_config(config or {})
    check_size(name, data + values)
    for path in (paths.TOPICS, paths.config("topics", "")[:-1]):
        zk.ensure(path)
    _write_topic(zk, name, data, values)
    return topic


def check_size(name: str, data: bytes) -> None:
    """A server closes the connection on what is too large, which to a client is one more lost
    answer: it would be sent again for ever."""
    if len(data) > MOST_BYTES:
        raise TopicError(f"{name}: {len(data)} bytes, of {MOST_BYTES} at most")


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise TopicError(f"{name!r}: letters, digits, '.', '_' and '-', at most 249")


def _check_collisions(name: str, existing: Iterable[str]) -> None:
    """Kafka's metrics write `_` for `.`, so it has no two topics that differ in that alone."""
    alike = [each for each in existing if each.replace(".", "_") == name.replace(".", "_")]
    if alike:
        raise TopicExists(f"{name}: there is {alike[0]}")


def _place(
    zk: Znodes, partitions: int, copies: int, dice: random.Random
) -> Mapping[int, Sequence[int]]:
    racks = {each.broker_id: each.rack for each in list_brokers(zk).values()}
    start, shift = draw_start(racks, dice) if racks else (0, 0)
    return place_replicas(racks, partitions, copies, start=start, shift=shift)


def _write_topic(zk: Znodes, name: str, data: bytes, config: bytes) -> None:
    """Our topic has an id that no other has: so it is known when the answer was lost."""
    while True:
        transaction = zk.transaction()
        if zk.read(paths.config("topics", name)) is None:
            transaction.create(paths.config("topics", name), config)
        else:
            transaction.set_data(paths.config("topics", name), config)
        transaction.create(paths.topic(name), data)
        try:
            why = first_error(zk.commit(transaction))
        except UNKNOWN_OUTCOME:
            zk.sync(paths.TOPICS)
        else:
            if why is None:
                return
            if not isinstance(why, NodeExistsError | NoNodeError):
                raise why
        found = zk.read(paths.topic(name))
        if found is not None:
            if found.data == data:
                return
            raise TopicExists(name)


def add_partitions(zk: Znodes, name: str, partitions: int) -> Topic:
    """Let a topic grow to that many; the new ones go on where the others would have gone on."""
    racks = {each.broker_id: each.rack for each in list_brokers(zk).values()}

    def grow(topic: Topic) -> Topic:
        count = len(topic.partitions)
        if sorted(topic.partitions) != list(range(count)) or not count:
            raise TopicError(f"{name}: partitions {sorted(topic.partitions)!s:.200}")
        if partitions < count:
            raise TopicError(f"{name} has {count} partitions, and cannot get fewer")
        first = topic.partitions[0].brokers
        start = next((i for i, each in enumerate(sorted(racks)) if each >= first[0]), 0)
        more = (
            place_replicas(
                racks, partitions - count, len(first), start=start, first_partition=count
            )
            if partitions > count
            else {}
        )
        grown = {number: Replicas(brokers) for number, brokers in more.items()}
        return attrs.evolve(topic, partitions={**topic.partitions, **grown})

    return update_topic(zk, name, grow)


def update_topic(zk: Znodes, name: str, change: Callable[[Topic], Topic]) -> Topic:
    """Change a topic that others may be changing: `change` is called again if they were quicker."""
    path = paths.topic(name)
    while True:
        found = zk.read(path)
        if found is None:
            raise TopicError(f"no topic {name}")
        topic = decode_topic(name, found.data)
        wanted = change(topic)
        data = encode_topic(wanted)
        check_size(name, data)
        if wanted == topic or _set(zk, path, data, found.version):
            return wanted


def _set(zk: Znodes, path: str, data: bytes, version: int) -> bool:
    """Whether it is known to be written."""
    try:
        zk.client.set(path, data, version)
    except BadVersionError:
        return False
    except UNKNOWN_OUTCOME:
        zk.sync(path)
        return False
    return True


# --- requests to the controller ------------------------------------------------------------


def delete_topic(zk: Znodes, name: str) -> None:
    """Ask for it; it is deleted once every broker with a replica has deleted that."""
    if zk.read(paths.topic(name)) is None:
        raise TopicError(f"no topic {name}")
    zk.ensure(paths.delete_topic(name))


def request_moves(zk: Znodes, moves: Moves) -> None:
    """Ask for other replicas.  NodeExistsError while an earlier request is not answered."""
    _request(zk, paths.REASSIGN_PARTITIONS, encode_reassignment(moves))


def request_preferred(zk: Znodes, partitions: Iterable[TopicPartition]) -> None:
    """Ask for leaders that are first in their list.  NodeExistsError as above."""
    _request(zk, paths.PREFERRED_ELECTION, encode_partitions(partitions))


def _request(zk: Znodes, path: str, data: bytes) -> None:
    zk.ensure(path.rpartition("/")[0])
    try:
        zk.client.create(path, data)
    except UNKNOWN_OUTCOME:
        zk.sync(path)
        found = zk.read(path)
        if found is None or found.data != data:
            _request(zk, path, data)


# --- what a partition's leader writes -------------------------------------------------------------


def change_isr(
    zk: Znodes, where: TopicPartition, isr: Sequence[int], *, leader: int, leader_epoch: int
) -> Leadership:
    """As leader: who is in sync now; the controller is told.

    StaleLeader if somebody else leads by now, or the same broker under another epoch.
    """
    path = paths.state(where)
    while True:
        found = zk.read(path)
        current = _check_leader(where, found, leader, leader_epoch)
        assert found is not None
        wanted = attrs.evolve(current, isr=tuple(isr))
        if wanted == current or _set(zk, path, encode_leadership(wanted), found.version):
            notify_isr(zk, [where])
            return wanted


def _check_leader(
    where: TopicPartition, found: Znode | None, leader: int, leader_epoch: int
) -> Leadership:
    current = None if found is None else decode_leadership(found.data)
    if current is None or (current.leader, current.leader_epoch) != (leader, leader_epoch):
        raise StaleLeader(f"{where}: leader {leader}, epoch {leader_epoch}; it is {current}")
    return current


def notify_isr(zk: Znodes, partitions: Iterable[TopicPartition]) -> None:
    """Tell the controller that these have another ISR; twice does no harm."""
    zk.ensure(paths.ISR_CHANGES)
    transaction = zk.transaction()
    transaction.create(paths.isr_change(), encode_partitions(partitions), sequence=True)
    while True:
        try:
            raise_first(zk.commit(transaction))
            return
        except UNKNOWN_OUTCOME:
            zk.sync(paths.ISR_CHANGES)
            transaction.committed = False
