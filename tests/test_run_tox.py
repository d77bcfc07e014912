"""The closing line of scripts/test: what is counted, and that nothing failed is lost."""

import os
from pathlib import Path

import pytest

from scripts import run_tox

SUITES = """<testsuites>
<testsuite tests="10" failures="1" errors="1" skipped="2"/>
<testsuite tests="5" failures="0" errors="0" skipped="0"/>
</testsuites>"""


def result(success: bool = True, skipped: bool = False) -> dict[str, object]:
    return {"result": {"success": success, "skipped": skipped}}


@pytest.fixture
def tox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_tox, "TOX", tmp_path)
    return tmp_path


def write_junit(tox: Path, name: str, suites: str, age: float) -> None:
    path = tox / name / "junit.xml"
    path.parent.mkdir()
    path.write_text(suites)
    os.utime(path, (age, age))


def test_tests_of_an_environment_are_counted(tox: Path) -> None:
    write_junit(tox, "py311", SUITES, age=200)
    counted = run_tox.count_all({"testenvs": {"py311": result(success=False)}}, started=100)
    assert counted == {"passed": 11, "failed": 2, "skipped": 2}


def test_environments_without_tests(tox: Path) -> None:
    environments = {
        "lint": result(),
        "types": result(success=False),
        "py312": result(skipped=True),
        ".pkg": {},
    }
    counted = run_tox.count_all({"testenvs": environments}, started=100)
    assert counted == {"passed": 1, "failed": 1, "skipped": 1}


def test_counts_of_an_earlier_run_are_not_told_again(tox: Path) -> None:
    write_junit(tox, "py311", SUITES, age=50)
    counted = run_tox.count_all({"testenvs": {"py311": result(success=False)}}, started=100)
    assert counted == {"failed": 1}


def test_crash_behind_passed_tests_is_a_failure(tox: Path) -> None:
    write_junit(tox, "py311", '<testsuite tests="3" failures="0" skipped="0"/>', age=200)
    counted = run_tox.count_all({"testenvs": {"py311": result(success=False)}}, started=100)
    assert counted == {"passed": 3, "failed": 1}


def test_all_run_two_at_a_time_and_what_is_named_is_seen_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    report = Path("report")
    assert run_tox.command_of([], report)[3:6] == ["run-parallel", "--parallel", "2"]
    assert run_tox.command_of(["-e", "py311"], report)[3] == "run"
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert run_tox.command_of([], report)[3] == "run"
