"""When is a search for a leader beyond hope?  Only when everybody was heard (D5)."""

import pytest

from tests.zab.scripted import VOTERS
from tests.zab.test_election import Voter
from wire.peer import Role, Standing
from zkpy.zab.election import REMIND_MS
from zkpy.zab.outlook import Word, why_stuck
from zkpy.zab.quorum import VoterSet

X, Y, NONE = b"one ensemble....", b"another ensemble", bytes(16)
SOUND = Word(Standing.MEMBER, X, True)
FOUNDING = Word(Standing.FOUNDING, X, True)
FOUNDING_Y = Word(Standing.FOUNDING, Y, True)
DAMAGED = Word(Standing.SUSPECT, X, True)
BLANK = Word(Standing.BLANK, NONE, True)
FOLLOWING = Word(Standing.MEMBER, X, False)


@pytest.mark.parametrize(
    "words",
    [
        {1: SOUND, 2: DAMAGED},
        {1: DAMAGED, 2: DAMAGED, 4: SOUND},
        {1: SOUND, 2: SOUND, 3: DAMAGED},
        {1: SOUND, 2: FOUNDING, 3: DAMAGED},
        {1: FOLLOWING, 2: DAMAGED, 3: DAMAGED},
        {1: BLANK, 2: BLANK, 3: BLANK},
        {1: FOUNDING, 2: FOUNDING_Y, 3: BLANK},
        {},
    ],
)
def test_hope_or_doubt(words: dict[int, Word]) -> None:
    assert why_stuck(VOTERS, words) is None


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({1: DAMAGED, 2: DAMAGED, 3: SOUND}, ["1 has damaged data", "2 has damaged", "(server 3)"]),
        ({1: BLANK, 2: DAMAGED, 3: SOUND}, ["1 has no data", "2 has damaged data"]),
        ({1: DAMAGED, 2: DAMAGED, 3: DAMAGED}, ["(none)", "3 has damaged data"]),
        ({1: SOUND, 2: FOUNDING_Y, 3: BLANK}, ["2 began to found", "3 has no data"]),
    ],
)
def test_no_hope(words: dict[int, Word], named: list[str]) -> None:
    why = why_stuck(VOTERS, words)
    assert why is not None
    assert all(part in why for part in named), why


def test_a_joint_set_needs_hope_in_both() -> None:
    joint = VoterSet.of([1, 2, 3]).at(5).join(VoterSet.of([3, 4, 5]).members, b"")
    words = {1: SOUND, 2: SOUND, 3: DAMAGED, 4: DAMAGED, 5: SOUND}
    assert why_stuck(joint, words) is not None
    assert why_stuck(joint, words | {4: SOUND}) is None


def is_lost(voter: Voter) -> bool:
    return voter.zab.why_stuck is not None


def alarm(voter: Voter) -> str | None:
    """Of the next pass."""
    voter.said()
    assert voter.last is not None
    return voter.last.alarm


def hear_all(voter: Voter, standing: Standing = Standing.SUSPECT) -> None:
    for sid in (2, 3):
        voter.hear(sid, standing=standing, leader=-1)
    voter.pass_time(voter.zab.options.resend_cap_ms * 2)


def test_it_is_said_once_and_again_after_a_while() -> None:
    voter = Voter()
    alarms = []
    for _ in range(20):
        hear_all(voter)
        alarms.append(alarm(voter))
    assert [text is not None for text in alarms] == [True] + 19 * [False]
    voter.now += REMIND_MS
    hear_all(voter)
    assert alarm(voter) == alarms[0]


def test_it_holds_as_long_as_everybody_is_heard() -> None:
    voter = Voter()
    hear_all(voter)
    assert is_lost(voter)
    voter.hear(2)  # it has its data back
    voter.pass_time(voter.zab.options.resend_cap_ms * 2)
    assert not is_lost(voter)
    voter = Voter()
    hear_all(voter)
    voter.pass_time(20_000)
    assert not is_lost(voter), "those silent for long may have been mended"


def hear_stranger(
    voter: Voter, sid: int, role: Role = Role.LOOKING, **changes: object
) -> str | None:
    """The alarm that comes of it."""
    voter.hear(sid, **{"cluster_id": Y, "role": role, "leader": 3, "epoch": 4} | changes)
    assert voter.last is not None
    return voter.last.alarm


@pytest.mark.parametrize("role", [Role.LOOKING, Role.FOLLOWING])
def test_a_stranger_is_told_of_once(role: Role) -> None:
    voter = Voter()
    told = hear_stranger(voter, 2, role)
    assert told is not None
    assert f"server 2 belongs to another ensemble (cluster id {Y.hex()};" in told
    assert f"here it is {X.hex()})" in told
    assert hear_stranger(voter, 2, role) is None
    voter.hear(2)  # one of ours has this number too: each comes and goes
    assert hear_stranger(voter, 2, role) is None
    assert hear_stranger(voter, 3, role) is not None
    assert voter.zab.role is Role.LOOKING


def test_strangers_are_why_there_is_no_leader() -> None:
    voter = Voter()
    hear_stranger(voter, 3, Role.LEADING)
    hear_stranger(voter, 2, Role.FOLLOWING)
    voter.pass_time(voter.zab.options.resend_cap_ms)
    why = voter.zab.strangers
    assert why is not None and voter.zab.role is Role.LOOKING
    assert all(f"server {sid} belongs to another ensemble" in why for sid in (2, 3))
    voter.pass_time(20_000)
    assert voter.zab.strangers is None, "they have not been heard from for long"


def test_a_follower_tells_of_a_stranger_too() -> None:
    voter = Voter()
    voter.hear(3, role=Role.LEADING, leader=3, epoch=4)
    voter.pass_time(voter.zab.options.resend_ms)
    assert voter.zab.dial == 3
    told = hear_stranger(voter, 2)
    assert told is not None and told.startswith("server 2 belongs to another ensemble")
    assert voter.zab.strangers is None


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster_id": X},
        {"standing": Standing.BLANK, "cluster_id": NONE},
        {"standing": Standing.FOUNDING},
    ],
)
def test_who_is_no_stranger(changes: dict[str, object]) -> None:
    voter = Voter()
    assert hear_stranger(voter, 2, **changes) is None  # type: ignore[arg-type]
    assert voter.zab.strangers is None


def test_a_leader_ends_it() -> None:
    voter = Voter()
    hear_all(voter)
    voter.hear(3, role=Role.LEADING, leader=3, epoch=4)
    voter.pass_time(voter.zab.options.resend_ms)
    assert voter.zab.dial == 3
    assert not is_lost(voter)
