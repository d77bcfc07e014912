"""Where Kafka keeps what, in ZooKeeper; nothing of this package spells a path elsewhere.

The names are those of Kafka's own znodes (its `ZkData`); the comments in
`recipes.kafka.formats` say what stands in them.
"""

from typing import Final

import attrs

BROKER_IDS: Final = "/brokers/ids"
TOPICS: Final = "/brokers/topics"
BROKER_SEQID: Final = "/brokers/seqid"
CONTROLLER: Final = "/controller"
CONTROLLER_EPOCH: Final = "/controller_epoch"
CLUSTER_ID: Final = "/cluster/id"
CONFIG_CHANGES: Final = "/config/changes"
DELETE_TOPICS: Final = "/admin/delete_topics"
REASSIGN_PARTITIONS: Final = "/admin/reassign_partitions"
PREFERRED_ELECTION: Final = "/admin/preferred_replica_election"
ISR_CHANGES: Final = "/isr_change_notification"
LOG_DIR_EVENTS: Final = "/log_dir_event_notification"
PRODUCER_ID_BLOCK: Final = "/latest_producer_id_block"
FEATURE: Final = "/feature"
CONSUMERS: Final = "/consumers"

CONFIG_TYPES: Final = ("topics", "clients", "users", "brokers", "ips")

PERSISTENT: Final = (
    CONSUMERS,
    BROKER_IDS,
    TOPICS,
    CONFIG_CHANGES,
    DELETE_TOPICS,
    BROKER_SEQID,
    ISR_CHANGES,
    PRODUCER_ID_BLOCK,
    LOG_DIR_EVENTS,
    *(f"/config/{kind}" for kind in CONFIG_TYPES),
)
"""What Kafka creates at its start, if it is missing (`ZkData.PersistentZkPaths`)."""


@attrs.frozen(order=True)
class TopicPartition:
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def broker(broker_id: int) -> str:
    return f"{BROKER_IDS}/{broker_id}"


def topic(name: str) -> str:
    return f"{TOPICS}/{name}"


def partitions(name: str) -> str:
    return f"{TOPICS}/{name}/partitions"


def partition(where: TopicPartition) -> str:
    return f"{partitions(where.topic)}/{where.partition}"


def state(where: TopicPartition) -> str:
    return f"{partition(where)}/state"


def config(kind: str, name: str) -> str:
    """`kind` is one of CONFIG_TYPES; `<default>` is a name too."""
    return f"/config/{kind}/{name}"


def config_change() -> str:
    """To be created as a sequence."""
    return f"{CONFIG_CHANGES}/config_change_"


def delete_topic(name: str) -> str:
    return f"{DELETE_TOPICS}/{name}"


def isr_change() -> str:
    """To be created as a sequence."""
    return f"{ISR_CHANGES}/isr_change_"


def group_ids(group: str) -> str:
    return f"{CONSUMERS}/{group}/ids"


def group_id(group: str, consumer: str) -> str:
    return f"{group_ids(group)}/{consumer}"


def owners(group: str, name: str) -> str:
    return f"{CONSUMERS}/{group}/owners/{name}"


def owner(group: str, where: TopicPartition) -> str:
    return f"{owners(group, where.topic)}/{where.partition}"


def offset(group: str, where: TopicPartition) -> str:
    return f"{CONSUMERS}/{group}/offsets/{where.topic}/{where.partition}"
