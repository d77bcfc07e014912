"""Which faults break a lock: zkpy's beside kazoo's, as the table in docs/recipes/locks.md.

    python tests/recipes/baseline.py [--server zookeeper] [--write]

Plays each scenario of `locks/contest.py` with a fault at every request of the victim, before
and after the server saw it: a cut connection, an expired session.  Prints a table in Markdown;
`--write` puts it between the marks in the page.
"""

import argparse
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kazoo.client import KazooClient

from tests.recipes.conftest import QUICK, TIMEOUT_S
from tests.recipes.faults import Fault, FaultProxy, Link, When
from tests.recipes.locks.contest import SCENARIOS, Contest, Kazoos, MakeContestant, Ours, Outcome
from tests.recipes.servers import NAMES, make_server
from zkpy.testing.realserver import RealServer

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "locks.md"
BEGIN: Final = "<!-- made by tests/recipes/baseline.py -->"
END: Final = "<!-- end -->"
FAULTS: Final[dict[str, Callable[[Link], None] | None]] = {
    "connection cut": None,
    "session expired": Link.expire,
}
LOCKS: Final[dict[str, MakeContestant]] = {"zkpy": Ours, "kazoo": Kazoos}


class Stage:
    def __init__(self, server: RealServer) -> None:
        self.server, self._places = server, count()

    def perform(self, make: MakeContestant, scenario: str, fault: Fault | None) -> Outcome:
        with FaultProxy(self.server.port) as proxy:
            rival, victim = start(self.server.hosts), start(proxy.hosts)
            with closing(rival), closing(victim):
                root = f"/baseline/{next(self._places)}"
                outcome = Contest((make, make), rival, victim, proxy, root, fault).play(scenario)
                rival.stop()
                victim.stop()
        return outcome

    def sweep(
        self, make: MakeContestant, scenario: str, do: Callable[[Link], None] | None
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
    lines = ["| scenario, fault | " + " | ".join(LOCKS) + " |", "| --- |" + " --- |" * len(LOCKS)]
    for scenario in SCENARIOS:
        for name, do in FAULTS.items():
            cells = [cell(list(stage.sweep(make, scenario, do))) for make in LOCKS.values()]
            lines.append(f"| {scenario}, {name} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def write(text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    inside = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    PAGE.write_text(inside.sub(lambda _: f"\n{text}\n\n", page), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Faults against zkpy's lock and kazoo's")
    parser.add_argument("--server", choices=NAMES, default="zkpy")
    parser.add_argument("--write", action="store_true", help="into docs/recipes/locks.md")
    options = parser.parse_args()
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    scratch = Path(tempfile.mkdtemp(prefix="zkpy-baseline-"))
    with make_server(options.server, scratch) as server:
        made = table(Stage(server))
    shutil.rmtree(scratch)
    if options.write:
        write(made)


if __name__ == "__main__":
    main()
