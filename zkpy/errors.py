"""Errors of the server, by what must happen next.

`ZkError` is an answer: it goes back to one client.  `ConfigError` is told to the
operator before anything starts.  `StorageError` and `CorruptionError` stop the
server before it lies (rule D6): nothing retries after them.
"""

from wire.codes import ErrorCode


class ZkError(Exception):
    """The answer to one request: a code of ZooKeeper's protocol."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code.name} ({int(self.code)})"


class ConfigError(Exception):
    """A setting that cannot be used; the message names file, line and key."""


class StorageError(Exception):
    """The disk refused or failed; what it now holds is unknown."""


class CorruptionError(StorageError):
    """What the disk holds is damaged, and not as a crash damages it."""
