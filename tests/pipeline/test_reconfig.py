"""What the leader says to a reconfig request, and in which order it looks."""

from collections.abc import Callable

import attrs
import pytest

from tests.pipeline.leader import ANN, BOB, JANE, NOBODY, SUPER, Preparing
from wire import records
from wire.codes import ErrorCode, OpCode, Perm
from wire.records import ACL
from wire.txn import ErrorTxn, SetDataTxn, Txn
from zkpy.membership import Configuration, parse_configuration
from zkpy.pipeline.request import Identities

NEW = "server.4=d:1:2:participant;d:5"


@attrs.define
class Ensemble:
    """Three voters, who are asked for nothing else."""

    changing: bool = False
    version: int = 7
    voters_min: int = 2
    quorum: bool = True
    told: list[str] = attrs.Factory(list)
    configuration: Configuration = parse_configuration(
        "\n".join(f"server.{n}=h{n}:1:2;3" for n in (1, 2, 3))
    )

    def may_become(self, new: Configuration) -> bool:
        return self.quorum

    def tell(self, notice: str) -> None:
        self.told.append(notice)


def judge(
    ensemble: Ensemble | None,
    joining: str = NEW,
    version: int = -1,
    session: int = ANN,
    identities: Identities = SUPER,
    world: Preparing | None = None,
) -> Txn:
    world = world or Preparing()
    world.preparer._ensemble = ensemble
    body = records.ReconfigRequest(joining, "", "", version)
    return world.propose((OpCode.RECONFIG, body), session, identities)


def test_the_text_is_that_of_the_whole_new_configuration() -> None:
    txn = judge(Ensemble(), version=7)
    assert isinstance(txn, SetDataTxn) and txn.data is not None
    assert txn.path == "/zookeeper/config" and txn.version == -1
    assert txn.data.decode().split("\n") == [
        *(f"server.{n}=h{n}:1:2:participant;0.0.0.0:3" for n in (1, 2, 3)),
        NEW,
    ]


def test_the_first_thing_wrong_counts() -> None:
    """Disabled, session, in progress, version, arguments, quorum, permission, our own limit."""
    assert judge(None, session=99) == ErrorTxn(ErrorCode.RECONFIG_DISABLED)
    ensemble = Ensemble(changing=True, quorum=False)
    steps: list[tuple[ErrorCode, Callable[[], None]]] = [
        (ErrorCode.SESSION_EXPIRED, lambda: None),
        (ErrorCode.RECONFIG_IN_PROGRESS, lambda: setattr(ensemble, "changing", False)),
        (ErrorCode.BAD_VERSION, lambda: setattr(ensemble, "version", 8)),
        (ErrorCode.BAD_ARGUMENTS, lambda: None),
        (ErrorCode.NEW_CONFIG_NO_QUORUM, lambda: setattr(ensemble, "quorum", True)),
        (ErrorCode.NO_AUTH, lambda: None),
        (ErrorCode.BAD_ARGUMENTS, lambda: None),
    ]
    session, joining, identities = 99, "some thing", NOBODY
    for number, (code, mend) in enumerate(steps):
        found = judge(ensemble, joining, 8, session, identities)
        assert found == ErrorTxn(code), f"step {number}"
        mend()
        session = ANN
        joining = joining if number < 3 else "server.256=d:1:2;d:5"
        identities = identities if number < 5 else SUPER
    assert len(ensemble.told) == 2 and "server ids go from 0 to 255" in ensemble.told[1]


def test_who_has_been_let_in_by_the_acl_may() -> None:
    world = Preparing()
    acl = [ACL(Perm.READ, "world", "anyone"), ACL(Perm.WRITE, *JANE[1])]
    asked = OpCode.SET_ACL, records.SetACLRequest("/zookeeper/config", acl, -1)
    world.propose(asked, identities=SUPER)
    world.apply_all()
    assert isinstance(judge(Ensemble(), identities=JANE, world=world), SetDataTxn)
    assert judge(Ensemble(), session=BOB, identities=NOBODY, world=world) == ErrorTxn(
        ErrorCode.NO_AUTH
    )


@pytest.mark.parametrize("voters_min", [1, 2])
def test_how_many_voters_must_be_left(voters_min: int) -> None:
    world = Preparing()
    world.preparer._ensemble = Ensemble(voters_min=voters_min)
    body = records.ReconfigRequest("", "1,2", "", -1)
    txn = world.propose((OpCode.RECONFIG, body), ANN, SUPER)
    assert isinstance(txn, SetDataTxn if voters_min == 1 else ErrorTxn)
