"""Differences that are meant, each matched as narrowly as it can be, with its reason.

`docs/differences.md` tells users of them.  A difference that leaves the two servers unlike
has a `mend`, or cannot be listed: the generator must not make it then (see its rules).
"""

from collections.abc import Callable
from typing import Any, Final

import attrs

from tests.differential.player import Line
from tests.differential.trace import Ask
from wire.codes import CreateMode, ErrorCode, OpCode, WatcherType
from wire.records import ExistsRequest, MultiRequest, RemoveWatchesRequest

_CREATE_FLAGS: Final = frozenset(map(int, CreateMode))


@attrs.frozen
class Known:
    name: str
    reason: str
    matches: Callable[[Line, Line], bool]
    """Whether (ZooKeeper's line, zkpy's) about one request differ in just this."""
    mend: Callable[[Line], Ask | None] = lambda line: None
    """What makes both servers alike again."""


def find(theirs: Line | None, ours: Line | None) -> Known | None:
    """The known difference between two lines, if it is one."""
    if theirs is None or ours is None:
        return None
    if (theirs.kind, theirs.session, theirs.ask) != (ours.kind, ours.session, ours.ask):
        return None
    return next((known for known in KNOWN if known.matches(theirs, ours)), None)


def _exists_unread(theirs: Line, ours: Line) -> bool:
    asked = theirs.ask is not None and theirs.ask.opcode == OpCode.EXISTS
    return asked and (theirs.error, ours.error) == (0, ErrorCode.NO_AUTH)


def _without_watch(line: Line) -> Ask | None:
    """Their exists left a watch, if it was to; ours did not."""
    body = line.ask.body if line.ask is not None else None
    if not isinstance(body, ExistsRequest) or not body.watch:
        return None
    return Ask(OpCode.REMOVE_WATCHES, RemoveWatchesRequest(body.path, WatcherType.DATA))


def _typed_create(theirs: Line, ours: Line) -> bool:
    body = theirs.ask.body if theirs.ask is not None else None
    if not isinstance(body, MultiRequest) or theirs.what is None or ours.what is None:
        return False
    items = zip(body.ops, theirs.what[1], ours.what[1], strict=True)
    return all(one == other or _typed_less(op[0], one, other) for op, one, other in items)


def _typed_less(opcode: int, theirs: Any, ours: Any) -> bool:
    plain = ("MultiResult", int(OpCode.CREATE), 0, ("CreateResponse", ours[3][1]))
    return opcode == OpCode.CREATE2 and ours[1] == OpCode.CREATE2 and theirs == plain


def _watch_of_another(theirs: Line, ours: Line) -> bool:
    asked = theirs.ask is not None and theirs.ask.opcode == OpCode.CHECK_WATCHES
    return asked and (theirs.error, ours.error) == (0, ErrorCode.NO_WATCHER)


def _unknown_flags(theirs: Line, ours: Line) -> bool:
    """Neither did anything: one refused to read it, the other refused that operation."""
    body = theirs.ask.body if theirs.ask is not None else None
    if not isinstance(body, MultiRequest) or ours.what is None:
        return False
    flags = [getattr(record, "flags", 0) for _, record in body.ops]
    refused = all(result[1] == OpCode.ERROR for result in ours.what[1])
    unknown = any(each not in _CREATE_FLAGS for each in flags)
    return unknown and refused and (theirs.error, ours.error) == (ErrorCode.MARSHALLING_ERROR, 0)


KNOWN: Final[tuple[Known, ...]] = (
    Known(
        "exists asks for READ",
        "so does ZooKeeper since 3.8.4 and 3.9.2",
        _exists_unread,
        _without_watch,
    ),
    Known(
        "create2 in a multi is answered as create2, with its Stat",
        "ZooKeeper 3.8 answers as for create; the client asked for a Stat",
        _typed_create,
    ),
    Known(
        "checkWatches finds none but the connection's own watches",
        "ZooKeeper 3.8 can find another's, once there are persistent ones (ZOOKEEPER-4466)",
        _watch_of_another,
    ),
    Known(
        "create with flags that do not exist, in a multi, is that operation's error",
        "ZooKeeper 3.9 cannot read such a multi; 3.8 answers as zkpy does",
        _unknown_flags,
    ),
)
UNREAD_EVENT: Final = "setWatches tells nothing of a znode that may not be read"
"""ZooKeeper tells anybody what exists and when it changed: see `Duel`."""
