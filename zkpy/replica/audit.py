"""The audit log: who asked for which change here, and what came of it (`audit.enable`).

In: this server's clients' writes as they set out, and what was applied.  Out: lines, in
ZooKeeper's form: pairs `key=value`, a tab between them.

    session user ip operation znode znode_type acl result

A write has its line on the server that its client was connected to, once it is decided;
also if the client is gone by then.  One whose fate this server did not learn, since the role
in which it was sent ended, or the server itself, has the result `unknown`: it may have been
done.  What nobody asked for, ephemerals that end with a session, containers and TTL znodes, has
its lines on every server.

Values come from clients: what is not printable, a backslash, and a tab above all, are escaped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from wire.client import Request
from wire.codes import CreateMode, OpCode, Perm
from wire.records import ACL, MultiRequest
from wire.txn import TxnHeader
from zkpy.pipeline.gate import Gate
from zkpy.pipeline.request import LEADER, Identities
from zkpy.replica.links import ClientLink
from zkpy.state import znode as zn
from zkpy.state.apply import Applied
from zkpy.state.digest import Change

SUCCESS: Final = "success"
FAILURE: Final = "failure"
UNKNOWN: Final = "unknown"

_MULTI: Final = "multiOperation"
_SESSION_END: Final = "ephemeralZNodeDeletionOnSessionCloseOrExpire"
_OPERATIONS: Final[dict[int, str]] = {
    OpCode.CREATE: "create",
    OpCode.CREATE2: "create",
    OpCode.CREATE_CONTAINER: "create",
    OpCode.CREATE_TTL: "create",
    OpCode.DELETE: "delete",
    OpCode.DELETE_CONTAINER: "delete",
    OpCode.SET_DATA: "setData",
    OpCode.SET_ACL: "setAcl",
    OpCode.MULTI: _MULTI,
    OpCode.RECONFIG: "reconfig",
}
"""What is audited, by ZooKeeper's words."""
_PERMS: Final = {
    Perm.CREATE: "c",
    Perm.DELETE: "d",
    Perm.READ: "r",
    Perm.WRITE: "w",
    Perm.ADMIN: "a",
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A write that is not decided yet."""

    who: tuple[tuple[str, str], ...]
    """Session, user and ip."""
    request: Request


class Audit:
    """Keeps the writes on their way, each as long as the gate counts it, and the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._under_way: dict[int, _Asked] = {}
        """By forward number."""

    def begin(self, number: int, link: ClientLink, request: Request) -> None:
        if request.opcode in _OPERATIONS:
            self._under_way[number] = _Asked(_name(link), request)

    def applied(self, gate: Gate, header: TxnHeader, applied: Applied) -> None:
        if header.origin == LEADER and not header.session:
            self._tell_deleted(applied.changes)
        elif header.origin == gate.server and header.incarnation == gate.incarnation:
            self._decided(header.number, applied)

    def _tell_deleted(self, changes: Sequence[Change]) -> None:
        """By the leader: containers that are empty again, TTL znodes."""
        for path, before, after in changes:
            if before is not None and after is None:
                self._write((("operation", "delete"), ("znode", path), ("result", SUCCESS)))

    def _decided(self, number: int, applied: Applied) -> None:
        asked = self._under_way.pop(number, None)
        if asked is None:
            return
        if applied.results is not None:
            self._tell_multi(asked, applied.results)
        else:
            request = asked.request
            result = FAILURE if applied.error else SUCCESS
            self._tell(asked, request.opcode, request.body, result, applied.path)

    def refused(self, number: int) -> None:
        """It never went into the log."""
        asked = self._under_way.pop(number, None)
        if asked is not None:
            self._tell(asked, asked.request.opcode, asked.request.body, FAILURE, None)

    def lose(self) -> None:
        """The role ends, or the server: whether what was sent will be done is not told to it."""
        for asked in self._under_way.values():
            self._tell(asked, asked.request.opcode, asked.request.body, UNKNOWN, None)
        self._under_way.clear()

    def session_closed(self, session: int, changes: Sequence[Change]) -> None:
        for path, before, after in changes:
            if before is not None and after is None and zn.ephemeral_owner(before) == session:
                named = (("session", _hex(session)), ("operation", _SESSION_END))
                self._write((*named, ("znode", path), ("result", SUCCESS)))

    def _tell_multi(self, asked: _Asked, results: Sequence[Applied]) -> None:
        """One line per operation that was done, or one for all that was not."""
        body = asked.request.body
        assert isinstance(body, MultiRequest)
        if any(result.error for result in results):
            self._tell(asked, OpCode.MULTI, body, FAILURE, None)
            return
        for (opcode, record), result in zip(body.ops, results, strict=True):
            if opcode in _OPERATIONS:
                self._tell(asked, opcode, record, SUCCESS, result.path)

    def _tell(
        self, asked: _Asked, opcode: int, body: object, result: str, made: str | None
    ) -> None:
        """`made`: the path of a create, with its number."""
        what = (("operation", _OPERATIONS[opcode]), *_describe(opcode, body, made))
        self._write((*asked.who, *what, ("result", result)))

    def _write(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.lines.append("\t".join([f"{key}={_escape(value)}" for key, value in pairs]))


def _name(link: ClientLink) -> tuple[tuple[str, str], ...]:
    users = ",".join(dict.fromkeys(_users(link.identities)))
    return (("session", _hex(link.session)), ("user", users), ("ip", link.host))


def _users(identities: Identities) -> Iterator[str]:
    """An address as such, all else with its scheme: anybody may call himself anything by a digest.
    Of that the name alone; its hash is nobody's business."""
    for scheme, name in identities:
        if scheme == "digest":
            name = name.partition(":")[0]
        shown = name.replace("\\", "\\\\").replace(",", "\\,")
        yield shown if scheme == "ip" else f"{scheme}:{shown}"


def _describe(opcode: int, body: object, made: str | None) -> Iterator[tuple[str, str]]:
    path = made or getattr(body, "path", None)
    if path is not None:
        yield "znode", str(path)
    flags = getattr(body, "flags", None)
    if flags is not None:
        yield "znode_type", _show_mode(opcode, flags)
    if opcode == OpCode.SET_ACL:
        yield "acl", _show_acl(getattr(body, "acl", ()))


def _show_mode(opcode: int, flags: int) -> str:
    if opcode == OpCode.CREATE_CONTAINER:
        return CreateMode.CONTAINER.name.lower()
    try:
        return CreateMode(flags).name.lower()
    except ValueError:  # refused for just that
        return str(flags)


def _show_acl(acl: Sequence[ACL]) -> str:
    return ",".join([f"{each.scheme}:{_show_id(each)}:{_show_perms(each.perms)}" for each in acl])


def _show_id(entry: ACL) -> str:
    return entry.id.partition(":")[0] if entry.scheme == "digest" else entry.id


def _show_perms(perms: int) -> str:
    return "".join([letter for bit, letter in _PERMS.items() if perms & bit])


def _hex(session: int) -> str:
    return f"{session & 0xFFFFFFFFFFFFFFFF:#x}"


def _escape(text: str) -> str:
    """One line, whatever a client named itself; no two values look alike."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join([_escape_char(char) for char in text])


def _escape_char(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return char if char.isprintable() else ascii(char)[1:-1]
