"""One line for many."""

import pytest

from zkpy.server.complaints import (
    GAP_MS,
    LOG_BURST,
    LOG_EACH_MS,
    Complaints,
    FailureLog,
)


def test_one_line_in_a_while_each_part_its_own(caplog: pytest.LogCaptureFixture) -> None:
    now = 5
    first, second = Complaints(lambda: now), Complaints(lambda: now)
    first.add("a")
    first.add("b")
    second.add("c")
    now += GAP_MS - 1
    first.add("d")
    now += 1
    first.add("100% e")
    assert caplog.messages == ["a", "c", "100% e"]


def test_floods_are_told_of_in_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = [0]
    failures = FailureLog(lambda: now[0])
    for _ in range(LOG_BURST + 5):
        failures.tell("it is odd")
    assert len(caplog.messages) == LOG_BURST
    now[0] += LOG_EACH_MS
    failures.tell("it is even")
    failures.tell("it is odd")
    assert caplog.messages[LOG_BURST:] == ["it is even (5 more were not told of)"]
