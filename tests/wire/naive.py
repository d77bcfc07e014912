"""Jute once more, field by field and without a compiler: what wire.jute is compared with.

`encode` notes where each count lies, so that tests can put lies there;
`records` draws records of a class.
"""

import struct
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import attrs
from hypothesis import strategies as st

from wire.jute import Record

INTS = {"int32": (">i", 32), "int64": (">q", 64)}


class Encoding:
    """The bytes so far, and the positions of the counts among them."""

    def __init__(self) -> None:
        self.data = b""
        self.counts: list[int] = []

    def add_count(self, count: int) -> None:
        self.counts.append(len(self.data))
        self.data += struct.pack(">i", count)


def encode(record: Record) -> Encoding:
    encoding = Encoding()
    add_record(encoding, record)
    return encoding


def add_record(encoding: Encoding, record: Record) -> None:
    for name, hint in get_type_hints(type(record), include_extras=True).items():
        add_value(encoding, hint, getattr(record, name))


def add_value(encoding: Encoding, hint: Any, value: Any) -> None:
    if get_origin(hint) is list:
        encoding.add_count(len(value))
        for item in value:
            add_value(encoding, get_args(hint)[0], item)
    elif get_origin(hint) is Annotated:
        add_primitive(encoding, get_args(hint)[1], value)
    else:
        add_record(encoding, value)


def add_primitive(encoding: Encoding, kind: str, value: Any) -> None:
    if kind in INTS:
        encoding.data += struct.pack(INTS[kind][0], value)
    elif kind in ("boolean", "optional_boolean"):
        encoding.data += b"" if value is None else bytes([value])
    elif value is None:
        encoding.add_count(-1)
    else:
        body = value.encode() if kind == "ustring" else value
        encoding.add_count(len(body))
        encoding.data += body


def ints(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "int32": ints(32),
    "int64": ints(64),
    "boolean": st.booleans(),
    "optional_boolean": st.none() | st.booleans(),
    "ustring": st.text(max_size=6),
    "buffer": st.none() | st.binary(max_size=6),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is list:
        return st.lists(values(get_args(hint)[0]), max_size=3)
    if get_origin(hint) is Annotated:
        return PRIMITIVES[get_args(hint)[1]]
    return records(hint)


def records(cls: type[Record]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls, include_extras=True)
    fields: tuple[Any, ...] = attrs.fields(cls)  # type: ignore[arg-type]
    return st.builds(cls, *[values(hints[field.name]) for field in fields])


def decode_outcome(cls: type[Record], data: bytes, pos: int, end: int) -> Record | str:
    """What parse gives, or the name of what it raises."""
    try:
        return cls.parse(data, pos, end)
    except Exception as error:
        return type(error).__name__
