"""Old bugs, put back: found by a few seeds each, and gone again afterwards.

How long random seeds take to find each is measured by `zkpy simulate --mutant all`; here is
only shown that the checkers still see what they saw then.
"""

import pytest

from zkpy.testing.mutants import MUTANTS, planted
from zkpy.testing.simulation import DRAWN, Choice, run_seed
from zkpy.zab.window import Window

QUICK = ("1113", "1863", "2845", "335", "4646", "4882", "5010")
"""Found by nearly every seed."""
TRIES = 15


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_found(name: str) -> None:
    with planted(name):
        results = (run_seed(seed, DRAWN)[0] for seed in range(1, TRIES + 1))
        assert any(result.violation is not None for result in results)


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
