"""Requests that kazoo has no method for, through a kazoo client: its connection, our records.

Whatever has `type`, `serialize` and `deserialize` goes the way of kazoo's own requests.
"""

from collections.abc import Iterable
from typing import Any

import attrs
from kazoo.client import KazooClient
from kazoo.security import ACL as KazooACL

from wire import records
from wire.codes import CreateMode, OpCode
from wire.jute import Record
from wire.records import ACL


@attrs.define(frozen=True)
class _Request:
    type: int
    body: bytes
    reply: Any
    """Class of the reply's record, None for one without."""

    def serialize(self) -> bytes:
        return self.body

    def deserialize(self, data: bytes, offset: int) -> Record | None:
        if self.reply is None:
            return None
        record: Record = self.reply.decode(bytes(data), offset, len(data))[0]
        return record


def ask(
    client: KazooClient, opcode: OpCode, body: Record | None, reply: type[Record] | None
) -> Any:
    """Send one request and wait for its reply; raises kazoo's exceptions."""
    return send(client, opcode, body, reply).get()


def send(
    client: KazooClient, opcode: OpCode, body: Record | None, reply: type[Record] | None
) -> Any:
    """Send one request; the result will have the reply."""
    done = client.handler.async_result()
    encoded = b"" if body is None else body.encode()
    client._call(_Request(int(opcode), encoded, reply), done)
    return done


def create_container(client: KazooClient, path: str, data: bytes, acl: Iterable[KazooACL]) -> str:
    body = records.CreateRequest(rooted(client, path), data, to_acl(acl), int(CreateMode.CONTAINER))
    created = ask(client, OpCode.CREATE_CONTAINER, body, records.Create2Response)
    return str(client.unchroot(created.path))


def create_ttl(
    client: KazooClient,
    path: str,
    data: bytes,
    acl: Iterable[KazooACL],
    ttl_ms: int,
    sequential: bool,
) -> str:
    mode = (
        CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL if sequential else CreateMode.PERSISTENT_WITH_TTL
    )
    body = records.CreateTTLRequest(rooted(client, path), data, to_acl(acl), int(mode), ttl_ms)
    created = ask(client, OpCode.CREATE_TTL, body, records.Create2Response)
    return str(client.unchroot(created.path))


def rooted(client: KazooClient, path: str) -> str:
    """The path as the server knows it, where the client has a chroot."""
    whole: str = client.chroot + path
    return whole if path != "/" else client.chroot or path


def to_acl(acl: Iterable[KazooACL]) -> list[ACL]:
    return [ACL(each.perms, each.id.scheme, each.id.id) for each in acl]


def count_descendants(client: KazooClient, path: str) -> int:
    body = records.GetAllChildrenNumberRequest(rooted(client, path))
    reply = records.GetAllChildrenNumberResponse
    return int(ask(client, OpCode.GET_ALL_CHILDREN_NUMBER, body, reply).total_number)


def find_ephemerals(client: KazooClient, prefix: str) -> list[str]:
    body = records.GetEphemeralsRequest(rooted(client, prefix))
    found = ask(client, OpCode.GET_EPHEMERALS, body, records.GetEphemeralsResponse)
    return [client.unchroot(path) for path in found.ephemerals]


def who_am_i(client: KazooClient) -> list[tuple[str, str]]:
    found = ask(client, OpCode.WHO_AM_I, None, records.WhoAmIResponse)
    return [(each.auth_scheme, each.user) for each in found.client_info]
