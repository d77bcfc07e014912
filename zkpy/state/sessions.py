"""The sessions that exist, as every member knows them: replicated, and in images.

Who touched a session when is not here: expiry belongs to the leader, and a new
leader gives each session in this table its full timeout.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from zkpy.state.digest import term_of_session


@dataclass(frozen=True, slots=True)
class Session:
    timeout_ms: int
    """As negotiated; never shorter than this since the last touch the leader knows of."""
    password: bytes = field(repr=False)
    """16 random bytes: a secret, so kept out of every log line."""


@dataclass(eq=False, repr=False, slots=True)
class SessionTable:
    """Session id (signed int64, as on the wire) -> Session."""

    sessions: dict[int, Session] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sessions)

    def __contains__(self, session: int) -> bool:
        return session in self.sessions

    def __iter__(self) -> Iterator[int]:
        """Ids in order of creation."""
        return iter(self.sessions)

    def get(self, session: int) -> Session | None:
        return self.sessions.get(session)

    def add(self, session: int, timeout_ms: int, password: bytes) -> int:
        """Open a session; returns its digest term."""
        assert session not in self.sessions, f"session {session:#x} exists"
        self.sessions[session] = Session(timeout_ms, password)
        return term_of_session(session, timeout_ms, password)

    def remove(self, session: int) -> int:
        """Close a session; returns the digest term that goes with it."""
        gone = self.sessions.pop(session, None)
        assert gone is not None, f"session {session:#x} does not exist"
        return term_of_session(session, gone.timeout_ms, gone.password)
