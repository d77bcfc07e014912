"""Counters and summaries of one server, kept by the shell, read by commands.

Nothing here is touched once per request: a client's read and what is written to it
are each one step of the loop, whatever number of requests they hold.
"""

from dataclasses import dataclass, field

NS_PER_MS = 1_000_000


@dataclass(eq=False, slots=True)
class Summary:
    """Count, sum, least and greatest of a duration in nanoseconds."""

    count: int = 0
    total_ns: int = 0
    min_ns: int = 0
    max_ns: int = 0
    last_ns: int = 0

    def add(self, duration_ns: int) -> None:
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns
        if duration_ns < self.min_ns or not self.count:
            self.min_ns = duration_ns
        self.last_ns = duration_ns
        self.count += 1
        self.total_ns += duration_ns

    def merge(self, other: "Summary") -> None:
        """Take in what another one has seen."""
        if other.count:
            self.min_ns = min(self.min_ns, other.min_ns) if self.count else other.min_ns
            self.max_ns = max(self.max_ns, other.max_ns)
            self.count += other.count
            self.total_ns += other.total_ns

    def reset(self) -> None:
        self.count = self.total_ns = self.min_ns = self.max_ns = self.last_ns = 0

    @property
    def average_ms(self) -> float:
        """In milliseconds, to four places, as ZooKeeper prints it."""
        return round(self.total_ns / NS_PER_MS / self.count, 4) if self.count else 0.0

    @property
    def min_ms(self) -> int:
        return self.min_ns // NS_PER_MS

    @property
    def max_ms(self) -> int:
        return self.max_ns // NS_PER_MS

    @property
    def last_ms(self) -> int:
        return self.last_ns // NS_PER_MS


@dataclass(eq=False, slots=True)
class Metrics:
    """What the shell counts.  Requests and replies are counted where they are told apart."""

    latency: Summary = field(default_factory=Summary)
    """From the arrival of a client's bytes to the next bytes written to it: one sample for
    whatever number of requests arrived and were answered together.  Connections that are open
    keep their own; see `Clients.latency`."""
    sync: Summary = field(default_factory=Summary)
    """Writing one batch to the log, until it is durable."""
    connections_rejected: int = 0
    connections_lost: int = 0
    """Their clients ended them, without the end of the session that makes the server do it."""
    connections_dropped: int = 0
    """Clients that did not read what was sent to them."""
    bytes_received: int = 0
    bytes_sent: int = 0
    packets_received_before: int = 0
    """Packets counted when `srst` was last given: they count no more."""
    packets_sent_before: int = 0
