"""Names of contenders' nodes, as Curator and kazoo write them (pure).

    kazoo                       <32 hex>__lock__<number>      <32 hex>__rlock__<number>
    Curator, InterProcessMutex  _c_<uuid>-lock-<number>
    Curator, read/write lock    _c_<uuid>-__WRIT__<number>    _c_<uuid>-__READ__<number>
    Curator, SemaphoreV2        _c_<uuid>-lease-<number>

The number is what the server appends: ten digits, or a sign and nine or ten once its 32 bits have
overflowed.  Each line is a *family*: its members agree on who is first.  Two families
on one path do not: kazoo counts only its own markers, and Curator sorts a name without its
marker by the whole of it, which begins with dice.  So a path with two of them is refused.
"""

import enum
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from recipes.base import NUMBER


class LockError(Exception):
    """What goes wrong with a lock."""


class MixedContendersError(LockError):
    """A node on a lock's path is not of the lock's own format: nobody could say who is first."""


class Role(enum.Enum):
    """What a contender asks for."""

    WRITE = "write"
    """To be alone: also a lock that is no read/write lock."""
    READ = "read"
    """To be without writers."""


@attrs.frozen
class Family:
    """A line of the table above."""

    name: str
    prefix: Callable[[uuid.UUID], str]
    """What stands before the marker."""
    markers: dict[str, Role]
    counts_all: bool
    """Whether its clients take every child of the path for a contender."""

    def marker_of(self, role: Role) -> str:
        return next(marker for marker, its in self.markers.items() if its is role)

    @property
    def pattern(self) -> re.Pattern[str]:
        markers = "|".join(map(re.escape, self.markers))
        return re.compile(rf"({markers})({NUMBER.pattern})")


def kazoo_prefix(unique: uuid.UUID) -> str:
    return unique.hex


def curator_prefix(unique: uuid.UUID) -> str:
    """Curator's protected form."""
    return f"_c_{unique}-"


KAZOO: Final = Family(
    "kazoo", kazoo_prefix, {"__lock__": Role.WRITE, "__rlock__": Role.READ}, False
)
CURATOR_MUTEX: Final = Family("Curator's mutex", curator_prefix, {"lock-": Role.WRITE}, True)
CURATOR_READ_WRITE: Final = Family(
    "Curator's read/write lock",
    curator_prefix,
    {"__WRIT__": Role.WRITE, "__READ__": Role.READ},
    True,
)
CURATOR_LEASE: Final = Family("Curator's lease", curator_prefix, {"lease-": Role.WRITE}, True)
FAMILIES: Final = (KAZOO, CURATOR_MUTEX, CURATOR_READ_WRITE, CURATOR_LEASE)
PATTERNS: Final = {family.name: family.pattern for family in FAMILIES}


@attrs.frozen
class Contender:
    name: str
    role: Role
    number: int
    """Signed, of 32 bits."""


def parse(name: str, family: Family) -> Contender | None:
    """None if it is no contender of that family."""
    found = PATTERNS[family.name].search(name)
    if found is None:
        return None
    return Contender(name, family.markers[found[1]], int(found[2]))


def contenders_of(children: Iterable[str], family: Family) -> list[Contender]:
    """Raises MixedContendersError.

    Names without a number are nobody's contender for kazoo, which leaves them alone, and so do
    we beside it; for Curator they are contenders too."""
    found: list[Contender] = []
    for name in children:
        contender = parse(name, family)
        if contender is not None:
            found.append(contender)
        elif family.counts_all or NUMBER.search(name):
            raise MixedContendersError(f"{name!r} is not a node of {family.name}")
    return found
