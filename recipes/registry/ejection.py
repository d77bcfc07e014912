"""`Ejection`: instances that fail are left out for a while, whatever the registry says (pure).

    IN --`errors` failures in a row--> OUT --`out_ms` later, one call--> ON TRIAL
    ^                                   ^------------- fails -------------'  |
    '------------------------------------- succeeds ------------------------'

Two failures, 30 s: as Curator's DownInstancePolicy.  The trial is ours: after its time an instance
gets one call, and only if that succeeds all others.  A trial that nobody reports of is over
after `out_ms`, too.
"""

from collections.abc import Iterable
from typing import Final

import attrs

ERRORS: Final = 2
OUT_MS: Final = 30_000


@attrs.define
class _Record:
    failures: int = 0
    """In a row."""
    until: int | None = None
    """When the next trial may begin; None for one that is in."""


@attrs.define
class Ejection:
    """Not to be used by two threads at once."""

    errors: int = ERRORS
    out_ms: int = OUT_MS
    _records: dict[str, _Record] = attrs.field(factory=dict, init=False)
    """By id, of those that have failed."""

    def succeeded(self, id: str) -> None:
        self._records.pop(id, None)

    def failed(self, id: str, now: int) -> None:
        record = self._records.setdefault(id, _Record())
        record.failures += 1
        if record.failures >= self.errors:
            record.until = now + self.out_ms

    def is_out(self, id: str, now: int) -> bool:
        """Whether it is to get no call now."""
        record = self._records.get(id)
        return record is not None and record.until is not None and now < record.until

    def chosen(self, id: str, now: int) -> None:
        """It gets a call: if that is its trial, it gets no other one meanwhile."""
        record = self._records.get(id)
        if record is not None and record.until is not None:
            record.until = now + self.out_ms

    def keep(self, ids: Iterable[str]) -> None:
        """Forget all others: they are not registered any more."""
        self._records = {each: self._records[each] for each in ids if each in self._records}
