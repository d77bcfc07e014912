"""A 64-bit digest of everything replicated, kept up to date change by change.

The digest is the sum, modulo 2^64, of one term per fact: per znode (path, data,
Stat), per ACL that is not open to all, per owner of a container or TTL znode, and
per session.  A sum forgets the order, so a replica that gained its state by image
and one that replayed every transaction agree; a change costs two terms, not a walk.

A term is a CRC-32 stretched to 64 bits by `crc * (crc + STRETCH)`.  The square is
not linear, so two wrong terms do not cancel as two wrong CRCs would (swapping the
data of two znodes, say).  One wrong fact goes unseen once in 2^32: good enough
against our own bugs and broken memory, and no defence against malice.
"""

from collections.abc import Iterable
from operator import mul
from struct import Struct
from typing import Final

from zkpy.crc import crc32

Change = tuple[str, bytes | None, bytes | None]
"""(path, znode before, znode after): None where there is none."""

STRETCH: Final = 0x9E3779B97F4A7C15
MASK: Final = 0xFFFFFFFFFFFFFFFF

_ACL_SEED: Final = 0x61636C00
_OWNER_SEED: Final = 0x6F776E00
_SESSION_SEED: Final = 0x73657300
_LONG: Final = Struct(">q")
_SESSION: Final = Struct(">qi")


def delta_of(changes: Iterable[Change]) -> int:
    """What these changes add to the sum (not yet reduced modulo 2^64, may be negative)."""
    total = 0
    for path, before, after in changes:
        seed = crc32(path.encode())
        if before is not None:
            crc = crc32(before, seed)
            total -= crc * (crc + STRETCH)
        if after is not None:
            crc = crc32(after, seed)
            total += crc * (crc + STRETCH)
    return total


def sum_of_nodes(paths: Iterable[str], znodes: Iterable[bytes]) -> int:
    """The terms of many znodes, in columns of equal length (not reduced)."""
    seeds = map(crc32, map(str.encode, paths))
    crcs = list(map(crc32, znodes, seeds))
    squares: int = sum(map(mul, crcs, crcs))
    return squares + STRETCH * sum(crcs)


def term_of_acl(path: str, packed_acl: bytes) -> int:
    return _stretch(crc32(packed_acl, crc32(path.encode(), _ACL_SEED)))


def term_of_owner(path: str, owner: int) -> int:
    return _stretch(crc32(_LONG.pack(owner), crc32(path.encode(), _OWNER_SEED)))


def term_of_session(session: int, timeout_ms: int, password: bytes) -> int:
    return _stretch(crc32(password, crc32(_SESSION.pack(session, timeout_ms), _SESSION_SEED)))


def _stretch(crc: int) -> int:
    return crc * (crc + STRETCH)
