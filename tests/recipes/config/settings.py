"""The schema that the tests of configurations share."""

import enum

import attrs


class Mode(enum.Enum):
    FAST = "fast"
    SAFE = "safe"


@attrs.frozen
class Pool:
    name: str
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen
class Settings:
    """`left` and `right` are equal in whatever is published: half a publish would show."""

    left: int = 0
    right: int = 0
    rate: float = 1.0
    mode: Mode = Mode.SAFE
    pools: tuple[Pool, ...] = ()
    labels: dict[str, str] = attrs.field(factory=dict)
    limit: int | None = None

    @classmethod
    def pair(cls, number: int) -> "Settings":
        return cls(left=number, right=number, labels={"number": str(number)})


def increment(now: Settings) -> Settings:
    return Settings.pair(now.left + 1)


@attrs.frozen
class Wider(Settings):
    """As a later release may have it."""

    more: int = 7
