"""Quotas: how much lies below a path, and whether more may.

In: the changes of every applied transaction.  Limits are znodes, set by clients at
`/zookeeper/quota<path>/zookeeper_limits`; their text is ZooKeeper's:

    count=N,bytes=M=;byteHardLimit=B;countHardLimit=C

in any order, -1 or absence meaning no limit, the first two soft (they only warn).
Counting is part of replay and the same everywhere; refusing is the leader's, in
prepare.  A text that cannot be read limits nothing.  Where a client has made the znode
`zookeeper_stats` beside the limits, its data follows the counts (`count=N,bytes=M`), and
nothing else of it: no version, no time, no event, as in ZooKeeper.

The znode a quota is set on counts too; data counts by length, null as 0.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from zkpy.state import paths
from zkpy.state import znode as zn
from zkpy.state.digest import Change
from zkpy.state.tree import DataTree

LIMITS_NAME: Final = "zookeeper_limits"
STATS_NAME: Final = "zookeeper_stats"

_PREFIX: Final = paths.QUOTA + "/"
_SUFFIX: Final = "/" + LIMITS_NAME
_STATS_SUFFIX: Final = "/" + STATS_NAME
_SETTING: Final = re.compile(r"(count|bytes|countHardLimit|byteHardLimit)=(-?[0-9]{1,19})")


@dataclass(slots=True)
class Quota:
    """Limits and usage of one branch; -1 is no limit."""

    count_soft: int = -1
    bytes_soft: int = -1
    count_hard: int = -1
    bytes_hard: int = -1
    used_count: int = 0
    used_bytes: int = 0

    def would_exceed(self, count: int, size: int, pending: tuple[int, int] = (0, 0)) -> bool:
        """Whether adding that many znodes and bytes would break a hard limit.

        `pending` comes on top of what is used.  Only what grows is held to its limit: a
        branch that is over it can shrink.
        """
        new_count = self.used_count + pending[0] + count
        new_size = self.used_bytes + pending[1] + size
        over_count = count > 0 and 0 <= self.count_hard < new_count
        return over_count or (size > 0 and 0 <= self.bytes_hard < new_size)

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


@dataclass(eq=False, repr=False, slots=True)
class QuotaTable:
    """Quotas by the path they are set on."""

    quotas: dict[str, Quota] = field(default_factory=dict)

    def _above(self, path: str) -> list[str]:
        if not self.quotas:
            return []
        return [above for above in paths.lineage(path) if above in self.quotas]

    def would_exceed(
        self, path: str, count: int, size: int, pending: Callable[[str], tuple[int, int]]
    ) -> bool:
        """Whether `count` more znodes and `size` more bytes at `path` break a hard limit.

        `pending(root)` tells what is prepared and not yet applied, at `root` and below.
        """
        return any(
            self.quotas[root].would_exceed(count, size, pending(root)) for root in self._above(path)
        )

    def follow(self, changes: list[Change], tree: DataTree) -> int:
        """Count what a transaction changed, and let the stats znodes tell.

        Adds to `changes` what it does to those; by how many bytes they grew.  Limits come
        after the counting, since a new quota counts its branch as the whole transaction
        left it; counting on top of that what a multi did there would count it twice.
        """
        touched: dict[str, None] = {}
        if self.quotas:
            for path, before, after in changes:
                self._count(path, before, after, touched)
        for path, _, _ in changes:
            if path.startswith(_PREFIX) and path.endswith((_SUFFIX, _STATS_SUFFIX)):
                if path.endswith(_SUFFIX):
                    self._set_limits(path, tree)
                touched[_root_of(path)] = None
        return self._tell(touched, tree, changes) if touched else 0

    def _tell(self, touched: dict[str, None], tree: DataTree, changes: list[Change]) -> int:
        grown = 0
        for root in touched:
            path = paths.QUOTA + root + _STATS_SUFFIX
            if root in self.quotas and path in tree.nodes:
                grown += tree.set_usage(path, self.quotas[root].usage_text(), changes)
        return grown

    def rebuild(self, tree: DataTree) -> None:
        """Find the quotas in a tree that came by image, and count."""
        for path in tree.walk(paths.QUOTA):
            if path.endswith(_SUFFIX):
                self._set_limits(path, tree)

    def tell_all(self, tree: DataTree) -> None:
        """Let every stats znode tell what was counted, in a tree that nobody has seen yet."""
        self._tell(dict.fromkeys(self.quotas), tree, [])

    def _count(
        self, path: str, before: bytes | None, after: bytes | None, touched: dict[str, None]
    ) -> None:
        count = (after is not None) - (before is not None)
        size = _size(after) - _size(before)
        if count or size:
            for root in self._above(path):
                self.quotas[root].used_count += count
                self.quotas[root].used_bytes += size
                touched[root] = None

    def _set_limits(self, path: str, tree: DataTree) -> None:
        """Follow a limits znode.  Only a new quota counts its branch: limits change no usage."""
        root = _root_of(path)
        znode = tree.nodes.get(path)
        before = self.quotas.pop(root, None)
        if znode is None or not root:  # as in ZooKeeper, the whole tree has no quota
            return
        self.quotas[root] = quota = parse_limits(zn.data_of(znode))
        if before is not None:
            quota.used_count, quota.used_bytes = before.used_count, before.used_bytes
            return
        for below in tree.walk(root):
            quota.used_count += 1
            quota.used_bytes += zn.data_length(tree.nodes[below])


def _root_of(path: str) -> str:
    """What the limits or stats znode at `path` is about."""
    return path[len(paths.QUOTA) : path.rindex("/")]


def _size(znode: bytes | None) -> int:
    return 0 if znode is None else zn.data_length(znode)
