"""Which faults break a lock or a queue: zkpy's beside kazoo's, as the tables in docs/recipes.

    python tests/recipes/baseline.py [--of queue] [--server zookeeper] [--write]

Plays each scenario of `locks/contest.py`, or `queuing.py`, with a fault at every request of the
victim, before and after the server saw it: a cut connection, an expired session.  Prints a table
in Markdown; `--write` puts it between the marks in the page.
"""

import argparse
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import attrs
from kazoo.client import KazooClient

from tests.recipes import queuing
from tests.recipes.conftest import QUICK, TIMEOUT_S
from tests.recipes.faults import Fault, FaultProxy, Link, When
from tests.recipes.locks import contest
from tests.recipes.servers import NAMES, make_server
from zkpy.testing.realserver import RealServer

PAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "recipes"
BEGIN: Final = "<!-- made by tests/recipes/baseline.py -->"
END: Final = "<!-- end -->"
FAULTS: Final[dict[str, Callable[[Link], None] | None]] = {
    "connection cut": None,
    "session expired": Link.expire,
}
Outcome = contest.Outcome[contest.Harm] | contest.Outcome[queuing.Harm]


@attrs.frozen
class Subject:
    """What is compared."""

    page: str
    makes: dict[str, Callable[[KazooClient, str], Any]]
    scenarios: Iterable[str]
    play: Callable[..., Outcome]


def play_lock(make: Any, *stage: Any, scenario: str) -> Outcome:
    return contest.Contest((make, make), *stage).play(scenario)


def play_queue(make: Any, *stage: Any, scenario: str) -> Outcome:
    return queuing.Shift(make, *stage).play(scenario)


SUBJECTS: Final = {
    "locks": Subject(
        "locks.md",
        {"zkpy": contest.Ours, "kazoo": contest.Kazoos},
        contest.SCENARIOS,
        play_lock,
    ),
    "queue": Subject(
        "queue.md",
        {
            "zkpy": queuing.Ours,
            "kazoo's LockingQueue": queuing.KazoosLocking,
            "kazoo's Queue": queuing.Kazoos,
        },
        queuing.SCENARIOS,
        play_queue,
    ),
}


class Stage:
    def __init__(self, server: RealServer, subject: Subject) -> None:
        self.server, self.subject, self._places = server, subject, count()

    def perform(self, make: Any, scenario: str, fault: Fault | None) -> Outcome:
        with FaultProxy(self.server.port) as proxy:
            rival, victim = start(self.server.hosts), start(proxy.hosts)
            with closing(rival), closing(victim):
                root = f"/baseline/{next(self._places)}"
                stage = (rival, victim, proxy, root, fault)
                outcome = self.subject.play(make, *stage, scenario=scenario)
                rival.stop()
                victim.stop()
        return outcome

    def sweep(
        self, make: Any, scenario: str, do: Callable[[Link], None] | None
    ) -> Iterator[tuple[int, When, Outcome]]:
        requests = self.perform(make, scenario, None).requests
        for at in range(1, requests + 1):
            for when in When:
                yield at, when, self.perform(make, scenario, Fault(at, when, do=do))


def start(hosts: str) -> KazooClient:
    client = KazooClient(hosts, timeout=TIMEOUT_S, connection_retry=QUICK)
    client.start()
    return client


def cell(runs: list[tuple[int, When, Outcome]]) -> str:
    """How many runs did harm, and which where."""
    harms: dict[str, list[str]] = {}
    for at, when, outcome in runs:
        for harm in outcome.harms:
            harms.setdefault(harm.value, []).append(f"{when.value} {outcome.operation} ({at})")
    if not harms:
        return f"none of {len(runs)}"
    broken = sum(bool(outcome.harms) for _, _, outcome in runs)
    said = "; ".join(f"{harm}: {', '.join(where)}" for harm, where in harms.items())
    return f"**{broken} of {len(runs)}**: {said}"


def table(stage: Stage) -> str:
    makes = stage.subject.makes
    lines = ["| scenario, fault | " + " | ".join(makes) + " |", "| --- |" + " --- |" * len(makes)]
    for scenario in stage.subject.scenarios:
        for name, do in FAULTS.items():
            cells = [cell(list(stage.sweep(make, scenario, do))) for make in makes.values()]
            lines.append(f"| {scenario}, {name} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    old = page.read_text(encoding="utf-8")
    inside = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    page.write_text(inside.sub(lambda _: f"\n{text}\n\n", old), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Faults against zkpy's recipes and kazoo's")
    parser.add_argument("--of", choices=SUBJECTS, default="locks")
    parser.add_argument("--server", choices=NAMES, default="zkpy")
    parser.add_argument("--write", action="store_true", help="into the page in docs/recipes")
    options = parser.parse_args()
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    scratch = Path(tempfile.mkdtemp(prefix="zkpy-baseline-"))
    with make_server(options.server, scratch) as server:
        made = table(Stage(server, SUBJECTS[options.of]))
    shutil.rmtree(scratch)
    if options.write:
        write(PAGES / SUBJECTS[options.of].page, made)


if __name__ == "__main__":
    main()
