"""Transactions: frozen bytes, round trips, and bytes that `encode` never made."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire import naive
from wire import txn
from wire.errors import RemoteProtocolError
from wire.records import ACL, OPEN_ACL

QUICK = settings(max_examples=80)
GOLDEN = Path(__file__).parent / "golden" / "txns.txt"

HEADER = txn.TxnHeader(0x100ABCDEF0000001, 7, 3, 0xFEDCBA9876543210, 41, 1700000000123)
LEADERS_OWN = txn.TxnHeader(-1, -1, -1, 0, 0, 0)
PRIVATE = (ACL(31, "digest", "ada:x"), ACL(1, "world", "anyone"))
SAMPLES: dict[str, tuple[txn.TxnHeader, txn.Txn]] = {
    "create": (HEADER, txn.CreateTxn("/a", b"data", OPEN_ACL, 0, 1)),
    "create ephemeral": (HEADER, txn.CreateTxn("/ä", None, PRIVATE, -(1 << 63), 2)),
    "delete": (HEADER, txn.DeleteTxn("/a")),
    "set data": (HEADER, txn.SetDataTxn("/a", b"\0\xff", 12)),
    "set no data": (HEADER, txn.SetDataTxn("/a", None, -(1 << 31))),
    "set acl": (HEADER, txn.SetACLTxn("/a", PRIVATE, 1)),
    "set open acl": (HEADER, txn.SetACLTxn("/a", OPEN_ACL, 2)),
    "check": (HEADER, txn.CheckTxn("/a", -1)),
    "create session": (HEADER, txn.CreateSessionTxn(10000, bytes(range(16)))),
    "close session": (LEADERS_OWN, txn.CloseSessionTxn()),
    "error": (HEADER, txn.ErrorTxn(-101)),
    "multi": (
        HEADER,
        txn.MultiTxn(
            (
                txn.CreateTxn("/a", b"", PRIVATE, 5, 1),
                txn.SetDataTxn("/a", b"1", 1),
                txn.CheckTxn("/a", 1),
                txn.DeleteTxn("/a"),
            )
        ),
    ),
    "failed multi": (HEADER, txn.MultiTxn((txn.ErrorTxn(0), txn.ErrorTxn(-110)))),
    "empty multi": (HEADER, txn.MultiTxn(())),
}


def test_golden_bytes(rewrite: bool) -> None:
    """Logs outlive programs: these bytes change only with a new kind, never in place."""
    lines = [f"{name}: {txn.encode(*sample).hex()}\n" for name, sample in SAMPLES.items()]
    if rewrite:
        GOLDEN.write_text("".join(lines), encoding="utf-8")
    assert GOLDEN.read_text(encoding="utf-8") == "".join(lines)


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_bytes_are_read(name: str) -> None:
    lines = dict(line.split(": ") for line in GOLDEN.read_text(encoding="utf-8").splitlines())
    assert txn.decode(bytes.fromhex(lines[name])) == SAMPLES[name]


def test_the_documented_layout() -> None:
    assert txn.encode(*SAMPLES["set data"]) == struct.pack(
        ">qiqQqqBiii2s2s",
        *(0x100ABCDEF0000001, 7, 3, 0xFEDCBA9876543210, 41, 1700000000123),
        *(3, 2, 2, 12),
        *(b"/a", b"\0\xff"),
    )


def test_the_open_acl_is_shared() -> None:
    _, made = txn.decode(txn.encode(*SAMPLES["create"]))
    assert isinstance(made, txn.CreateTxn) and made.acl is OPEN_ACL


texts = st.text(max_size=8)
datas = st.none() | st.binary(max_size=8)
int32s, int64s = naive.ints(32), naive.ints(64)
acls = st.just(OPEN_ACL) | st.lists(st.builds(ACL, int32s, texts, texts), max_size=2).map(tuple)
headers = st.builds(
    txn.TxnHeader, int64s, int32s, int64s, st.integers(0, (1 << 64) - 1), int64s, int64s
)
parts: st.SearchStrategy[txn.Txn] = st.one_of(
    st.builds(txn.CreateTxn, texts, datas, acls, int64s, int32s),
    st.builds(txn.DeleteTxn, texts),
    st.builds(txn.SetDataTxn, texts, datas, int32s),
    st.builds(txn.CheckTxn, texts, int32s),
    st.builds(txn.ErrorTxn, int32s),
)
txns = st.one_of(
    parts,
    st.builds(txn.SetACLTxn, texts, acls, int32s),
    st.builds(txn.CreateSessionTxn, int32s, st.binary(min_size=16, max_size=16)),
    st.builds(txn.CloseSessionTxn),
    st.lists(parts, max_size=4).map(lambda made: txn.MultiTxn(tuple(made))),
)


@QUICK
@given(headers, txns)
def test_round_trip(header: txn.TxnHeader, made: txn.Txn) -> None:
    assert txn.decode(txn.encode(header, made)) == (header, made)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_transaction_cut_anywhere_is_refused(name: str) -> None:
    data = txn.encode(*SAMPLES[name])
    for cut in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            txn.decode(data[:cut])


@pytest.mark.parametrize("behind", [b"\0", b"\xff", b"\xf6", b"\0" * 4, b"more"])
def test_bytes_behind_a_transaction_are_refused(behind: bytes) -> None:
    data = txn.encode(*SAMPLES["create"])
    with pytest.raises(RemoteProtocolError):
        txn.decode(data + behind)
    with pytest.raises(RemoteProtocolError):
        txn.decode(data + data)


HEAD = txn.encode(LEADERS_OWN, txn.CloseSessionTxn())[:-1]


def body(layout: str, *values: object) -> bytes:
    return struct.pack(">B" + layout, *values)


def part(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


DELETE = body("i2s", 2, 2, b"/a")
WRONG: dict[str, bytes] = {
    "nothing": b"",
    "no kind": HEAD,
    "half a header": HEAD[:-1],
    "kind 0": HEAD + body("i2s", 0, 2, b"/a"),
    "kind 10": HEAD + body("i2s", 10, 2, b"/a"),
    "path too long": HEAD + body("i2s", 2, 3, b"/a"),
    "path too short": HEAD + body("i2s", 2, 1, b"/a"),
    "no path": HEAD + body("i2s", 2, -1, b"/a"),
    "no path, no bytes": HEAD + body("i", 2, -1),
    "path of a terabyte": HEAD + body("i2s", 2, 0x7FFFFFFF, b"/a"),
    "path not UTF-8": HEAD + body("i2s", 2, 2, b"/\xff"),
    "data too long": HEAD + body("iii3s", 3, 2, 2, 0, b"/ab"),
    "data too short": HEAD + body("iii4s", 3, 2, 1, 0, b"/abc"),
    "data that is none": HEAD + body("iii3s", 3, 2, -1, 0, b"/ab"),
    "data less than none": HEAD + body("iii2s", 3, 2, -2, 0, b"/a"),
    "data less than none, in the path": HEAD + body("iii2s", 3, 4, -2, 0, b"/a"),
    "created data too long": HEAD + body("iiiqi3s", 1, 2, 2, -1, 0, 0, b"/ab"),
    "created data less than none": HEAD + body("iiiqi2s", 1, 2, -2, -1, 0, 0, b"/a"),
    "an entry missing": HEAD + body("iiiqi2s", 1, 2, -1, 1, 0, 0, b"/a"),
    "an entry too many": HEAD + body("iiiqi2siii", 1, 2, -1, 0, 0, 0, b"/a", 31, 0, 0),
    "an entry of the open list": HEAD + body("iiiqi2siii", 1, 2, -1, -1, 0, 0, b"/a", 31, 0, 0),
    "entries less than none": HEAD + body("iiiqi2s", 1, 2, -1, -2, 0, 0, b"/a"),
    "a billion entries": HEAD + body("iiiqi2s", 1, 2, -1, 1 << 30, 0, 0, b"/a"),
    "a negative scheme": HEAD + body("iiiqi2siii", 1, 2, -1, 1, 0, 0, b"/a", 31, -1, 1),
    "an id too long": HEAD + body("iiiqi2siii", 1, 2, -1, 1, 0, 0, b"/a", 31, 0, 1),
    "password too long": HEAD + body("ii2s", 6, 3, 10000, b"pw"),
    "no password": HEAD + body("ii", 6, -1, 10000),
    "more of a close": HEAD + body("i", 7, 1),
    "half an error": HEAD + body("h", 8, 1),
    "a part missing": HEAD + body("i", 9, 2) + part(DELETE),
    "a part too many": HEAD + body("i", 9, 1) + part(DELETE) * 2,
    "a part too long": HEAD + body("i", 9, 2) + part(DELETE + b"a") + part(DELETE),
    "a part that reaches into the next": HEAD + body("i", 9, 2) + part(DELETE[:-1]) + part(DELETE),
    "a part without a kind": HEAD + body("i", 9, 2) + part(b"") + part(DELETE),
    "a part of negative size": HEAD + body("ii", 9, 1, -1),
    "a multi in a multi": HEAD + body("i", 9, 1) + part(body("i", 9, 0)),
    "an access list in a multi": HEAD + body("i", 9, 1) + part(body("iii2s", 4, 2, -1, 1, b"/a")),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_encode_never_makes_is_refused(name: str) -> None:
    with pytest.raises(RemoteProtocolError):
        txn.decode(WRONG[name])


def outcome(data: bytes) -> str:
    try:
        txn.decode(data)
    except Exception as error:
        return type(error).__name__
    return "decoded"


@QUICK
@given(st.binary(max_size=80) | st.binary(max_size=60).map(HEAD.__add__))
def test_garbage_is_read_back_or_refused(garbage: bytes) -> None:
    try:
        found = txn.decode(garbage)
    except RemoteProtocolError:
        return
    assert txn.encode(*found) == garbage


@QUICK
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_changed_byte_is_read_or_refused(name: str, data: st.DataObject) -> None:
    made = bytearray(txn.encode(*SAMPLES[name]))
    made[data.draw(st.integers(0, len(made) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(made)) in ("decoded", "RemoteProtocolError")
