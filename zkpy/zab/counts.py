"""What a member has seen since its process began, for whoever watches.  Nothing depends on it.

Entries are not counted one by one: within an epoch their zxids have no gaps, so that the
present leadership's are a difference, and those of earlier ones are added up as each ends.
Nor is each of them timed: a stopwatch is on one entry until it has arrived, then on the
next one that is proposed.
"""

from dataclasses import dataclass, field

from zkpy.summary import Samples, Summary


@dataclass(eq=False, slots=True)
class Counts:
    """Of entries, those that open an epoch are left out, and those that synchronise a learner."""

    looked: int = 0
    """Times that a leader was looked for."""
    proposed: int = 0
    """Entries, as a leader."""
    committed: int = 0
    """Those of them that a quorum had."""
    diffs: int = 0
    """Learners synchronised with entries, or by a cut of their logs."""
    snaps: int = 0
    """Learners to which an image was sent."""
    received: int = 0
    """Entries proposed to it, as a learner."""
    told: int = 0
    """Those of them of which the leader has said that they are committed."""

    def subtract(self, other: "Counts") -> None:
        self.looked -= other.looked
        self.proposed -= other.proposed
        self.committed -= other.committed
        self.diffs -= other.diffs
        self.snaps -= other.snaps
        self.received -= other.received
        self.told -= other.told


@dataclass(eq=False, slots=True)
class Timings:
    """Durations in ms; of learners that are synchronised at a time, their number."""

    election: Summary = field(default_factory=Summary)
    """From the search for a leader to the decision for one."""
    unavailable: Summary = field(default_factory=Summary)
    """From the loss of a leader, or the start, until it served: elections in vain included."""
    leader_unavailable: Summary = field(default_factory=Summary)
    """Those of them that ended with it as the leader."""
    follower_sync: Summary = field(default_factory=Summary)
    """From the leader's word on how it synchronises a follower until that serves."""
    observer_sync: Summary = field(default_factory=Summary)
    quorum_ack: Samples = field(default_factory=Samples)
    """From the pass in which a leader proposed until a quorum had it durable."""
    acks: dict[int, Samples] = field(default_factory=dict)
    """Likewise until that member had, the leader itself included."""
    diffs: Summary = field(default_factory=Summary)
    """How many were being sent entries when one more began, that one included."""
    snaps: Summary = field(default_factory=Summary)
    """Likewise an image."""

    def acks_of(self, sid: int) -> Samples:
        return self.acks.setdefault(sid, Samples())

    def reset(self) -> None:
        """The members stay: who measures holds on to what it adds to."""
        for summary in (self.election, self.unavailable, self.leader_unavailable):
            summary.reset()
        for summary in (self.follower_sync, self.observer_sync, self.diffs, self.snaps):
            summary.reset()
        for samples in (self.quorum_ack, *self.acks.values()):
            samples.reset()


class Stopwatch:
    """Times one entry after the other on its way to somewhere."""

    __slots__ = ("_samples", "_since", "_zxid")

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._zxid = 0
        """0 while it stands."""
        self._since = 0

    def start(self, zxid: int, arrived: int, now: int) -> None:
        """That entry is proposed now, and all up to `arrived` are there.  Nothing happens while an
        earlier one is on its way."""
        if not self._zxid and arrived < zxid:
            self._zxid, self._since = zxid, now

    def arrived(self, zxid: int, now: int) -> None:
        """All up to `zxid` are there."""
        if 0 < self._zxid <= zxid:
            self._samples.add(now - self._since)
            self._zxid = 0
