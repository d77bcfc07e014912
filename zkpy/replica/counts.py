"""What a member's clients and sessions have met with, for whoever watches.

Nothing depends on it.  A number is counted where the thing happens.
"""

from dataclasses import dataclass, field
from typing import Final

from zkpy.summary import Summary


@dataclass(eq=False, slots=True)
class ServingCounts:
    connection_requests: int = 0
    """Handshakes that were let in, whatever came of them."""
    connections_throttled: int = 0
    """Handshakes without a token."""
    token_deficit: Summary = field(default_factory=Summary)
    """Tokens that were missing from a full bucket at each handshake; 0 if there is no bound."""
    connections_resumed: int = 0
    """Handshakes of a client that came back with a session."""
    connections_without_service: int = 0
    """Handshakes that came while nobody was served here, or nobody who wants to write."""
    handshakes_expired: int = 0
    """Connections closed since they asked for nothing in time."""
    auths_failed: int = 0
    """Auth packets and exchanges of SASL that were refused."""
    sessions_expired: int = 0
    """As a leader; and those that this member alone knew."""
    claims: int = 0
    """As a leader: sessions that other members asked for, since their clients came to them."""
    ops_throttled: int = 0
    """Requests of own clients answered with ThrottledOp."""
    digest_mismatches: int = 0
    watch_bytes: int = 0
    """Of events, as `ResponseSizes` counts them."""

    def reset(self) -> None:
        self.connection_requests = self.connections_throttled = 0
        self.token_deficit.reset()
        self.connections_resumed = self.connections_without_service = 0
        self.handshakes_expired = self.sessions_expired = self.claims = 0
        self.auths_failed = self.ops_throttled = self.digest_mismatches = self.watch_bytes = 0


FRAME_HEAD: Final = 4
"""Bytes before a frame that tell its size."""


@dataclass(eq=False, slots=True)
class ResponseSizes:
    """Bytes of replies and events, without the size before each and without handshakes."""

    total: int = 0
    last: int = -1
    """-1 before the first."""
    least: int = -1
    greatest: int = -1

    def add(self, frames: list[bytes], first: int) -> None:
        """What is written to one connection in one pass, from its `first` element on."""
        size, total = self.last, self.total
        least, greatest = self.least, self.greatest
        for at in range(first, len(frames)):
            size = len(frames[at]) - FRAME_HEAD
            total += size
            if size > greatest:
                greatest = size
            if size < least or least < 0:
                least = size
        self.last, self.total = size, total
        self.least, self.greatest = least, greatest

    def reset(self) -> None:
        self.total = 0
        self.last = self.least = self.greatest = -1
