"""The log in memory: recent entries, and how far each stage has come with them.

Cursors are zxids, and always `applied <= committed` and `saved <= last`:

    base       the entry before the oldest one held
    applied    handed to the state
    committed  known to be committed
    saved      durable on this member
    last       appended

Entries are contiguous (rule A10) and chained: equal zxid and chain mean equal
logs up to there, so one comparison settles what two members have in common.
Entries that are not applied, or not saved, are never dropped from memory; older
ones are, once the window holds more than `bytes_max`.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from zkpy import zxid as zxids
from zkpy.effects import CHAIN_START, Entry, chain_next

ENTRY_OVERHEAD_BYTES: Final = 200
"""What an entry costs in memory besides its data, rounded up."""
COUNTER_MASK: Final = zxids.COUNTER_MAX


class Window:
    """Entries behind `base`, found by zxid in O(log epochs)."""

    __slots__ = (
        "applied",
        "base",
        "base_chain",
        "bytes_max",
        "chain",
        "committed",
        "entries",
        "held_bytes",
        "last",
        "saved",
        "_dropped",
        "_firsts",
        "_flushed",
        "_starts",
    )

    def __init__(
        self,
        base: int = zxids.NONE,
        base_chain: int = CHAIN_START,
        entries: Iterable[Entry] = (),
        committed: int = zxids.NONE,
        bytes_max: int = 16 * 1024 * 1024,
    ) -> None:
        """A recovered log: `entries` are durable, those up to `committed` are committed.

        A watermark beyond the last entry is legal: it was written with a batch whose end
        was torn.  It is then only known that all that is left is committed.
        """
        self.base = self.applied = base
        self.base_chain = base_chain
        self.bytes_max = bytes_max
        self.entries: list[Entry] = []
        self.held_bytes = 0
        self.last = base
        self.chain = base_chain
        self._dropped = 0
        """Entries ever dropped from the front: indices below are counted from there."""
        self._firsts: list[int] = []
        self._starts: list[int] = []
        """First zxid of each epoch held, and its index counted from the very first entry."""
        for entry in entries:
            self._take_in(entry)
        self.saved = self.last
        self._flushed = len(self.entries)
        self.committed = max(base, min(committed, self.last))

    def _take_in(self, entry: Entry) -> None:
        assert zxids.follows(self.last, entry.zxid), (self.last, entry.zxid)
        self._open_run(entry.zxid)
        self._push(entry)

    def _open_run(self, zxid: int) -> None:
        if zxid != self.last + 1 or not self._firsts:
            self._firsts.append(zxid)
            self._starts.append(self._dropped + len(self.entries))

    def _push(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.held_bytes += len(entry.data) + ENTRY_OVERHEAD_BYTES
        self.last = entry.zxid
        self.chain = entry.chain

    # --- growing

    def append(self, zxid: int, kind: int, data: bytes) -> None:
        """One entry more; the caller has checked that it may follow."""
        assert zxids.follows(self.last, zxid), (self.last, zxid)
        self._open_run(zxid)
        self._push(Entry(zxid, kind, data, chain_next(self.chain, zxid, kind, data)))

    def append_next(self, kind: int, data: bytes) -> int:
        """The next of the same epoch: what a leader's proposal costs (kept flat: it is hot)."""
        zxid = self.last + 1
        assert zxid & COUNTER_MASK, "the epoch is full"
        if not self._firsts:
            self._open_run(zxid)
        self.chain = chain = chain_next(self.chain, zxid, kind, data)
        self.entries.append(Entry(zxid, kind, data, chain))
        self.held_bytes += len(data) + ENTRY_OVERHEAD_BYTES
        self.last = zxid
        return zxid

    def take_unflushed(self) -> list[Entry]:
        """Entries not yet handed to the disk; the caller writes them."""
        entries = self.entries[self._flushed - self._dropped :]
        self._flushed = self._dropped + len(self.entries)
        return entries

    @property
    def has_unflushed(self) -> bool:
        return self._flushed < self._dropped + len(self.entries)

    # --- finding

    def position(self, zxid: int) -> int:
        """How many of the entries held have a zxid of at most this one."""
        if zxid >= self.last:
            return len(self.entries)
        run = bisect_right(self._firsts, zxid) - 1
        if run < 0:
            return 0
        start = self._starts[run] - self._dropped
        return max(0, min(start + zxid - self._firsts[run] + 1, self._end_of_run(run)))

    def _end_of_run(self, run: int) -> int:
        if run + 1 < len(self._starts):
            return self._starts[run + 1] - self._dropped
        return len(self.entries)

    def chain_at(self, zxid: int) -> int | None:
        """Chain value at an entry held, or at `base`; None if the window lacks it."""
        if zxid == self.base:
            return self.base_chain
        position = self.position(zxid)
        if position and self.entries[position - 1].zxid == zxid:
            return self.entries[position - 1].chain
        return None

    def last_before(self, zxid: int) -> int:
        """The last zxid held that is at most this one; `base` if there is none."""
        position = self.position(zxid)
        return self.entries[position - 1].zxid if position else self.base

    def after(self, zxid: int, bytes_max: int) -> list[Entry]:
        """Entries behind `zxid`: until their bytes reach the bound, but one at least."""
        start = end = self.position(zxid)
        size = 0
        entries = self.entries
        while end < len(entries) and size < bytes_max:
            size += len(entries[end].data) + ENTRY_OVERHEAD_BYTES
            end += 1
        return entries[start:end]

    def ends_of_epochs(self, floor: int) -> list[tuple[int, int]]:
        """(zxid, chain) of the last entry of each epoch from `floor` up, newest first.

        `floor` itself is the last of them: below it this log cannot be cut.
        """
        ends = [self.last_before(first - 1) for first in self._firsts[1:] if first - 1 > floor]
        zxids_held = dict.fromkeys([self.last, *reversed(ends), floor])
        marks = [(zxid, self.chain_at(zxid)) for zxid in zxids_held if zxid >= floor]
        return [(zxid, chain) for zxid, chain in marks if chain is not None]

    # --- stages

    def take_committed(self) -> list[Entry]:
        """Entries that are committed and durable here (rule A11), each once, in order."""
        until = min(self.saved, self.committed)
        if until <= self.applied:
            return []
        entries = self.entries[self.position(self.applied) : self.position(until)]
        self.applied = until
        return entries

    def truncate(self, zxid: int) -> None:
        """Cut behind `zxid`, which is held, or is `base`.

        Never below what is committed: the state holds committed entries and is never
        rolled back (ZOOKEEPER-4837).
        """
        assert self.chain_at(zxid) is not None and zxid >= self.committed, (zxid, self.committed)
        keep = self.position(zxid)
        self.held_bytes -= bytes_of(self.entries[keep:])
        del self.entries[keep:]
        while self._firsts and self._firsts[-1] > zxid:
            del self._firsts[-1], self._starts[-1]
        self.last = zxid
        self.chain = self.entries[-1].chain if keep else self.base_chain
        self.saved = min(self.saved, zxid)
        self._flushed = min(self._flushed, self._dropped + keep)

    def trim(self, floor: int) -> None:
        """Drop the oldest entries while the window is too big, none above `floor`.

        Down to three quarters, so that the list is moved once in a while and not each pass.
        """
        if self.held_bytes <= self.bytes_max:
            return
        limit = self.position(min(floor, self.applied, self.saved))
        goal = self.bytes_max * 3 // 4
        count = 0
        held = self.held_bytes
        while count < limit and held > goal:
            held -= len(self.entries[count].data) + ENTRY_OVERHEAD_BYTES
            count += 1
        self._drop(count, held)

    def _drop(self, count: int, held_bytes: int) -> None:
        if not count:
            return
        self.base = self.entries[count - 1].zxid
        self.base_chain = self.entries[count - 1].chain
        del self.entries[:count]
        self._dropped += count
        self.held_bytes = held_bytes
        while len(self._starts) > 1 and self._starts[1] <= self._dropped:
            del self._firsts[0], self._starts[0]


def bytes_of(entries: list[Entry]) -> int:
    """What entries count for against a bound."""
    return sum(len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in entries)
