"""All figures in Prometheus' text format, under the names that ZooKeeper's provider gives them.

The names are those of `mntr` without `zk_`; each family's kind is the one that it has in
ZooKeeper, which gives the name as HELP, too.  Summaries have their count and sum; those of
which samples are kept the quantiles that they have in ZooKeeper.  Words are no figures.

What concerns the process has the names that Prometheus' own libraries agree on.
"""

import os
import resource
import time
from collections.abc import Iterator
from typing import Final

import attrs

from zkpy.admin.commands import Answer, Distribution, ServerView, Spread, figures

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES: Final = {"0.5": 500, "0.9": 900, "0.99": 990}
"""As in ZooKeeper's provider -> so many in a thousand."""
MEDIAN: Final = {"0.5": 500}
COUNTERS: Final = frozenset(
    """
    bytes_received_count bytes_sent_count cnxn_closed_without_zk_server_running commit_count
    connection_drop_count connection_dropped connection_rejected connection_request_count
    connection_revalidate_count diff_count digest_mismatches_count learner_commit_received_count
    learner_proposal_received_count looking_count proposal_count request_throttle_wait_count
    response_bytes revalidate_count sessionless_connections_expired snap_count
    stale_sessions_expired throttled_ops tls_handshake_exceeded unsuccessful_handshake watch_bytes
    """.split()
)
"""All other numbers are gauges."""
ACK_LATENCY: Final = "ack_latency"
"""`mntr` has one per member, `N_ack_latency`; here the member is a label, as in ZooKeeper."""


@attrs.define(frozen=True)
class Sample:
    suffix: str
    labels: tuple[tuple[str, str], ...]
    value: float


@attrs.define
class Family:
    name: str
    kind: str
    samples: list[Sample]


def render(view: ServerView) -> str:
    return "".join(map(_show, (*families(figures(view)), *process_families())))


def families(found: Answer) -> list[Family]:
    """One for each figure; those of all members together."""
    made: dict[str, Family] = {}
    for key, figure in found.items():
        name, labels = _name_of(key)
        kind, samples = _read(name, figure, labels)
        if samples:
            made.setdefault(name, Family(name, kind, [])).samples.extend(samples)
    return list(made.values())


def _name_of(key: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    member, _, name = key.partition("_")
    if name == ACK_LATENCY and member.isdigit():
        return name, (("key", member),)
    return key, ()


def _read(
    name: str, figure: object, labels: tuple[tuple[str, str], ...]
) -> tuple[str, list[Sample]]:
    if isinstance(figure, Spread):
        summary, unit = figure.summary, figure.unit
        return "summary", _totals(summary.count, summary.total / unit, labels)
    if isinstance(figure, Distribution):
        summary, unit = figure.samples.summary(), figure.unit
        quantiles = _quantiles(figure, labels, known=summary.count > 0)
        return "summary", quantiles + _totals(summary.count, summary.total / unit, labels)
    kind = "counter" if name in COUNTERS else "gauge"
    if isinstance(figure, int | float):
        return kind, [Sample("", labels, float(figure))]
    return kind, []


def _quantiles(
    figure: Distribution, labels: tuple[tuple[str, str], ...], known: bool
) -> list[Sample]:
    """NaN, as libraries say it, where there was nothing to draw one from."""
    wanted = MEDIAN if figure.median_only else QUANTILES
    values = figure.samples.percentiles(tuple(wanted.values()))
    return [
        Sample("", (*labels, ("quantile", name)), value / figure.unit if known else float("nan"))
        for name, value in zip(wanted, values, strict=True)
    ]


def _totals(count: int, total: float, labels: tuple[tuple[str, str], ...]) -> list[Sample]:
    return [Sample("_count", labels, float(count)), Sample("_sum", labels, total)]


# --- the process -----------------------------------------------------------------------


def process_families() -> Iterator[Family]:
    """What the system tells; nothing where it tells nothing."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield _one("process_cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime)
    yield _one("process_max_fds", "gauge", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = [int(each) for each in file.read().split()]
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            started_ticks = int(file.read().rpartition(")")[2].split()[19])
        descriptors = len(os.listdir("/proc/self/fd")) - 1  # one of them lists the others
    except (OSError, ValueError, IndexError):  # not Linux
        return
    page = resource.getpagesize()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = booted + started_ticks / os.sysconf("SC_CLK_TCK")
    yield _one("process_open_fds", "gauge", descriptors)
    yield _one("process_resident_memory_bytes", "gauge", pages[1] * page)
    yield _one("process_virtual_memory_bytes", "gauge", pages[0] * page)
    yield _one("process_start_time_seconds", "gauge", round(started, 2))


def _one(name: str, kind: str, value: float) -> Family:
    return Family(name, kind, [Sample("", (), float(value))])


# --- text ------------------------------------------------------------------------------


def _show(family: Family) -> str:
    head = f"# HELP {family.name} {family.name}\n# TYPE {family.name} {family.kind}\n"
    return head + "".join(_show_sample(family.name, each) for each in family.samples)


def _show_sample(name: str, sample: Sample) -> str:
    """Labels are names and numbers of zkpy's own: nothing in them needs a backslash."""
    labels = ",".join(f'{key}="{value}"' for key, value in sample.labels)
    value = "NaN" if sample.value != sample.value else repr(sample.value)
    return (
        f"{name}{sample.suffix}{{{labels}}} {value}\n"
        if labels
        else (f"{name}{sample.suffix} {value}\n")
    )
