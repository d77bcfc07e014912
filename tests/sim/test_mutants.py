"""Old bugs, put back: found by seeds known to find them, and gone again afterwards.

How long random seeds take to find each is measured by `zkpy simulate --mutant all`; here is
only shown that the checkers still see what they saw then.
"""

import pytest

from zkpy.testing.mutants import MUTANTS, planted
from zkpy.testing.simulation import DRAWN, Choice, run_seed
from zkpy.zab.window import Window

FOUND_BY = {"1113": 1, "2845": 1, "3911": 1, "4643": 7}
"""Mutant -> a seed that finds it; as drawn, without options."""


@pytest.mark.parametrize("name", sorted(FOUND_BY))
def test_a_mutant_is_found(name: str) -> None:
    with planted(name):
        result, _ = run_seed(FOUND_BY[name], DRAWN)
    assert result.violation is not None


def test_every_mutant_can_be_planted_and_is_gone_afterwards() -> None:
    before = Window.take_committed
    for mutant in MUTANTS:
        with planted(mutant.name):
            pass
    assert Window.take_committed is before
    result, _ = run_seed(1, Choice(members=3, seconds=2))
    assert result.violation is None, result.text


def test_mutants_have_names_of_their_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 6
    assert {"3911", "4643", "2845", "4712", "1113", "1208"} <= set(names)
