"""Quotas: how much lies below a path, and whether more may.

In: the changes of every applied transaction.  Limits are znodes, set by clients at
`/zookeeper/quota<path>/zookeeper_limits`; their text is ZooKeeper's:

    count=N,bytes=M=;byteHardLimit=B;countHardLimit=C

in any order, -1 or absence meaning no limit, the first two soft (they only warn).
Counting is part of replay and the same everywhere; refusing is the leader's, in
prepare.  A text that cannot be read limits nothing.  Counts are kept here, not
written into `zookeeper_stats`: `usage_text` gives what a read of that znode shows.

The znode a quota is set on counts too; data counts by length, null as 0.
"""

import re
from collections.abc import Sequence
from typing import Final

import attrs

from zkpy.state import paths
from zkpy.state import znode as zn
from zkpy.state.digest import Change
from zkpy.state.tree import DataTree

LIMITS_NAME: Final = "zookeeper_limits"
STATS_NAME: Final = "zookeeper_stats"

_PREFIX: Final = paths.QUOTA + "/"
_SUFFIX: Final = "/" + LIMITS_NAME
_SETTING: Final = re.compile(r"(count|bytes|countHardLimit|byteHardLimit)=(-?[0-9]{1,19})")


@attrs.define
class Quota:
    """Limits and usage of one branch; -1 is no limit."""

    count_soft: int = -1
    bytes_soft: int = -1
    count_hard: int = -1
    bytes_hard: int = -1
    used_count: int = 0
    used_bytes: int = 0

    def would_exceed(self, count: int, size: int) -> bool:
        """Whether adding that many znodes and bytes would break a hard limit.

        Only what grows is held to its limit: a branch that is over it can shrink.
        """
        over_count = 0 <= self.count_hard < self.used_count + count and count > 0
        return over_count or (0 <= self.bytes_hard < self.used_bytes + size and size > 0)

    def usage_text(self) -> bytes:
        """What `zookeeper_stats` holds."""
        return f"count={self.used_count},bytes={self.used_bytes}".encode()


def parse_limits(data: bytes | None) -> Quota:
    """The limits in the data of a limits znode, with no usage counted yet."""
    found = dict(_SETTING.findall((data or b"").decode("utf-8", "replace")))
    return Quota(
        int(found.get("count", -1)),
        int(found.get("bytes", -1)),
        int(found.get("countHardLimit", -1)),
        int(found.get("byteHardLimit", -1)),
    )


@attrs.define(eq=False, repr=False)
class QuotaTable:
    """Quotas by the path they are set on."""

    quotas: dict[str, Quota] = attrs.field(factory=dict)

    def covering(self, path: str) -> list[Quota]:
        """The quotas that a change at `path` counts in (ZooKeeper allows one per line)."""
        if not self.quotas:
            return []
        return [self.quotas[above] for above in paths.lineage(path) if above in self.quotas]

    def would_exceed(self, path: str, count: int, size: int) -> bool:
        """Whether `count` more znodes and `size` more bytes at `path` break a hard limit.

        The caller adds what is prepared and not yet applied.
        """
        return any(quota.would_exceed(count, size) for quota in self.covering(path))

    def follow(self, changes: Sequence[Change], tree: DataTree) -> None:
        """Count what a transaction changed.

        Limits come last, since a new quota counts its branch as the whole transaction
        left it; counting on top of that what a multi did there would count it twice.
        """
        if self.quotas:
            for path, before, after in changes:
                self._count(path, before, after)
        for path, _, _ in changes:
            if path.endswith(_SUFFIX) and path.startswith(_PREFIX):
                self._set_limits(path, tree)

    def rebuild(self, tree: DataTree) -> None:
        """Find the quotas in a tree that came by image, and count."""
        for path in tree.walk(paths.QUOTA):
            if path.endswith(_SUFFIX):
                self._set_limits(path, tree)

    def _count(self, path: str, before: bytes | None, after: bytes | None) -> None:
        count = (after is not None) - (before is not None)
        size = _size(after) - _size(before)
        if count or size:
            for quota in self.covering(path):
                quota.used_count += count
                quota.used_bytes += size

    def _set_limits(self, path: str, tree: DataTree) -> None:
        """Follow a limits znode.  Only a new quota counts its branch: limits change no usage."""
        root = path[len(paths.QUOTA) : -len(_SUFFIX)] or paths.ROOT
        znode = tree.nodes.get(path)
        before = self.quotas.pop(root, None)
        if znode is None:
            return
        self.quotas[root] = quota = parse_limits(zn.data_of(znode))
        if before is not None:
            quota.used_count, quota.used_bytes = before.used_count, before.used_bytes
            return
        for below in tree.walk(root):
            quota.used_count += 1
            quota.used_bytes += zn.data_length(tree.nodes[below])


def _size(znode: bytes | None) -> int:
    return 0 if znode is None else zn.data_length(znode)
