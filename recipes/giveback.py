"""`GiveBack`: takes one's claim on an item of a queue away, and never another's.

A claim is known by its data, which is of one attempt's own. But what is deleted is known by
its version only, which all claims have; and in between another one may claim the item. Each
claim writes the entry too: so the entry's version is read *before* the claim, and the delete
is on condition that it still has it.

    sync -> version of the entry -> the claim: not there, or another's -> nothing to do
                                    own -> multi: delete it, check the entry -> refused: from
                                                                                the beginning

The sync, and that requests of one session happen in their order, are for a claim whose answer is
still out: it is there by then, or never.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import attrs
from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import (
    BadVersionError,
    ConnectionLoss,
    NoNodeError,
    OperationTimeoutError,
)

from recipes.base import UNKNOWN_OUTCOME, raise_first

log = logging.getLogger(__name__)

OURS: Final = 1
"""Version of a claim that this recipe made: written once more right away, so that one of kazoo's
is never taken for one of these."""


@attrs.define(eq=False)
class GiveBack:
    """Goes on by itself, like a Removal: until the claim has gone, or its session has ended."""

    _client: KazooClient
    _entry: str
    _taken: str
    _data: bytes
    is_done: bool = attrs.field(default=False, init=False)
    _version: int | None = attrs.field(default=None, init=False)
    """Of the entry; None if there is none, and so no new claim either."""
    _told: Callable[[], None] = attrs.field(default=lambda: None, init=False)

    def run(self, needed: bool = True) -> None:
        if needed:
            self._client.sync_async(self._taken).rawlink(self._on_synced)
        else:
            self._end()

    def link(self, told: Callable[[], None]) -> None:
        """Call when it is done."""
        self._told = told
        if self.is_done:
            told()

    def _on_synced(self, asked: Any) -> None:
        if not self._over(asked.exception):
            self._client.get_async(self._entry).rawlink(self._on_entry)

    def _on_entry(self, asked: Any) -> None:
        if isinstance(asked.exception, NoNodeError):
            self._version = None
        elif self._over(asked.exception):
            return
        else:
            self._version = asked.value[1].version
        self._client.get_async(self._taken).rawlink(self._on_taken)

    def _on_taken(self, asked: Any) -> None:
        if not self._over(asked.exception):
            if asked.value[0] == self._data:
                self._delete()
            else:
                self._end()

    def _delete(self) -> None:
        request = TransactionRequest(self._client)
        request.delete(self._taken, OURS)
        if self._version is not None:
            request.check(self._entry, self._version)
        request.commit_async().rawlink(self._on_deleted)

    def _on_deleted(self, asked: Any) -> None:
        if self._over(asked.exception):
            return
        try:
            raise_first(asked.value)
        except (BadVersionError, NoNodeError):
            self.run()
        except Exception as why:
            self._over(why)
        else:
            self._end()

    def _over(self, why: Exception | None) -> bool:
        """Whether a request failed: then there is a new beginning, or nothing left to do."""
        if why is None:
            return False
        # As of Removal: not while a client is stopped.
        again = isinstance(why, ConnectionLoss | OperationTimeoutError)
        if not isinstance(why, (*UNKNOWN_OUTCOME, NoNodeError)):
            log.warning("%s is left behind: %r", self._taken, why)
        self.run(again and self._client.handler.running)
        return True

    def _end(self) -> None:
        self.is_done = True
        self._told()
