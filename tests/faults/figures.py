"""Times in words: median, 99th percentile, longest."""

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def show_seconds(values: Sequence[float]) -> str:
    if not values:
        return "(nothing)"
    median, p99 = statistics.median(values), percentile(values, 0.99)
    return f"median {median:.2f} s, p99 {p99:.2f} s, longest {max(values):.2f} s ({len(values)})"
