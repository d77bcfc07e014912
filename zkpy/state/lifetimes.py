"""Znodes that end by themselves: ephemerals, containers, TTL znodes.

Owns the meaning of an owner (the int64 that a create carries, ZooKeeper's
EphemeralType) and three indexes over the tree.  Nothing here is in an image: the
indexes follow from the znodes and the owners in the tree.

    0                                persistent
    0x8000000000000000               container
    0xff | 16 bits type 0 | 40 bits  TTL in ms (about 34 years at most)
    anything else                    the session that owns an ephemeral

All as signed integers, as they are on the wire: the latter kinds are negative.
A session id's top byte is its server's id, at most 254, so the kinds stay apart as
long as no session is named 128 << 56.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from zkpy.state import znode as zn

CONTAINER_OWNER: Final = -0x8000000000000000
TTL_MS_MAX: Final = 0xFFFFFFFFFF

_TTL_LOWEST: Final = -0x0100000000000000


def owner_of_ttl(ttl_ms: int) -> int:
    """The owner of a znode that lives for `ttl_ms` (1 to TTL_MS_MAX) without children."""
    assert 0 < ttl_ms <= TTL_MS_MAX, "prepare checks the range of a TTL"
    return _TTL_LOWEST + ttl_ms


def is_container(owner: int) -> bool:
    return owner == CONTAINER_OWNER


def is_ttl(owner: int) -> bool:
    return _TTL_LOWEST <= owner <= _TTL_LOWEST + TTL_MS_MAX


def is_session(owner: int) -> bool:
    """Whether the owner makes an ephemeral."""
    return owner != 0 and owner != CONTAINER_OWNER and not is_ttl(owner)


@dataclass(eq=False, repr=False, slots=True)
class Lifetimes:
    """Ephemerals by session; containers; TTL znodes with their ms.

    Each in order of creation, which is the order in which closeSession removes
    ephemerals.  Dicts stand for ordered sets.
    """

    ephemerals: dict[int, dict[str, None]] = field(default_factory=dict)
    containers: dict[str, None] = field(default_factory=dict)
    ttls: dict[str, int] = field(default_factory=dict)
    ephemeral_count: int = 0

    def add(self, path: str, owner: int) -> None:
        """A znode with an owner came to be."""
        if is_container(owner):
            self.containers[path] = None
        elif is_ttl(owner):
            self.ttls[path] = owner - _TTL_LOWEST
        else:
            self.ephemerals.setdefault(owner, {})[path] = None
            self.ephemeral_count += 1

    def remove(self, path: str, owner: int) -> None:
        """A znode with an owner is gone."""
        if is_container(owner):
            del self.containers[path]
        elif is_ttl(owner):
            del self.ttls[path]
        else:
            self._remove_ephemeral(path, owner)

    def _remove_ephemeral(self, path: str, session: int) -> None:
        owned = self.ephemerals[session]
        del owned[path]
        self.ephemeral_count -= 1
        if not owned:
            del self.ephemerals[session]

    def ephemerals_of(self, session: int) -> list[str]:
        """The paths that end with a session, oldest first."""
        return list(self.ephemerals.get(session, ()))

    def due(
        self, nodes: Mapping[str, bytes], wall_ms: int, never_used_ms: int = 0
    ) -> Iterator[str]:
        """Containers and TTL znodes that the leader should remove now.

        A container without children that once had some, or that is older than
        `never_used_ms` (0: never for that reason); a TTL znode without children
        whose last setData lies more than its TTL back.
        """
        for path in self.containers:
            if _is_spent(nodes[path], wall_ms, never_used_ms):
                yield path
        for path, ttl_ms in self.ttls.items():
            znode = nodes[path]
            if not zn.child_count(znode) and wall_ms - zn.mtime(znode) > ttl_ms:
                yield path


def _is_spent(znode: bytes, wall_ms: int, never_used_ms: int) -> bool:
    if zn.child_count(znode):
        return False
    if zn.child_counter(znode):
        return True
    return bool(never_used_ms) and wall_ms - zn.mtime(znode) > never_used_ms
