"""Virtual time and all randomness of one simulation.

One heap of (time, sequence, action, arguments): equal times run in the order in which
they were scheduled, and nothing else ever decides an order.  Times are integers in
microseconds since the start of the world.  Every independent part draws from a stream of
its own, named after it, so that one more draw in one part moves nothing in another.

`mix` folds whatever happened into a running hash: two runs of a seed are the same run if
and only if their hashes are equal.
"""

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

from zkpy.crc import crc32

MS: Final = 1000
"""Microseconds per millisecond."""
SECOND: Final = 1000 * MS

Action = Callable[..., None]


class Violation(Exception):
    """A guarantee does not hold: `rule` is its name in docs/guarantees.md."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule
        self.what = what


class World:
    """The clock, the heap and the dice."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0
        self.events = 0
        self.trace_hash = 0
        self._heap: list[tuple[int, int, Action, tuple[Any, ...]]] = []
        self._sequence = 0

    def stream(self, name: str) -> random.Random:
        """Dice for one part; the same for the same seed and name, whatever else is drawn."""
        return random.Random(f"{self.seed} {name}")

    def at(self, when: int, action: Action, *arguments: Any) -> None:
        """Schedule; a time in the past means now, behind all that is due now."""
        self._sequence += 1
        now = self.now
        heappush(self._heap, (when if when > now else now, self._sequence, action, arguments))

    def after(self, delay: int, action: Action, *arguments: Any) -> None:
        self.at(self.now + delay, action, *arguments)

    def run_until(self, when: int, stop: Callable[[], bool] | None = None) -> bool:
        """Carry out all that is due up to `when`; whether `stop` (asked after each) ended it."""
        heap = self._heap
        while heap and heap[0][0] <= when:
            self.now, _, action, arguments = heappop(heap)
            self.events += 1
            action(*arguments)
            if stop is not None and stop():
                return True
        self.now = max(self.now, when)
        return False

    def mix(self, data: bytes) -> None:
        """Fold bytes and the time at which they came about into the hash of the run."""
        self.trace_hash = crc32(data, (self.trace_hash + self.now) & 0xFFFFFFFF)


def exponential(rng: random.Random, mean: int) -> int:
    """Waiting time of something that happens once per `mean` on average, at least 1."""
    return max(1, int(rng.expovariate(1.0) * mean))
