"""Whose request for a change it is, on its way from the server that received it to the leader."""

from typing import Final

Identities = tuple[tuple[str, str], ...]
"""(scheme, id) pairs of a connection: who it is to an ACL."""

NO_NUMBER: Final = 0
LEADER: Final = -1
"""In place of a server id: the leader's own writes, for which nobody waits."""
