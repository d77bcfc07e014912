"""Names of contenders: Curator's and kazoo's forms, and paths that mix them."""

import uuid

import pytest

from recipes.locks.names import (
    CURATOR_LEASE,
    CURATOR_MUTEX,
    CURATOR_READ_WRITE,
    FAMILIES,
    KAZOO,
    Contender,
    Family,
    MixedContendersError,
    Role,
    contenders_of,
    parse,
)

ID = uuid.UUID("0f8b3c5e-1a2b-4c3d-8e4f-5a6b7c8d9e0f")
SAMPLES = [
    (KAZOO, Role.WRITE, f"{ID.hex}__lock__0000000007"),
    (KAZOO, Role.READ, f"{ID.hex}__rlock__0000000007"),
    (CURATOR_MUTEX, Role.WRITE, f"_c_{ID}-lock-0000000007"),
    (CURATOR_READ_WRITE, Role.WRITE, f"_c_{ID}-__WRIT__0000000007"),
    (CURATOR_READ_WRITE, Role.READ, f"_c_{ID}-__READ__0000000007"),
    (CURATOR_LEASE, Role.WRITE, f"_c_{ID}-lease-0000000007"),
]


@pytest.mark.parametrize(("family", "role", "name"), SAMPLES, ids=lambda part: str(part)[-20:])
def test_written_and_read(family: Family, role: Role, name: str) -> None:
    assert family.prefix(ID) + family.marker_of(role) + "0000000007" == name
    assert parse(name, family) == Contender(name, role, 7)
    assert all(parse(name, other) is None for other in FAMILIES if other is not family)


@pytest.mark.parametrize(("family", "role", "name"), SAMPLES, ids=lambda part: str(part)[-20:])
def test_number_below_zero(family: Family, role: Role, name: str) -> None:
    """Not to be taken for the dash of Curator's names: `lock-` and then `-2147483648`."""
    low = name[:-10] + "-2147483648"
    assert parse(low, family) == Contender(low, role, -(2**31))


@pytest.mark.parametrize(
    "name",
    [
        "a__lock__",
        "a__lock__123",
        "a__lock__0000000007x",
        "__lock__/0000000007",
        "x-0000000007",
        "0000000007",
    ],
)
def test_no_contender(name: str) -> None:
    assert parse(name, KAZOO) is None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("foreign", FAMILIES, ids=lambda family: family.name)
def test_mixed_path_is_refused(family: Family, foreign: Family) -> None:
    own = [name for its, _, name in SAMPLES if its is family]
    theirs = [name for its, _, name in SAMPLES if its is foreign]
    if family is foreign:
        assert [each.name for each in contenders_of(own, family)] == own
    else:
        with pytest.raises(MixedContendersError, match="is not a node of"):
            contenders_of(own + theirs, family)


def test_other_children() -> None:
    """kazoo leaves what has no number alone; for Curator every child is a contender."""
    own = SAMPLES[0][2]
    assert [each.name for each in contenders_of(["config", own], KAZOO)] == [own]
    with pytest.raises(MixedContendersError):
        contenders_of(["config"], CURATOR_MUTEX)
    with pytest.raises(MixedContendersError):
        contenders_of(["other-0000000001"], KAZOO)
