"""Text -> value.  A parser raises ValueError with what would be right."""

import ipaddress
import re
from collections.abc import Callable
from typing import Final

import attrs

from zkpy.config.properties import Setting
from zkpy.membership import ANY_ADDRESS, parse_host

_NUMBER: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]{1,18})")

Parser = Callable[[str], object]
"""Text -> value, perhaps `Corrected`; ValueError says what would be right."""


@attrs.frozen
class Corrected:
    """What ZooKeeper, or we, take instead of a value that ends no start there."""

    value: object
    how: str


def whole(low: int, high: int = 2**63 - 1, unit: str = "") -> Parser:
    """A whole number, also in hexadecimal as Java reads `0xfffff`."""
    bounds = f"at least {low}" if high >= 2**31 else f"from {low} to {high}"
    wanted = f"a whole number{' of ' + unit if unit else ''}, {bounds}, is needed"

    def parse(text: str) -> int:
        if not _NUMBER.fullmatch(text):
            raise ValueError(wanted)
        number = int(text, 16 if "x" in text.lower() else 10)
        if not low <= number <= high:
            raise ValueError(wanted)
        return number

    return parse


def _integer(text: str, unit: str = "") -> int:
    """One of 32 bits: what Java takes."""
    number = whole(-(2**31), 2**31 - 1, unit)(text)
    assert isinstance(number, int)
    return number


def raised(low: int, unit: str = "", scale: int = 1) -> Parser:
    """A whole number, at least `low`; a smaller one counts as that, and a warning says so."""

    def parse(text: str) -> object:
        number = _integer(text, unit)
        return Corrected(low * scale, f"is raised to {low}") if number < low else number * scale

    return parse


def kilobytes(low: int) -> Parser:
    return raised(low, "kilobytes", 1024)


def parse_bound(text: str) -> int:
    """No bound, as 0 is, if it is negative."""
    return max(_integer(text), 0)


def parse_sync_warning(text: str) -> int:
    """ZooKeeper warns of what took more whole milliseconds: with 0, or less, of one or more."""
    return max(_integer(text, "milliseconds"), 1)


def parse_snapshot_size(text: str) -> int:
    """Bytes; without a bound, as in ZooKeeper, if the number of kilobytes is not positive."""
    size = whole(-(2**40), 2**40, "kilobytes")(text)
    assert isinstance(size, int)
    return size * 1024 if size > 0 else 2**62


_FLAGS: Final = {"true": True, "yes": True, "false": False, "no": False}


def parse_flag(text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError("true or false is needed") from None


def parse_property(text: str) -> object:
    """A flag that is a system property in Java: there, all but "true" is false, 1 as well."""
    if text.lower() in ("0", "1", "off", "on"):
        return Corrected(False, "is read as false, as in ZooKeeper: true or false is meant")
    return parse_flag(text)


def parse_text(text: str) -> str:
    if not text:
        raise ValueError("a value is needed")
    if "\0" in text:
        raise ValueError("a value without a null character is needed")
    return text


def parse_unicode(text: str) -> str:
    """What will be encoded; the name of a file may be any bytes instead."""
    if any("\ud800" <= each <= "\udfff" for each in text):
        raise ValueError("a value in UTF-8 is needed")
    return parse_text(text)


_LABEL: Final = "[A-Za-z0-9_-]{1,63}"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")


def parse_http_host(text: str) -> str:
    """Where HTTP is spoken.  What can be no name is refused here: looking it up would fail in
    ways that name no line."""
    host = parse_host(text)
    if host != ANY_ADDRESS and not _HOST_NAME.fullmatch(host) and not is_address(host):
        raise ValueError("a name or an address of this machine is needed")
    return host


def is_address(host: str) -> bool:
    """Whether it is an address, IPv4 or IPv6, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches it; names are not looked up."""
    if is_address(host):
        return ipaddress.ip_address(host).is_loopback
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def parse_path(text: str) -> str:
    """Of a URL: what stands before the names of commands."""
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", text):
        raise ValueError("a path is needed, for example /commands")
    if text.rstrip("/") == "/metrics":
        raise ValueError("that is where the figures are: another path is needed")
    return text.rstrip("/")


def parse_words(text: str) -> tuple[str, ...]:
    """`4lw.commands.whitelist`; srvr is always in it, as in ZooKeeper."""
    words = [word.strip() for word in text.split(",")]
    return tuple(dict.fromkeys([word for word in words if word] + ["srvr"]))


def parse_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in parse_text(text).split(","))


def parse_purge_interval(text: str) -> bool:
    """Whether old images and logs are removed at all.

    They are after every new image, so that the length of the interval - hours in
    ZooKeeper, or a number with a unit - says nothing here."""
    if not re.fullmatch(r"[+-]?\d+(ms|s|m|h|d)?", text):
        raise ValueError("a whole number of hours is needed, 0 for never")
    return int(re.sub(r"[a-z]", "", text)) > 0


_HASHES: Final = {
    **dict.fromkeys(("SHA1", "SHA-1", "SHA"), "sha1"),
    **{f"SHA-{bits}": f"sha{bits}" for bits in (224, 256, 384, 512)},
    **{f"SHA3-{bits}": f"sha3_{bits}" for bits in (224, 256, 384, 512)},
    "MD5": "md5",
}
"""Java's names, in any case -> those of `hashlib`."""


def parse_hash(text: str) -> str:
    try:
        return _HASHES[text.upper()]
    except KeyError:
        raise ValueError(f"one of {', '.join(_HASHES)} is needed") from None


def parse_election(text: str) -> int:
    if text != "3":
        raise ValueError("3 is the only election algorithm there is")
    return 3


port = whole(0, 65535)
ms = whole(1, 2**31 - 1, "milliseconds")
count = whole(0, 2**31 - 1)


def parse_setting(setting: Setting, parser: Parser) -> object:
    try:
        return parser(setting.value)
    except ValueError as why:
        raise setting.error(str(why)) from None
