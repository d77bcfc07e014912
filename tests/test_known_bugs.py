"""docs/reliability.md names, for each of ZooKeeper's known bugs, tests: they exist, and are run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?P<issues>[^|]+) \| (?P<bug>[^|]+) \| (?P<tests>[^|]+) \|$", re.MULTILINE)

FUNCTION = re.compile(r"^def (test_\w+)", re.MULTILINE)


def rows() -> list[re.Match[str]]:
    section = PAGE.partition("## ZooKeeper's known bugs")[2].partition("\n## ")[0]
    return [row for row in ROW.finditer(section) if row["issues"] not in ("issue", "---")]


def names_of(row: re.Match[str]) -> list[str]:
    return re.findall(r"`([^`]+)`", row["tests"])


def existing() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py")]
    functions = {name for text in texts for name in FUNCTION.findall(text)}
    return functions | {path.stem for path in ROOT.glob("tests/sim/testdata/*.txt")}


def test_every_test_that_is_named_exists() -> None:
    known = existing()
    missing = [name for row in rows() for name in names_of(row) if name not in known]
    assert missing == []


def test_every_row_names_a_test_or_says_why_there_is_none() -> None:
    bare = [
        row["issues"] for row in rows() if not names_of(row) and "by design" not in row["tests"]
    ]
    assert bare == []


def test_no_issue_is_told_twice() -> None:
    issues = [number for row in rows() for number in re.findall(r"\d+", row["issues"])]
    assert len(issues) == len(set(issues)) > 100
