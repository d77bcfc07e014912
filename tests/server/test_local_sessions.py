"""Local sessions of real processes: kazoo does not see the difference, the ensemble does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.exceptions import EphemeralOnLocalSessionError

from tests.server.members import Members

UPGRADING = "tickTime=500\nlocalSessionsEnabled=true\nlocalSessionsUpgradingEnabled={}"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[list[Members]]:
    made: list[Members] = []
    yield made
    for each in made:
        each.end()


def start(made: list[Members], directory: Path, upgrading: str) -> Members:
    members = Members(directory, 3, 0, UPGRADING.format(upgrading))
    made.append(members)
    members.start()
    return members


def sessions(members: Members) -> list[tuple[str, str]]:
    """(local, global) of each member."""
    shown = [each.monitor() for each in members.all]
    return [(each["zk_local_sessions"], each["zk_global_sessions"]) for each in shown]


def test_sessions_are_local_until_they_own_something(make: list[Members], tmp_path: Path) -> None:
    members = start(make, tmp_path, "true")
    clients = [members.connect(each.hosts) for each in members.all]
    clients[0].ensure_path("/app/group")
    clients[1].set("/app/group", b"written by a local session")
    assert sessions(members) == [("1", "0")] * 3
    moving, session = clients[2], clients[2].client_id
    moving.create("/app/group/mine", ephemeral=True)
    clients[0].sync("/app")
    assert clients[0].get("/app/group/mine")[1].ephemeralOwner == session[0]
    assert [each[0] for each in sessions(members)] == ["1", "1", "0"]
    for client in clients:
        client.stop()
    assert [each[0] for each in sessions(members)] == ["0", "0", "0"]
    again = members.connect(members.all[0].hosts)
    again.sync("/app")
    assert again.get_children("/app/group") == []


def test_without_upgrades_an_ephemeral_is_refused(make: list[Members], tmp_path: Path) -> None:
    members = start(make, tmp_path, "false")
    for each in members.all:
        client = members.connect(each.hosts)
        with pytest.raises(EphemeralOnLocalSessionError):
            client.create("/mine", ephemeral=True)
        client.ensure_path("/kept")
    assert sessions(members) == [("1", "0")] * 3
