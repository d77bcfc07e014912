"""Log lines about what others do: one for many, since a stranger may knock all day."""

import logging
from collections.abc import Callable
from typing import Final

from zkpy.server.clock import monotonic_ms

log = logging.getLogger("zkpy.server")

GAP_MS: Final = 10_000


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
