"""The scorecard of scripts/prove: what is not well is said, and decides."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.prove_sections import SECTIONS, Row, damage_link, mutants_row, show, trace_hashes
from wire.link import PeerConnection

ROOT = Path(__file__).resolve().parents[1]
HEAD = {
    "commit": "abc",
    "date": "2000-01-01 00:00:00",
    "python": "3.11",
    "processors": 2,
    "hours": 1.0,
    "first_seed": 5,
}


def test_what_is_not_well_is_marked() -> None:
    rows = [Row("a", "0", "1", False), Row("b", "", "7", None), Row("c", "0", "0", True)]
    text = show({**HEAD, "well": False}, {"fuzzing": rows})
    assert "| a | 0 | 1 | **NO** |" in text
    assert "| b |  | 7 |  |" in text
    assert "| c | 0 | 0 | ok |" in text
    assert text.endswith("NOT WELL\n")


def test_one_mutant_that_is_missed_is_too_many() -> None:
    assert mutants_row({"1": [1.0], "2": []}, {"2": None}).well is False
    assert mutants_row({"1": [1.0], "2": [3.0]}, {}).well is True


def test_seeds_are_compared_in_processes_of_their_own() -> None:
    hashes = trace_hashes([1], "1")
    assert len(hashes) == 1
    assert hashes == trace_hashes([1], "2")
    assert hashes != trace_hashes([2], "1")


def test_fuzzing_notices_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: PeerConnection, data: bytes) -> list[object]:
        raise IndexError("a bug")

    monkeypatch.setattr(PeerConnection, "receive_data", fail)
    with pytest.raises(IndexError):
        damage_link(random.Random(1))


def test_unknown_sections_are_refused() -> None:
    command = [sys.executable, "scripts/prove_sections.py", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(name in done.stderr for name in SECTIONS)
