"""How a learner's log is made equal to the leader's: one pure decision.

The learner says where its log stands by *marks*: (zxid, chain) of the last entry of each
epoch it holds, newest first, down to its commit watermark, below which it is never
cut.  Equal zxid and chain mean equal logs up to there, so the newest mark that the leader
has too is common to both.  Where the leader lacks a mark, its own last entry of
that epoch is common: an epoch has one leader, who made its entries in one order
(the learner checks the chain before it cuts).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from wire.peer import Mark
from zkpy import zxid as zxids
from zkpy.zab.window import Window


class Way(Enum):
    DIFF = "DIFF"
    """Send the entries behind `zxid`."""
    TRUNC = "TRUNC"
    """Have the log cut behind `zxid`, then as DIFF."""
    SNAP = "SNAP"
    """Too old, unknown or contradictory: send everything."""


@dataclass(frozen=True, slots=True)
class Plan:
    way: Way
    zxid: int = zxids.NONE
    chain: int = 0


def plan_sync(marks: Sequence[Mark], log: Window) -> Plan:
    """What the leader with this log sends to the learner with these marks."""
    if not marks:
        return Plan(Way.SNAP)
    last = marks[0][0]
    for zxid, chain in marks:
        common = _common_point(zxid, chain, marks[-1][0], log)
        if common is not None:
            way = Way.DIFF if common[0] == last else Way.TRUNC
            return Plan(way, *common)
    return Plan(Way.SNAP)


def _common_point(zxid: int, chain: int, floor: int, log: Window) -> Mark | None:
    """The newest entry at or before a mark, of its epoch, that both logs hold."""
    known = log.chain_at(zxid)
    if known is not None:
        return (zxid, chain) if known == chain else None
    before = log.last_before(zxid)
    if before < floor or not _same_epoch(before, zxid):
        return None
    known = log.chain_at(before)
    assert known is not None
    return before, known


def _same_epoch(before: int, zxid: int) -> bool:
    """Of two zxids, the first not greater: a window's base may lie beyond the second."""
    return before <= zxid and zxids.epoch_of(before) == zxids.epoch_of(zxid)
