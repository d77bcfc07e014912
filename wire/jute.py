"""Jute, ZooKeeper's serialisation: primitives, and `@record`, which compiles a class.

In and out: `bytes`.  A record is its fields in order, big-endian, without tags:

    int32, int64    4 and 8 bytes, two's complement
    boolean         1 byte; any value but 0 is true
    ustring         int32 byte count, UTF-8; count -1 (null) reads as ""
    buffer          int32 byte count, bytes; count -1 is None
    vector[X]       int32 item count, items; count -1 (null) reads as []
    a record        its fields

Theory of operation.  `@record` reads the annotations of a class once and writes the
source of three functions for it.  Nested records are flattened; every run of
fixed-size fields, with the count of the field behind it, becomes one `struct` call.
Decoders work on (data, pos, end): a view into the received bytes, without copies.

A decoder trusts nothing.  A count is compared with what is left before `end` before
anything is taken, so hostile counts allocate nothing.  A run of fixed-size fields may
be read past `end` (into the next frame, never past `data`): the comparison of `pos`
with `end` that closes every decoder refuses that record.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import count
from typing import (
    Annotated,
    Any,
    Final,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from wire.errors import RemoteProtocolError

int32: TypeAlias = Annotated[int, "int32"]
int64: TypeAlias = Annotated[int, "int64"]
boolean: TypeAlias = Annotated[bool, "boolean"]
ustring: TypeAlias = Annotated[str, "ustring"]
buffer: TypeAlias = Annotated[bytes | None, "buffer"]
optional_boolean: TypeAlias = Annotated[bool | None, "optional_boolean"]
"""Last field of a record only: None when the bytes end before it (readOnly, ZooKeeper 3.4)."""
vector = list

FIXED: Final = {"int32": "i", "int64": "q", "boolean": "?"}
COUNTED: Final = ("ustring", "buffer", "vector")

R = TypeVar("R", bound="Record")


class Record:
    """What `@record` gives a class; the three functions are generated for each."""

    __slots__ = ()

    def encode(self) -> bytes:
        """The record's bytes. `struct.error` for an int that does not fit its field."""
        raise NotImplementedError(f"{type(self).__name__} lacks @record")

    @classmethod
    def decode(cls, data: bytes, pos: int, end: int) -> tuple[Self, int]:
        """The record at `pos` and the position behind it, at most `end`."""
        raise NotImplementedError(f"{cls.__name__} lacks @record")

    @classmethod
    def parse(cls, data: bytes, pos: int, end: int) -> Self:
        """The record that fills `data[pos:end]`; RemoteProtocolError for any byte left over."""
        raise NotImplementedError(f"{cls.__name__} lacks @record")


@dataclass_transform(eq_default=True, field_specifiers=(attrs.field,))
def record(cls: type[R]) -> type[R]:
    """Make an attrs class with slots of `cls` and compile its codec."""
    return _compile(attrs.define(eq=True, weakref_slot=False)(cls))


@dataclass_transform(eq_default=True, field_specifiers=(attrs.field,))
def hashable_record(cls: type[R]) -> type[R]:
    """As `record`, for values that serve as dict keys; never change one of these."""
    return _compile(attrs.define(eq=True, unsafe_hash=True, weakref_slot=False)(cls))


# --- what the generated code calls


def refuse_count(count: int, left: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"a count of {count} where {left} bytes are left")


def refuse_end(pos: int, end: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"record ends at {pos}, its frame at {end}")


def decode_ustrings(data: bytes, pos: int, end: int, items: int) -> tuple[list[str], int]:
    """`items` strings from `pos` on: the body of vector[ustring]."""
    texts = []
    unpack = _INT32.unpack_from
    for _ in range(items):
        (size,) = unpack(data, pos)
        pos += 4
        if size < -1 or size > end - pos:
            raise refuse_count(size, end - pos)
        stop = pos + size if size > 0 else pos
        texts.append(data[pos:stop].decode())
        pos = stop
    return texts, pos


def encode_ustrings(texts: list[str]) -> bytes:
    pack = _INT32.pack
    parts = []
    for text in texts:
        encoded = text.encode()
        parts.append(pack(len(encoded)))
        parts.append(encoded)
    return b"".join(parts)


_INT32: Final = struct.Struct(">i")
_MALFORMED: Final = (struct.error, IndexError, UnicodeDecodeError)


# --- the compiler


@attrs.define
class _Field:
    """One leaf of a flattened record: how to reach it, its kind, the item of a vector."""

    access: str
    kind: str
    item: Any = None


class _Source:
    """Lines of generated code and the objects that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "MALFORMED": _MALFORMED,
            "RemoteProtocolError": RemoteProtocolError,
            "refuse_count": refuse_count,
            "refuse_end": refuse_end,
            "decode_ustrings": decode_ustrings,
            "encode_ustrings": encode_ustrings,
        }
        self.numbers = count()

    def name(self, prefix: str, value: Any = None) -> str:
        """A fresh name; bound to `value` in the generated code's globals unless None."""
        name = f"{prefix}{next(self.numbers)}"
        if value is not None:
            self.names[name] = value
        return name

    def add(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * depth + line for line in lines]


def _compile(cls: type[R]) -> type[R]:
    """Generate encode, decode and parse for an attrs class and hang them on it."""
    names: dict[str, Any] = {}
    for write in (_write_encode, _write_decode, _write_parse):
        source = _Source()
        write(source, cls)
        filename = f"<jute {cls.__name__}.{write.__name__[7:]}>"
        exec(compile("\n".join(source.lines), filename, "exec"), source.names)
        names |= source.names
    cls.encode = names["encode"]  # type: ignore[method-assign]
    cls.decode = staticmethod(names["decode"])  # type: ignore[method-assign]
    cls.parse = staticmethod(names["parse"])  # type: ignore[method-assign]
    return cls


def _attributes(cls: type[Record]) -> tuple[Any, ...]:
    """The fields of a class that `@record` made an attrs class, which mypy cannot see."""
    fields: tuple[Any, ...] = attrs.fields(cast(Any, cls))
    return fields


def _kind_of(hint: Any) -> tuple[str, Any]:
    """An annotation as ("int32" | ... | "vector" | "record", item)."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[1], None
    if get_origin(hint) is list:
        return "vector", get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, Record):
        return "record", hint
    raise TypeError(f"{hint!r} is no jute type")


def _fields_of(cls: type[Record], access: str = "self") -> Iterator[_Field]:
    """The leaves of a record, nested records flattened, in wire order."""
    hints = get_type_hints(cls, include_extras=True)
    for attribute in _attributes(cls):
        kind, item = _kind_of(hints[attribute.name])
        path = f"{access}.{attribute.name}"
        if kind == "record":
            yield from _fields_of(item, path)
        else:
            yield _Field(path, kind, item)


def _runs_of(cls: type[Record]) -> Iterator[tuple[list[_Field], _Field | None]]:
    """The leaves as runs: fixed-size fields, then the field that ends the run."""
    run: list[_Field] = []
    for field in _fields_of(cls):
        if field.kind in FIXED:
            run.append(field)
        else:
            yield run, field
            run = []
    if run:
        yield run, None


def _format(run: list[_Field], last: _Field | None) -> str:
    """The `struct` format of a run, with the count of a counted field behind it."""
    counted = "i" if last is not None and last.kind in COUNTED else ""
    return ">" + "".join(FIXED[field.kind] for field in run) + counted


def _write_encode(source: _Source, cls: type[Record]) -> None:
    source.add(0, "def encode(self):")
    parts: list[str] = []
    for run, last in _runs_of(cls):
        arguments = [field.access for field in run]
        tail: list[str] = []
        if last is not None:
            value, size, body = _write_counted(source, last)
            source.add(1, *value)
            arguments += size
            tail = body
        if arguments:
            pack = source.name("pack", struct.Struct(_format(run, last)).pack)
            parts.append(f"{pack}({', '.join(arguments)})")
        parts += tail
    if len(parts) == 1:
        source.add(1, f"return {parts[0]}")
    elif parts:
        source.add(1, f"return b''.join(({', '.join(parts)},))")
    else:
        source.add(1, "return b''")


def _write_counted(source: _Source, field: _Field) -> tuple[list[str], list[str], list[str]]:
    """Statements, count argument and body expression that encode one counted field."""
    value = source.name("v")
    if field.kind == "ustring":
        return [f"{value} = {field.access}.encode()"], [f"len({value})"], [value]
    statement = [f"{value} = {field.access}"]
    if field.kind == "buffer":
        return statement, [f"-1 if {value} is None else len({value})"], [f"{value} or b''"]
    if field.kind == "optional_boolean":
        return statement, [], [f"(b'' if {value} is None else b'\\1' if {value} else b'\\0')"]
    if _kind_of(field.item)[0] == "ustring":
        return statement, [f"len({value})"], [f"encode_ustrings({value})"]
    return statement, [f"len({value})"], [f"b''.join([item.encode() for item in {value}])"]


def _write_decode(source: _Source, cls: type[Record]) -> None:
    _write_reader(source, cls, "decode")
    source.add(1, "if pos > end:", "    raise refuse_end(pos, end)", "return made, pos")


def _write_parse(source: _Source, cls: type[Record]) -> None:
    _write_reader(source, cls, "parse")
    source.add(1, "if pos != end:", "    raise refuse_end(pos, end)", "return made")


def _write_reader(source: _Source, cls: type[Record], function: str) -> None:
    """The body that decoders share: ends with the record in `made`, `pos` behind it."""
    values: dict[str, str] = {}
    source.add(0, f"def {function}(data, pos, end):")
    source.add(1, "try:", "    pass" if not _attributes(cls) else "    # fields")
    for run, last in _runs_of(cls):
        size = _write_run(source, run, last, values)
        if last is not None:
            values[last.access] = source.name("v")
            _READERS[last.kind](source, last, values[last.access], size)
    source.add(1, "except MALFORMED as error:")
    source.add(2, f"raise RemoteProtocolError(f'malformed {cls.__name__}: {{error}}') from None")
    source.add(1, f"made = {_construction(source, cls, values)}")


def _write_run(
    source: _Source, run: list[_Field], last: _Field | None, values: dict[str, str]
) -> str:
    """Read one run of fixed-size fields; the name that holds the count behind it."""
    targets = [source.name("v") for _ in run]
    values |= {field.access: target for field, target in zip(run, targets, strict=True)}
    layout = _format(run, last)
    size = source.name("size")
    if layout.endswith("i") and last is not None and last.kind in COUNTED:
        targets.append(size)
    if layout == ">?":
        source.add(2, f"{targets[0]} = data[pos] != 0", "pos += 1")
    elif targets:
        unpack = source.name("unpack", struct.Struct(layout).unpack_from)
        source.add(2, f"{', '.join(targets)}, = {unpack}(data, pos)")
        source.add(2, f"pos += {struct.calcsize(layout)}")
    return size


def _read_ustring(source: _Source, field: _Field, value: str, size: str) -> None:
    source.add(
        2,
        f"if {size} > 0:",
        f"    stop = pos + {size}",
        "    if stop > end:",
        f"        raise refuse_count({size}, end - pos)",
        f"    {value} = data[pos:stop].decode()",
        "    pos = stop",
        f"elif {size} >= -1:",
        f"    {value} = ''",
        "else:",
        f"    raise refuse_count({size}, end - pos)",
    )


def _read_buffer(source: _Source, field: _Field, value: str, size: str) -> None:
    source.add(
        2,
        f"if {size} >= 0:",
        f"    stop = pos + {size}",
        "    if stop > end:",
        f"        raise refuse_count({size}, end - pos)",
        f"    {value} = data[pos:stop]",
        "    pos = stop",
        f"elif {size} == -1:",
        f"    {value} = None",
        "else:",
        f"    raise refuse_count({size}, end - pos)",
    )


def _read_vector(source: _Source, field: _Field, value: str, size: str) -> None:
    """No item takes less than one byte, so a count above what is left is a lie."""
    source.add(
        2, f"if {size} < -1 or {size} > end - pos:", f"    raise refuse_count({size}, end - pos)"
    )
    if _kind_of(field.item)[0] == "ustring":
        source.add(2, f"{value}, pos = decode_ustrings(data, pos, end, {size})")
        return
    decode = source.name("decode", field.item.decode)
    source.add(
        2,
        f"{value} = []",
        f"for _ in range({size}):",
        f"    item, pos = {decode}(data, pos, end)",
        f"    {value}.append(item)",
    )


def _read_optional_boolean(source: _Source, field: _Field, value: str, size: str) -> None:
    source.add(
        2,
        "if pos == end:",
        f"    {value} = None",
        "else:",
        f"    {value} = data[pos] != 0",
        "    pos += 1",
    )


_READERS: Final[dict[str, Callable[[_Source, _Field, str, str], None]]] = {
    "ustring": _read_ustring,
    "buffer": _read_buffer,
    "vector": _read_vector,
    "optional_boolean": _read_optional_boolean,
}


def _construction(
    source: _Source, cls: type[Record], values: dict[str, str], access: str = "self"
) -> str:
    """The expression that builds the record, and those nested in it, from the leaves."""
    hints = get_type_hints(cls, include_extras=True)
    arguments = []
    for attribute in _attributes(cls):
        path = f"{access}.{attribute.name}"
        kind, item = _kind_of(hints[attribute.name])
        nested = kind == "record"
        arguments.append(_construction(source, item, values, path) if nested else values[path])
    return f"{source.name('cls', cls)}({', '.join(arguments)})"
