"""The same requests in kazoo's words and in ours, and golden bytes made by kazoo.

    python -m tests.wire.kazoo_samples

writes `golden/requests.txt`, one line for each: name and hex of what kazoo sends.
Texts are not empty here: kazoo sends those as null, which test_records looks at.
"""

from pathlib import Path
from typing import Any

from kazoo.protocol import serialization as kazoo
from kazoo.security import ACL as KazooACL
from kazoo.security import Id

from wire import records as ours
from wire.jute import Record

GOLDEN = Path(__file__).parent / "golden" / "requests.txt"

KAZOO_ACL = [
    KazooACL(31, Id("world", "anyone")),
    KazooACL(3, Id("digest", "ada:nU0dXJ+vKq7AdgC/9p2Y/z2QlRs=")),
]
OUR_ACL = [ours.ACL(31, "world", "anyone"), ours.ACL(3, "digest", KAZOO_ACL[1].id.id)]
PASSWORD = bytes(range(16))

SAMPLES: dict[str, tuple[Any, Record]] = {
    "connect": (
        kazoo.Connect(0, 0x100000002, 10000, 0x1000ABCDEF, PASSWORD, True),
        ours.ConnectRequest(0, 0x100000002, 10000, 0x1000ABCDEF, PASSWORD, True),
    ),
    "create": (
        kazoo.Create("/a/b", b"data", KAZOO_ACL, 2),
        ours.CreateRequest("/a/b", b"data", OUR_ACL, 2),
    ),
    "create without data": (
        kazoo.Create("/a", None, [], 0),
        ours.CreateRequest("/a", None, [], 0),
    ),
    "create2": (
        kazoo.Create2("/däta", b"", KAZOO_ACL[:1], 1),
        ours.CreateRequest("/däta", b"", OUR_ACL[:1], 1),
    ),
    "delete": (kazoo.Delete("/a/b", -1), ours.DeleteRequest("/a/b", -1)),
    "exists": (kazoo.Exists("/a/b", True), ours.ExistsRequest("/a/b", True)),
    "get data": (kazoo.GetData("/a/b", None), ours.GetDataRequest("/a/b", False)),
    "set data": (kazoo.SetData("/a", b"\0\xff", 7), ours.SetDataRequest("/a", b"\0\xff", 7)),
    "set no data": (kazoo.SetData("/a", None, -1), ours.SetDataRequest("/a", None, -1)),
    "get acl": (kazoo.GetACL("/a"), ours.GetACLRequest("/a")),
    "set acl": (kazoo.SetACL("/a", KAZOO_ACL, 3), ours.SetACLRequest("/a", OUR_ACL, 3)),
    "get children": (kazoo.GetChildren("/", True), ours.GetChildrenRequest("/", True)),
    "get children2": (kazoo.GetChildren2("/", None), ours.GetChildren2Request("/", False)),
    "sync": (kazoo.Sync("/a"), ours.SyncRequest("/a")),
    "check": (kazoo.CheckVersion("/a", 5), ours.CheckVersionRequest("/a", 5)),
    "transaction": (
        kazoo.Transaction(
            [
                kazoo.Create("/a", b"1", KAZOO_ACL[:1], 0),
                kazoo.SetData("/a", b"2", 0),
                kazoo.CheckVersion("/a", 1),
                kazoo.Delete("/a", 1),
            ]
        ),
        ours.MultiRequest(
            [
                (1, ours.CreateRequest("/a", b"1", OUR_ACL[:1], 0)),
                (5, ours.SetDataRequest("/a", b"2", 0)),
                (13, ours.CheckVersionRequest("/a", 1)),
                (2, ours.DeleteRequest("/a", 1)),
            ]
        ),
    ),
    "empty transaction": (kazoo.Transaction([]), ours.MultiRequest([])),
    "reconfig": (
        kazoo.Reconfig("server.2=b:1:2;3", "1", "server.3=c:1:2;3", 0x100000000),
        ours.ReconfigRequest("server.2=b:1:2;3", "1", "server.3=c:1:2;3", 0x100000000),
    ),
    "auth": (
        kazoo.Auth(0, "digest", "ada:lovelace"),
        ours.AuthPacket(0, "digest", b"ada:lovelace"),
    ),
    "sasl": (kazoo.SASL(b"challenge"), ours.SaslRequest(b"challenge")),
}


def serialize(sample: Any) -> bytes:
    return bytes(sample.serialize())


def read_golden() -> dict[str, bytes]:
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    return {name: bytes.fromhex(body) for name, body in (line.split(": ") for line in lines)}


def write_golden() -> None:
    lines = [f"{name}: {serialize(theirs).hex()}\n" for name, (theirs, _) in SAMPLES.items()]
    GOLDEN.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_golden()
