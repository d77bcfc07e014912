"""Nodes of members as bytes (pure).

    PATH/members/<name>~<32 hex>~<number>   one per session of a member, ephemeral
    PATH/departed                           the last incarnations that left by their own will

    {"format":1,"name":"db-1","incarnation":"<32 hex>","metadata":{...}}
    {"format":1,"departed":["<32 hex>", ...]}

The hex before the number is of one node, and different in each session: a new one never meets
the old one of a session that has yet to expire, and a create whose answer was lost is found.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from recipes.membership.view import Member

MEMBERS: Final = "members"
DEPARTED: Final = "departed"
FORMAT: Final = 1
MOST_BYTES: Final = 1_000_000
"""Of a member's node.  A server closes the connection on a request that is too large, which to a
client is one more lost answer: it would be sent again for ever."""
REMEMBERED: Final = 200
"""How many departures are kept: an observer has to look before so many others have left."""


def check_name(name: str) -> str:
    """Raises ValueError."""
    if not name or "/" in name or "~" in name:
        raise ValueError(f"{name!r} is no name for a member: empty, or with / or ~ in it")
    return name


def encode_member(name: str, incarnation: str, metadata: Mapping[str, Any]) -> bytes:
    """Raises ValueError, TypeError for what JSON cannot hold, or a node cannot."""
    plain = {
        "format": FORMAT,
        "name": name,
        "incarnation": incarnation,
        "metadata": dict(metadata),
    }
    data = json.dumps(plain, allow_nan=False, separators=(",", ":")).encode()
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, of {MOST_BYTES} at most")
    return data


def decode_member(data: bytes | None, joined: int) -> Member | None:
    """None for what is no member's node."""
    plain = _mapping(data)
    name, incarnation = plain.get("name"), plain.get("incarnation")
    metadata = plain.get("metadata")
    if not (isinstance(name, str) and isinstance(incarnation, str) and isinstance(metadata, dict)):
        return None
    return Member(name, incarnation, joined, metadata)


def encode_departed(incarnations: Iterable[str]) -> bytes:
    last = list(incarnations)[-REMEMBERED:]
    return json.dumps({"format": FORMAT, "departed": last}, separators=(",", ":")).encode()


def decode_departed(data: bytes | None) -> list[str]:
    found = _mapping(data).get("departed")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _mapping(data: bytes | None) -> dict[str, Any]:
    try:
        # A znode without data has None in kazoo.
        plain = json.loads(data or b"")
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) and plain.get("format") == FORMAT else {}


def newest_by_name(members: Iterable[Member]) -> dict[str, Member]:
    """A member that came back before its old session expired has two nodes: the newer counts."""
    return {each.name: each for each in sorted(members, key=lambda member: member.joined)}
