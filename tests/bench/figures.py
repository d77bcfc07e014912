"""From what the generator measured to the table: medians, ratios of pairs, targets.

In: for each load, pairs of the generator's reports, one of zkpy and one of Apache
ZooKeeper, taken one right after the other.  A ratio is zkpy's figure by ZooKeeper's in
one pair; shown is the median of these, since what disturbs a machine disturbs
both halves of a pair.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

import attrs

Report = Mapping[str, Any]
"""One line of the generator."""
Pair = Mapping[str, Report]
"""Server's name -> report; ZooKeeper's is missing where there is none."""
ZKPY: Final = "zkpy"
ZOOKEEPER: Final = "zookeeper"
THROUGHPUT: Final = "ops/s"
LATENCIES: Final = ("p50", "p99", "p999", "max")
TROUBLES: Final = (
    *("errors", "wrong", "disconnects", "connect_failures", "unanswered"),
    "missed",
)


@attrs.frozen
class Target:
    """What zkpy's figure, or its ratio to ZooKeeper's, must at least or at most be."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)

    def verdict(self, value: float | None) -> str:
        if value is None:
            return f"{self}: not measured"
        return f"{self}: {'met' if self.is_met(value) else 'NOT MET'} ({value:.2f})"

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"{self.figure} >= {self.at_least:.4g}"
        return f"{self.figure} <= {self.at_most:.3g}"


NO_SLOWER: Final = Target("p99", at_most=1)


def _faster(times: float) -> list[Target]:
    return [Target(THROUGHPUT, at_least=times), NO_SLOWER]


STANDALONE: Final[dict[str, list[Target]]] = {
    "get-1x1": [Target("p50", at_most=0.6), NO_SLOWER],
    "get-16x1": _faster(2),
    "get-16x16": _faster(4),
    "set-64x1": _faster(1),
    "set-16x16": _faster(1.6),
    "mix-64x1": _faster(1.5),
    "connect-16": [Target(THROUGHPUT, at_least=1.5)],
    "watch-1000": [Target("p50", at_most=1)],
    "memory at rest": [Target("ratio", at_most=0.5)],
    "memory after": [Target("ratio", at_most=1 / 6)],
}
ENSEMBLE: Final[dict[str, list[Target]]] = {
    "get-16x1": _faster(2),
    "get-16x16": _faster(3),
    "set-64x1": _faster(1.7),
    "set-16x16": _faster(2),
    "mix-64x1": _faster(2),
    "memory after": [Target("ratio", at_most=1 / 5)],
    "first session": [Target("ratio", at_most=1)],
}
"""Of three members; other sizes have no targets of their own."""
MILLION: Final[dict[str, list[Target]]] = {
    "memory with them": [Target("ratio", at_most=0.6)],
    "first session": [Target("ratio", at_most=0.6)],
    "get-16x1, by those of the empty tree": [Target("zkpy", at_least=0.9)],
    "get-16x16, by those of the empty tree": [Target("zkpy", at_least=0.9)],
    "reads during an image, max ms": [Target("zkpy", at_most=120)],
    "reads during an image, p99.9 ms": [Target("zkpy", at_most=10)],
}


def targets_of(servers: int) -> dict[str, list[Target]]:
    return {1: STANDALONE, 3: ENSEMBLE}.get(servers, {})


def figure_of(report: Report, figure: str) -> float:
    """Operations a second, or a latency in microseconds."""
    if figure == THROUGHPUT:
        return float(report["ops_per_s"])
    return float(report["latency_us"][figure])


def summary_of(pairs: Sequence[Pair], name: str, figure: str) -> float | None:
    """The median of one server's runs; of the maxima the highest."""
    values = [figure_of(pair[name], figure) for pair in pairs if name in pair]
    if not values:
        return None
    return max(values) if figure == "max" else median(values)


def ratio_of(pairs: Sequence[Pair], figure: str) -> float | None:
    """The median of the pairs' ratios; None where nothing can be compared."""
    both = [
        (figure_of(pair[ZKPY], figure), figure_of(pair[ZOOKEEPER], figure))
        for pair in pairs
        if ZKPY in pair and ZOOKEEPER in pair
    ]
    return median_ratio(both)


def median_ratio(values: Iterable[tuple[float, float]]) -> float | None:
    ratios = [ours / theirs for ours, theirs in values if theirs]
    return median(ratios) if ratios else None


def troubles_of(pairs: Sequence[Pair]) -> str:
    """What went wrong in any run; such a row's figures are not to be trusted."""
    found = [
        f"{name}: {report[word]} {word}"
        for pair in pairs
        for name, report in pair.items()
        for word in TROUBLES
        if report[word]
    ]
    return ", ".join(found)


# --- tables --------------------------------------------------------------------------

LOAD_HEADINGS: Final = (
    *("load", "zkpy/s", "ZooKeeper/s", "ratio"),
    *("p50 us", "p99 us", "max us", "targets, as ratios"),
)


def load_row(name: str, pairs: Sequence[Pair], targets: Sequence[Target]) -> list[str]:
    throughput = (shown(summary_of(pairs, each, THROUGHPUT)) for each in (ZKPY, ZOOKEEPER))
    latencies = (_with_theirs(pairs, each) for each in ("p50", "p99", "max"))
    verdicts = [target.verdict(ratio_of(pairs, target.figure)) for target in targets]
    troubles = troubles_of(pairs)
    notes = "; ".join([*verdicts, *([f"TROUBLE {troubles}"] if troubles else [])])
    return [name, *throughput, shown(ratio_of(pairs, THROUGHPUT)), *latencies, notes]


def _with_theirs(pairs: Sequence[Pair], figure: str) -> str:
    ours, theirs = (summary_of(pairs, name, figure) for name in (ZKPY, ZOOKEEPER))
    return shown(ours) + (f" ({shown(theirs)})" if theirs is not None else "")


FACT_HEADINGS: Final = ("", "zkpy", "ZooKeeper", "ratio", "targets")


@attrs.frozen
class Fact:
    """One figure of both servers, with the medians of what was taken in turn."""

    name: str
    unit: str
    values: Mapping[str, Sequence[float]]

    def of(self, name: str) -> float | None:
        values = self.values.get(name)
        return median(values) if values else None

    @property
    def ratio(self) -> float | None:
        ours, theirs = (self.values.get(name, ()) for name in (ZKPY, ZOOKEEPER))
        return median_ratio(zip(ours, theirs, strict=False))

    def row(self, targets: Sequence[Target]) -> list[str]:
        found = {"zkpy": self.of(ZKPY), "ratio": self.ratio}
        verdicts = "; ".join(target.verdict(found[target.figure]) for target in targets)
        values = (shown(self.of(name)) for name in (ZKPY, ZOOKEEPER))
        return [f"{self.name}, {self.unit}", *values, shown(self.ratio), verdicts]


def fact_rows(facts: Iterable[Fact], targets: Mapping[str, Sequence[Target]]) -> list[list[str]]:
    return [fact.row(targets.get(fact.name, ())) for fact in facts]


def shown(value: float | None) -> str:
    """Three or more digits: 12,345 and 345 and 1.23."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be, the first and last to the left."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    last = len(line) - 1
    cells = [
        cell.ljust(width) if column in (0, last) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
