"""Real processes under faults, from the command line.

    python tests/faults/run.py rounds [--members 3] [--rounds N] [--seed N] [--keep DIR]
    python tests/faults/run.py rolling [--seconds S]
    python tests/faults/run.py failover [--kills N] [--tick MS] [--beside-zookeeper]
    python tests/faults/run.py first-session [--times N] [--beside-zookeeper]

`rounds` and `rolling` run clients that record what they see, and check C1-C10, C12 and C14 of
docs/guarantees.md on it at the end, against the logs on the members' disks; not C11 and C13,
which need the members' own clocks and are the simulator's.  The others measure.

The last line is a summary; exit code 0: all holds, 1: something does not.  A run that failed
keeps its directory and prints the line that repeats its faults (what the processes
make of them is up to the machine).  `--json FILE` leaves the figures, `--out DIR` a junit.xml.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.differential.run import write_junit
from tests.faults.cluster import Cluster, TooLate
from tests.faults.failover import run_failover, run_first_session
from tests.faults.figures import show_seconds
from tests.faults.rounds import TICK_MS, carry_out, draw_rounds
from tests.faults.session import WRITTEN_S, Session, Verdict
from zkpy.testing.workload import Mix
from zkpy.testing.world import MS, Violation

SETTINGS: Final = """\
tickTime={tick}
initLimit=10
syncLimit=5
snapCount=500
autopurge.purgeInterval=0
4lw.commands.whitelist=*"""
"""Images are written often; the log stays whole: it is what clients are checked against."""
SESSION_TICKS: Final = 4
ROLLING_TIMEOUT_MS: Final = 10_000
Figures = dict[str, Any]


async def run_rounds(options: argparse.Namespace, directory: Path) -> Figures:
    """Fault after fault; after each of them all is mended, and well again within the bound."""
    planned = draw_rounds(options.seed, options.rounds, options.members)
    cluster = Cluster(directory, options.members, SETTINGS.format(tick=TICK_MS))
    written, served = [], []
    try:
        await cluster.start()
        session = Session(cluster, options.seed, options.clients, SESSION_TICKS * TICK_MS)
        session.bound_s = options.bound
        await session.begin()
        for number, each in enumerate(planned, start=1):
            targets = await carry_out(cluster, each)
            cluster.mend()
            written.append(await session.until_written())
            served.append(await session.until_all_serve())
            tell(f"{number:4}  {each} {list(targets)}: written after {written[-1]:.2f} s")
        verdict = await session.finish()
    finally:
        await cluster.stop()
    return {
        "members": options.members,
        "rounds": len(planned),
        "kinds": dict(Counter(each.kind for each in planned)),
        "written_s": written,
        "all_serve_s": [a + b for a, b in zip(written, served, strict=True)],
        "held": cluster.proxy.held,
        "datagrams_lost": cluster.proxy.lost,
        **checked(verdict),
    }


def checked(verdict: Verdict) -> Figures:
    summary = verdict.summary
    return {
        "acknowledged": summary.acknowledged,
        "commits": summary.commits,
        "reads": summary.reads,
        "watch_events": summary.events,
        "sessions": verdict.sessions,
        "connections": verdict.connections,
        "expired": summary.expired,
        "digest": f"{verdict.digest:016x}",
    }


async def run_rolling(options: argparse.Namespace, directory: Path) -> Figures:
    """Each member is stopped in order and started again, the leader last, under load."""
    cluster = Cluster(directory, 3, SETTINGS.format(tick=options.tick))
    # Neither closes nor naps: whatever session ends here was lost by the restart.
    weights = dict.fromkeys(("set", "register", "create", "delete", "ephemeral", "get", "sync"), 1)
    mix = Mix(weights, think=10 * MS, timeout_ms=ROLLING_TIMEOUT_MS, move_chance=0.0)
    took = []
    try:
        await cluster.start()
        session = Session(cluster, options.seed, options.clients, ROLLING_TIMEOUT_MS, mix)
        session.bound_s = options.bound
        await session.begin()
        for turn in range(options.turns):
            for sid in await restart_order(cluster):
                began = time.monotonic()
                await cluster.end(sid)
                cluster.restart()
                await session.until_written()
                await session.until_all_serve()
                took.append(time.monotonic() - began)
                tell(f"turn {turn + 1}: server {sid} is back after {took[-1]:.2f} s")
        before = {client.number: client.session for client in session.clients}
        await asyncio.sleep(ROLLING_TIMEOUT_MS / 1000 / 5)
        lost = [each for each in session.clients if each.session != before[each.number]]
        opened = len({each.session for each in session.connections})
        verdict = await session.finish()
    finally:
        await cluster.stop()
    # One for each client and one for the probe: nobody had to ask for another.
    lost_sessions = opened - (options.clients + 1) + len(lost)
    if lost_sessions:
        raise Violation("C11", f"{lost_sessions} sessions did not outlive the rolling restart")
    return {"restarts": len(took), "restart_s": took, "lost_sessions": 0, **checked(verdict)}


async def restart_order(cluster: Cluster) -> list[int]:
    leader = await cluster.leader()
    return sorted(cluster.members, key=lambda sid: sid == leader)


# --- the command line


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="zkpy's ensembles of real processes under faults")
    parser.add_argument("what", nargs="?", choices=list(TASKS), default="rounds")
    parser.add_argument("--members", type=int, default=3, choices=(3, 5, 7))
    parser.add_argument("--rounds", type=int, default=10, help="of faults")
    parser.add_argument("--seed", type=int, help="of faults and clients; drawn if not given")
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument(
        "--bound", type=float, default=WRITTEN_S, help="seconds from the mending to a new write"
    )
    parser.add_argument("--turns", type=int, default=1, help="of a rolling restart")
    parser.add_argument("--kills", type=int, default=20, help="of leaders")
    parser.add_argument("--times", type=int, default=3, help="that a first session is waited for")
    parser.add_argument("--tick", type=int, help="tickTime in ms; 2000, of failover 200")
    parser.add_argument("--beside-zookeeper", action="store_true", help="measure both")
    parser.add_argument("--keep", type=Path, help="where to leave the data of a failed run")
    parser.add_argument("--json", type=Path, help="where to leave the figures")
    parser.add_argument("--out", type=Path, help="where to leave junit.xml")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1, 1_000_000)
    if options.tick is None:
        options.tick = 200 if options.what == "failover" else 2000
    return options


def main() -> int:
    options = parse()
    directory = Path(tempfile.mkdtemp(prefix="zkpy-faults-"))
    failure = ""
    try:
        figures = asyncio.run(TASKS[options.what](options, directory))
    except (Violation, TooLate) as why:
        figures, failure = {"failure": str(why)}, str(why)
    if failure:
        keep(options, directory, failure)
    else:
        shutil.rmtree(directory)
        tell(f"{options.what}: {SUMMARIES[options.what](figures)}")
    figures |= {"what": options.what, "seed": options.seed}
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    write_junit(options.out, "failure" if failure else "", failure, "faults", options.what)
    return 1 if failure else 0


def keep(options: argparse.Namespace, directory: Path, failure: str) -> None:
    if options.keep is not None:
        directory = Path(shutil.move(directory, options.keep))
    line = f"python tests/faults/run.py {options.what} --seed {options.seed}"
    if options.what == "rounds":
        line += f" --members {options.members} --rounds {options.rounds}"
    tell(f"VIOLATION {failure}\nthe data is in {directory}\nseed {options.seed}; again: {line}")


def tell(text: str) -> None:
    print(text, flush=True)


def sum_up_rounds(figures: Figures) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(figures["kinds"].items()))
    return (
        f"{figures['rounds']} rounds on {figures['members']} members ({kinds}); a write after "
        f"{show_seconds(figures['written_s'])}, all serve after "
        f"{show_seconds(figures['all_serve_s'])}; {sum_up_checks(figures)}"
    )


def sum_up_rolling(figures: Figures) -> str:
    return (
        f"{figures['restarts']} members restarted, back after "
        f"{show_seconds(figures['restart_s'])}; no session lost; {sum_up_checks(figures)}"
    )


def sum_up_checks(figures: Figures) -> str:
    return (
        f"{figures['acknowledged']} acknowledged writes, none lost; {figures['reads']} reads, "
        f"{figures['watch_events']} watch events, {figures['sessions']} sessions checked; "
        f"all members equal, digest {figures['digest']}"
    )


def sum_up_times(figures: Figures) -> str:
    parts = [f"{name} {show_seconds(times)}" for name, times in figures["times"].items()]
    return "; ".join(parts + figures.get("skipped", []))


Task = Callable[[argparse.Namespace, Path], Awaitable[Figures]]
TASKS: Final[dict[str, Any]] = {
    "rounds": run_rounds,
    "rolling": run_rolling,
    "failover": run_failover,
    "first-session": run_first_session,
}
SUMMARIES: Final[dict[str, Callable[[Figures], str]]] = {
    "rounds": sum_up_rounds,
    "rolling": sum_up_rolling,
    "failover": sum_up_times,
    "first-session": sum_up_times,
}

if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
