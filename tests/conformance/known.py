"""A pytest plugin: the tests of known_failures.txt must fail, and must exist.

A line of the list is `test id  # reason`.  A listed test that passes fails the
run, so that the list only ever shrinks to what is true.
"""

from pathlib import Path

import pytest

LIST = Path(__file__).resolve().parent / "known_failures.txt"


def read_list(text: str) -> dict[str, str]:
    """Test id -> why it does not pass yet."""
    known = {}
    for line in text.splitlines():
        test, _, reason = (part.strip() for part in line.partition("#"))
        if test and not reason:
            raise pytest.UsageError(f"{LIST.name}: no reason given for {test}")
        if test:
            known[test] = reason
    return known


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before -k and the like take tests away; whole files are collected all the same."""
    known = read_list(LIST.read_text(encoding="utf-8"))
    collected = {item.nodeid: item for item in items}
    files = {test.partition("::")[0] for test in collected}
    for test, reason in known.items():
        if test in collected:
            collected[test].add_marker(pytest.mark.xfail(reason=reason, strict=True))
        elif test.partition("::")[0] in files:
            raise pytest.UsageError(f"{LIST.name}: there is no test {test}")
