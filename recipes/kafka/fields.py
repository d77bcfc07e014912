"""Reading and writing the JSON of Kafka's znodes.

Bytes in, typed fields out, and back.  Kafka reads by name: the order of keys means nothing,
and a key that it does not know is passed over.  So it is here.  What is missing or of
another type is a `FormatError` that names the field.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

T = TypeVar("T", int, str, bool)
MOST_DIGITS: Final = 19


class FormatError(ValueError):
    """A znode does not hold what Kafka would have written there."""


def dump(record: Mapping[str, Any]) -> bytes:
    """As Jackson does it: no blanks, UTF-8."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def load(data: bytes, what: str) -> "Fields":
    """FormatError unless it is a JSON object; `what` is named in complaints."""
    value = parse(data, what)
    if not isinstance(value, dict):
        raise FormatError(f"{what}: not a JSON object: {data!r:.200}")
    return Fields(what, value)


def parse(data: bytes, what: str) -> Any:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as why:
        raise FormatError(f"{what}: not JSON ({why}): {data!r:.200}") from None


def load_number(data: bytes, what: str) -> int:
    """A znode that holds nothing but a decimal number."""
    try:
        text = data.decode("ascii")
        if text != text.strip() or "_" in text:
            raise ValueError
        return int(text)
    except ValueError:
        raise FormatError(f"{what}: not a decimal number: {data!r:.200}") from None


def dump_number(number: int) -> bytes:
    return str(number).encode()


@attrs.frozen
class Fields:
    """A JSON object, read field by field."""

    what: str
    values: dict[str, Any]

    def has(self, name: str) -> bool:
        """Whether it is there and not null."""
        return self.values.get(name) is not None

    def number(self, name: str) -> int:
        value: int = self._typed(name, int)
        return value

    def text(self, name: str) -> str:
        value: str = self._typed(name, str)
        return value

    def numbers(self, name: str) -> tuple[int, ...]:
        return self._list(name, int)

    def texts(self, name: str) -> tuple[str, ...]:
        return self._list(name, str)

    def timestamp(self) -> int:
        """Milliseconds since 1970, 0 if none.  Kafka writes digits in a string, and reads none."""
        text = str(self.values.get("timestamp", "0"))
        return int(text) if is_number(text) else 0

    def inner(self, name: str) -> "Fields":
        value = self._typed(name, dict)
        return Fields(f"{self.what}: {name}", value)

    def inner_or_none(self, name: str) -> "Fields | None":
        return self.inner(name) if self.has(name) else None

    def inners(self, name: str) -> list["Fields"]:
        """A list of objects."""
        where = f"{self.what}: {name}"
        return [Fields(where, each) for each in self._list(name, dict)]

    def numbered(self) -> dict[int, tuple[int, ...]]:
        """All of it: lists of numbers by number, as in `{"0":[1,2]}`."""
        return {self._number_of(name): self.numbers(name) for name in self.values}

    def mapping(self, kind: type[T]) -> dict[str, T]:
        """All of it, by name."""
        return {name: self._typed(name, kind) for name in self.values}

    def _number_of(self, name: str) -> int:
        if not is_number(name):
            raise FormatError(f"{self.what}: {name!r} is not a number")
        return int(name)

    def _list(self, name: str, kind: type[Any]) -> tuple[Any, ...]:
        value = self._typed(name, list)
        if not all(is_a(each, kind) for each in value):
            raise FormatError(f"{self.what}: {name}: {value!r:.200} are not all {kind.__name__}")
        return tuple(value)

    def _typed(self, name: str, kind: type[Any]) -> Any:
        if not self.has(name):
            raise FormatError(f"{self.what}: no field {name}")
        value = self.values[name]
        if not is_a(value, kind):
            raise FormatError(f"{self.what}: {name}: {value!r:.200} is no {kind.__name__}")
        return value


def is_a(value: object, kind: type[Any]) -> bool:
    """`true` is no number."""
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def is_number(text: str) -> bool:
    """Decimal digits, of at most 64 bits: not what else Unicode, or Python, takes for a number."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def one_of(value: int, known: Sequence[int], what: str) -> int:
    if value not in known:
        raise FormatError(f"{what} {value} cannot be written: {', '.join(map(str, known))} can")
    return value
