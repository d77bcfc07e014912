"""The differential test: the same random requests to zkpy and to Apache ZooKeeper.

    python tests/differential/run.py [--requests N] [--seed N] [--jars DIR] [--out DIR]

Every answer, Stat, error, event and their order is compared, and at the end of each
trace the tree that it left.  A difference that `known.py` does not list ends the run
with the shortest trace found that shows it.  Then zkpy takes over what ZooKeeper holds, and
hands it back (`zkpy import`, `zkpy export`), and the trees are compared once more.

ZooKeeper comes from Debian's package `zookeeper` (installed with apt-get where this runs as
root), or from a directory of jars; where it cannot be had, one line says that the test was skipped.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.differential import servers
from tests.differential.duel import Difference, Duel, Unit, only, units_of
from tests.differential.generator import generate
from tests.differential.moving import move
from tests.differential.trace import Step, size_of

TRACE_REQUESTS: Final = 250
_PLAIN: Final = frozenset("\n" + "".join(map(chr, range(0x20, 0x7F))))
TRIES_MAX: Final = 150
SHRINKING_S: Final = 120
"""Replays, and time, spent on making a trace shorter."""


def main() -> int:
    options = parse()
    classes = servers.classpath(options.jars) or install()
    if classes is None or shutil.which("java") is None:
        print("SKIPPED: the differential test needs Debian's package zookeeper (or --jars)")
        write_junit(options.out, "skipped", "no Apache ZooKeeper")
        return 0
    with tempfile.TemporaryDirectory(prefix="zkpy-differential-") as scratch:
        failure = run(Path(scratch), classes, options)
    write_junit(options.out, "failure" if failure else "", failure)
    return 1 if failure else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="zkpy beside Apache ZooKeeper, request by request")
    parser.add_argument("--requests", type=int, default=20_000, help="how many in all")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first trace; the next has one more"
    )
    parser.add_argument(
        "--jars", type=Path, help="directory with ZooKeeper's jars, for another version"
    )
    parser.add_argument("--out", type=Path, help="where to leave junit.xml")
    parser.add_argument("--all", action="store_true", help="go on behind a difference")
    parser.add_argument("--counts", action="store_true", help="print what was compared how often")
    return parser.parse_args()


def install() -> str | None:
    """Only root may, and only where there is apt-get."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing Debian's package zookeeper")
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "zookeeper"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return servers.classpath(None)


@contextmanager
def both(scratch: Path, classes: str) -> Iterator[tuple[servers.Server, servers.Server]]:
    started = [servers.start_zookeeper(scratch, classes)]
    try:
        started.append(servers.start_zkpy(scratch))
        for server in started:
            server.wait()
            print(f"{server.name}: {server.version()}")
        yield started[0], started[1]
    finally:
        for server in started:
            if server.process.poll() is not None:
                print(f"{server.name} ended by itself:\n{server.log_tail()}", flush=True)
            server.stop()


def run(scratch: Path, classes: str, options: argparse.Namespace) -> str:
    """What the differences are; empty if there are none."""
    with both(scratch, classes) as (zookeeper, zkpy):
        recent = " 3.8." not in zookeeper.version()
        duel = Duel(zookeeper.port, zkpy.port, tells_event_zxids=recent)
        failure = Run(duel).traces(options)
    # Whatever the traces left, of every kind of znode, is worth being taken over.
    return failure or _report_move(move(scratch, scratch / zookeeper.name, classes, recent))


def _report_move(failure: str) -> str:
    print(failure or "taken over and handed back: the same tree")
    return failure


class Run:
    def __init__(self, duel: Duel) -> None:
        self._duel = duel
        self._roots = 0

    def traces(self, options: argparse.Namespace) -> str:
        started, requests, seed = time.monotonic(), 0, options.seed
        failures: list[str] = []
        while requests < options.requests and (options.all or not failures):
            root = self._next_root()
            steps = generate(seed, root, TRACE_REQUESTS)
            found = self._duel.play(steps, root)
            if found is not None:
                failures.append(self._report(seed, steps, found))
            requests += size_of(steps)
            seed += 1
        if not failures:
            found = self._duel.inspect("/")
            failures += [f"in the whole tree: {found}"] if found else []
        elapsed = time.monotonic() - started
        print(f"{requests} requests in {seed - options.seed} traces, {elapsed:.0f} s")
        if options.counts:
            for name, count in sorted(self._duel.met.items()):
                print(f"{count:7} {name}")
        for name, count in sorted(self._duel.known.items()):
            print(f"known difference, met {count} times: {name}")
        print(f"differences that are not known: {len(failures)}")
        return "\n\n".join(failures)

    def _next_root(self) -> str:
        self._roots += 1
        return f"/t{self._roots:05d}"

    def _report(self, seed: int, steps: Sequence[Step], found: Difference) -> str:
        units = self._shrink(seed, [unit for unit in units_of(steps) if unit[0] <= found.at])
        short, again = self._play(seed, units)
        lines = [f"seed {seed}, a trace of {size_of(short)} requests:", *map(str, short)]
        report = "\n".join([*lines, str(again or f"(not seen again) {found}")])
        print(f"{report}\n", flush=True)
        return report

    def _shrink(self, seed: int, units: list[Unit]) -> list[Unit]:
        """Drop ever smaller pieces, from the end, as long as there is a difference."""
        piece, tries = len(units) // 2, 0
        until = time.monotonic() + SHRINKING_S
        while piece and tries < TRIES_MAX and time.monotonic() < until:
            for end in range(len(units), 0, -piece):
                fewer = units[: max(end - piece, 0)] + units[end:]
                tries += 1
                if self._play(seed, fewer)[1] is not None:
                    units = fewer
            piece //= 2
        return units

    def _play(self, seed: int, units: list[Unit]) -> tuple[list[Step], Difference | None]:
        """These units of a trace, in a place of their own."""
        root = self._next_root()
        steps = only(generate(seed, root, TRACE_REQUESTS), units)
        return steps, self._duel.play(steps, root)


def write_junit(
    out: Path | None,
    outcome: str,
    message: str,
    suite: str = "differential",
    name: str = "same_answers",
) -> None:
    """One test, for those who count."""
    if out is None:
        return
    from xml.sax.saxutils import escape, quoteattr

    shown = "".join(each if each in _PLAIN else ascii(each)[1:-1] for each in message)
    inner = (
        f"<{outcome} message={quoteattr(shown[:200])}>{escape(shown)}</{outcome}>"
        if outcome
        else ""
    )
    counts = f'tests="1" errors="0" failures="{int(outcome == "failure")}"'
    skipped = int(outcome == "skipped")
    out.mkdir(parents=True, exist_ok=True)
    (out / "junit.xml").write_text(
        f'<testsuites><testsuite name="{suite}" {counts} skipped="{skipped}">'
        f'<testcase classname="{suite}" name="{name}">{inner}</testcase>'
        "</testsuite></testsuites>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    sys.exit(main())
