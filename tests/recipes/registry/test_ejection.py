"""Instances that fail: out after two failures, on trial after 30 s, in again after a success."""

from hypothesis import given
from hypothesis import strategies as st

from recipes.registry.ejection import Ejection


def test_out_and_back() -> None:
    ejection = Ejection()
    ejection.failed("a", 0)
    assert not ejection.is_out("a", 1)
    ejection.failed("a", 1000)
    assert ejection.is_out("a", 1001)
    assert ejection.is_out("a", 30_999)
    assert not ejection.is_out("a", 31_000)
    ejection.chosen("a", 31_000)
    assert ejection.is_out("a", 31_001)
    ejection.succeeded("a")
    assert not ejection.is_out("a", 31_002)
    ejection.failed("a", 31_003)
    assert not ejection.is_out("a", 31_004)


def test_a_trial_that_fails() -> None:
    ejection = Ejection(errors=1, out_ms=100)
    ejection.failed("a", 0)
    ejection.chosen("a", 100)
    ejection.failed("a", 150)
    assert ejection.is_out("a", 249)
    assert not ejection.is_out("a", 250)


def test_a_trial_that_nobody_reports_of() -> None:
    ejection = Ejection(errors=1, out_ms=100)
    ejection.failed("a", 0)
    ejection.chosen("a", 100)
    assert ejection.is_out("a", 199)
    assert not ejection.is_out("a", 200)


def test_only_failures_in_a_row_count() -> None:
    ejection = Ejection()
    for now in range(10):
        ejection.failed("a", now)
        ejection.succeeded("a")
    assert not ejection.is_out("a", 10)


def test_others_are_none_of_its_business() -> None:
    ejection = Ejection(errors=1)
    ejection.failed("a", 0)
    ejection.chosen("b", 0)
    assert ejection.is_out("a", 1)
    assert not ejection.is_out("b", 1)
    ejection.keep(["b"])
    assert not ejection.is_out("a", 1)


@given(st.lists(st.sampled_from(["fail", "succeed", "choose"])), st.integers(1, 4))
def test_never_out_for_longer(steps: list[str], errors: int) -> None:
    ejection, now, failures = Ejection(errors, 100), 0, 0
    for step in steps:
        now += 30
        was_out = ejection.is_out("a", now)
        if step == "fail":
            ejection.failed("a", now)
            failures += 1
        elif step == "succeed":
            ejection.succeeded("a")
            failures = 0
        elif not was_out:
            ejection.chosen("a", now)
        assert not ejection.is_out("a", now) or failures >= errors
        assert not ejection.is_out("a", now + 100)
