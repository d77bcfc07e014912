"""`zkpy log` and `zkpy snapshot`, on what a real storage wrote."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.state.anew import chunks_of
from wire import txn as txns
from wire.codes import ErrorCode
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
    TxnHeader,
)
from zkpy.cli.log import _show_text, describe, describe_txn
from zkpy.cli.main import zkpy
from zkpy.cli.shown import quote_data, show_session, show_time
from zkpy.effects import (
    Append,
    DiskBatch,
    Entry,
    EntryKind,
    Identity,
    ImageBegin,
    ImageChunk,
    ImageEnd,
    WriteIdentity,
    chain_next,
)
from zkpy.state.apply import ReplicatedState
from zkpy.state.lifetimes import CONTAINER_OWNER
from zkpy.storage import OsFileSystem, Storage, StorageOptions

SESSION = 0x100_0000_0000_0001
SECRET = b"a session's pass"
FIRST = 1 << 32 | 1
HEADER = TxnHeader(SESSION, 7, 1, 2, 3, 1_700_000_000_123)
OPEN = tuple(OPEN_ACL)
TXNS: tuple[Txn, ...] = (
    CreateSessionTxn(10_000, SECRET),
    CreateTxn("/a", b"plain\n", OPEN, 0, 1),
    CreateTxn("/e", None, (ACL(1, "ip", "10.0.0.1"),), SESSION, 2),
    CreateTxn("/c", b"", OPEN, CONTAINER_OWNER, 3),
    SetDataTxn("/a", b"\xff\x00", 1),
    SetACLTxn("/a", (ACL(31, "digest", "u:hash"),), 1),
    CheckTxn("/a", 1),
    ErrorTxn(ErrorCode.NO_NODE),
    MultiTxn((CreateTxn("/a/b", b"x", OPEN, 0, 1), DeleteTxn("/c"))),
)


def entries() -> list[Entry]:
    """(e,1), then TXNS."""
    chain, made = 0, []
    bodies = [(EntryKind.EPOCH, b"epoch"), *[(EntryKind.TXN, txns.encode(HEADER, t)) for t in TXNS]]
    for number, (kind, data) in enumerate(bodies):
        chain = chain_next(chain, FIRST + number, kind, data)
        made.append(Entry(FIRST + number, int(kind), data, chain))
    return made


def replayed(log: list[Entry]) -> ReplicatedState:
    state = ReplicatedState.founded()
    state.apply_other(FIRST)
    for entry in log[1:]:
        state.apply(entry.zxid, *txns.decode(entry.data))
    return state


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A log of three files, an image at its end; still open, as beside a running server."""
    path = tmp_path / "data"
    storage, _ = Storage.open(OsFileSystem(), str(path), options=StorageOptions(segment_bytes=900))
    identity = Identity(b"c" * 16, 1, False, 1, b"voters", b"voters")
    storage.execute(DiskBatch(1, [WriteIdentity(identity)]))
    log = entries()
    for at in range(0, len(log), 2):
        storage.execute(DiskBatch(1, [Append(log[at : at + 2], FIRST, FIRST, 99)]))
    state = replayed(log)
    storage.image_step(ImageBegin(state.zxid, log[-1].chain))
    for chunk in chunks_of(state):
        storage.image_step(ImageChunk(chunk))
    storage.image_step(ImageEnd(state.zxid, state.digest))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(zkpy, [str(each) for each in arguments])


def objects(*arguments: object) -> list[dict[str, Any]]:
    done = run(*arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- log --------------------------------------------------------------------------------


def test_log_as_text(data_dir: Path) -> None:
    done = run("log", data_dir)
    assert (done.exit_code, done.stderr) == (0, "")
    head = "2023-11-14T22:13:20.123Z  0x100000000000001  cxid 7  "
    assert done.stdout.splitlines() == [
        "0x100000001  epoch 5 bytes",
        f"0x100000002  {head}createSession 10000 ms",
        f"0x100000003  {head}create /a 6 bytes acl world:anyone:31",
        f"0x100000004  {head}create /e no data owner 0x100000000000001 acl ip:10.0.0.1:1",
        f"0x100000005  {head}create /c 0 bytes owner 0x8000000000000000 acl world:anyone:31",
        f"0x100000006  {head}setData /a 2 bytes version 1",
        f"0x100000007  {head}setACL /a version 1 acl digest:u:hash:31",
        f"0x100000008  {head}check /a version 1",
        f"0x100000009  {head}error -101",
        f"0x10000000a  {head}multi [create /a/b 1 bytes acl world:anyone:31; delete /c]",
    ]


def test_log_as_json(data_dir: Path) -> None:
    found = objects("log", data_dir, "--data")
    assert [each["type"] for each in found] == [
        *("epoch", "createSession", "create", "create", "create", "setData", "setACL"),
        *("check", "error", "multi"),
    ]
    assert (found[2]["data"], found[5]["data"]) == ("cGxhaW4K", "/wA=")
    assert found[9]["txns"][1] == {"type": "delete", "path": "/c"}
    assert found[3]["session"] == SESSION


def test_log_shows_batches(data_dir: Path) -> None:
    lines = run("log", data_dir, "--batches").stdout.splitlines()
    batches = [line for line in lines if line.startswith("---")]
    assert len(batches) == 5
    assert batches[0].startswith("--- batch 0x100000001 to 0x100000002 at 64: ")
    assert batches[0].endswith("committed 0x100000001, digest 0x63 at 0x100000001")


def test_passwords_of_sessions_are_not_shown(data_dir: Path) -> None:
    for arguments in (["log", "--data"], ["log", "--json", "--data"], ["snapshot", "--data"]):
        said = run(*arguments, data_dir).output
        assert SECRET.decode() not in said and SECRET.hex() not in said


def test_one_file_of_the_log(data_dir: Path) -> None:
    files = sorted((data_dir / "gen-0001").glob("log.*"))
    assert len(files) > 1
    parts = [run("log", each).stdout for each in files]
    assert "".join(parts) == run("log", data_dir).stdout == run("log", files[0].parent).stdout


def test_half_a_batch_is_said_to_be_one(data_dir: Path) -> None:
    whole = run("log", data_dir).stdout
    last = sorted((data_dir / "gen-0001").glob("log.*"))[-1]
    data = bytearray(last.read_bytes())
    end = len(data.rstrip(b"\0"))
    data[end - 8 : end] = bytes(8)
    last.write_bytes(data)
    done = run("log", data_dir)
    assert done.exit_code == 0
    assert whole.startswith(done.stdout) and done.stdout != whole
    assert "torn at" in done.stderr and "or being written just now" in done.stderr


def test_damage_is_told_and_the_rest_is_shown(data_dir: Path) -> None:
    first, *rest = sorted((data_dir / "gen-0001").glob("log.*"))
    data = bytearray(first.read_bytes())
    data[64 + 90] ^= 1
    first.write_bytes(data)
    done = run("log", data_dir)
    assert done.exit_code == 1
    assert "the batch at 64 is damaged, an intact one at" in done.stderr
    assert done.stdout == "".join(run("log", each).stdout for each in rest)


@pytest.mark.parametrize("command", ["log", "snapshot"])
def test_what_is_not_there_is_one_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("neither")
    for path, why in (
        (tmp_path / "nowhere", "no such file or directory"),
        (tmp_path, "there is no "),
        (tmp_path / "note", "it is not a"),
    ):
        done = run(command, path)
        assert done.exit_code == 1
        assert done.stdout == ""
        assert done.stderr.startswith(f"zkpy: {path}: {why}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["log", "snapshot"])
def test_nothing_is_changed(command: str, data_dir: Path) -> None:
    def look() -> dict[str, tuple[bytes, int]]:
        return {
            str(each): (each.read_bytes(), each.stat().st_mtime_ns)
            for each in sorted(data_dir.rglob("*"))
            if each.is_file()
        }

    before = look()
    assert run(command, data_dir).exit_code == 0
    assert look() == before


@pytest.mark.parametrize("command", ["log", "snapshot"])
def test_a_reader_that_has_enough(command: str, data_dir: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "zkpy", command, str(data_dir)],
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert done.stderr == b""


# --- snapshot ---------------------------------------------------------------------------


def test_snapshot_as_text(data_dir: Path) -> None:
    lines = run("snapshot", data_dir, "--data").stdout.splitlines()
    state = replayed(entries())
    assert lines[0].endswith(
        f"image.000000010000000a: zxid 0x10000000a, digest {state.digest:#x}, 7 znodes, 1 sessions"
    )
    assert lines[1] == "session 0x100000000000001 10000 ms"
    assert lines[3] == (
        "/a  2 bytes  1 children  version 1  created 0x100000003  modified 0x100000006 "
        "2023-11-14T22:13:20.123Z  acl digest:u:hash:31  \\xff\\x00"
    )
    assert lines[5].startswith("/e  0 bytes") and "owner 0x100000000000001" in lines[5]


def test_snapshot_as_json(data_dir: Path) -> None:
    head, session, *znodes = objects("snapshot", data_dir)
    assert (head["zxid"], head["znodes"], session["session"]) == (FIRST + 9, 7, SESSION)
    assert [each["path"] for each in znodes][:4] == ["/", "/a", "/a/b", "/e"]
    assert znodes[1]["version"] == 1 and znodes[1]["num_children"] == 1
    assert "data" not in znodes[1]


def test_snapshot_in_figures(data_dir: Path) -> None:
    (found,) = objects("snapshot", data_dir, "--stats")
    assert (found["znodes"], found["data_bytes"], found["ephemerals"]) == (7, 3, 1)
    assert (found["containers"], found["depth"]) == (0, 2)
    assert list(found["largest"].items())[:2] == [("/a", 2), ("/a/b", 1)]
    assert found["branches_by_bytes"]["/a"] == 3
    text = run("snapshot", data_dir, "--stats").stdout
    assert "zxid: 0x10000000a\n" in text and "largest:\n             2  /a\n" in text


def test_a_damaged_image_is_not_shown(data_dir: Path) -> None:
    (image,) = (data_dir / "gen-0001").glob("image.*")
    data = bytearray(image.read_bytes())
    data[-60] ^= 1
    image.write_bytes(data)
    done = run("snapshot", image)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "checksum" in done.stderr or "trailer" in done.stderr


def test_the_generation_in_force_is_taken(data_dir: Path) -> None:
    (data_dir / "gen-0009").mkdir()
    (data_dir / "gen-0009" / "image.0000000000000001").write_bytes(b"being received")
    assert run("snapshot", data_dir).exit_code == 0


# --- how things are shown ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (show_time, 0, "1970-01-01T00:00:00.000Z"),
        (show_time, 1 << 60, f"{1 << 60} ms"),
        (show_session, -1, "0xffffffffffffffff"),
        (quote_data, None, ""),
        (quote_data, "grün".encode(), "grün"),
        (quote_data, b"a\nb\x1b[31m\xff", "a\\nb\\x1b[31m\\xff"),
        (quote_data, b"a\\nb\\xff", "a\\\\nb\\\\xff"),
        (quote_data, b"\x85", "\\x85"),
        (quote_data, "\x85".encode(), "\\u0085"),
        (quote_data, "/\ud800", "/\\ud800"),
    ],
)
def test_shown(show: Callable[[Any], str], value: object, text: str) -> None:
    assert show(value) == text


def test_entry_that_cannot_be_read_is_named() -> None:
    chain = chain_next(0, FIRST, EntryKind.TXN, b"junk")
    found = describe(Entry(FIRST, int(EntryKind.TXN), b"junk", chain), False)
    assert found["type"] == "unreadable"


@pytest.mark.parametrize(("number", "local"), [(3, False), (0, False), (-3, True)])
def test_a_write_of_a_local_session_is_told(number: int, local: bool) -> None:
    data = txns.encode(txns.TxnHeader(SESSION, 7, 1, 2, number, 0), DeleteTxn("/a"))
    fields = describe(Entry(FIRST, int(EntryKind.TXN), data, 0), False)
    assert fields.get("local", False) is local
    text = _show_text(fields)
    assert text.endswith("cxid 7  local session  delete /a" if local else "cxid 7  delete /a")


def test_every_transaction_is_described() -> None:
    found = [describe_txn(txn, False)["type"] for txn in (*TXNS, DeleteTxn("/"), CloseSessionTxn())]
    assert sorted(set(found)) == [
        *("check", "closeSession", "create", "createSession", "delete"),
        *("error", "multi", "setACL", "setData"),
    ]
