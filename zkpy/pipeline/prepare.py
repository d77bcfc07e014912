"""The leader's judgement: a request becomes a transaction, or an error transaction.

Checks happen here, once, against the tree plus everything outstanding
(`pending`), in ZooKeeper's order, since clients see the first that fails.  What
leaves is absolute - versions, names, owners, the parent's counter - so that every
member only replays it.  A refusal is a transaction too: it takes a zxid and goes
through the quorum, so that a deposed leader cannot answer from the past.

`prepare` may refuse; `apply` may not.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

from wire import records
from wire.codes import CreateMode, ErrorCode, OpCode, Perm
from wire.records import ACL, OPEN_ACL, OpenSession
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
    TxnHeader,
)
from zkpy import membership
from zkpy.errors import ZkError
from zkpy.membership import Configuration
from zkpy.pipeline.pending import NodeView, Pending
from zkpy.pipeline.request import LEADER, Identities
from zkpy.state import paths
from zkpy.state.acl import SCHEMES_OFF, allowed, fix_up, valid_ids
from zkpy.state.apply import ReplicatedState
from zkpy.state.lifetimes import CONTAINER_OWNER, TTL_MS_MAX, is_session, owner_of_ttl
from zkpy.state.znode import COUNTER_MAX, next_version

PASSWORD_BYTES: Final = 16
ANY_VERSION: Final = -1
# Plain numbers for the hot path: looking up an enum's member costs as much as a whole check.
_WITHOUT_SESSION: Final = tuple(
    int(op) for op in (OpCode.CREATE_SESSION, OpCode.DELETE_CONTAINER, OpCode.RECONFIG)
)
"""Checked without one, or later."""
_MAY_WRITE: Final = int(Perm.WRITE)
_MAY_CREATE: Final = int(Perm.CREATE)


@dataclass(frozen=True, slots=True)
class Rules:
    """Switches of zoo.cfg that change what is refused."""

    extended_types: bool = False
    """`extendedTypesEnabled`: TTL znodes may be created."""
    enforce_quota: bool = False
    """`enforceQuota`: hard limits of quotas are held."""
    schemes_off: tuple[str, ...] = SCHEMES_OFF
    """Schemes that ACLs may not name: `sasl` without its provider, `x509` where no client shows
    a certificate, `digest` by `DigestAuthenticationProvider.enabled`."""
    reconfig_enabled: bool = False
    """`reconfigEnabled`, of a server alone: then a reconfig is Unimplemented, else disabled."""


@dataclass(frozen=True, slots=True)
class _Mode:
    sequential: bool = False
    ephemeral: bool = False
    ttl: bool = False


_MODES: Final[dict[int, _Mode]] = {
    CreateMode.PERSISTENT: _Mode(),
    CreateMode.EPHEMERAL: _Mode(ephemeral=True),
    CreateMode.PERSISTENT_SEQUENTIAL: _Mode(sequential=True),
    CreateMode.EPHEMERAL_SEQUENTIAL: _Mode(sequential=True, ephemeral=True),
    CreateMode.CONTAINER: _Mode(),
    CreateMode.PERSISTENT_WITH_TTL: _Mode(ttl=True),
    CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL: _Mode(sequential=True, ttl=True),
}


class Ensemble(Protocol):
    """What the leader knows of its ensemble."""

    @property
    def changing(self) -> bool:
        """Whether a change is on its way."""

    @property
    def version(self) -> int: ...
    @property
    def configuration(self) -> Configuration: ...
    @property
    def voters_min(self) -> int: ...
    def may_become(self, new: Configuration) -> bool:
        """Whether a quorum of the new voters is here and has all that it needs."""

    def tell(self, notice: str) -> None:
        """For the operator's log."""


class Preparer:
    """Turns writes into transactions, one after the other, for one leadership."""

    def __init__(
        self,
        state: ReplicatedState,
        pending: Pending,
        rules: Rules,
        rng: random.Random,
        owner_of: Callable[[int], int | None],
        ensemble: Ensemble | None = None,
    ) -> None:
        """`owner_of(session)` is the server whose connection carries it now; without an
        `ensemble` its membership cannot be changed."""
        self._state = state
        self._sessions = state.sessions.sessions
        self._pending = pending
        self._quotas = state.quota
        self._rules = rules
        self._valid_ids = valid_ids(rules.schemes_off)
        self._rng = rng
        self._owner_of = owner_of
        self._ensemble = ensemble

    def prepare(self, header: TxnHeader, opcode: int, body: object, identities: Identities) -> Txn:
        """The transaction for a write: who asks, for what, and who that is to an ACL.

        `body` is the request's record, None where the opcode has none.  What the
        transaction changes is pending until `Pending.seal` or `refuse`.
        """
        handler = _PREPARE.get(opcode)
        if handler is None:  # only a broken learner forwards such
            return ErrorTxn(ErrorCode.UNIMPLEMENTED)
        try:
            if opcode not in _WITHOUT_SESSION:
                self._check_session(header)
            return handler(self, header, body, identities)
        except ZkError as refusal:
            return self.refuse(refusal.code)

    def refuse(self, code: ErrorCode) -> ErrorTxn:
        """Take back what was prepared last; an error transaction goes out instead."""
        self._pending.undo()
        return ErrorTxn(code)

    # --- sessions ---

    def _check_session(self, header: TxnHeader) -> None:
        session, pending = header.session, self._pending
        known = session in self._sessions or session in pending.opening
        if not known or session in pending.closing:
            if header.number < 0 and not known:
                return  # local to the server of origin, which vouches for it
            raise ZkError(ErrorCode.SESSION_EXPIRED)
        if header.origin != LEADER and header.origin != self._owner_of(session):
            raise ZkError(ErrorCode.SESSION_MOVED)

    def _create_session(self, header: TxnHeader, body: OpenSession, identities: Identities) -> Txn:
        session = header.session
        if session in self._sessions or session in self._pending.opening:
            raise ZkError(ErrorCode.SYSTEM_ERROR)
        password = body.password or self._rng.randbytes(PASSWORD_BYTES)
        txn = CreateSessionTxn(body.timeout_ms, password)
        self._pending.opening[session] = txn
        return txn

    def _close_session(self, header: TxnHeader, body: object, identities: Identities) -> Txn:
        """The transaction names the session alone; what it will remove is pending from here on."""
        pending = self._pending
        session = header.session
        pending.closing[session] = None
        owned = dict.fromkeys(self._state.lifetimes.ephemerals.get(session, ()))
        owned.update(dict.fromkeys(pending.owned_by(session)))
        for path in owned:
            view = pending.view(path)  # deleted meanwhile, or made anew by somebody else?
            if view is not None and view.owner == session:
                self._remove(path)
        return CloseSessionTxn()

    # --- znodes ---

    def _create(
        self, header: TxnHeader, body: records.CreateRequest, identities: Identities
    ) -> Txn:
        mode = _mode_of(body.flags)
        owner = header.session if mode.ephemeral else 0
        if owner and header.number < 0:
            raise ZkError(ErrorCode.EPHEMERAL_ON_LOCAL_SESSION)
        return self._create_as(body, identities, mode, owner)

    def _create_container(
        self, header: TxnHeader, body: records.CreateRequest, identities: Identities
    ) -> Txn:
        """The opcode alone makes a container; of the flags only the sequence number counts."""
        return self._create_as(body, identities, _mode_of(body.flags), CONTAINER_OWNER)

    def _create_ttl(
        self, header: TxnHeader, body: records.CreateTTLRequest, identities: Identities
    ) -> Txn:
        """ZooKeeper takes flags without a TTL here, and dies of that transaction for good."""
        mode = _MODES.get(body.flags)
        if mode is not None and mode.ttl and not self._rules.extended_types:
            raise ZkError(ErrorCode.UNIMPLEMENTED)
        if mode is None or not mode.ttl or not 0 < body.ttl_ms <= TTL_MS_MAX:
            raise ZkError(ErrorCode.BAD_ARGUMENTS)
        return self._create_as(body, identities, mode, owner_of_ttl(body.ttl_ms))

    def _create_as(
        self,
        body: records.CreateRequest | records.CreateTTLRequest,
        identities: Identities,
        mode: _Mode,
        owner: int,
    ) -> Txn:
        """The one create; checks in ZooKeeper's order.

        The path as a whole is judged late, once it has its number, as ZooKeeper does.
        """
        path = body.path
        above, slash, _ = path.rpartition("/")
        if not slash or "\0" in path:
            raise ZkError(ErrorCode.BAD_ARGUMENTS)
        acl = fix_up(body.acl, identities, self._valid_ids)
        parent_path = above or paths.ROOT
        parent = self._pending.draft(parent_path)
        if parent is None:
            raise ZkError(ErrorCode.NO_NODE)
        self._check(parent.acl, _MAY_CREATE, identities)
        if mode.sequential:
            path = paths.sequential_name(path, parent.created)
        paths.validate(path)
        if self._pending.view(path) is not None:
            raise ZkError(ErrorCode.NODE_EXISTS)
        if is_session(parent.owner):
            raise ZkError(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS)
        data = body.data
        if self._quotas.quotas:
            self._check_quota(path, 1, len(data or b""))
        parent.created = min(parent.created + 1, COUNTER_MAX)
        parent.children += 1
        self._pending.put(parent_path, parent)
        self._pending.put(path, NodeView(0, 0, 0, 0, len(data or b""), owner, acl))
        return CreateTxn(path, data, acl, owner, parent.created)

    def _delete(
        self, header: TxnHeader, body: records.DeleteRequest, identities: Identities
    ) -> Txn:
        path = body.path
        if "/" not in path or "\0" in path or path in paths.SYSTEM_PATHS:
            raise ZkError(ErrorCode.BAD_ARGUMENTS)
        view = self._pending.view  # a path that is not legal is not there: NO_NODE, as in ZooKeeper
        parent = view(paths.parent(path))
        if parent is None:
            raise ZkError(ErrorCode.NO_NODE)
        self._check(parent.acl, Perm.DELETE, identities)
        node = view(path)
        if node is None:
            raise ZkError(ErrorCode.NO_NODE)
        _next(node.version, body.version)
        if node.children:
            raise ZkError(ErrorCode.NOT_EMPTY)
        self._remove(path)
        return DeleteTxn(path)

    def _delete_container(
        self, header: TxnHeader, body: records.DeleteContainerRequest, identities: Identities
    ) -> Txn:
        """The leader's own: a container or TTL znode that is due, if it still is one.

        From a client it is no operation at all: ZooKeeper takes it unchecked.
        """
        if header.origin != LEADER:
            raise ZkError(ErrorCode.UNIMPLEMENTED)
        node = self._existing(body.path)
        if node.children or not node.owner or is_session(node.owner):
            raise ZkError(ErrorCode.NOT_EMPTY)
        self._remove(body.path)
        return DeleteTxn(body.path)

    def _set_data(
        self, header: TxnHeader, body: records.SetDataRequest, identities: Identities
    ) -> Txn:
        path = body.path
        data = body.data
        node = self._draft(path)
        self._check(node.acl, _MAY_WRITE, identities)
        if self._quotas.quotas:
            self._check_quota(path, 0, len(data or b"") - node.data_bytes)
        node.version = version = _next(node.version, body.version)
        node.data_bytes = len(data) if data else 0
        self._pending.put(path, node)
        return SetDataTxn(path, data, version)

    def _set_acl(
        self, header: TxnHeader, body: records.SetACLRequest, identities: Identities
    ) -> Txn:
        path = body.path
        paths.validate(path)
        acl = fix_up(body.acl, identities, self._valid_ids)
        node = self._draft(path)
        self._check(node.acl, Perm.ADMIN, identities)
        node.aversion = _next(node.aversion, body.version)
        node.acl = acl
        self._pending.put(path, node)
        return SetACLTxn(path, acl, node.aversion)

    def _check_version(
        self, header: TxnHeader, body: records.CheckVersionRequest, identities: Identities
    ) -> Txn:
        path = body.path
        node = self._existing(path)
        self._check(node.acl, Perm.READ, identities)
        _next(node.version, body.version)
        return CheckTxn(path, body.version)

    def _multi(self, header: TxnHeader, body: records.MultiRequest, identities: Identities) -> Txn:
        """All or nothing; the reply tells of each operation how it fared."""
        txns: list[Txn] = []
        if any(opcode not in _PREPARE_IN_MULTI for opcode, _ in body.ops):  # reads among writes
            raise ZkError(ErrorCode.MARSHALLING_ERROR)
        for opcode, operation in body.ops:
            try:
                txns.append(_PREPARE_IN_MULTI[opcode](self, header, operation, identities))
            except ZkError as refusal:
                self.refuse(refusal.code)
                return _failed_multi(len(txns), refusal.code, len(body.ops))
        return MultiTxn(tuple(txns))

    # --- membership ---

    def _reconfig(
        self, header: TxnHeader, body: records.ReconfigRequest, identities: Identities
    ) -> Txn:
        """What `/zookeeper/config` will say, but for its version.  In ZooKeeper's order the
        permission comes last: who has none learns of the other errors all the same."""
        ensemble = self._ensemble
        if ensemble is None and not self._rules.reconfig_enabled:
            raise ZkError(ErrorCode.RECONFIG_DISABLED)
        self._check_session(header)
        if ensemble is None:
            raise ZkError(ErrorCode.UNIMPLEMENTED)
        if ensemble.changing:
            raise ZkError(ErrorCode.RECONFIG_IN_PROGRESS)
        if body.config_id not in (ANY_VERSION, ensemble.version):
            raise ZkError(ErrorCode.BAD_VERSION)
        with _bad_arguments(ensemble):
            new = membership.change(
                ensemble.configuration,
                body.joining_servers,
                body.leaving_servers,
                body.new_members,
                ensemble.voters_min,
            )
        if not ensemble.may_become(new):
            raise ZkError(ErrorCode.NEW_CONFIG_NO_QUORUM)
        self._check(self._existing(paths.CONFIG).acl, _MAY_WRITE, identities)
        with _bad_arguments(ensemble):
            membership.check_ids(new)
        return SetDataTxn(paths.CONFIG, str(new).encode(), ANY_VERSION)

    # --- parts ---

    def _existing(self, path: str) -> NodeView:
        """A path that names a znode is a legal one: only a miss has to look at it."""
        return self._pending.view(path) or self._miss(path)

    def _draft(self, path: str) -> NodeView:
        """Likewise, to be changed and put."""
        return self._pending.draft(path) or self._miss(path)

    def _miss(self, path: str) -> NoReturn:
        paths.validate(path)
        raise ZkError(ErrorCode.NO_NODE)

    def _check(self, acl: tuple[ACL, ...], perm: int, identities: Identities) -> None:
        if acl is not OPEN_ACL and not allowed(acl, perm, identities):
            raise ZkError(ErrorCode.NO_AUTH)

    def _check_quota(self, path: str, count: int, size: int) -> None:
        """Against what is used and what is on its way: ZooKeeper looks at the first alone, so
        that requests which come together can break a limit there."""
        if not self._rules.enforce_quota:
            return
        if self._quotas.would_exceed(path, count, size, self._pending.growth):
            raise ZkError(ErrorCode.QUOTA_EXCEEDED)

    def _remove(self, path: str) -> None:
        parent_path = paths.parent(path)
        parent = self._draft(parent_path)
        parent.children -= 1
        self._pending.put(parent_path, parent)
        self._pending.put(path, None)


@contextmanager
def _bad_arguments(ensemble: Ensemble) -> Iterator[None]:
    """The client is told the code alone, so the reason goes to the log."""
    try:
        yield
    except ValueError as why:
        ensemble.tell(f"refusing a reconfig: {why}")
        raise ZkError(ErrorCode.BAD_ARGUMENTS) from None


def makes_ephemeral(opcode: int, body: object) -> bool:
    """Whether a write asks for an ephemeral znode, for which a session has to be global."""
    if isinstance(body, records.MultiRequest):
        return any(makes_ephemeral(*each) for each in body.ops)
    if opcode not in (OpCode.CREATE, OpCode.CREATE2):  # others go by the opcode, not by flags
        return False
    assert isinstance(body, records.CreateRequest)
    mode = _MODES.get(body.flags)
    return mode is not None and mode.ephemeral


def _mode_of(flags: int) -> _Mode:
    """Of a create without a TTL.  What asks for a TTL, or for nothing known, is refused; a
    container it is not, whatever its flags say."""
    mode = _MODES.get(flags)
    if mode is None or mode.ttl:
        raise ZkError(ErrorCode.BAD_ARGUMENTS)
    return mode


def _next(current: int, expected: int) -> int:
    """The version after a change that was asked for at `expected`; -1 asks for any."""
    if expected != current and expected != ANY_VERSION:
        raise ZkError(ErrorCode.BAD_VERSION)
    return next_version(current)


def _failed_multi(done: int, code: ErrorCode, count: int) -> Txn:
    after = count - done - 1
    codes = [ErrorCode.OK] * done + [code] + [ErrorCode.RUNTIME_INCONSISTENCY] * after
    return MultiTxn(tuple(ErrorTxn(each) for each in codes))


_Handler = Callable[[Preparer, TxnHeader, Any, Identities], Txn]
_PREPARE_IN_MULTI: Final[dict[int, _Handler]] = {
    OpCode.CREATE: Preparer._create,
    OpCode.CREATE2: Preparer._create,
    OpCode.CREATE_CONTAINER: Preparer._create_container,
    OpCode.CREATE_TTL: Preparer._create_ttl,
    OpCode.DELETE: Preparer._delete,
    OpCode.SET_DATA: Preparer._set_data,
    OpCode.CHECK: Preparer._check_version,
}
_PREPARE_ALONE: Final[dict[int, _Handler]] = {
    **{op: handler for op, handler in _PREPARE_IN_MULTI.items() if op != OpCode.CHECK},
    OpCode.SET_ACL: Preparer._set_acl,
    OpCode.DELETE_CONTAINER: Preparer._delete_container,
    OpCode.MULTI: Preparer._multi,
    OpCode.RECONFIG: Preparer._reconfig,
    OpCode.CREATE_SESSION: Preparer._create_session,
    OpCode.CLOSE_SESSION: Preparer._close_session,
}
_PREPARE: Final = {int(op): handler for op, handler in _PREPARE_ALONE.items()}
"""By plain int, as `optable.OPS`."""
