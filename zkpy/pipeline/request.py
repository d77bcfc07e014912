"""A write on its way from the server that received it to the leader."""

from typing import Final

import attrs

Identities = tuple[tuple[str, str], ...]
"""(scheme, id) pairs of a connection: who it is to an ACL."""

NO_NUMBER: Final = 0
LEADER: Final = -1
"""In place of a server id: the leader's own writes, for which nobody waits."""


@attrs.define(eq=False)
class Write:
    """One request for a change.

    `server`, `incarnation` and `number` name it for the way back (see
    `pipeline.gate`); the leader's own requests (expiry, containers) come from LEADER
    with number 0.
    """

    opcode: int
    session: int
    cxid: int
    body: object
    """The request's record of `wire.records`; None where the opcode has no body."""
    identities: Identities
    server: int
    incarnation: int
    number: int
