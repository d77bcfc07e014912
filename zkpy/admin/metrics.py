"""Counters and summaries of one server, kept by the shell, read by commands.

Nothing here is touched once per request: a client's read and what is written to it
are each one step of the loop, whatever number of requests they hold.
"""

from dataclasses import dataclass, field

from zkpy.summary import Samples, Summary


@dataclass(eq=False, slots=True)
class Metrics:
    """What the shell counts; durations in nanoseconds.  Requests and replies are counted where
    they are told apart."""

    latency: Summary = field(default_factory=Summary)
    """From the arrival of a client's bytes to the next bytes written to it: one sample for
    whatever number of requests arrived and were answered together.  Connections that are open
    keep their own; see `Clients.latency`."""
    reads: Samples = field(default_factory=Samples)
    """Of one answer of each pass, if it answered no write: from the same until then."""
    updates: Samples = field(default_factory=Samples)
    """Likewise, if it answered one."""
    sync: Samples = field(default_factory=Samples)
    """Writing one batch to the log, until it is durable."""
    slow_syncs: int = 0
    """Those that took `fsync.warningthresholdms` or more."""
    batch_entries: Samples = field(default_factory=Samples)
    """Log entries in such a batch."""
    image: Samples = field(default_factory=Samples)
    """Writing one image of the own state, from its first slice until it is durable."""
    start: Samples = field(default_factory=Samples)
    """Reading image and log, once: when the process began."""
    start_entries: Samples = field(default_factory=Samples)
    """Log entries that were read then."""
    connections_rejected: int = 0
    connections_lost: int = 0
    """Their clients ended them, without the end of the session that makes the server do it."""
    connections_dropped: int = 0
    """Clients that did not read what was sent to them."""
    handshakes_failed: int = 0
    """Of TLS."""
    handshakes_exceeded: int = 0
    """Connections closed since too many such handshakes were under way."""
    connections_held: int = 0
    """Times that a client was not read from, since too much was on its way."""
    bytes_received: int = 0
    bytes_sent: int = 0
    packets_received_before: int = 0
    """Packets counted when `srst` was last given: they count no more."""
    packets_sent_before: int = 0

    def reset(self, packets_received: int, packets_sent: int) -> None:
        """Begin anew, with so many packets counted by the core so far."""
        self.latency.reset()
        for each in (self.sync, self.batch_entries, self.image, self.start, self.start_entries):
            each.reset()
        self.reads.reset()
        self.updates.reset()
        self.slow_syncs = 0
        self.connections_rejected = self.connections_lost = self.connections_dropped = 0
        self.handshakes_failed = self.handshakes_exceeded = 0
        self.connections_held = self.bytes_received = self.bytes_sent = 0
        self.packets_received_before = packets_received
        self.packets_sent_before = packets_sent
