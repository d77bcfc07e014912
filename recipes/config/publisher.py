"""`ConfigPublisher`: a new revision, whole or not at all.

    publisher = ConfigPublisher(client, "/config/shop", Settings, by="ops")
    publisher.publish(Settings(rate=10))
    publisher.change(lambda now: attrs.evolve(now, rate=20), note="more")
    publisher.rollback(1)

A publish is one multi: the document at PATH, on condition that the version it was made for is in
force; a copy of it in history; and away with what history has too much of.
"""

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from recipes.base import Wait, raise_first
from recipes.config.document import (
    HISTORY,
    Document,
    Published,
    decode,
    encode,
    history_name,
    published,
    revision_of,
)
from recipes.config.errors import (
    ConfigError,
    ConflictError,
    InvalidConfigError,
    NotPublishedError,
    OutcomeUnknownError,
)
from recipes.config.schema import Schema

log = logging.getLogger(__name__)

T = TypeVar("T")
KEEP = 20
PURGED_AT_ONCE = 100
"""Nodes of history that one publish takes away at most."""


@attrs.define
class Draft:
    """What one publish wants, until it is there."""

    values: dict[str, Any]
    by: str
    note: str
    expected: int | None
    id: str = attrs.field(factory=lambda: uuid.uuid4().hex)
    sent: int = 0
    """As which revision it was tried, while that may have been carried out."""

    def document(self, revision: int) -> Document:
        at = time.time_ns() // 1_000_000
        return Document(revision, self.id, at, self.by, self.note, self.values)


class ConfigPublisher(Generic[T]):
    """Any number of them publish to one path, from any number of processes."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        kind: type[T],
        *,
        check: Callable[[T], object] | None = None,
        keep: int = KEEP,
        by: str = "",
        timeout: float | None = None,
    ) -> None:
        """`kind` is the attrs class of the values (see Schema).

        `check` is called before each publish; what it raises refuses the values. `keep`: how many
        revisions history has, the one in force included. `by` is for people. `timeout`
        bounds each call, in seconds; a call then raises TimeUp."""
        if keep < 1:
            raise ValueError("history keeps one revision at least")
        self.client, self.path, self.schema = client, path.rstrip("/"), Schema(kind)
        self._check, self._keep, self._by, self._timeout = check, keep, by, timeout
        self._history = f"{self.path}/{HISTORY}"

    # --- reading --------------------------------------------------------------------------

    def current(self) -> Published[T] | None:
        """What is in force; None before the first publish.  Raises FormatError,
        InvalidConfigError (another schema published it)."""
        data = self._call(lambda wait: self._read(wait, self.path))
        return published(decode(data), self.schema) if data else None

    def at(self, revision: int) -> Published[T]:
        """From history.  Raises NotPublishedError, FormatError, InvalidConfigError."""
        path = f"{self._history}/{history_name(revision)}"
        data = self._call(lambda wait: self._read(wait, path))
        if not data:
            raise NotPublishedError(f"{self.path} has no revision {revision} in its history")
        return published(decode(data), self.schema)

    def history(self) -> list[int]:
        """Revisions that can be had by `at`, the oldest first."""
        names: list[str] = self._call(self._names)
        return kept_revisions(names)

    # --- publishing -------------------------------------------------------------------------

    def publish(self, value: T, *, expected: int | None = None, note: str = "") -> int:
        """The revision that it became.

        With `expected` only if that revision is in force (0: none yet), else ConflictError.
        Raises InvalidConfigError, TooLargeError, and OutcomeUnknownError: look, then decide."""
        draft = Draft(self._accept(value), self._by, note, expected)
        revision: int = self._call(lambda wait: self._attempt(wait, draft))
        return revision

    def change(self, edit: Callable[[T], T], *, note: str = "") -> int:
        """Publish what `edit` makes of the value in force; `edit` is called again, with a newer
        value, if somebody else was faster.  Raises as publish, and NotPublishedError."""
        while True:
            now = self.current()
            if now is None:
                raise NotPublishedError(f"{self.path} has nothing to change")
            try:
                return self.publish(edit(now.value), expected=now.revision, note=note)
            except ConflictError as why:
                log.debug("%s: edited again, %s", self.path, why)

    def rollback(self, revision: int, *, note: str = "") -> int:
        """Publish the values of an earlier revision once more, as a new one, checked by what this
        program takes today.  Raises as `at` and `publish`."""
        return self.publish(self.at(revision).value, note=note or f"rollback to {revision}")

    def _accept(self, value: T) -> dict[str, Any]:
        values = self.schema.write(value)
        if self._check is not None:
            check_value(self._check, value)
        return values

    # --- the loop ---------------------------------------------------------------------------

    def _call(self, step: Callable[[Wait], Any]) -> Any:
        with Wait(self.client, self._timeout) as wait:
            return wait.persist(lambda: step(wait))

    def _attempt(self, wait: Wait, draft: Draft) -> int:
        """Again from the start when the answer was lost, or others were faster."""
        while True:
            in_force = self._in_force(wait)
            if draft.sent and self._has_landed(wait, draft, in_force):
                return draft.sent
            if draft.expected not in (None, in_force):
                raise ConflictError(draft.expected or 0, in_force)
            try:
                return self._commit(wait, draft, in_force)
            except (BadVersionError, NoNodeError, NodeExistsError) as why:
                log.debug("%s: tried again after %r", self.path, why)

    def _in_force(self, wait: Wait) -> int:
        """After a sync: a member that we were moved to may lag behind our own publish."""
        wait.result(self.client.sync_async(self.path))
        stat = wait.result(self.client.exists_async(self.path))
        if stat is None:
            wait.result(self.client.ensure_path_async(self._history))
            return 0
        return int(stat.version)

    def _has_landed(self, wait: Wait, draft: Draft, in_force: int) -> bool:
        """Whether the revision it was tried as is its own.  If it is not there yet, it is tried
        again under the same condition: should the first try still be on its way, one of them
        goes through, and both are the same."""
        if in_force < draft.sent:
            return False
        data = self._read(wait, f"{self._history}/{history_name(draft.sent)}")
        if data is None:
            raise OutcomeUnknownError(f"{self.path}: revision {draft.sent} is not in history")
        if decode(data).id == draft.id:
            return True
        draft.sent = 0
        return False

    def _commit(self, wait: Wait, draft: Draft, in_force: int) -> int:
        revision = in_force + 1
        data = encode(draft.document(revision))
        names = self._names(wait)
        request = TransactionRequest(self.client)
        request.set_data(self.path, data, in_force)
        for name in names_to_purge(names, revision, self._keep):
            request.delete(f"{self._history}/{name}")
        request.create(f"{self._history}/{history_name(revision)}", data)
        draft.sent = revision
        raise_first(wait.result(request.commit_async()))
        return revision

    def _names(self, wait: Wait) -> list[str]:
        try:
            found: list[str] = wait.result(self.client.get_children_async(self._history))
        except NoNodeError:
            wait.result(self.client.ensure_path_async(self._history))
            return []
        return found

    def _read(self, wait: Wait, path: str) -> bytes | None:
        wait.result(self.client.sync_async(path))
        try:
            data: bytes = wait.result(self.client.get_async(path))[0]
        except NoNodeError:
            return None
        return data


def check_value(check: Callable[[T], object], value: T) -> None:
    """Raises InvalidConfigError for whatever `check` raises."""
    try:
        check(value)
    except ConfigError:
        raise
    except Exception as why:
        raise InvalidConfigError([str(why) or repr(why)]) from why


def kept_revisions(names: list[str]) -> list[int]:
    return sorted(each for each in map(revision_of, names) if each is not None)


def names_to_purge(names: list[str], revision: int, keep: int) -> list[str]:
    """So that `keep` are left with this one; the oldest first, and a stray one of its own name."""
    known = [each for each in kept_revisions(names) if each <= revision - keep]
    stray = [each for each in kept_revisions(names) if each >= revision]
    return [history_name(each) for each in stray + known][:PURGED_AT_ONCE]
