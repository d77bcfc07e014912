"""Access control lists: the rule, the fix-up of what clients send, sharing.

In: ACL records of the protocol and the identities of a connection, pairs of
(scheme, id) such as ("ip", "10.0.0.7") or ("digest", "ann:base64...").  Out: yes or
no, or a list fit for the tree.  The rules are those of ZooKeeper's fixupACL and checkACL.
The packed form, for images, digest and sharing, is jute's.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from wire.codes import ErrorCode, Perm
from wire.records import ACL
from zkpy.errors import ZkError
from zkpy.state.x500 import is_name

AclList = tuple[ACL, ...]
Identity = tuple[str, str]
"""(scheme, id), as authentication established it."""

READ_ONLY_ACL: Final[AclList] = (ACL(1, "world", "anyone"),)

EXPANDED_MAX: Final = 10_000
"""Entries of a list times identities of a connection: a frame of `auth` entries could else
become millions of them."""
_DIGITS_MAX: Final = 4096
"""Of a number in an address, most of them zeros: what is longer is none, and takes long to read."""
_COLONS_MAX: Final = 8
"""In an address of IPv6: seven segments and `::` at one end."""
_SUPER: Final = "super"
_UNAUTHENTICATED: Final = ("ip", "world", _SUPER)
"""Schemes that `auth` does not expand to: an address proves nobody's identity."""
_SASL_SUPER: Final = "super"
"""ZooKeeper's rule: this user of SASL may whatever any user of SASL may."""


def allowed(acl: AclList, perm: int, identities: Sequence[Identity]) -> bool:
    """Whether a connection with these identities may do what `perm` (a Perm) names.

    An empty list on a stored znode allows everything; the identity scheme `super`
    passes everywhere.
    """
    for entry in acl:
        if entry.perms & perm and entry.scheme == "world" and entry.id == "anyone":
            return True
    return not acl or _matches(acl, perm, identities)


def _matches(acl: AclList, perm: int, identities: Sequence[Identity]) -> bool:
    for scheme, name in identities:
        if scheme == _SUPER:
            return True
        for entry in acl:
            if entry.perms & perm and entry.scheme == scheme and _is_named(entry, name):
                return True
    return False


def _is_named(entry: ACL, name: str) -> bool:
    if entry.scheme == "ip":
        return _address_within(name, entry.id)
    return entry.id == name or (name == _SASL_SUPER and entry.scheme == "sasl")


SCHEMES_OFF: Final = ("sasl", "x509")
"""Of those that an ACL may name, what is off unless it is asked for."""

ValidIds = Mapping[str, Callable[[str], bool]]
"""Per scheme that an ACL may name, what its ids look like."""


def valid_ids(off: Sequence[str] = SCHEMES_OFF) -> ValidIds:
    """For all schemes but those that are switched `off`."""
    return {scheme: is_valid for scheme, is_valid in _VALID_ID.items() if scheme not in off}


def fix_up(acl: Iterable[ACL], identities: Sequence[Identity], valid: ValidIds) -> AclList:
    """The list that a create or setACL stores, or ZkError(INVALID_ACL).

    Doubles go; `auth` becomes every authenticated identity of the connection; the
    ids of other schemes must be `valid`.  Nothing left, or nothing given: refused.
    So is what would take long to look at, which no sane list does.
    """
    entries = list(acl)
    if len(entries) * max(1, len(identities)) > EXPANDED_MAX:
        raise ZkError(ErrorCode.INVALID_ACL)
    fixed: dict[tuple[int, str, str], ACL] = {}
    for entry in entries:
        for stored in _expand(entry, identities, valid):
            fixed.setdefault((stored.perms, stored.scheme, stored.id), stored)
    if not fixed:
        raise ZkError(ErrorCode.INVALID_ACL)
    return tuple(fixed.values())


def _expand(entry: ACL, identities: Sequence[Identity], valid: ValidIds) -> list[ACL]:
    if entry.scheme == "auth":
        return _expand_auth(entry.perms, identities, valid)
    is_valid = valid.get(entry.scheme)
    if is_valid is None or not is_valid(entry.id):
        raise ZkError(ErrorCode.INVALID_ACL)
    return [entry]


def _expand_auth(perms: int, identities: Sequence[Identity], valid: ValidIds) -> list[ACL]:
    expanded = [
        ACL(perms, scheme, name)
        for scheme, name in identities
        if scheme in valid and scheme not in _UNAUTHENTICATED
    ]
    if not expanded:
        raise ZkError(ErrorCode.INVALID_ACL)
    return expanded


def visible(acl: AclList, identities: Sequence[Identity]) -> AclList:
    """What getACL answers: without ADMIN the hashes of digest ids are masked."""
    if allowed(acl, Perm.ADMIN, identities):
        return acl
    return tuple(_mask(entry) for entry in acl)


def _mask(entry: ACL) -> ACL:
    if entry.scheme != "digest":
        return entry
    return ACL(entry.perms, "digest", entry.id.partition(":")[0] + ":x")


def pack(acl: Sequence[ACL]) -> bytes:
    """The records one after another, as in a reply but without their count."""
    return b"".join([entry.encode() for entry in acl])


def unpack(packed: bytes) -> AclList:
    """The inverse of `pack`; RemoteProtocolError if the bytes are damaged."""
    entries: list[ACL] = []
    at, end = 0, len(packed)
    while at < end:
        entry, at = ACL.decode(packed, at, end)
        entries.append(entry)
    return tuple(entries)


@dataclass(eq=False, repr=False, slots=True)
class AclPool:
    """One tuple per distinct list, however many znodes carry it.

    Counted: a list that no znode carries any more is forgotten.
    """

    _shared: dict[bytes, AclList] = field(default_factory=dict)
    _uses: dict[bytes, int] = field(default_factory=dict)

    def take(self, packed: bytes, acl: Sequence[ACL]) -> AclList:
        """The shared tuple equal to `acl`, whose packed form is `packed`."""
        self._uses[packed] = self._uses.get(packed, 0) + 1
        return self._shared.setdefault(packed, tuple(acl))

    def drop(self, packed: bytes) -> None:
        """One znode less carries it."""
        self._uses[packed] -= 1
        if not self._uses[packed]:
            del self._uses[packed], self._shared[packed]


@lru_cache(maxsize=1024)
def _address_within(address: str, network: str) -> bool:
    """Whether an address lies in `network`: an address, or one with `/bits`."""
    own, parsed = _parse_address(address), _parse_network(network)
    if own is None or parsed is None:
        return False
    octets, bits = parsed
    shift = 8 * len(octets) - bits
    return len(own) == len(octets) and _number(own) >> shift == _number(octets) >> shift


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _is_ip_id(name: str) -> bool:
    return _parse_network(name) is not None


def _parse_network(text: str) -> tuple[bytes, int] | None:
    """An address, and how many of its bits count: all, or as many as `/bits` says."""
    address, slash, tail = text.partition("/")
    octets = _parse_address(address)
    if octets is None:
        return None
    bits = _parse_int(tail, 10) if slash else 8 * len(octets)
    return (octets, bits) if bits is not None and 0 <= bits <= 8 * len(octets) else None


def _parse_address(text: str) -> bytes | None:
    """As ZooKeeper reads it, more loosely than `ipaddress` and more strictly: numbers may have
    leading zeros and signs, but neither IPv4 at the end of IPv6 is known, nor are scopes."""
    if ":" in text:
        return _parse_ipv6(text)
    numbers = [_parse_int(part, 10) for part in text.split(".", 4)]
    octets = [each for each in numbers if each is not None and 0 <= each <= 0xFF]
    return bytes(octets) if len(octets) == len(numbers) == 4 else None


def _parse_ipv6(text: str) -> bytes | None:
    """Eight segments, or fewer around one `::`; a megabyte of them is not even looked at."""
    if text.count(":") > _COLONS_MAX:
        return None
    before, gap, after = text.partition("::")
    head, tail = _parse_segments(before), _parse_segments(after)
    if head is None or tail is None:
        return None
    missing = 16 - len(head) - len(tail)
    return head + bytes(missing) + tail if (missing > 0 if gap else missing == 0) else None


def _parse_segments(text: str) -> bytes | None:
    """Two octets each; -1 is ffff, which ZooKeeper lets pass."""
    packed = b""
    for each in text.split(":") if text else ():
        value = _parse_int(each, 16) if len(each) <= 4 else None
        if value is None:
            return None
        packed += (value & 0xFFFF).to_bytes(2, "big")
    return packed


def _parse_int(text: str, base: int) -> int | None:
    """What Java's `Integer.parseInt` takes, of ASCII: a sign and digits; no blanks, `_` or `0x`."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if len(digits) > _DIGITS_MAX or not digits.isascii() or not digits.isalnum():
        return None
    if digits[1:2] in ("x", "X"):
        return None
    try:
        return int(text, base)
    except ValueError:
        return None


def _is_digest_id(name: str) -> bool:
    user, colon, hashed = name.partition(":")
    return bool(colon and hashed) and ":" not in hashed


_PRINCIPAL: Final = re.compile(r"[^/@]*(?:/[^/@]*)?@[^/@]*")


def _is_sasl_id(name: str) -> bool:
    """ZooKeeper's: any name, but where it has an `@` as Kerberos writes it, user/host@realm."""
    return "@" not in name or _PRINCIPAL.fullmatch(name) is not None


_VALID_ID: Final[ValidIds] = {
    "world": lambda name: name == "anyone",
    "ip": _is_ip_id,
    "digest": _is_digest_id,
    "sasl": _is_sasl_id,
    "x509": is_name,
}
