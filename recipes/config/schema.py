"""Typed values and their plain form, which is what JSON has (pure).

A schema is an attrs class. Its fields are bool, int, float, str, an Enum (by its value), another
attrs class, `list[X]`, `tuple[X, ...]`, `dict[str, X]` of these, or `X | None`. Reading is
strict: no int for a str, no bool for an int (an int will do for a float). Keys that the schema
does not know are passed over, so that publishers may be newer than subscribers; keys that are
missing have their field's default, so that they may be older; without one it is a problem.

attrs' own validators run as part of reading, and all problems are told at once.
"""

import enum
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import attrs

from recipes.config.errors import InvalidConfigError

T = TypeVar("T")
Reader = Callable[[Any, str], Any]
"""reader(plain, its place) -> value.  Raises InvalidConfigError."""


class Schema(Generic[T]):
    """Of the attrs class `kind`.  Raises TypeError for a field of a type that is not listed."""

    def __init__(self, kind: type[T]) -> None:
        if not attrs.has(kind):
            raise TypeError(f"{kind!r} is no attrs class")
        self.kind = kind
        self._read = reader_of(kind)

    def read(self, plain: object) -> T:
        """Raises InvalidConfigError."""
        value: T = self._read(plain, "")
        return value

    def write(self, value: T) -> dict[str, Any]:
        """Raises InvalidConfigError, also for a value of which the plain form is not read as such:
        attributes may have been given what their annotations do not allow."""
        if not isinstance(value, self.kind):
            raise InvalidConfigError([f"not a {self.kind.__name__}"])
        plain: dict[str, Any] = plain_of(value)
        if self.read(plain) != value:
            raise InvalidConfigError(["not the same once it is read again"])
        return plain


def plain_of(value: Any) -> Any:
    """What JSON can hold; a value that it cannot is left as it is, for reading to refuse."""
    if attrs.has(type(value)):
        return {each.name: plain_of(getattr(value, each.name)) for each in fields_of(type(value))}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain_of(each) for each in value]
    if isinstance(value, dict):
        return {key: plain_of(each) for key, each in value.items()}
    return value


def fields_of(kind: type) -> "list[attrs.Attribute[Any]]":
    return [each for each in attrs.fields(kind) if each.init]


def reader_of(kind: Any) -> Reader:
    """Made once per schema."""
    if kind in SCALARS:
        return SCALARS[kind]
    origin = typing.get_origin(kind)
    if origin in COMPOUNDS:
        return COMPOUNDS[origin](kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return enum_reader(kind)
    if isinstance(kind, type) and attrs.has(kind):
        return record_reader(kind)
    raise TypeError(f"a schema cannot hold {kind!r}")


# --- scalars ---------------------------------------------------------------------------------


def _refuse(place: str, problem: str) -> typing.NoReturn:
    raise InvalidConfigError([f"{place}: {problem}" if place else problem])


def read_bool(plain: Any, place: str) -> bool:
    return plain if isinstance(plain, bool) else _refuse(place, "not a bool")


def read_int(plain: Any, place: str) -> int:
    return plain if type(plain) is int else _refuse(place, "not an int")


def read_float(plain: Any, place: str) -> float:
    is_number = isinstance(plain, int | float) and not isinstance(plain, bool)
    # JSON has neither infinities nor NaN, and NaN would not be equal to itself.
    return float(plain) if is_number and math.isfinite(plain) else _refuse(place, "not a float")


def read_str(plain: Any, place: str) -> str:
    return plain if isinstance(plain, str) else _refuse(place, "not a str")


def read_none(plain: Any, place: str) -> None:
    return None if plain is None else _refuse(place, "not None")


SCALARS: Final[dict[Any, Reader]] = {
    bool: read_bool,
    int: read_int,
    float: read_float,
    str: read_str,
    type(None): read_none,
}


def enum_reader(kind: type[enum.Enum]) -> Reader:
    if not all(type(each.value) in (str, int) for each in kind):
        raise TypeError(f"a schema cannot hold {kind!r}, only enums of str or int")

    def read(plain: Any, place: str) -> enum.Enum:
        try:
            return kind(plain)
        except ValueError:
            known = ", ".join(str(each.value) for each in kind)
            _refuse(place, f"none of {known}")

    return read


# --- compounds -------------------------------------------------------------------------------


def list_reader(kind: Any) -> Reader:
    (of,) = typing.get_args(kind)
    return _items_reader(list, reader_of(of))


def tuple_reader(kind: Any) -> Reader:
    of, *more = typing.get_args(kind)
    if more != [Ellipsis]:
        raise TypeError(f"a schema cannot hold {kind!r}, only tuple[X, ...]")
    return _items_reader(tuple, reader_of(of))


def _items_reader(make: Callable[[list[Any]], Any], read_one: Reader) -> Reader:
    def read(plain: Any, place: str) -> Any:
        if not isinstance(plain, list):
            _refuse(place, "not a list")
        items = [(f"{place}[{at}]", each, read_one) for at, each in enumerate(plain)]
        return make(read_all(items))

    return read


def dict_reader(kind: Any) -> Reader:
    of_keys, of_values = typing.get_args(kind)
    if of_keys is not str:
        raise TypeError(f"a schema cannot hold {kind!r}, only dict[str, X]")
    read_one = reader_of(of_values)

    def read(plain: Any, place: str) -> dict[str, Any]:
        keys = [read_str(key, f"key of {place}") for key in read_mapping(plain, place)]
        items = [(f"{place}[{key}]", plain[key], read_one) for key in keys]
        return dict(zip(keys, read_all(items), strict=True))

    return read


def read_mapping(plain: Any, place: str) -> dict[Any, Any]:
    return plain if isinstance(plain, dict) else _refuse(place, "not a mapping")


def union_reader(kind: Any) -> Reader:
    """`X | None`: with more than one X, two of them might read the same plain form."""
    others = [each for each in typing.get_args(kind) if each is not type(None)]
    if len(others) != 1:
        raise TypeError(f"a schema cannot hold {kind!r}, only X | None")
    read_one = reader_of(others[0])
    return lambda plain, place: None if plain is None else read_one(plain, place)


COMPOUNDS: Final[dict[Any, Callable[[Any], Reader]]] = {
    list: list_reader,
    tuple: tuple_reader,
    dict: dict_reader,
    typing.Union: union_reader,
    types.UnionType: union_reader,
}


def record_reader(kind: type[Any]) -> Reader:
    hints = typing.get_type_hints(kind)
    fields = {each.name: (each, reader_of(hints[each.name])) for each in fields_of(kind)}

    def read(plain: Any, place: str) -> Any:
        given = read_mapping(plain, place)
        present = [name for name in fields if name in given]
        missing = [name for name in fields if name not in given and lacks_default(fields[name][0])]
        items = [(join(place, name), given[name], fields[name][1]) for name in present]
        values = read_all(items, [f"{join(place, name)}: missing" for name in missing])
        names = [str(fields[name][0].alias) for name in present]
        return make_record(kind, dict(zip(names, values, strict=True)), place)

    return read


def join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def lacks_default(field: "attrs.Attribute[Any]") -> bool:
    return field.default is attrs.NOTHING


def make_record(kind: type[Any], values: dict[str, Any], place: str) -> Any:
    """Whatever its validators raise is a problem of the values: they are the user's."""
    try:
        return kind(**values)
    except Exception as why:
        text = str(why.args[0]) if why.args else repr(why)
        _refuse(place, text)


def read_all(items: list[tuple[str, Any, Reader]], problems: list[str] | None = None) -> list[Any]:
    """Each (place, plain form, reader); the problems of all of them, and those known before."""
    found, values = list(problems or []), []
    for place, plain, read in items:
        try:
            values.append(read(plain, place))
        except InvalidConfigError as why:
            found.extend(why.problems)
    if found:
        raise InvalidConfigError(found)
    return values
