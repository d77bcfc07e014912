"""Paths of znodes: what is legal, and how paths are taken apart.

In and out: absolute paths as text, the root being `/`.  Rules of ZooKeeper's
PathUtils: no empty, `.` or `..` element, no control characters, and nothing that
UTF-16 cannot hold in one unit (Java tests its characters one by one).
"""

import re
from collections.abc import Iterator
from typing import Final

from wire.codes import ErrorCode
from zkpy.errors import ZkError

ROOT: Final = "/"
ZOOKEEPER: Final = "/zookeeper"
QUOTA: Final = "/zookeeper/quota"
CONFIG: Final = "/zookeeper/config"
SYSTEM_PATHS: Final = (ROOT, ZOOKEEPER, QUOTA, CONFIG)
"""Always there: deleting one of them is refused (BAD_ARGUMENTS).  Parents come first."""

_LEGAL: Final = re.compile(
    r"(?:/(?!\.\.?(?:/|\Z))[^/\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\U0010ffff]+)+"
)


def validate(path: str) -> None:
    """Raise ZkError(BAD_ARGUMENTS) unless `path` may name a znode.

    That of a sequential create is judged with its number: so `/queue/` is legal there, and
    `/queue/.`.
    """
    if not _LEGAL.fullmatch(path) and path != ROOT:
        raise ZkError(ErrorCode.BAD_ARGUMENTS)


def parent(path: str) -> str:
    """The path one level up; the root has no parent, and it is our bug to ask."""
    assert path != ROOT, "the root has no parent"
    return path.rpartition("/")[0] or ROOT


def name(path: str) -> str:
    """The last element of a path."""
    return path.rpartition("/")[2]


def prefix_of(path: str) -> str:
    """What the paths of all descendants of `path` begin with."""
    return ROOT if path == ROOT else path + "/"


def is_within(path: str, ancestor: str) -> bool:
    """Whether `path` is `ancestor` or lies below it."""
    return path == ancestor or path.startswith(prefix_of(ancestor))


def lineage(path: str) -> Iterator[str]:
    """The path itself, then its ancestors up to the root."""
    while path != ROOT:
        yield path
        path = path.rpartition("/")[0] or ROOT
    yield ROOT


def sequential_name(prefix: str, counter: int) -> str:
    """The path of a sequential create: ten digits, as Java's `%010d` writes them."""
    return f"{prefix}{counter:010d}"
