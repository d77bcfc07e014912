"""Time and randomness, handed to the core as values."""

import random
import time
from typing import Final

NS_PER_MS: Final = 1_000_000

monotonic_ns = time.monotonic_ns
"""What durations and deadlines are measured with; never set back."""


def monotonic_ms() -> int:
    """`now` of the core."""
    return time.monotonic_ns() // NS_PER_MS


def wall_ms() -> int:
    """Milliseconds since 1970: only for the times that znodes and sessions show."""
    return time.time_ns() // NS_PER_MS


def entropy() -> random.Random:
    """Randomness of the operating system: session passwords must not be guessable."""
    return random.SystemRandom()
