"""What a member of a group is to do: pure decisions, and the record of who owned what.

`wanted_by` says which partitions a consumer is to own, from what all members see alike;
`plan_change` what it has to give back and to claim.  `Ownership` is fed with what was seen of the
owners' znodes, in order; it holds that a partition has at most one owner at a time, and measures
how long partitions had none.
"""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from recipes.kafka.assign import Owners, Strategy
from recipes.kafka.formats import Subscription, ThreadId
from recipes.kafka.paths import TopicPartition


@attrs.frozen
class GroupView:
    """What decides about ownership, as it stands in ZooKeeper."""

    members: Mapping[str, Subscription]
    """By consumer id."""
    partitions: Mapping[str, Sequence[int]]
    """Of the topics that exist."""
    brokers: int
    """How many are alive."""


def wanted_by(consumer: str, view: GroupView, strategy: Strategy) -> Owners | None:
    """Partitions for this consumer; None without brokers: then Kafka's consumers do nothing."""
    if not view.brokers:
        return None
    topics = list(view.partitions)
    members = {each: view.members[each].topics(topics) for each in sorted(view.members)}
    return strategy(members, view.partitions, consumer)


@attrs.frozen
class Change:
    """From what is owned to what is wanted: first release, then claim."""

    release: tuple[TopicPartition, ...]
    claim: Mapping[TopicPartition, ThreadId]


def plan_change(owned: Owners, wanted: Owners | None) -> Change:
    """What stays with the same stream is not touched: nobody is without it for a moment."""
    if wanted is None:
        return Change((), {})
    release = tuple(where for where, thread in owned.items() if wanted.get(where) != thread)
    claim = {where: thread for where, thread in wanted.items() if owned.get(where) != thread}
    return Change(release, claim)


@attrs.frozen
class Gap:
    """A time in which a partition had no owner, between two that it had."""

    where: TopicPartition
    start_ms: int
    end_ms: int

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms


class TwoOwners(AssertionError):
    """A partition was claimed while somebody owned it."""


@attrs.define
class Ownership:
    """Who owns what, event by event."""

    owners: dict[TopicPartition, str] = attrs.field(factory=dict)
    gaps: list[Gap] = attrs.field(factory=list)
    claims: int = 0
    _released: dict[TopicPartition, int] = attrs.field(factory=dict)

    def claimed(self, where: TopicPartition, owner: str, time_ms: int) -> None:
        if where in self.owners:
            raise TwoOwners(f"{where}: {owner} while {self.owners[where]}")
        self.claims += 1
        self.owners[where] = owner
        if where in self._released:
            self.gaps.append(Gap(where, self._released.pop(where), time_ms))

    def released(self, where: TopicPartition, time_ms: int) -> None:
        self.owners.pop(where, None)
        self._released[where] = time_ms

    def without_owner(self, wanted: Iterable[TopicPartition]) -> list[TopicPartition]:
        return [where for where in wanted if where not in self.owners]
