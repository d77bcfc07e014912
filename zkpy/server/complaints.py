"""Log lines about what others do: one for many, since a stranger may knock all day."""

import logging
from collections.abc import Callable
from typing import Final

from zkpy.server.clock import monotonic_ms

log = logging.getLogger("zkpy.server")

GAP_MS: Final = 10_000
LOG_BURST: Final = 10
LOG_EACH_MS: Final = 1000
"""Lines about what failed: some at once, then one in that time."""


class Complaints:
    """Those of one part of the server: what is said within `GAP_MS` of a line is left out."""

    def __init__(self, clock: Callable[[], int] = monotonic_ms) -> None:
        self._clock = clock
        self._next_ms = 0

    def add(self, text: str) -> None:
        now = self._clock()
        if now >= self._next_ms:
            self._next_ms = now + GAP_MS
            log.warning("%s", text)


class FailureLog:
    """Tells of what goes wrong, which comes in floods: then of how many it has not told."""

    def __init__(self, clock: Callable[[], int] = monotonic_ms) -> None:
        self._clock = clock
        self._left = LOG_BURST
        self._filled_ms = clock()
        self._untold = 0

    def tell(self, text: str) -> None:
        filled = (self._clock() - self._filled_ms) // LOG_EACH_MS
        self._left = min(LOG_BURST, self._left + filled)
        self._filled_ms += filled * LOG_EACH_MS
        if not self._left:
            self._untold += 1
            return
        self._left -= 1
        more = f" ({self._untold} more were not told of)" if self._untold else ""
        self._untold = 0
        log.warning("%s%s", text, more)
