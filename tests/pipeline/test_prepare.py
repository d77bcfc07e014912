"""Prepare: what is refused, with which code, and what a transaction then says.

Each row of the tables runs twice: its situation is applied, and its situation is
prepared only.  The answer must not tell which.
"""

from dataclasses import fields
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline import leader as ask
from tests.pipeline.leader import (
    ANN,
    BOB,
    CEM,
    CLOSE,
    DAN,
    JANE,
    NOBODY,
    SERVER,
    SUPER,
    Preparing,
    Step,
    code_of,
    codes_of,
    path_of,
)
from tests.state.anew import recounted
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
    TxnHeader,
)
from zkpy.pipeline.prepare import Rules
from zkpy.pipeline.request import LEADER, Identities
from zkpy.state import lifetimes
from zkpy.state import znode as zn

LAST_INT = 0x7FFFFFFF
LAST_TTL = 0xFFFFFFFFFF
BAD_ACL = [ACL(31, "world", "somebody")]


@attrs.frozen
class Case:
    """In a situation, a request, and its code; each request has one fault more than its code
    needs wherever that shows the order of the checks."""

    name: str
    given: tuple[Step, ...]
    request: Step
    code: ErrorCode
    identities: Identities = NOBODY


def locked(path: str, perm: Perm) -> Step:
    """A znode where everybody may do all but one thing."""
    return ask.create(path, acl=ask.allowing_all_but(perm))


CREATE = (
    Case("plain", (), ask.create("/a"), ErrorCode.OK),
    Case("unknown flags before path", (), ask.create("a", 7), ErrorCode.BAD_ARGUMENTS),
    Case("negative flags", (), ask.create("/a", -1), ErrorCode.BAD_ARGUMENTS),
    Case("ttl", (), ask.create_ttl("/a", 1), ErrorCode.OK),
    Case("longest ttl", (), ask.create_ttl("/a", LAST_TTL), ErrorCode.OK),
    Case("ttl 0", (), ask.create_ttl("/a", 0), ErrorCode.BAD_ARGUMENTS),
    Case("ttl too long", (), ask.create_ttl("/a", LAST_TTL + 1), ErrorCode.BAD_ARGUMENTS),
    Case("ttl below 0", (), ask.create_ttl("/a", -1), ErrorCode.BAD_ARGUMENTS),
    Case("ttl where none belongs", (), ask.create_ttl("/a", 5, 0), ErrorCode.BAD_ARGUMENTS),
    Case("ttl 0 where none belongs", (), ask.create_ttl("/a", 0, 0), ErrorCode.BAD_ARGUMENTS),
    Case(
        "ttl too long where none belongs",
        (),
        ask.create_ttl("/a", LAST_TTL + 1, 0),
        ErrorCode.BAD_ARGUMENTS,
    ),
    Case("no ttl where none belongs", (), ask.create_ttl("/a", -1, 0), ErrorCode.BAD_ARGUMENTS),
    Case("ttl flags without ttl", (), ask.create("/a", 5), ErrorCode.BAD_ARGUMENTS),
    Case("ttl before acl", (), ask.create_ttl("/a", 0, acl=[]), ErrorCode.BAD_ARGUMENTS),
    Case("container", (), ask.container("/a"), ErrorCode.OK),
    Case("container by opcode alone", (), ask.container("/a", 0), ErrorCode.OK),
    Case("container by create", (), ask.create("/a", CreateMode.CONTAINER), ErrorCode.OK),
    Case("relative path before acl", (), ask.create("a", acl=[]), ErrorCode.BAD_ARGUMENTS),
    Case("empty path", (), ask.create(""), ErrorCode.BAD_ARGUMENTS),
    Case("empty sequential path", (), ask.sequential(""), ErrorCode.BAD_ARGUMENTS),
    Case("slash at the end, no parent", (), ask.create("/a/"), ErrorCode.NO_NODE),
    Case("slash at the end", (ask.create("/a"),), ask.create("/a/"), ErrorCode.BAD_ARGUMENTS),
    Case("slash, sequential", (ask.create("/a"),), ask.sequential("/a/"), ErrorCode.OK),
    Case("below the root, sequential", (), ask.sequential("/"), ErrorCode.OK),
    Case("no acl before no parent", (), ask.create("/a/b", acl=[]), ErrorCode.INVALID_ACL),
    Case("bad acl", (), ask.create("/a", acl=BAD_ACL), ErrorCode.INVALID_ACL),
    Case(
        "auth acl without auth",
        (),
        ask.create("/a", acl=[ACL(31, "auth", "")]),
        ErrorCode.INVALID_ACL,
    ),
    Case(
        "auth acl",
        (),
        ask.create("/a", acl=[ACL(31, "auth", "")]),
        ErrorCode.OK,
        JANE,
    ),
    Case("no parent", (), ask.create("/a/b"), ErrorCode.NO_NODE),
    Case(
        "parent deleted",
        (ask.create("/a"), ask.delete("/a")),
        ask.create("/a/b"),
        ErrorCode.NO_NODE,
    ),
    Case(
        "may not, before exists",
        (
            ask.create("/a"),
            ask.create("/a/b"),
            ask.set_acl("/a", ask.allowing_all_but(Perm.CREATE)),
        ),
        ask.create("/a/b"),
        ErrorCode.NO_AUTH,
    ),
    Case(
        "may, by identity",
        (ask.create("/a", acl=ask.acl_for(Perm.CREATE)),),
        ask.create("/a/b"),
        ErrorCode.OK,
        JANE,
    ),
    Case(
        "super may",
        (ask.create("/a", acl=ask.acl_for(Perm.READ)),),
        ask.create("/a/b"),
        ErrorCode.OK,
        SUPER,
    ),
    Case("exists", (ask.create("/a"),), ask.create("/a"), ErrorCode.NODE_EXISTS),
    Case(
        "exists, as an ephemeral", (ask.ephemeral("/a"),), ask.create("/a"), ErrorCode.NODE_EXISTS
    ),
    Case("the root exists", (), ask.create("/"), ErrorCode.NODE_EXISTS),
    Case(
        "the root, where none may create",
        (ask.set_acl("/", ask.allowing_all_but(Perm.CREATE)),),
        ask.create("/"),
        ErrorCode.NO_AUTH,
    ),
    Case("the root without acl", (), ask.create("/", acl=[]), ErrorCode.INVALID_ACL),
    Case("a system znode exists", (), ask.create("/zookeeper"), ErrorCode.NODE_EXISTS),
    Case(
        "again after a delete",
        (ask.create("/a"), ask.delete("/a")),
        ask.create("/a"),
        ErrorCode.OK,
    ),
    Case(
        "below an ephemeral",
        (ask.ephemeral("/a"),),
        ask.create("/a/b"),
        ErrorCode.NO_CHILDREN_FOR_EPHEMERALS,
    ),
    Case(
        "may not, before below an ephemeral",
        (ask.create("/a", CreateMode.EPHEMERAL, acl=ask.allowing_all_but(Perm.CREATE)),),
        ask.create("/a/b"),
        ErrorCode.NO_AUTH,
    ),
    Case("below a container", (ask.container("/a"),), ask.create("/a/b"), ErrorCode.OK),
    Case("below a ttl znode", (ask.create_ttl("/a", 5),), ask.create("/a/b"), ErrorCode.OK),
)

DELETE = (
    Case("plain", (ask.create("/a"),), ask.delete("/a"), ErrorCode.OK),
    Case("at its version", (ask.create("/a"),), ask.delete("/a", 0), ErrorCode.OK),
    Case("the root", (), ask.delete("/"), ErrorCode.BAD_ARGUMENTS),
    Case("a system znode", (), ask.delete("/zookeeper"), ErrorCode.BAD_ARGUMENTS),
    Case("the quotas", (), ask.delete("/zookeeper/quota", 9), ErrorCode.BAD_ARGUMENTS),
    Case("the configuration", (), ask.delete("/zookeeper/config"), ErrorCode.BAD_ARGUMENTS),
    Case("relative path", (), ask.delete("a"), ErrorCode.BAD_ARGUMENTS),
    Case("no parent", (), ask.delete("/a/b"), ErrorCode.NO_NODE),
    Case(
        "may not, before no node",
        (locked("/a", Perm.DELETE),),
        ask.delete("/a/b"),
        ErrorCode.NO_AUTH,
    ),
    Case(
        "DELETE on the znode itself does not matter",
        (locked("/a", Perm.DELETE),),
        ask.delete("/a"),
        ErrorCode.OK,
    ),
    Case("no node", (), ask.delete("/a"), ErrorCode.NO_NODE),
    Case("deleted", (ask.create("/a"), ask.delete("/a")), ask.delete("/a"), ErrorCode.NO_NODE),
    Case(
        "version before children",
        (ask.create("/a"), ask.create("/a/b")),
        ask.delete("/a", 1),
        ErrorCode.BAD_VERSION,
    ),
    Case(
        "version after a set",
        (ask.create("/a"), ask.set_data("/a")),
        ask.delete("/a", 0),
        ErrorCode.BAD_VERSION,
    ),
    Case("children", (ask.create("/a"), ask.create("/a/b")), ask.delete("/a"), ErrorCode.NOT_EMPTY),
    Case(
        "children gone",
        (ask.create("/a"), ask.create("/a/b"), ask.delete("/a/b")),
        ask.delete("/a"),
        ErrorCode.OK,
    ),
)

SET_DATA = (
    Case("plain", (ask.create("/a"),), ask.set_data("/a"), ErrorCode.OK),
    Case("the root", (), ask.set_data("/"), ErrorCode.OK),
    Case("relative path", (), ask.set_data("a"), ErrorCode.BAD_ARGUMENTS),
    Case("no node", (), ask.set_data("/a", 7), ErrorCode.NO_NODE),
    Case(
        "may not, before version",
        (locked("/a", Perm.WRITE),),
        ask.set_data("/a", 7),
        ErrorCode.NO_AUTH,
    ),
    Case("the configuration", (), ask.set_data("/zookeeper/config"), ErrorCode.NO_AUTH),
    Case("version", (ask.create("/a"),), ask.set_data("/a", 1), ErrorCode.BAD_VERSION),
    Case("version below -1", (ask.create("/a"),), ask.set_data("/a", -2), ErrorCode.BAD_VERSION),
    Case(
        "the next version",
        (ask.create("/a"), ask.set_data("/a", 0)),
        ask.set_data("/a", 1),
        ErrorCode.OK,
    ),
    Case(
        "version of the one before",
        (ask.create("/a"), ask.set_data("/a"), ask.delete("/a"), ask.create("/a")),
        ask.set_data("/a", 1),
        ErrorCode.BAD_VERSION,
    ),
    Case(
        "a create below is no version",
        (ask.create("/a"), ask.create("/a/b")),
        ask.set_data("/a", 0),
        ErrorCode.OK,
    ),
)

SET_ACL = (
    Case("plain", (ask.create("/a"),), ask.set_acl("/a"), ErrorCode.OK),
    Case("relative path before acl", (), ask.set_acl("a", []), ErrorCode.BAD_ARGUMENTS),
    Case("no acl before no node", (), ask.set_acl("/a", []), ErrorCode.INVALID_ACL),
    Case("bad acl", (ask.create("/a"),), ask.set_acl("/a", BAD_ACL), ErrorCode.INVALID_ACL),
    Case("no node", (), ask.set_acl("/a", version=7), ErrorCode.NO_NODE),
    Case(
        "may not, before version",
        (locked("/a", Perm.ADMIN),),
        ask.set_acl("/a", version=7),
        ErrorCode.NO_AUTH,
    ),
    Case(
        "may not any more",
        (ask.create("/a"), ask.set_acl("/a", ask.acl_for(Perm.ALL))),
        ask.set_acl("/a"),
        ErrorCode.NO_AUTH,
    ),
    Case("version", (ask.create("/a"),), ask.set_acl("/a", version=1), ErrorCode.BAD_VERSION),
    Case(
        "by aversion, not version",
        (ask.create("/a"), ask.set_data("/a"), ask.set_data("/a"), ask.set_acl("/a")),
        ask.set_acl("/a", version=1),
        ErrorCode.OK,
    ),
)

CHECK = (
    Case("plain", (ask.create("/a"),), ask.check("/a", 0), ErrorCode.OK),
    Case("any version", (ask.create("/a"),), ask.check("/a"), ErrorCode.OK),
    Case("relative path", (), ask.check("a"), ErrorCode.BAD_ARGUMENTS),
    Case("no node", (), ask.check("/a", 7), ErrorCode.NO_NODE),
    Case(
        "may not, before version", (locked("/a", Perm.READ),), ask.check("/a", 7), ErrorCode.NO_AUTH
    ),
    Case("version", (ask.create("/a"),), ask.check("/a", 1), ErrorCode.BAD_VERSION),
    Case(
        "version after a set",
        (ask.create("/a"), ask.set_data("/a")),
        ask.check("/a", 1),
        ErrorCode.OK,
    ),
)

ALONE = [
    pytest.param(case, id=f"{kind} {case.name}")
    for kind, cases in (
        ("create", CREATE),
        ("delete", DELETE),
        ("setData", SET_DATA),
        ("setACL", SET_ACL),
    )
    for case in cases
]
IN_MULTI = [
    pytest.param(case, id=f"{kind} {case.name}")
    for kind, cases in (
        ("create", CREATE),
        ("delete", DELETE),
        ("setData", SET_DATA),
        ("check", CHECK),
    )
    for case in cases
]
WHOLLY_IN_MULTI = [
    param
    for param in IN_MULTI
    for case in param.values
    if isinstance(case, Case) and all(step[0] != OpCode.SET_ACL for step in case.given)
]
"""A multi has no setACL."""


@pytest.fixture(params=["applied", "pending"])
def leader(request: pytest.FixtureRequest) -> Preparing:
    return Applying() if request.param == "applied" else Preparing()


class Applying(Preparing):
    """Applies whatever it prepared at once."""

    def _keep(self, write: Any, txn: Any) -> Any:
        kept = super()._keep(write, txn)
        self.apply_all()
        return kept


def settle(leader: Preparing, steps: tuple[Step, ...]) -> None:
    for step in steps:
        assert code_of(leader.propose(step)) == ErrorCode.OK, step


@pytest.mark.parametrize("case", ALONE)
def test_request_gets_code(leader: Preparing, case: Case) -> None:
    settle(leader, case.given)
    assert code_of(leader.propose(case.request, identities=case.identities)) == case.code
    leader.apply_all()


@pytest.mark.parametrize("case", IN_MULTI)
def test_request_gets_the_same_code_within_multi(leader: Preparing, case: Case) -> None:
    settle(leader, case.given)
    txn = leader.propose(ask.multi(case.request), identities=case.identities)
    assert codes_of(txn) == [case.code]
    leader.apply_all()


@pytest.mark.parametrize("case", WHOLLY_IN_MULTI)
def test_multi_sees_its_own_operations(case: Case) -> None:
    """The situation itself is the head of the multi."""
    leader = Preparing()
    txn = leader.propose(ask.multi(*case.given, case.request), identities=case.identities)
    assert codes_of(txn) == [ErrorCode.OK] * len(case.given) + [case.code]
    leader.apply_all()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ask.create_ttl("a", 0, acl=[]), ErrorCode.UNIMPLEMENTED),
        (
            ask.create_ttl("/a", 5, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL),
            ErrorCode.UNIMPLEMENTED,
        ),
        (ask.create_ttl("/a", 5, 0), ErrorCode.BAD_ARGUMENTS),
        (ask.create_ttl("/a", 5, 7), ErrorCode.BAD_ARGUMENTS),
        (ask.container("/a"), ErrorCode.OK),
    ],
)
def test_ttl_needs_extended_types(request_: Step, code: ErrorCode) -> None:
    assert code_of(Preparing(Rules()).propose(request_)) == code


# Quotas.

LIMITS = b"byteHardLimit=10;countHardLimit=3"


def under_quota(*, enforced: bool = True) -> Preparing:
    """/q may have two more znodes, and ten bytes."""
    leader = Preparing(Rules(enforce_quota=enforced))
    above = "/zookeeper/quota/q"
    for step in (ask.create("/q"), ask.create(above)):
        leader.run(step)
    leader.run(ask.create(above + "/zookeeper_limits", data=LIMITS))
    return leader


@pytest.mark.parametrize(
    ("steps", "codes"),
    [
        ([ask.create("/q/a"), ask.create("/q/b"), ask.create("/q/c")], [0, 0, -125]),
        (
            [ask.create("/q/a"), ask.delete("/q/a"), *[ask.sequential("/q/s")] * 3],
            [0, 0, 0, 0, -125],
        ),
        ([ask.create("/q/a", data=b"0123456789"), ask.set_data("/q", data=b"x")], [0, -125]),
        ([ask.create("/q/a", data=b"0123456789a")], [-125]),
        ([ask.set_data("/q", data=b"0123456789"), ask.set_data("/q", data=b"9876543210")], [0, 0]),
        ([ask.create("/r"), ask.create("/qq", data=bytes(99))], [0, 0]),
    ],
)
def test_hard_limits_hold(steps: list[Step], codes: list[int]) -> None:
    """Whether what came before is applied or still on its way."""
    for applies in (False, True):
        leader = under_quota()
        found = []
        for step in steps:
            found.append(code_of(leader.propose(step)))
            if applies:
                leader.apply_all()
        assert found == codes, applies


def test_a_multi_is_held_to_the_limits_of_its_own_operations() -> None:
    leader = under_quota()
    txn = leader.propose(ask.multi(*(ask.create(f"/q/{name}") for name in "abc")))
    assert codes_of(txn) == [0, 0, ErrorCode.QUOTA_EXCEEDED]
    assert code_of(leader.propose(ask.create("/q/a"))) == ErrorCode.OK


def test_the_quota_is_looked_at_before_the_version_and_behind_all_else_of_a_create() -> None:
    leader = under_quota()
    large = ask.set_data("/q", 7, bytes(11))
    assert code_of(leader.propose(large)) == ErrorCode.QUOTA_EXCEEDED
    for name in "ab":
        leader.propose(ask.ephemeral(f"/q/{name}"))
    assert code_of(leader.propose(ask.create("/q/a"))) == ErrorCode.NODE_EXISTS
    below = code_of(leader.propose(ask.create("/q/a/b")))
    assert below == ErrorCode.NO_CHILDREN_FOR_EPHEMERALS


def test_quotas_are_enforced_only_where_that_is_asked_for() -> None:
    leader = under_quota(enforced=False)
    assert code_of(leader.propose(ask.create("/q/a", data=bytes(99)))) == ErrorCode.OK


# What a transaction says.


def test_create_says_everything(leader: Preparing) -> None:
    acl = [ACL(31, "auth", ""), ACL(1, "world", "anyone"), ACL(1, "world", "anyone")]
    txn = leader.propose(ask.create("/a", CreateMode.EPHEMERAL, b"data", acl), identities=JANE)
    stored = (ACL(31, "digest", "jane:hash"), ACL(1, "world", "anyone"))
    assert txn == CreateTxn("/a", b"data", stored, ANN, 1)


@pytest.mark.parametrize(
    ("request_", "owner"),
    [
        (ask.create("/a"), 0),
        (ask.sequential("/a"), 0),
        (ask.ephemeral("/a"), ANN),
        (ask.create("/a", CreateMode.EPHEMERAL_SEQUENTIAL), ANN),
        (ask.container("/a"), lifetimes.CONTAINER_OWNER),
        (ask.create_ttl("/a", 77), lifetimes.owner_of_ttl(77)),
        (ask.create_ttl("/a", 77, 6), lifetimes.owner_of_ttl(77)),
    ],
)
def test_owner_of_create(request_: Step, owner: int) -> None:
    txn = Preparing().propose(request_)
    assert isinstance(txn, CreateTxn) and txn.owner == owner
    assert (txn.path == "/a") != (request_[1].flags in (2, 3, 6))  # type: ignore[union-attr]


def test_set_data_says_the_new_version(leader: Preparing) -> None:
    leader.propose(ask.create("/a"))
    assert leader.propose(ask.set_data("/a", data=None)) == SetDataTxn("/a", None, 1)
    assert leader.propose(ask.set_data("/a", 1, b"x")) == SetDataTxn("/a", b"x", 2)


def test_set_acl_says_the_new_aversion(leader: Preparing) -> None:
    leader.propose(ask.create("/a"))
    assert leader.propose(ask.set_acl("/a")) == SetACLTxn("/a", OPEN_ACL, 1)
    assert leader.propose(ask.set_acl("/a", version=1)) == SetACLTxn("/a", OPEN_ACL, 2)


def test_acl_of_pending_set_acl_rules_at_once(leader: Preparing) -> None:
    settle(leader, (ask.create("/a"), ask.set_acl("/a", ask.acl_for(Perm.WRITE))))
    assert code_of(leader.propose(ask.set_data("/a"))) == ErrorCode.NO_AUTH
    assert code_of(leader.propose(ask.set_data("/a"), identities=JANE)) == ErrorCode.OK
    leader.apply_all()


def test_version_overflows_as_an_int(leader: Preparing) -> None:
    settle(leader, (ask.create("/a"),))
    leader.apply_all()
    leader.state.tree.nodes["/a"] = zn.with_data(
        leader.state.tree.nodes["/a"], b"", LAST_INT, leader.state.zxid, 0
    )
    assert leader.propose(ask.set_data("/a", LAST_INT)) == SetDataTxn("/a", b"new", -LAST_INT - 1)
    assert code_of(leader.propose(ask.set_data("/a", -LAST_INT - 1))) == ErrorCode.OK


# Sequence numbers.


def test_sequence_counts_every_create_and_no_delete(leader: Preparing) -> None:
    leader.propose(ask.create("/q"))
    assert path_of(leader.propose(ask.sequential("/q/n-"))) == "/q/n-0000000000"
    settle(leader, (ask.create("/q/x"), ask.delete("/q/x"), ask.delete("/q/n-0000000000")))
    txn = leader.propose(ask.sequential("/q/"))
    assert txn == CreateTxn("/q/0000000002", b"", OPEN_ACL, 0, 3)
    leader.apply_all()


def test_sequence_goes_on_where_pending_becomes_applied() -> None:
    leader = Preparing()
    names = [path_of(leader.propose(ask.sequential("/n"))) for _ in range(3)]
    leader.apply_next()
    names.append(path_of(leader.propose(ask.sequential("/n"))))
    leader.apply_all()
    names.append(path_of(leader.propose(ask.sequential("/n"))))
    assert names == [f"/n{number:010d}" for number in range(5)]


def test_sequence_starts_again_in_a_new_parent(leader: Preparing) -> None:
    settle(leader, (ask.create("/q"), ask.sequential("/q/"), ask.delete("/q/0000000000")))
    settle(leader, (ask.delete("/q"), ask.create("/q")))
    assert path_of(leader.propose(ask.sequential("/q/"))) == "/q/0000000000"
    leader.apply_all()


def test_refused_create_uses_no_number(leader: Preparing) -> None:
    settle(leader, (ask.create("/q"), ask.create("/q/a")))
    assert code_of(leader.propose(ask.create("/q/a"))) == ErrorCode.NODE_EXISTS
    assert path_of(leader.propose(ask.sequential("/q/"))) == "/q/0000000001"


def test_sequential_name_may_be_taken(leader: Preparing) -> None:
    settle(leader, (ask.create("/q"), ask.create("/q/0000000001")))
    assert code_of(leader.propose(ask.sequential("/q/"))) == ErrorCode.NODE_EXISTS
    settle(leader, (ask.create("/q/b"), ask.sequential("/q/")))
    leader.apply_all()


def test_sequence_stays_at_its_end(leader: Preparing) -> None:
    """Later names collide, as in ZooKeeper; none goes back."""
    settle(leader, (ask.create("/q"),))
    leader.apply_all()
    nodes = leader.state.tree.nodes
    nodes["/q"] = zn.with_child_deleted(zn.with_child_created(nodes["/q"], LAST_INT - 1, 9), 9)
    assert path_of(leader.propose(ask.sequential("/q/"))) == f"/q/{LAST_INT - 1}"
    assert path_of(leader.propose(ask.sequential("/q/"))) == f"/q/{LAST_INT}"
    assert code_of(leader.propose(ask.sequential("/q/"))) == ErrorCode.NODE_EXISTS
    assert path_of(leader.propose(ask.sequential("/q/other-"))) == f"/q/other-{LAST_INT}"
    leader.apply_all()


# Sessions.


def test_create_session_draws_a_password() -> None:
    leader = Preparing()
    opening = (OpCode.CREATE_SESSION, OpenSession(6000))
    first, second = (leader.propose(opening, session) for session in (7, 8))
    assert isinstance(first, CreateSessionTxn) and isinstance(second, CreateSessionTxn)
    assert (first.timeout_ms, len(first.password)) == (6000, 16)
    assert first.password != second.password
    leader.apply_all()
    assert leader.state.sessions.get(7).password == first.password  # type: ignore[union-attr]


def test_session_id_is_given_once() -> None:
    leader = Preparing()
    txn = leader.propose((OpCode.CREATE_SESSION, OpenSession(6000)), ANN)
    assert txn == ErrorTxn(ErrorCode.SYSTEM_ERROR)


@pytest.mark.parametrize(
    "request_",
    [
        ask.create("/a"),
        ask.ephemeral("/a"),
        ask.delete("/z"),
        ask.set_data("/z"),
        ask.set_acl("/z"),
        ask.multi(ask.create("/a")),
        CLOSE,
    ],
)
def test_nothing_follows_close_session(leader: Preparing, request_: Step) -> None:
    """ZOOKEEPER-1208: a create queued behind it would make an ephemeral that nobody deletes."""
    settle(leader, (ask.create("/z"), CLOSE))
    assert leader.propose(request_) == ErrorTxn(ErrorCode.SESSION_EXPIRED)
    assert code_of(leader.propose(ask.ephemeral("/a"), BOB)) == ErrorCode.OK
    leader.apply_all()
    assert leader.state.lifetimes.ephemerals == {BOB: {"/a": None}}


def test_unknown_session_is_expired() -> None:
    assert Preparing().propose(ask.create("/a"), 99) == ErrorTxn(ErrorCode.SESSION_EXPIRED)


def test_session_is_served_through_its_owner_alone(leader: Preparing) -> None:
    txn = leader.propose(ask.create("/a"), server=2)
    assert txn == ErrorTxn(ErrorCode.SESSION_MOVED)
    leader.owners[ANN] = 2
    assert code_of(leader.propose(ask.create("/a"), server=2)) == ErrorCode.OK
    assert leader.propose(CLOSE, server=LEADER) == CloseSessionTxn()


def test_close_session_makes_its_ephemerals_absent(leader: Preparing) -> None:
    settle(leader, (ask.create("/p"), ask.ephemeral("/p/e"), ask.ephemeral("/p/f")))
    assert code_of(leader.propose(ask.delete("/p"), BOB)) == ErrorCode.NOT_EMPTY
    settle(leader, (CLOSE,))
    assert code_of(leader.propose(ask.set_data("/p/e"), BOB)) == ErrorCode.NO_NODE
    assert code_of(leader.propose(ask.create("/p/e"), BOB)) == ErrorCode.OK
    assert code_of(leader.propose(ask.delete("/p/e"), BOB)) == ErrorCode.OK
    assert code_of(leader.propose(ask.delete("/p"), BOB)) == ErrorCode.OK
    leader.apply_all()
    assert "/p" not in leader.state.tree.nodes


def test_close_session_takes_what_is_its_own_at_that_moment() -> None:
    """One ephemeral is deleted and made anew, by another, before the session closes.

    The index of the tree still calls it the session's: an overlay that believed the
    index would allow a third create, which no member could apply.
    """
    leader = Preparing()
    settle(leader, (ask.ephemeral("/a"), ask.ephemeral("/b"), ask.ephemeral("/c")))
    leader.apply_all()
    settle(leader, (ask.delete("/a"), ask.delete("/b"), ask.ephemeral("/d")))
    assert code_of(leader.propose(ask.ephemeral("/a"), BOB)) == ErrorCode.OK
    assert code_of(leader.propose(ask.create("/b"), BOB)) == ErrorCode.OK
    settle(leader, (CLOSE,))
    exists = [path for path in ["/a", "/b", "/c", "/d"] if leader.pending.view(path) is not None]
    assert exists == ["/a", "/b"]
    assert code_of(leader.propose(ask.create("/a"), BOB)) == ErrorCode.NODE_EXISTS
    leader.apply_all()
    assert [path for path in ["/a", "/b", "/c", "/d"] if path in leader.state.tree.nodes] == exists


# Multi.


def test_multi_is_one_transaction(leader: Preparing) -> None:
    txn = leader.propose(
        ask.multi(
            ask.create("/a"),
            ask.sequential("/a/n"),
            ask.sequential("/a/n"),
            ask.check("/a", 0),
            ask.set_data("/a", 0),
            ask.delete("/a/n0000000000"),
        )
    )
    assert txn == MultiTxn(
        (
            CreateTxn("/a", b"", OPEN_ACL, 0, 1),
            CreateTxn("/a/n0000000000", b"", OPEN_ACL, 0, 1),
            CreateTxn("/a/n0000000001", b"", OPEN_ACL, 0, 2),
            CheckTxn("/a", 0),
            SetDataTxn("/a", b"new", 1),
            DeleteTxn("/a/n0000000000"),
        )
    )
    leader.apply_all()


def test_failed_multi_tells_where(leader: Preparing) -> None:
    settle(leader, (ask.create("/a"),))
    txn = leader.propose(
        ask.multi(ask.create("/b"), ask.check("/a", 0), ask.create("/a"), ask.create("/c"), CHECKED)
    )
    behind = ErrorCode.RUNTIME_INCONSISTENCY
    assert codes_of(txn) == [0, 0, ErrorCode.NODE_EXISTS, behind, behind]


CHECKED = ask.check("/a", 7)


def test_failed_multi_leaves_nothing(leader: Preparing) -> None:
    settle(leader, (ask.create("/a"), ask.create("/a/b"), ask.set_data("/a")))
    paths = ["/", "/a", "/a/b", "/a/c", "/d"]
    before = {path: leader.pending.view(path) for path in paths}
    txn = leader.propose(
        ask.multi(
            ask.create("/d"),
            ask.create("/a/c"),
            ask.delete("/a/b"),
            ask.set_data("/a"),
            ask.set_data("/a"),
            ask.delete("/a"),
        )
    )
    assert codes_of(txn) == [0, 0, 0, 0, 0, ErrorCode.NOT_EMPTY]
    assert all(facts(leader.pending.view(path)) == facts(before[path]) for path in paths)
    leader.apply_all()
    assert leader.propose(ask.set_data("/a", 1)) == SetDataTxn("/a", b"new", 2)


def facts(view: Any) -> Any:
    return None if view is None else [getattr(view, each.name) for each in fields(view)]


def test_read_among_writes_refuses_the_whole(leader: Preparing) -> None:
    read = (OpCode.GET_DATA, records.GetDataRequest("/", False))
    txn = leader.propose(ask.multi(ask.create("/a"), read))
    assert txn == ErrorTxn(ErrorCode.MARSHALLING_ERROR)
    assert leader.propose(ask.create("/a")) == CreateTxn("/a", b"", OPEN_ACL, 0, 1)


def test_a_read_anywhere_in_a_multi_comes_before_what_an_operation_would_say(
    leader: Preparing,
) -> None:
    read = (OpCode.GET_DATA, records.GetDataRequest("/", False))
    txn = leader.propose(ask.multi(ask.delete("/none"), read))
    assert txn == ErrorTxn(ErrorCode.MARSHALLING_ERROR)


def test_empty_multi_does_nothing(leader: Preparing) -> None:
    assert leader.propose(ask.multi()) == MultiTxn(())
    leader.apply_all()


def test_multi_of_a_dead_session_is_refused_as_a_whole(leader: Preparing) -> None:
    assert leader.propose(ask.multi(ask.create("/a")), 99) == ErrorTxn(ErrorCode.SESSION_EXPIRED)


# Entries that turn out too large.


@pytest.mark.parametrize(
    "request_",
    [ask.sequential("/q/n"), ask.multi(ask.create("/q/a"), ask.set_data("/q"), ask.delete("/q/a"))],
)
def test_refused_after_all_leaves_nothing(request_: Step) -> None:
    leader = Preparing()
    settle(leader, (ask.create("/q"),))
    before = facts(leader.pending.view("/q"))
    prepared, sent = leader.propose_too_large(request_, ErrorCode.BAD_ARGUMENTS)
    assert code_of(prepared) == 0
    assert sent == ErrorTxn(ErrorCode.BAD_ARGUMENTS)
    assert facts(leader.pending.view("/q")) == before
    assert path_of(leader.propose(ask.sequential("/q/"))) == "/q/0000000000"
    leader.apply_all()
    assert len(leader.pending._latest) == 0


def test_refused_after_a_refusal_stays_refused() -> None:
    leader = Preparing()
    prepared, sent = leader.propose_too_large(ask.delete("/a"), ErrorCode.BAD_ARGUMENTS)
    assert (prepared, sent) == (
        ErrorTxn(ErrorCode.NO_NODE),
        ErrorTxn(ErrorCode.BAD_ARGUMENTS),
    )


# Pending and applied must come to the same.

PATHS = st.sampled_from(
    ["/a", "/a", "/a", "/a", "/b", "/a/x", "/a/x", "/a/n0000000000", "/a/x/y", "/b/x", "/"]
)
VERSIONS = st.sampled_from([-1] * 6 + [0, 0, 1, 2])
ACLS = st.sampled_from(
    [list(OPEN_ACL)] * 9
    + [ask.acl_for(Perm.ALL), ask.allowing_all_but(Perm.CREATE), [ACL(31, "auth", "")]]
)
DATA = st.sampled_from([b"", None, b"data"])
CREATES = st.builds(ask.create, PATHS, st.integers(0, 4), DATA, ACLS)
OPERATIONS = (
    CREATES,
    st.builds(ask.create_ttl, PATHS, st.sampled_from([0, 5]), st.sampled_from([5, 6]), ACLS),
    st.builds(ask.container, PATHS),
    st.builds(ask.delete, PATHS, VERSIONS),
    st.builds(ask.set_data, PATHS, VERSIONS, DATA),
)
MULTIS = st.lists(st.one_of(*OPERATIONS, st.builds(ask.check, PATHS, VERSIONS)), max_size=4).map(
    lambda steps: ask.multi(*steps)
)
REQUESTS = st.one_of(
    *[CREATES] * 4,  # else there is little to work on
    st.builds(ask.ephemeral, PATHS),
    *OPERATIONS,
    *[st.builds(ask.delete, PATHS)] * 3,
    st.builds(ask.set_acl, PATHS, ACLS, VERSIONS),
    MULTIS,
)
SESSIONS = st.sampled_from([ANN, BOB, CEM, DAN])
ASKED = st.tuples(
    st.integers(0, 25).flatmap(lambda dice: REQUESTS if dice else st.just(CLOSE)),
    SESSIONS,
    st.sampled_from([NOBODY, JANE, JANE, JANE]),
)
SCRIPTS = st.lists(st.tuples(ASKED, st.integers(0, 3), st.integers(0, 5)), min_size=20, max_size=80)
"""Per request: how many outstanding transactions are applied behind it, and whether
its entry turns out too large (0)."""


@settings(max_examples=150)
@given(SCRIPTS)
def test_pending_and_applied_come_to_the_same(script: list[Any]) -> None:
    """One leader applies each transaction at once, one as the script says, one at the end."""
    at_once, lagging, at_last = Applying(), Preparing(), Preparing()
    for (step, session, identities), applied, _ in script:
        txns = [each.propose(step, session, identities) for each in (at_once, lagging, at_last)]
        assert txns[0] == txns[1] == txns[2]
        for _ in range(min(applied, len(lagging.log))):
            lagging.apply_next()
    for each in (lagging, at_last):
        each.apply_all()
        assert each.state.digest == at_once.state.digest
        assert is_empty(each)
    assert recounted(at_once.state).digest == at_once.state.digest


@settings(max_examples=50)
@given(SCRIPTS)
def test_refusing_afterwards_is_as_if_never_asked(script: list[Any]) -> None:
    asked, spared = Preparing(), Preparing()
    for (step, session, identities), applied, too_large in script:
        if too_large == 0 and step is not CLOSE:  # which is never too large
            asked.propose_too_large(step, ErrorCode.BAD_ARGUMENTS)
            spared.propose((OpCode.DELETE, records.DeleteRequest("refused", -1)))
        else:
            assert asked.propose(step, session, identities) == spared.propose(
                step, session, identities
            )
        for _ in range(min(applied, len(asked.log))):
            asked.apply_next()
            spared.apply_next()
    asked.apply_all()
    spared.apply_all()
    assert asked.state.digest == spared.state.digest
    assert is_empty(asked)


def is_empty(leader: Preparing) -> bool:
    pending = leader.pending
    return not (len(pending._latest) or pending._views or pending._changes)


def test_a_session_is_opened_once_even_while_the_first_is_pending() -> None:
    leader = Preparing()
    first = leader.propose((OpCode.CREATE_SESSION, OpenSession(4000)), 99)
    second = leader.propose((OpCode.CREATE_SESSION, OpenSession(4000)), 99)
    assert isinstance(first, CreateSessionTxn)
    assert second == ErrorTxn(ErrorCode.SYSTEM_ERROR)


def test_an_opcode_that_no_client_can_write_with_is_refused() -> None:
    leader = Preparing()
    assert leader.propose((OpCode.DELETE_CONTAINER, None)) == ErrorTxn(ErrorCode.UNIMPLEMENTED)


# Local sessions: their server vouches for them, by a negative number.


def prepared(leader: Preparing, step: Step, session: int, number: int) -> int:
    header = TxnHeader(session, 1, SERVER, 7, number, 0)
    return code_of(leader.preparer.prepare(header, *step, NOBODY))


def test_a_local_session_may_write() -> None:
    leader = Preparing()
    stranger = 0x0100_0000_0000_0099
    assert prepared(leader, ask.create("/a"), stranger, -1) == ErrorCode.OK
    assert prepared(leader, ask.create("/b"), stranger, 2) == ErrorCode.SESSION_EXPIRED


def test_a_local_session_owns_no_ephemeral() -> None:
    """Whatever else is wrong with it, but for flags that mean nothing."""
    leader = Preparing()
    refused = ErrorCode.EPHEMERAL_ON_LOCAL_SESSION
    assert prepared(leader, ask.ephemeral("/e"), 99, -1) == refused
    assert prepared(leader, ask.ephemeral("no path"), 99, -2) == refused
    multi = ask.multi(ask.create("/a"), ask.ephemeral("/e"))
    txn = leader.preparer.prepare(TxnHeader(99, 1, SERVER, 7, -3, 0), *multi, NOBODY)
    assert codes_of(txn) == [0, refused]
    assert leader.pending.view("/a") is None


def test_a_session_that_ends_is_no_local_one() -> None:
    leader = Preparing()
    leader.propose(CLOSE)
    assert prepared(leader, ask.create("/a"), ANN, -1) == ErrorCode.SESSION_EXPIRED


def test_an_upgrade_brings_its_password() -> None:
    leader = Preparing()
    txn = leader.propose((OpCode.CREATE_SESSION, OpenSession(6000, b"p" * 16)), 7)
    assert txn == CreateSessionTxn(6000, b"p" * 16)
    assert prepared(leader, ask.ephemeral("/e"), 7, 5) == ErrorCode.SESSION_MOVED
    leader.owners[7] = SERVER
    assert prepared(leader, ask.ephemeral("/e"), 7, 6) == ErrorCode.OK
