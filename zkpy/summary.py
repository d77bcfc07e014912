"""What many values come to: count, sum, least, greatest, and percentiles where they are asked for.

Whoever adds the values chooses their unit, and says it where the summary is kept.
"""

from dataclasses import dataclass, field
from typing import Final

SAMPLES_KEPT: Final = 4096
"""ZooKeeper draws its percentiles from as many samples."""


@dataclass(eq=False, slots=True)
class Summary:
    count: int = 0
    total: int = 0
    least: int = 0
    greatest: int = 0
    last: int = 0

    def add(self, value: int) -> None:
        if value > self.greatest:
            self.greatest = value
        if value < self.least or not self.count:
            self.least = value
        self.last = value
        self.count += 1
        self.total += value

    def merge(self, other: "Summary") -> None:
        """Take in what another one has seen."""
        if other.count:
            self.least = min(self.least, other.least) if self.count else other.least
            self.greatest = max(self.greatest, other.greatest)
            self.count += other.count
            self.total += other.total

    def reset(self) -> None:
        self.count = self.total = self.least = self.greatest = self.last = 0

    def average(self, unit: int = 1) -> float:
        """In units of so many, to four places, as ZooKeeper prints it."""
        return round(self.total / unit / self.count, 4) if self.count else 0.0


@dataclass(eq=False, slots=True)
class Samples:
    """A summary with percentiles.

    They are of the last `SAMPLES_KEPT` values and of those that came behind them, as many
    at most; ZooKeeper draws as many from all since the start.  To add one is to append it:
    what they come to is reckoned once for all that were kept, or when it is asked for.
    """

    _folded: Summary = field(default_factory=Summary)
    """Of all values but the fresh ones."""
    _fresh: list[int] = field(default_factory=list)
    _before: list[int] = field(default_factory=list)
    """The last full list of them."""

    def add(self, value: int) -> None:
        self._fresh.append(value)
        if len(self._fresh) >= SAMPLES_KEPT:
            self._folded.merge(summarise(self._fresh))
            self._before, self._fresh = self._fresh, []

    def reset(self) -> None:
        self._folded.reset()
        self._fresh, self._before = [], []

    def summary(self) -> Summary:
        """Of all values since the start, or the last `reset`."""
        total = summarise(self._fresh)
        total.merge(self._folded)
        return total

    def percentiles(self, per_mille: tuple[int, ...]) -> list[int]:
        """For each one the least kept value that so many in a thousand do not exceed; 0 if none
        is kept."""
        kept = sorted(self._before + self._fresh)
        ranks = [-(-len(kept) * each // 1000) for each in per_mille]
        return [kept[max(rank, 1) - 1] if kept else 0 for rank in ranks]


def summarise(values: list[int]) -> Summary:
    if not values:
        return Summary()
    return Summary(len(values), sum(values), min(values), max(values), values[-1])
