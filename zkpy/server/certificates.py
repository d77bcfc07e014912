"""What a certificate in DER says of itself: its name, its hosts, and until when it is valid.

Certificates come here that OpenSSL has verified, or that the operator has configured.  Names
are written as Java's `X500Principal.getName()` writes them, RFC 2253: ACLs of the scheme
`x509` are compared with them letter by letter.  Whoever signs a certificate may write what he
likes into it: Python's own `getpeercert()` fails on names that are not UTF-8.
"""

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import attrs

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_OBJECT_IDENTIFIER: Final = 0x06
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_OTHER_NAMES: Final = "2.5.29.17"
"""The extension `subjectAltName`, and two of the kinds of names in it."""
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18

_KEYWORDS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""Those of RFC 2253; other attributes go by their number."""
_TEXT: Final = (0x0C, 0x13, 0x14, 0x16, 0x1B, 0x1E)
"""Kinds of text that Java shows as such, all read as UTF-8.  Other values are shown in hex."""
_ESCAPED: Final = ',=+<>#;"\\'
_BLANK: Final = " \r"
_IDENTIFIER_BYTES_MAX: Final = 128
"""Real ones have a dozen.  What reading one costs grows with the square of its size."""
_SUPPOSED_CENTURY: Final = 50
"""A year of two digits below it is of this century (RFC 5280)."""


Host = str | ipaddress.IPv4Address | ipaddress.IPv6Address
"""A name in lower case, or an address: the name `10.0.0.1` is not the address 10.0.0.1."""


class CertificateError(ValueError):
    """Bytes that are no certificate."""


@attrs.define(frozen=True)
class Certificate:
    subject: str
    """`CN=ann,O=Example`"""
    begins: datetime
    ends: datetime


def read(der: bytes) -> Certificate:
    """Raises CertificateError."""
    try:
        return _read(der)
    except (IndexError, ValueError, OverflowError) as why:
        raise CertificateError(str(why)) from None


def _read(der: bytes) -> Certificate:
    _, _, _, (_, validity), (_, subject) = _fields(der)[:5]
    begins, ends = (_read_time(kind, value) for kind, value in _values(validity))
    return Certificate(_name(subject), begins, ends)


def hosts_of(der: bytes) -> frozenset[Host]:
    """The hosts that it names.  Raises CertificateError.

    Its subject's CN counts, as a name or an address, only where there are no other names of
    hosts, and only if there is one.  No name stands for several hosts: `*` is a letter like
    others, and in no host's name.
    """
    try:
        return _hosts(der)
    except (IndexError, ValueError, OverflowError) as why:
        raise CertificateError(str(why)) from None


def _hosts(der: bytes) -> frozenset[Host]:
    fields = _fields(der)
    named = [host for kind, value in _other_names(fields) for host in _host(kind, value)]
    if not named:
        common = list(_common_names(fields[4][1]))
        named = [host_of(name) for name in common] if len(common) == 1 else []
    return frozenset(host for host in named if host)


def host_of(text: str) -> Host:
    """What an operator writes: a name, or an address in one of its forms."""
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return text.lower()


def _host(kind: int, value: bytes) -> Iterator[Host]:
    """Nothing for what is no host's name, as is an email address."""
    if kind == _DNS_NAME:
        yield value.decode("utf-8", "backslashreplace").lower()
    elif kind == _IP_ADDRESS:
        yield ipaddress.ip_address(value)


def _other_names(fields: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    for tag, value in fields[6:]:
        if tag == _EXTENSIONS:
            for _, extension in _values(_next(value, 0)[1]):
                (_, number), *_, (_, content) = _values(extension)
                if _dotted(number) == _OTHER_NAMES:
                    yield from _values(_next(content, 0)[1])


def _common_names(subject: bytes) -> Iterator[str]:
    for _, part in _values(subject):
        for _, attribute in _values(part):
            (_, number), (kind, value) = _values(attribute)
            if _KEYWORDS.get(_dotted(number)) == "CN":
                yield _read_text(kind, value) or ""


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    """(tag, contents) of what is signed: number, algorithm, issuer, validity, subject, key, ..."""
    tag, whole, _ = _next(der, 0)
    _, body, _ = _next(whole, 0)
    if tag != _SEQUENCE:
        raise ValueError("it is no certificate")
    fields = list(_values(body))
    if fields[0][0] == _VERSION:
        del fields[0]
    return fields


def _next(data: bytes, at: int) -> tuple[int, bytes, int]:
    """(tag, contents, where the next one begins) of the DER value at `at`."""
    tag, size = data[at], data[at + 1]
    at += 2
    if size == 0x80:
        raise ValueError("it has a value of no certain size")
    if size > 0x80:
        width = size & 0x7F
        size = int.from_bytes(data[at : at + width], "big")
        at += width
    if at + size > len(data):
        raise ValueError("it is cut off")
    return tag, data[at : at + size], at + size


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, value, at = _next(data, at)
        yield tag, value


def _read_time(kind: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if kind == _UTC_TIME:
        text = ("20" if int(text[:2]) < _SUPPOSED_CENTURY else "19") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError("its validity is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


# --- names ---------------------------------------------------------------------------


def _name(subject: bytes) -> str:
    """The last part first, as RFC 2253 has it."""
    parts = [_part(value) for tag, value in _values(subject) if tag == _SET]
    return ",".join(reversed(parts))


def _part(data: bytes) -> str:
    """One relative name: often one attribute, else joined by `+`."""
    return "+".join(_attribute(value) for _, value in _values(data))


def _attribute(data: bytes) -> str:
    tag, number, at = _next(data, 0)
    if tag != _OBJECT_IDENTIFIER:
        raise ValueError("a name has an attribute without a type")
    kind, value, _ = _next(data, at)
    keyword = _KEYWORDS.get(_dotted(number))
    text = _read_text(kind, value)
    if keyword is None or text is None:
        return f"{keyword or _dotted(number)}=#{data[at:].hex()}"
    return f"{keyword}={_escape(text)}"


def _read_text(kind: int, value: bytes) -> str | None:
    """None for what is no text.  Java replaces what is not UTF-8: different names could be one."""
    try:
        return value.decode("utf-8") if kind in _TEXT else None
    except UnicodeDecodeError:
        return None


def _dotted(number: bytes) -> str:
    """An object identifier, as it is written."""
    if len(number) > _IDENTIFIER_BYTES_MAX:
        raise ValueError("it has an attribute of an endless type")
    parts, part = [], 0
    for octet in number:
        part = part << 7 | octet & 0x7F
        if octet < 0x80:
            parts.append(part)
            part = 0
    first = min(parts[0] // 40, 2)
    return ".".join(map(str, [first, parts[0] - 40 * first, *parts[1:]]))


def _escape(text: str) -> str:
    """What has a meaning in a name, and blanks at both ends, with a backslash each."""
    plain = "".join(
        f"\\{each}" if each in _ESCAPED else "\\00" if each == "\0" else each for each in text
    )
    begin = len(plain) - len(plain.lstrip(_BLANK))
    end = len(plain.rstrip(_BLANK))
    return "".join(plain[at] if begin <= at < end else f"\\{plain[at]}" for at in range(len(plain)))
