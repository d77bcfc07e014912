"""A leader without a quorum: requests in, transactions out, applied when a test says so."""

import random
from collections import deque

import attrs

from wire import records
from wire import txn as txns
from wire.codes import CreateMode, ErrorCode, OpCode, Perm
from wire.jute import Record
from wire.records import ACL, OPEN_ACL
from wire.txn import CreateSessionTxn, CreateTxn, ErrorTxn, MultiTxn, Txn, TxnHeader
from zkpy import zxid as zxids
from zkpy.pipeline.pending import Pending
from zkpy.pipeline.prepare import Preparer, Rules
from zkpy.pipeline.request import LEADER, NO_NUMBER, Identities
from zkpy.state.apply import Applied, ReplicatedState

ANN = 0x0100_0000_0000_0001
BOB = 0x0200_0000_0000_0001
CEM = 0x0300_0000_0000_0001
DAN = 0x0400_0000_0000_0001
SERVER = 1
NOBODY: Identities = (("ip", "10.0.0.7"),)
JANE: Identities = (("ip", "10.0.0.7"), ("digest", "jane:hash"))
SUPER: Identities = (("super", ""),)

Step = tuple[int, Record | None]
"""An opcode and its body."""


class Preparing:
    """`propose` prepares, and what it made waits in `log` for `apply`."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.state = ReplicatedState.founded()
        self.pending = Pending(self.state.tree)
        self.owners = dict.fromkeys((ANN, BOB, CEM, DAN), SERVER)
        self.preparer = Preparer(
            self.state,
            self.pending,
            rules or Rules(extended_types=True),
            random.Random(1),
            self.owners.get,
        )
        self.log: deque[tuple[int, TxnHeader, Txn]] = deque()
        self._proposed = 0
        for session in self.owners:
            header = TxnHeader(session, 0, LEADER, 0, NO_NUMBER, 0)
            self.state.apply(self._draw_zxid(), header, CreateSessionTxn(9000, bytes(16)))

    def _draw_zxid(self) -> int:
        self._proposed += 1
        return zxids.make(1, self._proposed)

    def _header(self, session: int, server: int) -> TxnHeader:
        return TxnHeader(session, 1, server, 7, self._proposed, 0)

    def propose(
        self,
        step: Step,
        session: int = ANN,
        identities: Identities = NOBODY,
        server: int = SERVER,
    ) -> Txn:
        """Prepare and propose; through the codec, as the log would give it back."""
        opcode, body = step
        header = self._header(session, server)
        txn = self.preparer.prepare(header, opcode, body, identities)
        return self._keep(header, txn)

    def propose_too_large(self, step: Step, code: ErrorCode) -> tuple[Txn, Txn]:
        """As when the entry turns out too large: what was prepared, and what went out instead."""
        header = self._header(ANN, SERVER)
        prepared = self.preparer.prepare(header, *step, NOBODY)
        return prepared, self._keep(header, self.preparer.refuse(code))

    def _keep(self, header: TxnHeader, txn: Txn) -> Txn:
        zxid = self._draw_zxid()
        header.time_ms = zxid & 0xFFFF
        read_back = txns.decode(txns.encode(header, txn))
        assert read_back == (header, txn)
        self.pending.seal(zxid)
        self.log.append((zxid, *read_back))
        return txn

    def apply_next(self) -> Applied:
        zxid, header, txn = self.log.popleft()
        applied = self.state.apply(zxid, header, txn)
        self.pending.applied(zxid, applied.changes)
        return applied

    def apply_all(self) -> None:
        while self.log:
            self.apply_next()

    def run(self, step: Step, session: int = ANN, identities: Identities = NOBODY) -> Applied:
        """Propose, and apply everything up to it."""
        self.propose(step, session, identities)
        while len(self.log) > 1:
            self.apply_next()
        return self.apply_next()


def code_of(txn: Txn) -> int:
    return txn.code if isinstance(txn, ErrorTxn) else ErrorCode.OK


def codes_of(txn: Txn) -> list[int]:
    """Of a multi, operation by operation."""
    assert isinstance(txn, MultiTxn), txn
    return [code_of(part) for part in txn.txns]


def path_of(txn: Txn) -> str:
    assert isinstance(txn, CreateTxn), txn
    return txn.path


# Requests.


def acl_for(perms: int, identities: Identities = JANE) -> list[ACL]:
    """Those `perms` for the last identity, and nothing for anybody else."""
    return [ACL(perms, *identities[-1])]


def allowing_all_but(perm: Perm) -> list[ACL]:
    return [ACL(Perm.ALL & ~perm, "world", "anyone")]


def create(
    path: str,
    flags: int = CreateMode.PERSISTENT,
    data: bytes | None = b"",
    acl: list[ACL] | None = None,
) -> Step:
    return OpCode.CREATE, records.CreateRequest(
        path, data, list(OPEN_ACL) if acl is None else acl, flags
    )


def ephemeral(path: str) -> Step:
    return create(path, CreateMode.EPHEMERAL)


def sequential(path: str) -> Step:
    return create(path, CreateMode.PERSISTENT_SEQUENTIAL)


def container(path: str, flags: int = CreateMode.CONTAINER) -> Step:
    return OpCode.CREATE_CONTAINER, records.CreateRequest(path, b"", list(OPEN_ACL), flags)


def create_ttl(
    path: str,
    ttl_ms: int,
    flags: int = CreateMode.PERSISTENT_WITH_TTL,
    acl: list[ACL] | None = None,
) -> Step:
    acl = list(OPEN_ACL) if acl is None else acl
    return OpCode.CREATE_TTL, records.CreateTTLRequest(path, b"", acl, flags, ttl_ms)


def delete(path: str, version: int = -1) -> Step:
    return OpCode.DELETE, records.DeleteRequest(path, version)


def set_data(path: str, version: int = -1, data: bytes | None = b"new") -> Step:
    return OpCode.SET_DATA, records.SetDataRequest(path, data, version)


def set_acl(path: str, acl: list[ACL] | None = None, version: int = -1) -> Step:
    acl = list(OPEN_ACL) if acl is None else acl
    return OpCode.SET_ACL, records.SetACLRequest(path, acl, version)


def check(path: str, version: int = -1) -> Step:
    return OpCode.CHECK, records.CheckVersionRequest(path, version)


def multi(*steps: Step) -> Step:
    ops = [(int(opcode), body) for opcode, body in steps if body is not None]
    return OpCode.MULTI, records.MultiRequest(ops)


CLOSE: Step = OpCode.CLOSE_SESSION, None


@attrs.define
class Seat:
    """A connection, as far as reads know one."""

    id: int = 1
    session: int = ANN
    identities: Identities = NOBODY
