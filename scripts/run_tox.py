"""Run tox, then count the tests of all its environments in one closing line.

Each environment that runs tests leaves a junit.xml in its folder, and an
environment that runs none (lint, types) counts as one test.  tox's own verdict
decides: the exit status is tox's.  An environment without its Python counts as one
skipped, beside tox's own line for it.

Without arguments two environments run side by side, which shows what each printed once it is
through.  More would not be quicker where it counts, on two processors, and tests with
processes of their own would wait for each other.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

TOX = Path(".tox")
SIDE_BY_SIDE = 2


def main(arguments: list[str]) -> int:
    TOX.mkdir(exist_ok=True)
    report = TOX / "result.json"
    report.unlink(missing_ok=True)
    started = time.time()
    status = subprocess.call(command_of(arguments, report))
    if not report.exists():
        print("0 passed, 1 failed")
        return status or 1
    total = count_all(json.loads(report.read_text(encoding="utf-8")), started)
    if status and not total["failed"]:
        total["failed"] = 1
    print(", ".join(f"{total[word]} {word}" for word in ("passed", "failed", "skipped")))
    return status


def command_of(arguments: list[str], report: Path) -> list[str]:
    """Who names what is to run sees it at work."""
    number = min(SIDE_BY_SIDE, os.cpu_count() or 1)
    how = ["run"] if arguments or number == 1 else ["run-parallel", "--parallel", str(number)]
    return [sys.executable, "-m", "tox", *how, "--result-json", str(report), *arguments]


def count_all(report: dict[str, Any], started: float) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, environment in report["testenvs"].items():
        result = environment.get("result")
        if result and result["skipped"]:
            total["skipped"] += 1
        elif result:
            total += count(name, result["success"], started)
    return total


def count(name: str, success: bool, started: float) -> Counter[str]:
    junit = TOX / name / "junit.xml"
    found: Counter[str] = Counter()
    if junit.exists() and junit.stat().st_mtime >= started:
        found = count_junit(junit)
    if not success and not found["failed"]:
        found["failed"] += 1
    return found or Counter(passed=1)


def count_junit(path: Path) -> Counter[str]:
    """An expected failure is written down as skipped, and counts so."""
    found: Counter[str] = Counter()
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        tests, failures, errors, skipped = (
            int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
        )
        failed = min(failures + errors, tests - skipped)
        found += Counter(passed=tests - failed - skipped, failed=failed, skipped=skipped)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
