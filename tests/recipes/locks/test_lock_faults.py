"""zkpy's locks in the contest: a fault at every request, before and after, and no harm done."""

from collections.abc import Callable
from itertools import count

import pytest
from kazoo.client import KazooClient

from tests.recipes.conftest import Connect
from tests.recipes.faults import Fault, FaultProxy, Link, When, behind_shut_doors
from tests.recipes.locks.contest import (
    SCENARIOS,
    Contest,
    Harm,
    Leaseholder,
    MakeContestant,
    Ours,
    Outcome,
    Reader,
    Writer,
)
from zkpy.testing.realserver import RealServer

Pair = tuple[MakeContestant, MakeContestant]
Stage = Callable[..., Outcome[Harm]]
OTHERS = {
    "writer": (Writer, Writer),
    "reader": (Writer, Reader),
    "semaphore": (Leaseholder, Leaseholder),
}
FAULTS = pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
WHEN = pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))


@pytest.fixture
def stage(server: RealServer, connect: Connect, proxy: FaultProxy, root: str) -> Stage:
    """play(scenario, fault), each time with a victim and a place of its own.

    The rival comes through `proxy`, so that a restart can keep it waiting."""
    places = count()
    rival = connect(proxy.hosts)

    def perform(scenario: str, fault: Fault | None, make: Pair = (Ours, Ours)) -> Outcome[Harm]:
        with FaultProxy(server.port) as proxy:
            victim: KazooClient = connect(proxy.hosts)
            contest = Contest(make, rival, victim, proxy, f"{root}/{next(places)}", fault)
            outcome = contest.play(scenario)
            victim.stop()
            victim.close()
        return outcome

    return perform


@FAULTS
@WHEN
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_fault_at_every_request(
    scenario: str, when: When, do: Callable[[Link], None] | None, stage: Stage
) -> None:
    sweep(stage, scenario, when, do, (Ours, Ours))


@FAULTS
@WHEN
@pytest.mark.parametrize("kind", list(OTHERS))
def test_other_locks(
    kind: str, when: When, do: Callable[[Link], None] | None, stage: Stage
) -> None:
    sweep(stage, "turns", when, do, OTHERS[kind])


def sweep(
    stage: Stage, scenario: str, when: When, do: Callable[[Link], None] | None, make: Pair
) -> None:
    sane = stage(scenario, None, make)
    assert sane.harms == []
    assert sane.requests >= 4
    for at in range(1, sane.requests + 1):
        fault = Fault(at, when, do=do)
        outcome = stage(scenario, fault, make)
        assert fault.seen is not None, f"request {at} of {sane.requests} was not made"
        assert outcome.harms == [], f"at request {at}, {outcome.operation}"


@pytest.mark.slow
@WHEN
def test_the_server_restarts(
    when: When, stage: Stage, server: RealServer, proxy: FaultProxy
) -> None:
    restart = behind_shut_doors(proxy, server.restart)
    requests = stage("turns", None).requests
    for at in range(1 if when is When.BEFORE else 2, requests + 1, 3):
        outcome = stage("turns", Fault(at, when, do=restart))
        assert outcome.harms == [], f"at request {at}, {outcome.operation}"
