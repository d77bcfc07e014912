"""`zkpy simulate`: verdicts, exit codes, the line that replays, the picture."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from zkpy.cli.main import zkpy
from zkpy.cli.simulate import replay_line
from zkpy.testing.simulation import Choice


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(zkpy, ["simulate", *arguments])


def test_one_seed_shows_what_happened(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    done = simulate("--seed", "3", "--members", "3", "--seconds", "2", "--html", str(page))
    assert done.exit_code == 0, done.output
    assert "leading, epoch 1" in done.output
    assert "no violation" in done.output
    html = page.read_text(encoding="utf-8")
    picture = html[html.index("<svg") : html.index("</svg>") + len("</svg>")]
    lanes = [text.text for text in ElementTree.fromstring(picture).iter("text")]
    assert {"server 1", "server 2", "server 3", "commits"} <= set(lanes)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_many_seeds(jobs: str) -> None:
    done = simulate("--runs", "4", "--seconds", "1", "--members", "1", "--jobs", jobs)
    assert done.exit_code == 0, done.output
    assert "4 seeds" in done.output
    assert "violations: 0" in done.output


def test_a_violation_ends_it_and_can_be_replayed() -> None:
    done = simulate("--mutant", "4882", "--seed", "2", "--members", "3")
    assert done.exit_code == 1
    assert "VIOLATION A11" in done.output


def test_minutes_bound_the_time() -> None:
    done = simulate("--minutes", "0.001", "--seconds", "1", "--members", "1", "--jobs", "1")
    assert done.exit_code == 0, done.output


def test_a_mutant_that_is_found_is_success() -> None:
    done = simulate("--mutant", "4882", "--members", "3", "--seconds", "2", "--repeat", "2")
    assert done.exit_code == 0, done.output
    assert done.output.count("4882: seed") == 2
    assert "median" in done.output


def test_the_replay_line_says_all_that_is_not_drawn() -> None:
    assert replay_line(7, Choice()) == "zkpy simulate --seed 7"
    choice = Choice(members=5, observers=1, oracle=True, faults=False, seconds=9)
    assert replay_line(7, choice) == (
        "zkpy simulate --seed 7 --members 5 --observers 1 --seconds 9 --oracle-election --no-faults"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mutant", "4882", "--minutes", "1"], "--minutes means nothing with --mutant"),
        (["--mutant", "4882", "--jobs", "2"], "--jobs means nothing with --mutant"),
        (["--seed", "1", "--mutant", "4882", "--runs", "2"], "--runs means nothing with --seed"),
        (["--html", "run.html"], "--html means nothing with many seeds"),
    ],
)
def test_what_would_not_be_done_is_refused(arguments: list[str], said: str) -> None:
    done = simulate(*arguments)
    assert done.exit_code == 2
    assert said in done.output
