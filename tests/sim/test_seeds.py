"""Whole ensembles under faults; `--seed N` starts somewhere else."""

import pytest

from zkpy.testing.simulation import Choice, Result, run_seed

SHORT = 4
"""Virtual seconds under faults."""


@pytest.mark.parametrize("number", range(10))
def test_one_server(number: int, seed: int) -> None:
    run(1000 * seed + number, Choice(members=1, observers=0, seconds=SHORT))


@pytest.mark.parametrize("number", range(16))
def test_ensembles(number: int, seed: int) -> None:
    run(1000 * seed + number, Choice(seconds=SHORT))


@pytest.mark.parametrize("number", range(8))
def test_leaders_named_at_random(number: int, seed: int) -> None:
    """Election is only a hint: safety must not rest on it."""
    run(1000 * seed + number, Choice(oracle=True, seconds=SHORT))


def test_without_faults_there_is_one_election_and_no_expiry() -> None:
    for seed in range(1, 4):
        result = run(seed, Choice(members=3, observers=1, faults=False, seconds=10))
        assert result.elections == 1
        assert result.faults == {}


def run(seed: int, choice: Choice) -> Result:
    result, _ = run_seed(seed, choice)
    assert result.violation is None, f"seed {seed}: {result.text}"
    return result


def test_what_a_result_tells() -> None:
    result, simulation = run_seed(1, Choice(members=3, seconds=SHORT))
    assert result.summary is not None
    assert result.summary.commits == len(simulation.invariants.commits) > 10
    assert result.virtual > SHORT * 1_000_000
    assert result.events > 1000
