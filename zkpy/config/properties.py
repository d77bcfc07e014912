"""Settings as they are written: Java properties files, and options.

A file is read as Java reads it: `key=value`, `key:value` or `key value`; `#` and `!`
open comment lines; a backslash escapes, and at the end of a line joins the next.
"""

import re
from collections.abc import Iterable
from typing import Final

import attrs

from zkpy.errors import ConfigError

PREFIX: Final = "zookeeper."
"""System properties of ZooKeeper have it; a key means the same with and without."""


@attrs.define(frozen=True)
class Setting:
    """One key and value, and where it was written: `zoo.cfg:7`, or an option."""

    key: str
    value: str
    where: str

    def error(self, why: str) -> ConfigError:
        return ConfigError(f"{self}: {why}")

    def __str__(self) -> str:
        shown = self.key if is_secret(self.key) else f"{self.key}={self.value}"
        return f"{self.where}: {shown}"

    def __repr__(self) -> str:
        """Without the value, be it a secret or not."""
        return f"Setting({self.where!r}, {self.key!r})"

    def warning(self, text: str) -> str:
        return f"{self.where}: {self.key} {text}"


def is_secret(key: str) -> bool:
    lowered = key.lower()
    return "password" in lowered or "digest" in lowered or "secret" in lowered


_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_KEY_END: Final = re.compile(r"((?:\\.|[^\\=:\s])*)\s*[=:]?\s*", re.DOTALL)


def read_properties(text: str, name: str) -> list[Setting]:
    """The settings of a Java properties file, in order.

    `key=value`, `key:value` or `key value`; `#` and `!` open comments; a backslash
    escapes, and joins lines at their end.  Values are trimmed, as ZooKeeper does.
    """
    return [
        _split(line, f"{name}:{number}") for number, line in _logical_lines(text) if line.strip()
    ]


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """(number of its first line, line) with continuations joined and comments left out."""
    started, joined = 0, ""
    for number, raw in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), 1):
        line = raw.lstrip()
        if not joined and line.startswith(("#", "!")):
            continue
        started = started if joined else number
        joined += line
        if _continues(line):
            joined = joined[:-1]
            continue
        yield started, joined
        joined = ""
    yield started, joined


def _continues(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split(line: str, where: str) -> Setting:
    match = _KEY_END.match(line)
    assert match is not None  # every part of the pattern may be empty
    key = _unescape(match[1]).removeprefix(PREFIX)
    if not key:
        raise ConfigError(f"{where}: there is no key before '='; key=value is needed")
    return Setting(key, _unescape(line[match.end() :]).strip(), where)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED.get(m[2], m[2]), text)
    # Java writes what lies beyond 16 bits as two halves.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def option_setting(text: str) -> Setting:
    """A setting from `-D key=value`."""
    key, separator, value = text.partition("=")
    key = key.strip().removeprefix(PREFIX)
    if not key or not separator:
        raise ConfigError(f"-D {key}: key=value is needed, for example -D snapCount=50000")
    return Setting(key, value.strip(), "-D")
