"""zkpy and Apache ZooKeeper on one machine, under the same loads, in turn.

Started by `scripts/bench`.  One server after the other gets a load, in pairs that change
who is first; the other stands idle meanwhile.  ZooKeeper comes from Debian's package
(installed with apt-get where this runs as root) or from a directory of jars; where it
cannot be had, one line says so and zkpy is measured alone.  The table goes to standard output,
progress to standard error, and everything that was measured into a JSON file.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, os.environ.get("ZKPY_CORE", sys.path[0]))  # a compiled core (scripts/lib.sh)

import zkpy.compiled
from tests.bench import figures, peers
from tests.bench.big import READS, measure_ephemerals, measure_million, throughput_of
from tests.bench.figures import ZKPY, ZOOKEEPER, Fact, Pair
from tests.bench.loads import (
    LOADS,
    WARMING,
    Generator,
    LoadFailed,
    NoCompiler,
    compile_generator,
)
from tests.bench.peers import DoesNotServe, Kind, Peer
from tests.differential import servers
from tests.differential.run import install

ROOT: Final = Path(__file__).resolve().parents[2]
SETTLE_S: Final = 3.0
STARTS: Final = 3
MILLION_HEAP: Final = "4g"
DEFAULT_LOADS: Final = tuple(name for name in LOADS if name != "create-16x16")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    raise_open_files()
    signal.signal(signal.SIGTERM, end_in_order)
    with tempfile.TemporaryDirectory(prefix="data-", dir=options.out) as scratch:
        try:
            bench = Bench(options, compile_generator(Path(scratch)), Path(scratch))
            bench.run()
        except (NoCompiler, DoesNotServe, LoadFailed) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="zkpy beside Apache ZooKeeper: the same machine, the same loads, in turn.",
        epilog="loads:\n"
        + "\n".join(f"  {load.name:13} {load.meaning}" for load in LOADS.values())
        + "\n\n16x4 is 16 connections with 4 requests in flight on each.  Latencies of a load at a"
        "\nfixed rate count from the time that a request was due.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--pairs", type=positive, default=5, help="runs of each load on each server (5)")
    add("--seconds", type=float, default=5.0, help="length of each (5)")
    add("--quick", action="store_true", help="one pair of one second: does it work?")
    add("--servers", type=int, choices=(1, 3, 5, 7), default=1, help="members with a vote (1)")
    add("--observers", type=int, default=0, help="members without (0)")
    add("--loads", type=load_names, default=list(DEFAULT_LOADS), help="some of those below: A,B")
    add("--warm", type=float, default=10.0, help="seconds of load before all, per server (10)")
    sized: dict[str, Any] = {"type": positive, "nargs": "?", "metavar": "N"}
    add("--million", const=1_000_000, **sized, help="instead: so many znodes (1,000,000)")
    add("--ephemerals", const=200_000, **sized, help="instead: a session with so many (200,000)")
    add("--only", choices=(ZKPY, ZOOKEEPER), help="measure this one alone")
    add("--jars", type=Path, help="directory with ZooKeeper's jars, for another version")
    add("--heap", default="1000m", help=f"ZooKeeper's heap (1000m; --million: {MILLION_HEAP})")
    add("--out", type=Path, default=ROOT / ".bench", help="for data and results (.bench)")
    return settled(parser, parser.parse_args(arguments))


def settled(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    if options.million and (options.ephemerals or options.servers > 1 or options.observers):
        parser.error("--million is of one server, and not together with --ephemerals")
    if options.observers and options.servers == 1:
        parser.error("--observers needs --servers 3 or more")
    if options.quick:
        options.pairs, options.seconds, options.warm = 1, 1.0, 2.0
    if options.million and options.heap == "1000m":
        options.heap = MILLION_HEAP
    return options


def positive(text: str) -> int:
    number = int(text.replace(",", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def load_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in LOADS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no load {unknown[0]}; see --help")
    return names


def raise_open_files() -> None:
    """The servers inherit it; a thousand watchers are a thousand sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_in_order(number: int, _: object) -> None:
    """Servers are stopped and data removed on the way out, whatever comes meanwhile."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Bench:
    """One call of the script."""

    def __init__(self, options: argparse.Namespace, generator: Generator, scratch: Path) -> None:
        self._options = options
        self._generator = generator
        self._scratch = scratch
        self._kinds = find_kinds(options)
        self._results: dict[str, Any] = {"machine": machine(), "options": shown_options(options)}

    def run(self) -> None:
        if self._options.million:
            self._run_million()
        elif self._options.ephemerals:
            self._run_ephemerals()
        else:
            self._run_loads()

    def _peer(self, kind: Kind, more: str = "") -> Peer:
        options = self._options
        directory = self._scratch / f"{kind.name}{more}"
        return Peer(kind, directory, options.servers, options.observers)

    def _report(self, name: str, *tables: str) -> None:
        path = self._options.out / f"{name}.json"
        path.write_text(json.dumps(self._results, indent=1) + "\n")
        print("\n\n".join([described(self._results), *tables]))
        print(f"\nEverything measured: {path}")

    # --- the loads ---

    def _run_loads(self) -> None:
        starts = self._measure_starts()
        with ExitStack() as stack:
            running = [stack.enter_context(peers.removed_after(self._peer(k))) for k in self._kinds]
            for peer in running:
                starts[peer.name].append(peer.start())
            self._results["versions"] = {peer.name: peer.version() for peer in running}
            time.sleep(SETTLE_S)
            rest = {peer.name: [peer.resident_mib()] for peer in running}
            self._warm(running)
            pairs = self._measure_pairs(running)
            after = {peer.name: [peer.resident_mib()] for peer in running}
        facts = [
            Fact("first session", "s after the start", starts),
            Fact("memory at rest", "MiB", rest),
            Fact("memory after", "MiB", after),
        ]
        self._results |= {"facts": {fact.name: fact.values for fact in facts}, "loads": pairs}
        targets = figures.targets_of(0 if self._options.observers else self._options.servers)
        rows = [figures.load_row(each, pairs[each], targets.get(each, ())) for each in pairs]
        self._report(
            f"loads-{self._options.servers}-{self._options.observers}",
            figures.table(figures.LOAD_HEADINGS, rows) + "\n(ZooKeeper's latencies in brackets)",
            figures.table(figures.FACT_HEADINGS, figures.fact_rows(facts, targets)),
        )

    def _measure_starts(self) -> dict[str, list[float]]:
        """Fresh directories each time; one more start follows, of those that get the loads."""
        found: dict[str, list[float]] = {kind.name: [] for kind in self._kinds}
        for number in range(0 if self._options.quick else STARTS - 1):
            for kind in self._kinds:
                with peers.removed_after(self._peer(kind, f"-start-{number}")) as peer:
                    found[kind.name].append(peer.start())
        return found

    def _warm(self, running: Iterable[Peer]) -> None:
        for peer in running:
            say(f"warming {peer.name} up")
            for name in WARMING:
                seconds = self._options.warm / len(WARMING)
                self._generator.run(peer.hosts, LOADS[name].options, seconds, warmup=0)

    def _measure_pairs(self, running: Sequence[Peer]) -> dict[str, list[Pair]]:
        pairs: dict[str, list[Pair]] = {name: [] for name in self._options.loads}
        for number in range(self._options.pairs):
            for name, found in pairs.items():
                found.append(in_turn(number, running, self._measure(name)))
                say(f"pair {number + 1} of {self._options.pairs}, {name}: {brief(found[-1])}")
        return pairs

    def _measure(self, name: str) -> Callable[[Peer], dict[str, Any]]:
        options, seconds = LOADS[name].options, self._options.seconds
        return lambda peer: self._generator.run(peer.hosts, options, seconds)

    # --- a million znodes ---

    def _run_million(self) -> None:
        options = self._options
        found = self._each(
            lambda peer: measure_million(
                peer, self._generator, options.million, options.seconds, options.warm
            )
        )
        facts = [
            fact_of("first session", "s after the start", found, lambda r: r["first_session_s"]),
            fact_of("memory with them", "MiB", found, lambda r: r["rest_mib"]),
            fact_of("memory when just made", "MiB", found, lambda r: r["loaded_mib"]),
            *(fact_of(load, "/s", found, reads_of(load)) for load in READS),
            *(
                fact_of(f"{load}, by those of the empty tree", "ratio", found, by_empty(load))
                for load in READS
            ),
            fact_of("reads during an image, max ms", "ms", found, during("max")),
            fact_of("reads during an image, p99.9 ms", "ms", found, during("p999")),
            fact_of("images within that window", "number", found, lambda r: r["images"]),
            fact_of("time to make them", "s", found, lambda r: r["fill_s"]),
        ]
        rows = figures.fact_rows(facts, figures.MILLION)
        self._report("million", figures.table(figures.FACT_HEADINGS, rows))

    # --- many ephemerals ---

    def _run_ephemerals(self) -> None:
        count = self._options.ephemerals
        found = self._each(lambda peer: measure_ephemerals(peer, self._generator, count))
        rows = [[f"{name}: {key}", shown] for name in found for key, shown in told(found[name])]
        self._report(
            f"ephemerals-{self._options.servers}",
            f"tickTime {peers.TICK_MS} ms\n" + figures.table(("", "measured"), rows),
        )

    def _each(self, measure: Callable[[Peer], dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """One kind after the other: together they would not fit everywhere."""
        found: dict[str, dict[str, Any]] = {}
        for kind in self._kinds:
            say(f"{kind.name}, {self._options.million or self._options.ephemerals:,} znodes")
            with peers.removed_after(self._peer(kind)) as peer:
                found[kind.name] = measure(peer)
        self._results |= {"found": found}
        return found


def in_turn(
    number: int, running: Sequence[Peer], measure: Callable[[Peer], dict[str, Any]]
) -> Pair:
    """One pair; who is first changes from one to the next."""
    order = running if number % 2 == 0 else running[::-1]
    return {peer.name: measure(peer) for peer in order}


def find_kinds(options: argparse.Namespace) -> list[Kind]:
    kinds = [] if options.only == ZOOKEEPER else [peers.zkpy()]
    classes = None if options.only == ZKPY else servers.classpath(options.jars) or install()
    if classes is not None and shutil.which("java"):
        kinds.append(peers.zookeeper(classes, options.heap))
    elif options.only != ZKPY:
        say("SKIPPED: Apache ZooKeeper, which needs Debian's package zookeeper (or --jars)")
    if not kinds:
        raise DoesNotServe("there is nothing to measure")
    return kinds


def fact_of(
    name: str,
    unit: str,
    found: dict[str, dict[str, Any]],
    figure: Callable[[dict[str, Any]], float],
) -> Fact:
    return Fact(name, unit, {each: [figure(result)] for each, result in found.items()})


def reads_of(load: str) -> Callable[[dict[str, Any]], float]:
    return lambda result: throughput_of(result["reads_full"][load])


def by_empty(load: str) -> Callable[[dict[str, Any]], float]:
    return lambda result: reads_of(load)(result) / throughput_of(result["reads_empty"][load])


def during(figure: str) -> Callable[[dict[str, Any]], float]:
    return lambda result: figures.figure_of(result["during_image"], figure) / 1000


def told(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in found.items():
        if key == "others":
            yield from others_told(value)
        elif isinstance(value, float):
            yield key, figures.shown(value)
        else:
            yield key, str(value).strip().splitlines()[-1] if str(value).strip() else ""


def others_told(report: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield "others' max ms", figures.shown(figures.figure_of(report, "max") / 1000)
    yield "others' p99 ms", figures.shown(figures.figure_of(report, "p99") / 1000)
    yield "others' troubles", figures.troubles_of([{"": report}]) or "none"


def brief(pair: Pair) -> str:
    return ", ".join(
        f"{name} {figures.shown(figures.figure_of(report, figures.THROUGHPUT))}/s"
        for name, report in sorted(pair.items())
    )


def machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "commit": commit(),
        "compiled": zkpy.compiled.COMPILED,
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    if not shutil.which("git"):
        return "unknown"
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def shown_options(options: argparse.Namespace) -> dict[str, Any]:
    plain = (int, float, list)
    return {
        key: value if isinstance(value, plain) else str(value)
        for key, value in vars(options).items()
        if value is not None and key != "out"
    }


def described(results: dict[str, Any]) -> str:
    about = results["machine"]
    commit = about["commit"] + (", compiled" if about["compiled"] else "")
    versions = "".join(f"\n{each}: {text}" for each, text in results.get("versions", {}).items())
    return (
        f"zkpy at {commit}, Python {about['python']}, {about['processors']} processors,"
        f" load average {about['load_before']:.2f} before{versions}"
    )


if __name__ == "__main__":
    sys.exit(main())
