"""The leader's judgement: a request becomes a transaction, or an error transaction.

Checks happen here, once, against the tree plus everything outstanding
(`pending`), in ZooKeeper's order, since clients see the first that fails.  What
leaves is absolute - versions, names, owners, the parent's counter - so that every
member only replays it.  A refusal is a transaction too: it takes a zxid and goes
through the quorum, so that a deposed leader cannot answer from the past.

`prepare` may refuse; `apply` may not.
"""

import random
from collections.abc import Callable
from typing import Any, Final

import attrs

from wire import records
from wire.codes import CreateMode, ErrorCode, OpCode, Perm
from wire.records import ACL, OPEN_ACL
from wire.txn import (
    CheckTxn,
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    Txn,
)
from wire.upper import OpenSession
from zkpy.errors import ZkError
from zkpy.pipeline.pending import NodeView, Pending
from zkpy.pipeline.request import LEADER, Write
from zkpy.state import paths
from zkpy.state.acl import allowed, fix_up
from zkpy.state.apply import ReplicatedState
from zkpy.state.lifetimes import CONTAINER_OWNER, TTL_MS_MAX, is_session, owner_of_ttl
from zkpy.state.znode import COUNTER_MAX, next_version

PASSWORD_BYTES: Final = 16
ANY_VERSION: Final = -1
# Plain numbers for the hot path: looking up an enum's member costs as much as a whole check.
_WITHOUT_SESSION: Final = (int(OpCode.CREATE_SESSION), int(OpCode.DELETE_CONTAINER))
_MAY_WRITE: Final = int(Perm.WRITE)
_MAY_CREATE: Final = int(Perm.CREATE)
NO_TTL: Final = -1


@attrs.define(frozen=True)
class Rules:
    """Switches of zoo.cfg that change what is refused."""

    extended_types: bool = False
    """`extendedTypesEnabled`: TTL znodes may be created."""


@attrs.define(frozen=True)
class _Mode:
    sequential: bool = False
    ephemeral: bool = False
    container: bool = False
    ttl: bool = False


_MODES: Final[dict[int, _Mode]] = {
    CreateMode.PERSISTENT: _Mode(),
    CreateMode.EPHEMERAL: _Mode(ephemeral=True),
    CreateMode.PERSISTENT_SEQUENTIAL: _Mode(sequential=True),
    CreateMode.EPHEMERAL_SEQUENTIAL: _Mode(sequential=True, ephemeral=True),
    CreateMode.CONTAINER: _Mode(container=True),
    CreateMode.PERSISTENT_WITH_TTL: _Mode(ttl=True),
    CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL: _Mode(sequential=True, ttl=True),
}


class Preparer:
    """Turns writes into transactions, one after the other, for one leadership."""

    def __init__(
        self,
        state: ReplicatedState,
        pending: Pending,
        rules: Rules,
        rng: random.Random,
        owner_of: Callable[[int], int | None],
    ) -> None:
        """`owner_of(session)` is the server whose connection carries it now."""
        self._state = state
        self._pending = pending
        self._rules = rules
        self._rng = rng
        self._owner_of = owner_of

    def prepare(self, write: Write) -> Txn:
        """The transaction for a write.  Its changes are pending until `keep` or `refuse`."""
        handler = _PREPARE.get(write.opcode)
        if handler is None:  # only a broken learner forwards such
            return ErrorTxn(ErrorCode.UNIMPLEMENTED)
        try:
            if write.opcode not in _WITHOUT_SESSION:
                self._check_session(write)
            return handler(self, write, write.body)
        except ZkError as refusal:
            return self.refuse(refusal.code)

    def keep(self, zxid: int) -> None:
        """The transaction prepared last was proposed as `zxid`."""
        self._pending.seal(zxid)

    def refuse(self, code: ErrorCode) -> ErrorTxn:
        """Take back what was prepared last; an error transaction goes out instead."""
        self._pending.undo()
        return ErrorTxn(code)

    # --- sessions ---

    def _check_session(self, write: Write) -> None:
        session, pending = write.session, self._pending
        known = session in self._state.sessions or session in pending.opening
        if not known or session in pending.closing:
            raise ZkError(ErrorCode.SESSION_EXPIRED)
        if write.server != LEADER and write.server != self._owner_of(session):
            raise ZkError(ErrorCode.SESSION_MOVED)

    def _create_session(self, write: Write, body: OpenSession) -> Txn:
        if write.session in self._state.sessions or write.session in self._pending.opening:
            raise ZkError(ErrorCode.SYSTEM_ERROR)
        txn = CreateSessionTxn(body.timeout_ms, self._rng.randbytes(PASSWORD_BYTES))
        self._pending.opening[write.session] = txn
        return txn

    def _close_session(self, write: Write, body: object) -> Txn:
        """The transaction names the session alone; what it will remove is pending from here on."""
        pending = self._pending
        session = write.session
        pending.closing[session] = None
        owned = dict.fromkeys(self._state.lifetimes.ephemerals.get(session, ()))
        owned.update(dict.fromkeys(pending.owned_by(session)))
        for path in owned:
            view = pending.view(path)  # deleted meanwhile, or made anew by somebody else?
            if view is not None and view.owner == session:
                self._remove(path)
        return CloseSessionTxn()

    # --- znodes ---

    def _create(self, write: Write, body: records.CreateRequest) -> Txn:
        return self._create_as(write, body, body.flags, NO_TTL)

    def _create_container(self, write: Write, body: records.CreateRequest) -> Txn:
        if body.flags != CreateMode.CONTAINER:
            raise ZkError(ErrorCode.BAD_ARGUMENTS)
        return self._create_as(write, body, body.flags, NO_TTL)

    def _create_ttl(self, write: Write, body: records.CreateTTLRequest) -> Txn:
        return self._create_as(write, body, body.flags, body.ttl_ms)

    def _create_as(
        self,
        write: Write,
        body: records.CreateRequest | records.CreateTTLRequest,
        flags: int,
        ttl: int,
    ) -> Txn:
        """The one create; checks in the order of PROTOCOL A6."""
        mode = self._mode_of(flags, ttl)
        path = body.path
        paths.validate(path, mode.sequential)
        acl = fix_up(body.acl, write.identities)
        parent_path = path.rpartition("/")[0] or paths.ROOT
        parent = self._existing(parent_path)
        self._check(parent.acl, _MAY_CREATE, write)
        if mode.sequential:
            path = paths.sequential_name(path, parent.created)
            paths.validate(path)
        if self._pending.view(path) is not None:
            raise ZkError(ErrorCode.NODE_EXISTS)
        if is_session(parent.owner):
            raise ZkError(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS)
        owner = _owner_of(mode, write.session, ttl)
        created = min(parent.created + 1, COUNTER_MAX)
        data = body.data
        self._pending.put(parent_path, parent.with_child(created))
        self._pending.put(path, NodeView(0, 0, 0, 0, len(data or b""), owner, acl))
        return CreateTxn(path, data, acl, owner, created)

    def _mode_of(self, flags: int, ttl: int) -> _Mode:
        mode = _MODES.get(flags)
        if mode is None:
            raise ZkError(ErrorCode.BAD_ARGUMENTS)
        if mode.ttl and not self._rules.extended_types:
            raise ZkError(ErrorCode.UNIMPLEMENTED)
        if not (0 < ttl <= TTL_MS_MAX if mode.ttl else ttl < 0):
            raise ZkError(ErrorCode.BAD_ARGUMENTS)
        return mode

    def _delete(self, write: Write, body: records.DeleteRequest) -> Txn:
        path = body.path
        paths.validate(path)
        if path in paths.SYSTEM_PATHS:
            raise ZkError(ErrorCode.BAD_ARGUMENTS)
        parent = self._existing(paths.parent(path))
        self._check(parent.acl, Perm.DELETE, write)
        node = self._existing(path)
        _next(node.version, body.version)
        if node.children:
            raise ZkError(ErrorCode.NOT_EMPTY)
        self._remove(path)
        return DeleteTxn(path)

    def _delete_container(self, write: Write, body: records.DeleteContainerRequest) -> Txn:
        """The leader's own: a container or TTL znode that is due, if it still is one.

        From a client it is no operation at all: ZooKeeper takes it unchecked (PROTOCOL A10).
        """
        if write.server != LEADER:
            raise ZkError(ErrorCode.UNIMPLEMENTED)
        node = self._existing(body.path)
        if node.children or not node.owner or is_session(node.owner):
            raise ZkError(ErrorCode.NOT_EMPTY)
        self._remove(body.path)
        return DeleteTxn(body.path)

    def _set_data(self, write: Write, body: records.SetDataRequest) -> Txn:
        path = body.path
        node = self._existing(path)
        self._check(node.acl, _MAY_WRITE, write)
        version = _next(node.version, body.version)
        data = body.data
        self._pending.put(path, node.with_data(version, len(data or b"")))
        return SetDataTxn(path, data, version)

    def _set_acl(self, write: Write, body: records.SetACLRequest) -> Txn:
        path = body.path
        paths.validate(path)
        acl = fix_up(body.acl, write.identities)
        node = self._existing(path)
        self._check(node.acl, Perm.ADMIN, write)
        aversion = _next(node.aversion, body.version)
        self._pending.put(path, node.with_acl(acl, aversion))
        return SetACLTxn(path, acl, aversion)

    def _check_version(self, write: Write, body: records.CheckVersionRequest) -> Txn:
        path = body.path
        node = self._existing(path)
        self._check(node.acl, Perm.READ, write)
        _next(node.version, body.version)
        return CheckTxn(path, body.version)

    def _multi(self, write: Write, body: records.MultiRequest) -> Txn:
        """All or nothing; the reply tells of each operation how it fared (PROTOCOL A9)."""
        txns: list[Txn] = []
        for opcode, operation in body.ops:
            handler = _PREPARE_IN_MULTI.get(opcode)
            if handler is None:  # a read among writes
                raise ZkError(ErrorCode.MARSHALLING_ERROR)
            try:
                txns.append(handler(self, write, operation))
            except ZkError as refusal:
                self.refuse(refusal.code)
                return _failed_multi(len(txns), refusal.code, len(body.ops))
        return MultiTxn(tuple(txns))

    # --- parts ---

    def _existing(self, path: str) -> NodeView:
        """A path that names a znode is a legal one: only a miss has to look at it."""
        view = self._pending.view(path)
        if view is None:
            paths.validate(path)
            raise ZkError(ErrorCode.NO_NODE)
        return view

    def _check(self, acl: tuple[ACL, ...], perm: int, write: Write) -> None:
        if acl is not OPEN_ACL and not allowed(acl, perm, write.identities):
            raise ZkError(ErrorCode.NO_AUTH)

    def _remove(self, path: str) -> None:
        parent_path = paths.parent(path)
        parent = self._existing(parent_path)
        self._pending.put(parent_path, parent.without_child())
        self._pending.put(path, None)


def _owner_of(mode: _Mode, session: int, ttl: int) -> int:
    if mode.ephemeral:
        return session
    if mode.container:
        return CONTAINER_OWNER
    return owner_of_ttl(ttl) if mode.ttl else 0


def _next(current: int, expected: int) -> int:
    """The version after a change that was asked for at `expected`; -1 asks for any."""
    if expected not in (ANY_VERSION, current):
        raise ZkError(ErrorCode.BAD_VERSION)
    return next_version(current)


def _failed_multi(done: int, code: ErrorCode, count: int) -> Txn:
    after = count - done - 1
    codes = [ErrorCode.OK] * done + [code] + [ErrorCode.RUNTIME_INCONSISTENCY] * after
    return MultiTxn(tuple(ErrorTxn(each) for each in codes))


_Handler = Callable[[Preparer, Write, Any], Txn]
_PREPARE_IN_MULTI: Final[dict[int, _Handler]] = {
    OpCode.CREATE: Preparer._create,
    OpCode.CREATE2: Preparer._create,
    OpCode.CREATE_CONTAINER: Preparer._create_container,
    OpCode.CREATE_TTL: Preparer._create_ttl,
    OpCode.DELETE: Preparer._delete,
    OpCode.SET_DATA: Preparer._set_data,
    OpCode.CHECK: Preparer._check_version,
}
_PREPARE: Final[dict[int, _Handler]] = {
    **{op: handler for op, handler in _PREPARE_IN_MULTI.items() if op != OpCode.CHECK},
    OpCode.SET_ACL: Preparer._set_acl,
    OpCode.DELETE_CONTAINER: Preparer._delete_container,
    OpCode.MULTI: Preparer._multi,
    OpCode.CREATE_SESSION: Preparer._create_session,
    OpCode.CLOSE_SESSION: Preparer._close_session,
}
