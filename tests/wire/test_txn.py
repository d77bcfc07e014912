"""Transactions: frozen bytes, round trips, and bytes that `encode` never made."""

from pathlib import Path

import cbor2
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
    head, *rest = cbor2.loads(txn.encode(*SAMPLES["set data"]))
    assert head == txn._HEADER.pack(
        *(0x100ABCDEF0000001, 7, 3), 0xFEDCBA9876543210, 41, 1700000000123
    )
    assert len(head) == 44
    assert rest == [3, "/a", b"\0\xff", 12]


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


@pytest.mark.parametrize("behind", [b"\0", b"\xff", b"\xf6", b"\x82", cbor2.dumps("more")])
def test_bytes_behind_a_transaction_are_refused(behind: bytes) -> None:
    data = txn.encode(*SAMPLES["create"])
    with pytest.raises(RemoteProtocolError):
        txn.decode(data + behind)
    with pytest.raises(RemoteProtocolError):
        txn.decode(data + data)


HEAD = txn._HEADER.pack(1, 2, 3, 4, 5, 6)
WRONG: list[object] = [
    None,
    7,
    "text",
    {},
    [],
    [HEAD],
    [HEAD, 0],
    [HEAD, 10, "/a"],
    [HEAD, [], "/a"],
    [HEAD, "2", "/a"],
    [HEAD[:-1], 2, "/a"],
    [HEAD.hex(), 2, "/a"],
    [HEAD, 2],
    [HEAD, 2, "/a", "/b"],
    [HEAD, 2, b"/a"],
    [HEAD, 2, None],
    [HEAD, 3, "/a", "data", 1],
    [HEAD, 3, "/a", b"", 1 << 31],
    [HEAD, 3, "/a", b"", 1.0],
    [HEAD, 3, "/a", b"", None],
    [HEAD, 1, "/a", b"", "open", 0, 0],
    [HEAD, 1, "/a", b"", [[31, "world"]], 0, 0],
    [HEAD, 1, "/a", b"", [["31", "world", "anyone"]], 0, 0],
    [HEAD, 1, "/a", b"", [[31, "world", b"anyone"]], 0, 0],
    [HEAD, 1, "/a", b"", [31], 0, 0],
    [HEAD, 1, "/a", b"", None, 1 << 63, 0],
    [HEAD, 6, 10000, None],
    [HEAD, 7, 1],
    [HEAD, 8, None],
    [HEAD, 9, {}],
    [HEAD, 9, [2]],
    [HEAD, 9, [[]]],
    [HEAD, 9, [[9, []]]],
    [HEAD, 9, [[4, "/a", None, 1]]],
    [HEAD, 9, [[2, 3]]],
]


@pytest.mark.parametrize("items", WRONG, ids=repr)
def test_what_encode_never_makes_is_refused(items: object) -> None:
    with pytest.raises(RemoteProtocolError):
        txn.decode(cbor2.dumps(items))


def outcome(data: bytes) -> str:
    try:
        txn.decode(data)
    except Exception as error:
        return type(error).__name__
    return "decoded"


HOSTILE = [
    b"",
    b"\x9b" + b"\x7f" + b"\xff" * 7,
    b"\x5b" + b"\x7f" + b"\xff" * 7,
    b"\x81" * 100_000,
    b"\xc1" * 100_000,
    b"\xd8\x1c\x81\xd8\x1d\x00",
    b"\xd8\x23\x61(",
    b"\xc0\x61x",
    b"\xc4\x82\x1b" + b"\xff" * 8 + b"\x01",
    b"\x61\xff",
    b"\xa1\x80\x80",
    bytes.fromhex("82d82304c7d8dd6acbd1"),
    bytes.fromhex("82c3d6c48242e55638d8d8"),
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: bytes(data[:6]).hex())
def test_hostile_cbor_is_refused(data: bytes) -> None:
    assert outcome(data) == "RemoteProtocolError"


@QUICK
@given(st.binary(max_size=80))
def test_garbage_is_refused(garbage: bytes) -> None:
    assert outcome(garbage) == "RemoteProtocolError"


@QUICK
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_changed_byte_is_read_or_refused(name: str, data: st.DataObject) -> None:
    body = bytearray(txn.encode(*SAMPLES[name]))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(body)) in ("decoded", "RemoteProtocolError")
