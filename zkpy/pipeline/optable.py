"""One row per opcode: what kind of work a request is, and who does it.

READ rows are answered from the tree by `Reads`; WRITE rows travel through the log
and are answered from what applying them gave; LOCAL rows concern the connection
and are served by whoever owns it (`replica.clients`).  An opcode without a row is
answered UNIMPLEMENTED, and the connection is closed, as ZooKeeper does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from wire import records
from wire.codes import ErrorCode, OpCode
from zkpy.pipeline.reads import Reader, Reads
from zkpy.state.apply import Applied

ReadHandler = Callable[[Reads, Reader, Any], bytes]
ReplyBody = Callable[[Applied], bytes]


class Work(IntEnum):
    READ = 0
    WRITE = 1
    LOCAL = 2


@dataclass(frozen=True, slots=True)
class Op:
    """One opcode."""

    work: Work
    read: ReadHandler | None = None
    """READ: from the reader and the request's record to the reply's body."""
    reply: ReplyBody | None = None
    """WRITE: from what was applied to the reply's body."""


def _nothing(applied: Applied) -> bytes:
    return b""


def _path(applied: Applied) -> bytes:
    assert applied.path is not None
    return records.CreateResponse(applied.path).encode()


def _stat(applied: Applied) -> bytes:
    assert applied.stat is not None
    return applied.stat


def _znode(applied: Applied) -> bytes:
    """Data and Stat: a znode is kept as the body of a getData reply."""
    znode = applied.changes[0][2]
    assert znode is not None
    return znode


def _path_and_stat(applied: Applied) -> bytes:
    return _path(applied) + _stat(applied)


def write_reply(opcode: int, body: object, applied: Applied) -> bytes:
    """The body of the reply to a write that was not refused."""
    reply = OPS[opcode].reply
    if reply is not None:
        return reply(applied)
    assert isinstance(body, records.MultiRequest)
    return _multi_reply(body, applied)


def _multi_reply(body: records.MultiRequest, applied: Applied) -> bytes:
    """Header error 0 in any case; each item tells how its operation fared."""
    results = applied.results
    assert results is not None and len(results) == len(body.ops)
    failed = any(result.error for result in results)
    return records.encode_multi(
        _multi_item(opcode, result, failed)
        for (opcode, _), result in zip(body.ops, results, strict=True)
    )


def _multi_item(opcode: int, result: Applied, failed: bool) -> tuple[int, int, bytes]:
    if failed:
        return records.encode_multi_error(result.error)
    typed = OpCode.CREATE2 if opcode in _SHOWN_AS_CREATE2 else opcode
    reply = _nothing if opcode == OpCode.CHECK else OPS[opcode].reply
    assert reply is not None
    return typed, ErrorCode.OK, reply(result)


_SHOWN_AS_CREATE2: Final = (OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL)

_OPS: Final[dict[OpCode, Op]] = {
    OpCode.GET_DATA: Op(Work.READ, read=Reads.get_data),
    OpCode.EXISTS: Op(Work.READ, read=Reads.exists),
    OpCode.GET_CHILDREN: Op(Work.READ, read=Reads.get_children),
    OpCode.GET_CHILDREN2: Op(Work.READ, read=Reads.get_children2),
    OpCode.GET_ACL: Op(Work.READ, read=Reads.get_acl),
    OpCode.GET_ALL_CHILDREN_NUMBER: Op(Work.READ, read=Reads.get_all_children_number),
    OpCode.GET_EPHEMERALS: Op(Work.READ, read=Reads.get_ephemerals),
    OpCode.MULTI_READ: Op(Work.READ, read=Reads.multi_read),
    OpCode.WHO_AM_I: Op(Work.READ, read=Reads.who_am_i),
    OpCode.ADD_WATCH: Op(Work.READ, read=Reads.add_watch),
    OpCode.REMOVE_WATCHES: Op(Work.READ, read=Reads.remove_watches),
    OpCode.CHECK_WATCHES: Op(Work.READ, read=Reads.check_watches),
    OpCode.CREATE: Op(Work.WRITE, reply=_path),
    OpCode.CREATE2: Op(Work.WRITE, reply=_path_and_stat),
    OpCode.CREATE_CONTAINER: Op(Work.WRITE, reply=_path_and_stat),
    OpCode.CREATE_TTL: Op(Work.WRITE, reply=_path_and_stat),
    OpCode.DELETE: Op(Work.WRITE, reply=_nothing),
    OpCode.SET_DATA: Op(Work.WRITE, reply=_stat),
    OpCode.SET_ACL: Op(Work.WRITE, reply=_stat),
    OpCode.MULTI: Op(Work.WRITE),
    OpCode.RECONFIG: Op(Work.WRITE, reply=_znode),
    OpCode.CLOSE_SESSION: Op(Work.WRITE, reply=_nothing),
    OpCode.PING: Op(Work.LOCAL),
    OpCode.AUTH: Op(Work.LOCAL),
    OpCode.SET_WATCHES: Op(Work.LOCAL),
    OpCode.SET_WATCHES2: Op(Work.LOCAL),
    OpCode.SYNC: Op(Work.LOCAL),
    OpCode.SASL: Op(Work.LOCAL),
}
OPS: Final = {int(opcode): op for opcode, op in _OPS.items()}
"""Opcode -> its row.  By plain int: an enum as key makes each look-up twice as long."""
