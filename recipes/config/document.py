"""One published configuration as bytes: what the node holds, and a node of history (pure).

    PATH                       the document in force; empty until the first publish
    PATH/history/<revision>    the same bytes, once more, for each of the last revisions

A document is UTF-8 JSON of at most MAX_BYTES:

    {"format":1,"revision":7,"id":"<32 hex>","at":1700000000000,"by":"ops","note":"","values":{...}}

All values of a configuration are in one document, and the document in one znode, so no reader
can see half of a publish; several nodes with a manifest would do it too, at the price of
more reads per subscriber and of values that have to be kept for as long as somebody may read
an old manifest. What that costs is the bound on its size.

The revision is the version that the znode has with this document, so that the server itself
counts it, and a node that was written by other means is found out.
"""

import json
from typing import Any, Final, Generic, TypeVar

import attrs

from recipes.config.errors import ConfigError, FormatError, InvalidConfigError, TooLargeError
from recipes.config.schema import Schema

T = TypeVar("T")

MAX_BYTES: Final = 500_000
"""A publish carries the document twice, in one request of at most 1 MiB less a byte (a server's
default for jute.maxbuffer)."""
FORMAT: Final = 1
HISTORY: Final = "history"


@attrs.frozen
class Document:
    """What one publish wrote, its values in their plain form."""

    revision: int
    """From 1."""
    id: str
    """Of this publish, by which it is known again when its answer was lost."""
    at: int
    """Wall clock of the publisher, ms."""
    by: str
    note: str
    values: dict[str, Any]


@attrs.frozen
class Node:
    """Which znode, and which version of it: czxid and version of its Stat."""

    born: int
    version: int


@attrs.frozen
class Published(Generic[T]):
    """A revision as a program sees it."""

    value: T
    revision: int
    at: int
    """Wall clock of the publisher, ms."""
    by: str
    note: str


def published(document: Document, schema: Schema[T]) -> Published[T]:
    """Raises InvalidConfigError."""
    value = schema.read(document.values)
    return Published(value, document.revision, document.at, document.by, document.note)


def encode(document: Document) -> bytes:
    """Raises TooLargeError."""
    text = json.dumps(
        {"format": FORMAT, **attrs.asdict(document, recurse=False)},
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    )
    try:
        data = text.encode()
    except UnicodeEncodeError as why:
        raise InvalidConfigError([f"a surrogate in a string: {why}"]) from why
    if len(data) > MAX_BYTES:
        raise TooLargeError(f"{len(data)} bytes, of {MAX_BYTES} at most")
    return data


def decode(data: bytes | None) -> Document:
    """Raises FormatError."""
    try:
        # A znode without data has None in kazoo.
        plain = json.loads(data or b"", parse_constant=_no_constant)
    except (ValueError, RecursionError) as why:
        raise FormatError(f"not JSON: {why}") from why
    if not isinstance(plain, dict) or plain.pop("format", None) != FORMAT:
        raise FormatError(f"not a configuration of format {FORMAT}")
    try:
        return Schema(Header).read(plain).document(plain["values"])
    except (InvalidConfigError, KeyError) as why:
        raise FormatError(f"not a configuration: {why}") from why


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


@attrs.frozen
class Header:
    """A document without its values, as a schema reads it."""

    revision: int
    id: str
    at: int
    by: str
    note: str

    def document(self, values: Any) -> Document:
        if not isinstance(values, dict):
            raise FormatError("values: not a mapping")
        return Document(self.revision, self.id, self.at, self.by, self.note, values)


def history_name(revision: int) -> str:
    return f"{revision:010d}"


def revision_of(name: str) -> int | None:
    """None for a name that is no node of history."""
    return int(name) if len(name) == 10 and name.isascii() and name.isdigit() else None


# --- what a subscriber does with what it read ---------------------------------------------------


@attrs.frozen
class Good(Generic[T]):
    """The document and the node that hold it, which a subscriber keeps as its last good one."""

    node: Node
    document: Document
    published: Published[T]


@attrs.frozen
class Adopt(Generic[T]):
    """A new revision."""

    good: Good[T]


@attrs.frozen
class Keep:
    """Nothing new.  `current` says whether what we have is what is in force."""

    current: bool


@attrs.frozen
class Refuse:
    """What is in force cannot be used."""

    node: Node
    problem: str


Verdict = Adopt[T] | Keep | Refuse


def judge(last: Good[T] | None, data: bytes, node: Node, schema: Schema[T]) -> Verdict[T]:
    """What to do with the bytes that were read in that version of the node."""
    if last is not None and last.node.born == node.born and last.node.version >= node.version:
        # Never back: a member that lags behind may show an older version.
        return Keep(current=last.node == node)
    if not data and node.version == 0:
        return Keep(current=last is None)
    try:
        good = examine(data, node, schema)
    except ConfigError as why:
        return Refuse(node, str(why))
    return Adopt(good)


def examine(data: bytes, node: Node, schema: Schema[T]) -> Good[T]:
    """Raises FormatError, InvalidConfigError."""
    document = decode(data)
    if document.revision != node.version:
        raise FormatError(f"revision {document.revision} in version {node.version} of its node")
    return Good(node, document, published(document, schema))
