"""`zkpy simulate`: whole ensembles in one process, with everything going wrong that can.

Each seed is one run: its ensemble, network, clients and faults are all drawn from it.
Without a seed many are run, on all processors; the first violation ends it, with the line
that replays it.  Exit code 0: nothing found; 1: a violation; for a mutant the other way round.
"""

import os
import shlex
import statistics
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import attrs
import click
from click.core import ParameterSource

from zkpy.compiled import COMPILED
from zkpy.testing.mutants import MUTANTS, planted
from zkpy.testing.simulation import Choice, Result, Simulation, run_seed
from zkpy.testing.timeline import render_html
from zkpy.testing.world import SECOND

RUNS: Final = 100
PER_TASK: Final = 10
"""Seeds that a worker runs before it reports."""
MUTANT_CPU_MAX: Final = 20 * 60.0
FOUND, CLEAN = 1, 0
IDLE: Final = {
    "--seed": ("runs", "minutes", "first", "jobs", "repeat"),
    "--mutant": ("runs", "minutes", "jobs", "html"),
    "many seeds": ("html", "repeat"),
}
"""Options that each way of running has no use for."""


@click.command()
@click.option("--seed", type=int, metavar="N", help="Run this one seed and show what happened.")
@click.option(
    "--runs",
    type=click.IntRange(1),
    metavar="N",
    help=f"Seeds to run; default {RUNS}, or as many as --minutes allows.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0),
    metavar="M",
    help="Run seeds for so long; with --runs too, until the first of both is reached.",
)
@click.option(
    "--first",
    type=int,
    metavar="N",
    help="The first seed of many, or of a hunt for a mutant; default 1.",
)
@click.option(
    "--members",
    type=click.IntRange(1, 9),
    metavar="N",
    help="Voters; drawn for each seed by default.",
)
@click.option(
    "--observers",
    type=click.IntRange(0, 9),
    metavar="N",
    help="Members without a vote; drawn by default.",
)
@click.option(
    "--seconds",
    type=click.IntRange(1),
    metavar="S",
    help="Virtual time under faults; drawn by default.",
)
@click.option(
    "--oracle-election", is_flag=True, help="Leaders are named at random, several at once."
)
@click.option("--no-faults", is_flag=True, help="Nothing goes wrong.")
@click.option(
    "--reconfig/--no-reconfig", default=None, help="The membership changes; drawn by default."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Processes; default: one for each processor.",
)
@click.option(
    "--html", type=click.Path(dir_okay=False), metavar="FILE", help="Draw the run of --seed."
)
@click.option(
    "--mutant",
    type=click.Choice([*(mutant.name for mutant in MUTANTS), "all"]),
    help="Put an old bug back, named by its ticket (docs/reliability.md), and see how soon it is "
    "found; `all`: one after the other.",
)
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Hunt a mutant so many times.",
)
@click.pass_context
def simulate(
    context: click.Context,
    seed: int | None,
    runs: int | None,
    minutes: float | None,
    first: int | None,
    members: int | None,
    observers: int | None,
    seconds: int | None,
    oracle_election: bool,
    no_faults: bool,
    reconfig: bool | None,
    jobs: int | None,
    html: str | None,
    mutant: str | None,
    repeat: int,
) -> None:
    """Simulate ensembles under faults, and check what they guarantee."""
    if mutant is not None and COMPILED:
        raise click.UsageError("--mutant needs the sources: this core is compiled")
    mode = "--seed" if seed is not None else "--mutant" if mutant is not None else "many seeds"
    refuse_idle_options(context, mode)
    choice = Choice(members, observers, oracle_election, not no_faults, reconfig, seconds)
    if seed is not None:
        sys.exit(show_seed(seed, choice, mutant, html))
    if mutant is not None:
        names = [each.name for each in MUTANTS] if mutant == "all" else [mutant]
        sys.exit(hunt(names, first or 1, repeat, choice))
    if minutes is None and runs is None:
        runs = RUNS
    limits = Limits(runs, None if minutes is None else minutes * 60)
    sys.exit(run_many(first or 1, limits, choice, jobs or os.cpu_count() or 1))


def refuse_idle_options(context: click.Context, mode: str) -> None:
    """Who asks for what would not be done is told so."""
    for name in IDLE[mode]:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} means nothing with {mode}")


# --- one seed


def show_seed(seed: int, choice: Choice, mutant: str | None, html: str | None) -> int:
    with planted(mutant) if mutant else nullcontext():
        result, simulation = run_seed(seed, choice, clock=time.process_time)
    click.echo(simulation.ensemble.timeline.text(), nl=False)
    click.echo(describe(result, simulation))
    if result.violation is not None and result.violation.__cause__ is not None:
        traceback.print_exception(result.violation.__cause__)
    if html is not None:
        members = list(simulation.plan.setup.ids)
        page = render_html(simulation.ensemble.timeline, members, f"zkpy, seed {seed}")
        Path(html).write_text(page, encoding="utf-8")
        click.echo(f"drawn in {html}")
    return FOUND if result.violation is not None else CLEAN


def describe(result: Result, simulation: Simulation) -> str:
    setup = simulation.plan.setup
    lines = [
        f"{len(setup.voters)} voters, {len(setup.observers)} observers, "
        + (f"{len(setup.strangers)} others, " if setup.changes else "")
        + f"{len(simulation.clients)} clients, {result.virtual / SECOND:.1f} s in "
        f"{result.cpu:.2f} s, {result.events} events, {result.elections} leaderships, "
        f"trace {result.trace_hash:08x}",
        "faults: " + (", ".join(f"{k} {n}" for k, n in sorted(result.faults.items())) or "none"),
    ]
    if result.summary is not None:
        checked = result.summary
        lines.append(
            f"checked: {checked.commits} commits, {checked.reads} reads, "
            f"{checked.events} watch events, {checked.expired} expiries"
        )
    lines.append(f"VIOLATION {result.text}" if result.violation else "no violation")
    return "\n".join(lines)


# --- many seeds


@attrs.define
class Limits:
    runs: int | None
    seconds: float | None
    started: float = attrs.field(factory=time.monotonic)

    def allow(self, done: int) -> bool:
        if self.runs is not None and done >= self.runs:
            return False
        return self.seconds is None or time.monotonic() - self.started < self.seconds


@attrs.define
class Total:
    """All runs together; crosses process borders, so it holds plain values only."""

    seeds: int = 0
    virtual: int = 0
    cpu: float = 0.0
    events: int = 0
    commits: int = 0
    acknowledged: int = 0
    reads: int = 0
    watch_events: int = 0
    expired: int = 0
    elections: int = 0
    faults: dict[str, int] = attrs.Factory(dict)
    boundaries: dict[str, int] = attrs.Factory(dict)
    violations: list[tuple[int, str]] = attrs.Factory(list)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.virtual += result.virtual
        self.cpu += result.cpu
        self.events += result.events
        self.elections += result.elections
        _add_counts(self.faults, result.faults)
        _add_counts(self.boundaries, result.boundaries)
        if result.violation is not None:
            self.violations.append((result.seed, result.text))
        if result.summary is not None:
            self.commits += result.summary.commits
            self.acknowledged += result.summary.acknowledged
            self.reads += result.summary.reads
            self.watch_events += result.summary.events
            self.expired += result.summary.expired

    def merge(self, other: "Total") -> None:
        for field in attrs.fields(Total):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, dict):
                _add_counts(mine, theirs)
            else:
                setattr(self, field.name, mine + theirs)


def _add_counts(counts: dict[str, int], more: dict[str, int]) -> None:
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count


def run_seeds(seeds: list[int], choice: Choice) -> Total:
    """A worker's task."""
    total = Total()
    for seed in seeds:
        result, _ = run_seed(seed, choice, clock=time.process_time)
        total.add(result)
    return total


def run_many(first: int, limits: Limits, choice: Choice, jobs: int) -> int:
    total = Total()
    with click.progressbar(length=_length(limits), label="simulating", file=sys.stderr) as bar:
        for part in run_parts(first, limits, choice, jobs):
            total.merge(part)
            bar.update(part.seeds if limits.runs is not None else 0)
            if limits.seconds is not None and limits.runs is None:
                bar.update(int(time.monotonic() - limits.started) - bar.pos)
            if total.violations:
                break
    click.echo(report(total, time.monotonic() - limits.started))
    for seed, text in total.violations:
        click.echo(f"VIOLATION in seed {seed}: {text}\nreplay: {replay_line(seed, choice)}")
    return FOUND if total.violations else CLEAN


def _length(limits: Limits) -> int:
    return limits.runs if limits.runs is not None else int(limits.seconds or 0)


def run_parts(first: int, limits: Limits, choice: Choice, jobs: int) -> Iterator[Total]:
    """Parts as they are done; stops handing out work once the limits are reached."""
    if jobs == 1:
        done = 0
        while limits.allow(done):
            yield run_seeds([first + done], choice)
            done += 1
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from _share_out(pool, first, limits, choice, jobs)


def _share_out(
    pool: ProcessPoolExecutor, first: int, limits: Limits, choice: Choice, jobs: int
) -> Iterator[Total]:
    waiting: set[Future[Total]] = set()
    handed = 0
    try:
        while True:
            while len(waiting) < 2 * jobs and limits.allow(handed):
                count = min(PER_TASK, (limits.runs or handed + PER_TASK) - handed)
                seeds = list(range(first + handed, first + handed + count))
                waiting.add(pool.submit(run_seeds, seeds, choice))
                handed += count
            if not waiting:
                return
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()


def report(total: Total, wall: float) -> str:
    hours = total.virtual / SECOND / 3600
    speed = total.virtual / SECOND / total.cpu if total.cpu else 0.0
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(total.faults.items()))
    cuts = ", ".join(f"{call} {count}" for call, count in sorted(total.boundaries.items()))
    return (
        f"{total.seeds} seeds, {hours:.2f} simulated hours in {wall:.0f} s "
        f"({total.cpu:.0f} s of CPU: {speed:.0f}x real time, {total.events} events)\n"
        f"{total.elections} leaderships, {total.commits} commits, {total.acknowledged} writes "
        f"acknowledged, {total.reads} reads, {total.watch_events} watch events, "
        f"{total.expired} expiries checked\n"
        f"faults: {faults or 'none'}\n"
        f"died before: {cuts or 'nothing'}\n"
        f"violations: {len(total.violations)}"
    )


def replay_line(seed: int, choice: Choice) -> str:
    options: list[Any] = ["zkpy", "simulate", "--seed", seed]
    for name in ("members", "observers", "seconds"):
        value = getattr(choice, name)
        if value is not None:
            options += [f"--{name}", value]
    if choice.oracle:
        options.append("--oracle-election")
    if not choice.faults:
        options.append("--no-faults")
    if choice.reconfig is not None:
        options.append("--reconfig" if choice.reconfig else "--no-reconfig")
    return shlex.join(map(str, options))


# --- mutants


def hunt(names: list[str], first: int, repeat: int, choice: Choice) -> int:
    """CLEAN if every one of them was found, every time."""
    missed = 0
    for name in names:
        times = []
        for round_ in range(repeat):
            # Each hunt begins with seeds that no other one has seen.
            found = hunt_once(name, first + round_ * 100_000, choice)
            missed += found is None
            if found is not None:
                times.append(found)
        if len(times) > 1:
            click.echo(f"{name}: median {statistics.median(times):.1f} s of CPU to find it")
    return FOUND if missed else CLEAN


def hunt_once(name: str, first: int, choice: Choice) -> float | None:
    """CPU seconds until it is found."""
    cpu, seed = 0.0, first
    with planted(name):
        while cpu < MUTANT_CPU_MAX:
            result, _ = run_seed(seed, choice, clock=time.process_time)
            cpu += result.cpu
            if result.violation is not None:
                tried = seed - first + 1
                click.echo(f"{name}: seed {seed}, after {tried} seeds, {cpu:.1f} s: {result.text}")
                return cpu
            seed += 1
    click.echo(f"{name}: not found by {seed - first} seeds, {cpu:.0f} s")
    return None
