"""Values to their plain form and back; what is not of the schema is told, place by place."""

import contextlib
import enum
import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.config import InvalidConfigError, Schema
from tests.recipes.config.settings import Mode, Pool, Settings, Wider

SCHEMA = Schema(Settings)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SETTINGS = st.builds(
    Settings,
    left=st.integers(),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    mode=st.sampled_from(Mode),
    pools=st.lists(st.builds(Pool, TEXTS, st.integers(min_value=1)), max_size=3).map(tuple),
    labels=st.dictionaries(TEXTS, TEXTS, max_size=3),
    limit=st.none() | st.integers(),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=3), of, max_size=3),
    max_leaves=6,
)


@given(SETTINGS)
def test_what_is_written_is_read(settings: Settings) -> None:
    assert SCHEMA.read(json.loads(json.dumps(SCHEMA.write(settings)))) == settings


@given(st.dictionaries(st.sampled_from([each.name for each in attrs.fields(Settings)]), PLAIN))
def test_anything_else_is_a_problem_and_no_crash(plain: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidConfigError):
        settings = SCHEMA.read(plain)
        assert SCHEMA.read(SCHEMA.write(settings)) == settings


@pytest.mark.parametrize(
    ("plain", "problems"),
    [
        ([], ["not a mapping"]),
        ({"left": "1"}, ["left: not an int"]),
        ({"left": True}, ["left: not an int"]),
        ({"left": 1.0}, ["left: not an int"]),
        ({"rate": False}, ["rate: not a float"]),
        ({"rate": float("nan")}, ["rate: not a float"]),
        ({"mode": "slow"}, ["mode: none of fast, safe"]),
        ({"limit": "x"}, ["limit: not an int"]),
        ({"labels": {"a": 1, "b": 2}}, ["labels[a]: not a str", "labels[b]: not a str"]),
        ({"pools": [{}, {"name": 1}]}, ["pools[0].name: missing", "pools[1].name: not a str"]),
        ({"pools": [{"name": "a", "size": 0}]}, ["pools[0]: 'size' must be >= 1: 0"]),
    ],
)
def test_problems(plain: Any, problems: list[str]) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        SCHEMA.read(plain)
    assert caught.value.problems == problems


def test_a_whole_number_will_do_for_a_float() -> None:
    rate = SCHEMA.read({"rate": 3}).rate
    assert rate == 3
    assert isinstance(rate, float)


def test_newer_and_older_programs_read_each_other() -> None:
    assert SCHEMA.read(Schema(Wider).write(Wider(left=1, more=2))) == Settings(left=1)
    assert Schema(Wider).read(SCHEMA.write(Settings(left=1))) == Wider(left=1, more=7)


def test_what_an_annotation_does_not_allow_is_not_written() -> None:
    with pytest.raises(InvalidConfigError, match="left: not an int"):
        SCHEMA.write(Settings(left="1"))  # type: ignore[arg-type]
    with pytest.raises(InvalidConfigError, match="not the same"):
        SCHEMA.write(Settings(pools=[Pool("a")]))  # type: ignore[arg-type]
    with pytest.raises(InvalidConfigError, match="not a Settings"):
        SCHEMA.write(Pool("a"))  # type: ignore[arg-type]


class Pairs(enum.Enum):
    BOTH = (1, 2)


@pytest.mark.parametrize(
    "kind", [bytes, set[int], dict[int, str], tuple[int, str], int | str, Pairs, object]
)
def test_a_type_that_cannot_be_held_is_told_at_once(kind: Any) -> None:
    holder = attrs.make_class("Holder", {"it": attrs.field(type=kind)})
    with pytest.raises(TypeError, match="cannot hold"):
        Schema(holder)


def test_only_attrs_classes() -> None:
    with pytest.raises(TypeError, match="no attrs class"):
        Schema(int)
