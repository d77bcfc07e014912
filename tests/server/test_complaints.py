"""One line for many."""

import pytest

from zkpy.server.complaints import GAP_MS, Complaints


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
