"""The same seed is the same run, bit for bit, whatever strings hash to."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from zkpy.testing.simulation import Choice, run_seed
for seed in (3, 8, 11):
    for oracle in (False, True):
        result, simulation = run_seed(seed, Choice(seconds=4, oracle=oracle))
        print(seed, result.trace_hash, result.events, result.virtual, result.text)
        print(simulation.ensemble.timeline.text())
"""


def play(hash_seed: str) -> str:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True, text=True
    )
    return done.stdout


@pytest.mark.slow
def test_runs_are_equal_under_different_hash_seeds() -> None:
    first, second = play("1"), play("2")
    assert first == second
    assert first.count(" s  server") > 100
