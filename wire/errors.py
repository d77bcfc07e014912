"""Errors that name the guilty side.

After either, the connection object is dead for good.
"""


class ProtocolError(Exception):
    """Something that the protocol does not allow."""


class LocalProtocolError(ProtocolError):
    """We asked for an illegal step: a bug on this side."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what cannot be understood: close the connection."""
