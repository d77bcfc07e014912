"""Reader of JAAS files: the login modules of each section, with their options.

The format is that of Java's `com.sun.security.auth.login.ConfigFile`:

    Server {
        org.apache.zookeeper.server.auth.DigestLoginModule required
        user_jane="secret"
        user_bob="other";
    };

Words, or strings in double quotes with backslash escapes, which may hold anything; comments as
in Java.  Each module ends with `;`, and so does each section.  Other than Java, a string must end
on its line, a comment has to be closed, and an option may be given once.  What the values mean,
`${property}` in them too, is for who uses them.

A password without quotes ends early, and what comes behind it is read as the next option.  So
an error or a warning names options by `show_option` alone.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from zkpy.errors import ConfigError

FLAGS: Final = ("required", "requisite", "sufficient", "optional")
USER: Final = "user_"
"""Before the name of a user."""
_KNOWN: Final = ("username", "password", "keyTab", "principal")


def show_option(key: str) -> str:
    """The name of an option as it may be shown: another one can be a piece of a password."""
    return key if key.startswith(USER) or key in _KNOWN else "an option"


@attrs.frozen
class Option:
    value: str = attrs.field(repr=False)
    where: str
    """`jaas.conf:7`"""


@attrs.frozen
class LoginModule:
    name: str
    options: Mapping[str, Option]
    where: str


_TOKEN: Final = re.compile(
    r"""
    (?P<space> [ \t\r\n\f\v]+ | //[^\r\n]* | /\*.*?\*/ )
    | (?P<text> "(?:[^"\\\r\n]|\\[^\r\n])*" )
    | (?P<word> [A-Za-z_$*\u00a0-\U0010ffff][0-9A-Za-z_$*.\u00a0-\U0010ffff-]* )
    | (?P<mark> [{}=;] )
    """,
    re.VERBOSE | re.DOTALL,
)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_ESCAPE: Final = re.compile(r"\\([0-3][0-7]{0,2}|[4-7][0-7]?|.)")
_ESCAPED: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
}


@attrs.frozen
class _Token:
    kind: str
    """`text`, `word`, `mark`, or `end`."""
    value: str = attrs.field(repr=False)
    where: str

    def wanted(self, what: str) -> ConfigError:
        """An error that does not tell what stands there instead: it may be a password."""
        if self.kind == "end":
            return ConfigError(f"{self.where}: the file ends where {what} is needed")
        return ConfigError(f"{self.where}: {what} is needed here")


def parse_jaas(text: str, name: str) -> dict[str, tuple[LoginModule, ...]]:
    """Section -> its login modules.  `name` is that of the file, for errors.

    Raises ConfigError, which names file and line, and no values.
    """
    reader = _Reader(_tokens(text.removeprefix("\ufeff"), name))
    sections: dict[str, tuple[LoginModule, ...]] = {}
    while reader.next.kind != "end":
        where = reader.next.where
        section = reader.take_name("the name of a section")
        if section in sections:
            raise ConfigError(f"{where}: there are two sections {section}")
        sections[section] = _read_section(reader)
    return sections


def _read_section(reader: "_Reader") -> tuple[LoginModule, ...]:
    reader.take_mark("{")
    modules: list[LoginModule] = []
    while not reader.at_mark("}"):
        modules.append(_read_module(reader))
    reader.take_mark("}")
    reader.take_mark(";")
    return tuple(modules)


def _read_module(reader: "_Reader") -> LoginModule:
    where = reader.next.where
    name = reader.take_name("the class of a login module")
    flag = reader.next
    if reader.take_name(f"one of {', '.join(FLAGS)}").lower() not in FLAGS:
        raise flag.wanted(f"one of {', '.join(FLAGS)}")
    options: dict[str, Option] = {}
    while not reader.at_mark(";"):
        at = reader.next.where
        key = reader.take_name("an option as key=value, or the ; behind the last one,")
        if key in options:
            raise ConfigError(f"{at}: {show_option(key)} is given twice")
        reader.take_mark("=")
        value = reader.take_name('a value in double quotes, with \\" for one in it,')
        options[key] = Option(value, at)
    reader.take_mark(";")
    return LoginModule(name, options, where)


class _Reader:
    """The tokens, with the next one in sight."""

    def __init__(self, tokens: Iterator[_Token]) -> None:
        self._tokens = tokens
        self.next = next(tokens)

    def at_mark(self, mark: str) -> bool:
        return self.next.kind == "mark" and self.next.value == mark

    def take_mark(self, mark: str) -> None:
        if not self.at_mark(mark):
            raise self.next.wanted(mark)
        self.next = next(self._tokens)

    def take_name(self, what: str) -> str:
        """A word or a string: Java takes either wherever it takes one."""
        taken = self.next
        if taken.kind not in ("word", "text"):
            raise taken.wanted(what)
        self.next = next(self._tokens)
        return taken.value


def _tokens(text: str, name: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ConfigError(f"{name}:{line}: {_explain(text[at : at + 2])}")
        kind, found = match.lastgroup, match[0]
        if kind is not None and kind != "space":
            value = _unquote(found) if kind == "text" else found
            yield _Token(kind, value, f"{name}:{line}")
        line += len(_LINE_END.findall(found))
        at = match.end()
    yield _Token("end", "", f"{name}:{line}")


def _explain(found: str) -> str:
    """What is wrong with these characters, of which the first is no part of anything."""
    if found == "/*":
        return "this comment is never closed"
    if found[0] == '"':
        return "a string has to end on its line"
    if found[0] == "#":
        return "# opens no comment; // does"
    return "this can be no part of a JAAS file, unless it stands in double quotes"


def _unquote(quoted: str) -> str:
    return _ESCAPE.sub(_unescape, quoted[1:-1])


def _unescape(match: re.Match[str]) -> str:
    escaped = match[1]
    if escaped[0] in "01234567":
        return chr(int(escaped, 8))
    return _ESCAPED.get(escaped, escaped)
