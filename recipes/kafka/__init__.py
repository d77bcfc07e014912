"""Kafka's coordination on ZooKeeper: who is alive, who leads what, who consumes what.

The znodes are Kafka's own, with its paths, fields and versions, so that these and Kafka's brokers,
tools and consumers read each other.  The log and its replication are Kafka's, and not here.

    formats, paths     what stands in the znodes, and where
    placement, assign  replicas to brokers, partitions to consumers
    machine, cluster   a controller's decisions, pure
    brokers            BrokerRegistration
    topics             create_topic, delete_topic, request_moves, change_isr
    controller, office Controller: how it is elected, what it does then
    producer           ClusterView, choose
    group, consumer    Consumer

docs/recipes/kafka.md says what is guaranteed, and what is not.
"""

from recipes.kafka.brokers import BrokerRegistration, list_brokers
from recipes.kafka.consumer import Consumer, NotOwner
from recipes.kafka.controller import Controller
from recipes.kafka.fields import FormatError
from recipes.kafka.formats import Broker, Endpoint, Leadership, Replicas, Subscription, Topic
from recipes.kafka.office import NotController
from recipes.kafka.paths import TopicPartition
from recipes.kafka.producer import ClusterView, NoLeader, choose
from recipes.kafka.topics import (
    add_partitions,
    change_isr,
    create_topic,
    delete_topic,
    prepare,
    request_moves,
    request_preferred,
)
from recipes.kafka.znodes import SomebodyElse, Znodes

__all__ = [
    "Broker",
    "BrokerRegistration",
    "ClusterView",
    "Consumer",
    "Controller",
    "Endpoint",
    "FormatError",
    "Leadership",
    "NoLeader",
    "NotController",
    "NotOwner",
    "Replicas",
    "SomebodyElse",
    "Subscription",
    "Topic",
    "TopicPartition",
    "Znodes",
    "add_partitions",
    "change_isr",
    "choose",
    "create_topic",
    "delete_topic",
    "list_brokers",
    "prepare",
    "request_moves",
    "request_preferred",
]
