"""Zxids: epoch and counter packed into one signed 64-bit integer.

The high 32 bits are the epoch of the leader that made the transaction, the low
32 bits count its transactions from 1.  A plain integer keeps comparison,
packing and dict keys cheap; these functions are the only arithmetic on it.
"""

from typing import Final

COUNTER_MAX: Final = 0xFFFFFFFF
NONE: Final = 0
"""The zxid before the first: an empty log, an empty tree."""


def make(epoch: int, counter: int) -> int:
    """The zxid of transaction `counter` of `epoch`."""
    return epoch << 32 | counter


def epoch_of(zxid: int) -> int:
    return zxid >> 32


def counter_of(zxid: int) -> int:
    return zxid & COUNTER_MAX


def first_of(epoch: int) -> int:
    """The zxid that opens an epoch, that of its EPOCH entry."""
    return epoch << 32 | 1


def follows(before: int, after: int) -> bool:
    """Whether a log may hold `after` directly behind `before`.

    Either the next of the same epoch, or the entry that opens a later one.
    """
    if after == before + 1:
        return counter_of(before) != COUNTER_MAX
    return counter_of(after) == 1 and epoch_of(after) > epoch_of(before)


def show(zxid: int) -> str:
    """As ZooKeeper prints it: `0x100000002`."""
    return f"{zxid:#x}"
