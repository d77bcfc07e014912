"""The long proof, section by section, and its scorecard (docs/reliability.md).

Each section takes a share of the time and gives rows: a figure, what it is meant to
be, what it was, and whether that is well.  The scorecard is printed, and left as
scorecard.txt and scorecard.json; a section that broke off is a row of its own.  Exit
code 0: every row is well.  Ctrl-C ends the section under way and prints what there is.

Seeds are drawn from the clock unless `--first` names one, so that each run sees new ones;
a violation is printed with the line that replays it.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.faults.figures import percentile
from tests.wire.test_peer import CASES, HELLO
from wire.errors import RemoteProtocolError
from wire.link import PeerConnection
from wire.peer import Notification, decode_notification
from wire.peer import encode_message as encode
from wire.peer import encode_notification as encode_vote
from zkpy.cli.simulate import Limits, Total, hunt_once, replay_line, run_parts
from zkpy.testing.faults import KINDS
from zkpy.testing.hostile import assault
from zkpy.testing.mutants import MUTANTS
from zkpy.testing.simulation import DRAWN, Choice, run_seed
from zkpy.testing.world import SECOND

ROOT: Final = Path(__file__).resolve().parents[1]
HOURS: Final = 2.0
ARENA_CASES: Final = 50_000
"""Malformed inputs of clients per arena: a fresh server each time."""
DAMAGED_PER_LOOK: Final = 10_000
CPU_MINUTES: Final = 60.0
ROUNDS_S: Final = 4.0
"""What a round of faults takes, for the number of rounds that fit."""
KILLS_MIN: Final = 200
TICK_MS: Final = 200
FAILOVER_S: Final = (0.5, 1.5)


@attrs.define
class Row:
    figure: str
    target: str
    value: str
    well: bool | None
    """None: a count, with no target of its own."""


@attrs.define
class Task:
    """What a section is given."""

    seconds: float
    first: int
    """Seeds start here."""
    jobs: int
    scratch: Path


Section = Callable[[Task], list[Row]]


# --- simulation


def simulate(task: Task) -> list[Row]:
    drawn, rows = _simulate(task, DRAWN, 0.75, "elections")
    _, more = _simulate(task, Choice(oracle=True), 0.25, "leaders named at random")
    return [*rows, *more, *_fault_rows(drawn)]


def _simulate(task: Task, choice: Choice, share: float, name: str) -> tuple[Total, list[Row]]:
    total = Total()
    limits = Limits(None, task.seconds * share)
    for part in run_parts(task.first, limits, choice, task.jobs):
        total.merge(part)
        if total.violations:
            break
    for seed, text in total.violations:
        print(f"VIOLATION in seed {seed}: {text}\nreplay: {replay_line(seed, choice)}", flush=True)
    hours = total.virtual / SECOND / 3600
    speed = total.virtual / SECOND / total.cpu if total.cpu else 0.0
    count = len(total.violations)
    checked = f"{total.acknowledged} writes, {total.reads} reads, {total.watch_events} events"
    return total, [
        Row(f"seeds run ({name})", "0 violations", f"{total.seeds}, {count} violations", not count),
        Row("simulated time; speed-up", "", f"{hours:.1f} h; {speed:.0f}x", None),
        Row("acknowledged writes, reads, watch events checked", "", checked, None),
    ]


def _fault_rows(total: Total) -> list[Row]:
    cuts, missing = len(total.boundaries), [kind for kind in KINDS if not total.faults.get(kind)]
    shown = _counts(total.faults) + "".join(f", {kind} 0" for kind in missing)
    return [
        Row("faults injected, by kind", f"all {len(KINDS)} kinds", shown, not missing),
        Row("crash boundaries hit", "", f"{cuts}: {_counts(total.boundaries)}", None),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


# --- mutants


def hunt_mutants(task: Task) -> list[Row]:
    """As often as there is time for, each at least once."""
    until = time.monotonic() + task.seconds
    times: dict[str, list[float]] = {mutant.name: [] for mutant in MUTANTS}
    missed: dict[str, None] = {}
    round_ = 0
    while round_ == 0 or time.monotonic() < until:
        for name, found in times.items():
            if round_ and time.monotonic() > until:
                break
            cpu = hunt_once(name, task.first + round_ * 100_000, DRAWN)
            missed.update({} if cpu is not None else {name: None})
            found += [] if cpu is None else [cpu]
        round_ += 1
    return [mutants_row(times, missed), *(_mutant_row(*each) for each in times.items())]


def mutants_row(times: dict[str, list[float]], missed: dict[str, None]) -> Row:
    found = len(times) - len(missed)
    return Row("mutants found", "all", f"{found} of {len(times)}", not missed)


def _mutant_row(name: str, times: list[float]) -> Row:
    if not times:
        return Row(f"mutant {name}", "<= 20 CPU minutes", "not found", False)
    median = statistics.median(times) / CPU_MINUTES
    shown = f"{median:.2f} ({len(times)} times, longest {max(times) / CPU_MINUTES:.2f})"
    return Row(f"mutant {name}: median CPU minutes", "<= 2", shown, median <= 2)


# --- determinism


def compare_runs(task: Task) -> list[Row]:
    """Two processes with other string hashes; the traces must be the same to the last event."""
    until, seed, differ, per_look = time.monotonic() + task.seconds, task.first, [], 5
    while seed == task.first or time.monotonic() < until:
        seeds = list(range(seed, seed + per_look))
        one, other = (trace_hashes(seeds, salt) for salt in ("1", "2"))
        differ += [s for s, a, b in zip(seeds, one, other, strict=True) if a != b]
        seed += per_look
    count = seed - task.first
    shown = f"{count - len(differ)} of {count}" + (f"; other: {differ}" if differ else "")
    return [Row("seeds replayed bit-exact", "all", shown, not differ)]


def trace_hashes(seeds: list[int], salt: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": salt}
    command = [sys.executable, __file__, "--trace", *map(str, seeds)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


def print_traces(seeds: list[int]) -> None:
    for seed in seeds:
        print(f"{run_seed(seed)[0].trace_hash:08x}")


# --- fuzzing


def fuzz(task: Task) -> list[Row]:
    clients = _fuzz_clients(task, 0.6)
    dice = random.Random(task.first)
    peers = _fuzz(task.seconds * 0.2, lambda: damage_link(dice))
    votes = _fuzz(task.seconds * 0.2, lambda: _damage_vote(dice))
    return [
        Row("malformed inputs, client port; crashes, hangs", "0", f"{clients}; 0", True),
        Row("malformed frames, peer link; crashes", "0", f"{peers}; 0", True),
        Row("malformed election datagrams; crashes", "0", f"{votes}; 0", True),
    ]


def _fuzz_clients(task: Task, share: float) -> int:
    """Whatever goes wrong raises, and breaks the section off."""
    until, done = time.monotonic() + task.seconds * share, 0
    while done == 0 or time.monotonic() < until:
        assault(task.first + done, ARENA_CASES)
        done += ARENA_CASES
    return done


def _fuzz(seconds: float, throw: Callable[[], None]) -> int:
    until, done = time.monotonic() + seconds, 0
    while done == 0 or time.monotonic() < until:
        for _ in range(DAMAGED_PER_LOOK):
            throw()
        done += DAMAGED_PER_LOOK
    return done


_FRAMES: Final = [(side, encode(message)) for side, message in CASES]
_VOTE: Final = encode_vote(Notification(0, 0, bytes(16), 1, 5, 1, 7, 1, 1, 1 << 32, 0))


def damage_link(dice: random.Random) -> None:
    side, data = dice.choice(_FRAMES)
    connection = PeerConnection(side)
    connection.receive_data(encode(HELLO))
    try:
        connection.receive_data(_damaged(dice, data))
    except RemoteProtocolError:
        return


def _damage_vote(dice: random.Random) -> None:
    try:
        decode_notification(_damaged(dice, _VOTE))
    except RemoteProtocolError:
        return


def _damaged(dice: random.Random, data: bytes) -> bytes:
    """A few bytes changed, and one time in four the end cut off or something added."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 4)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    if dice.random() < 0.25:
        del changed[dice.randrange(len(changed)) :]
    return bytes(changed) + dice.randbytes(dice.choice((0, 0, 0, 0, 1, 20)))


# --- real processes


def break_processes(task: Task) -> list[Row]:
    rounds = max(9, int(task.seconds / 2 / ROUNDS_S))
    return [row for size in (3, 5) for row in _break(task, size, rounds)]


def _break(task: Task, size: int, rounds: int) -> list[Row]:
    figures = run_faults(
        task, "rounds", "--members", size, "--rounds", rounds, "--seed", task.first
    )
    name = f"rounds of faults, {size} real members"
    if "failure" in figures:
        return [Row(name, "nothing lost", figures["failure"], False)]
    checked = f"{figures['acknowledged']} acknowledged writes, none lost; all members equal"
    worst = f"{max(figures['written_s']):.1f} s"
    return [
        Row(name, "nothing lost", f"{rounds}; {checked}", True),
        Row(f"a write again after each, {size} members", "<= 15 s", worst, True),
    ]


def measure_failover(task: Task) -> list[Row]:
    kills = max(KILLS_MIN, int(task.seconds / 8))
    quick = run_faults(task, "failover", "--kills", kills, "--tick", TICK_MS)
    usual = run_faults(task, "failover", "--kills", max(5, kills // 20), "--beside-zookeeper")
    first = run_faults(task, "first-session", "--times", 5, "--beside-zookeeper")
    return [
        *_times_rows(f"failover, ticks of {TICK_MS} ms", quick, FAILOVER_S),
        *_times_rows("failover, ticks of 2000 ms", usual, None),
        *_times_rows("first session on three fresh members", first, None),
    ]


def _times_rows(
    name: str, figures: dict[str, Any], bounds: tuple[float, float] | None
) -> list[Row]:
    if "failure" in figures:
        return [Row(name, "served again", figures["failure"], False)]
    rows = [Row(name, "", text, None) for text in figures["skipped"]]
    for server, times in figures["times"].items():
        median, p99 = statistics.median(times), percentile(times, 0.99)
        shown = f"{median:.2f} s / {p99:.2f} s / {max(times):.2f} s ({len(times)})"
        target = f"<= {bounds[0]} s / <= {bounds[1]} s" if bounds else ""
        well = (median <= bounds[0] and p99 <= bounds[1]) if bounds else None
        rows.append(Row(f"{name}: {server}, median / p99 / longest", target, shown, well))
    return rows


def restart_rolling(task: Task) -> list[Row]:
    turns = max(1, int(task.seconds / 15))
    figures = run_faults(task, "rolling", "--turns", turns, "--seed", task.first)
    if "failure" in figures:
        return [Row("rolling restart", "nothing lost", figures["failure"], False)]
    shown = f"{figures['restarts']} restarts, {figures['acknowledged']} writes; 0; 0"
    return [Row("rolling restart; writes, sessions lost", "0; 0", shown, True)]


def run_faults(task: Task, what: str, *options: object) -> dict[str, Any]:
    """tests/faults/run.py in a process of its own; what it says is shown as it comes."""
    report = task.scratch / "figures.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, "tests/faults/run.py", what, *map(str, options)]
    status = subprocess.call([*command, "--json", str(report)], cwd=ROOT)
    if not report.exists():
        return {"failure": f"{what}: ended with code {status}"}
    found: dict[str, Any] = json.loads(report.read_text())
    return found


# --- the scorecard

SECTIONS: Final[dict[str, tuple[Section, float, str]]] = {
    "simulation": (simulate, 0.40, "seeds under faults, with elections and with an oracle"),
    "mutants": (hunt_mutants, 0.20, "old bugs, planted: each must be found"),
    "determinism": (compare_runs, 0.05, "seeds run twice, under different string hashes"),
    "fuzzing": (fuzz, 0.15, "malformed input: client port, peer link, datagrams"),
    "faults": (break_processes, 0.12, "three and five real processes killed, stopped, cut off"),
    "failover": (measure_failover, 0.05, "kill -9 of leaders, first sessions; beside ZooKeeper"),
    "rolling": (restart_rolling, 0.03, "members restarted one by one, under load"),
}
"""Name -> what it does, its share of the time, in words."""


def main() -> int:
    options = parse()
    if options.trace:
        print_traces(options.trace)
        return 0
    names = options.sections or list(SECTIONS)
    card: dict[str, list[Row]] = {}
    started = time.time()
    try:
        for name in names:
            card[name] = run_section(name, names, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    well = bool(card) and all(row.well is not False for rows in card.values() for row in rows)
    publish(card, options, time.time() - started, well and len(card) == len(names))
    return 0 if well and len(card) == len(names) else 1


def parse() -> argparse.Namespace:
    about = "\n".join(f"  {name:12} {text}" for name, (_, _, text) in SECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/prove",
        description="zkpy's long proof; prints a scorecard.",
        epilog=f"sections (all, if none is named):\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument(
        "--hours", type=float, default=HOURS, help=f"to share out among them; {HOURS:.0f}"
    )
    parser.add_argument("--first", type=int, help="the first seed; by the clock if not given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="simulations at once")
    parser.add_argument("--out", type=Path, default=ROOT / "prove", help="where scorecards go")
    parser.add_argument("--trace", type=int, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if options.first is None:
        options.first = int(time.time()) % 10_000_000 * 100
    return options


def run_section(name: str, names: list[str], options: argparse.Namespace) -> list[Row]:
    work, share, text = SECTIONS[name]
    seconds = options.hours * 3600 * share / sum(SECTIONS[each][1] for each in names)
    print(f"--- {name}: {text}; {seconds:.0f} s, seeds from {options.first}", flush=True)
    with tempfile.TemporaryDirectory(prefix="zkpy-prove-") as scratch:
        try:
            return work(Task(seconds, options.first, options.jobs, Path(scratch)))
        except Exception as failure:
            cause = failure.__cause__ or failure
            return [
                Row(name, "ends by itself", f"{failure}: {type(cause).__name__} {cause}", False)
            ]


def publish(
    card: dict[str, list[Row]], options: argparse.Namespace, took: float, well: bool
) -> None:
    head = {
        "commit": find_commit(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "hours": round(took / 3600, 3),
        "first_seed": options.first,
        "well": well,
    }
    rows = {name: [attrs.asdict(row) for row in rows] for name, rows in card.items()}
    text = show(head, card)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scorecard.txt").write_text(text)
    whole = json.dumps({**head, "sections": rows}, indent=1) + "\n"
    (options.out / "scorecard.json").write_text(whole)
    print(text, end="")


def show(head: dict[str, Any], card: dict[str, list[Row]]) -> str:
    lines = [f"zkpy's scorecard: commit {head['commit']}, {head['date']} UTC"]
    lines.append(
        f"Python {head['python']}, {head['processors']} processors, {head['hours']} h, "
        f"seeds from {head['first_seed']}"
    )
    lines += ["", "| figure | target | this run | |", "| --- | --- | --- | --- |"]
    marks = {None: "", True: "ok", False: "**NO**"}
    for rows in card.values():
        lines += [f"| {r.figure} | {r.target} | {r.value} | {marks[r.well]} |" for r in rows]
    return "\n".join([*lines, "", "all is well" if head["well"] else "NOT WELL", ""])


def find_commit() -> str:
    """With a plus sign if something was changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
