"""The data directory of a ZooKeeper 3.9.5 that was killed, and what it showed once it ran again.

`testdata/tree.json` has, by path: data in base64, Stat, ACL as (perms, scheme, id).
"""

import base64
import json
from pathlib import Path

from wire.records import STAT
from zkpy.state import znode as zn
from zkpy.state.apply import ReplicatedState
from zkpy.zookeeper.convert import password_of, to_state
from zkpy.zookeeper.directory import load
from zkpy.zxid import show

TESTDATA = Path(__file__).parent / "testdata"
SESSION = 0x10000C01A890002
PASSWORD = "d9rRECbXoetZ63goeKJq4A=="


def test_the_tree_is_what_zookeeper_showed() -> None:
    loaded = load(str(TESTDATA))
    assert show(loaded.tree.zxid) == "0x81"
    assert loaded.replayed == 0x81 - 0x47
    assert loaded.tree.end_sessions(keep=True) == 0
    state = to_state(loaded.tree)
    expected = json.loads((TESTDATA / "tree.json").read_text())
    assert {path: look(state, path) for path in state.tree.nodes} == expected


def look(state: ReplicatedState, path: str) -> list[object]:
    znode = state.tree.nodes[path]
    data = zn.data_of(znode)
    acl = sorted([entry.perms, entry.scheme, entry.id] for entry in state.tree.acl_of(path))
    shown = None if data is None else base64.b64encode(data).decode()
    return [shown, list(STAT.unpack(zn.stat_of(znode))), acl]


def test_a_session_that_was_open_goes_on() -> None:
    state = to_state(load(str(TESTDATA)).tree)
    session = state.sessions.get(SESSION)
    assert session is not None and session.timeout_ms == 40_000
    assert session.password == password_of(SESSION) == base64.b64decode(PASSWORD)
    assert state.lifetimes.ephemerals_of(SESSION)
