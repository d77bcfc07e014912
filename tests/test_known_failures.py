"""The list of kazoo's tests that may fail: read strictly, and enforced both ways."""

from pathlib import Path

import pytest

from tests.conformance import known

SUITE = """
import unittest

class Suite(unittest.TestCase):
    def test_good(self):
        pass

    def test_bad(self):
        self.fail("as ever")
"""


def run_suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, listed: str) -> str:
    listing = pytester.path / "list.txt"
    listing.write_text(listed)
    monkeypatch.setattr(known, "LIST", listing)
    pytester.makepyfile(test_suite=SUITE)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", plugins=[known])
    return f"{int(result.ret)} {result.parseoutcomes()}"


BAD = "test_suite.py::Suite::test_bad  # a reason\n"
CASES = [
    ("", "1 {'failed': 1, 'passed': 1}"),
    (BAD, "0 {'passed': 1, 'xfailed': 1}"),
    (BAD + "test_suite.py::Suite::test_good  # wrong\n", "1 {'failed': 1, 'xfailed': 1}"),
    ("test_suite.py::Suite::test_gone  # no such\n", "4 {}"),
    ("test_other.py::test_x  # not run here\n" + BAD, "0 {'passed': 1, 'xfailed': 1}"),
]


@pytest.mark.parametrize(("listed", "outcome"), CASES)
def test_list_is_enforced(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, listed: str, outcome: str
) -> None:
    assert run_suite(pytester, monkeypatch, listed) == outcome


def test_reason_is_required() -> None:
    with pytest.raises(pytest.UsageError, match="no reason given for a::b"):
        known.read_list("a::b\n")


def test_the_list_can_be_read() -> None:
    known.read_list(Path(known.LIST).read_text(encoding="utf-8"))
