"""How many handshakes are let in per time, after ZooKeeper's BlueThrottle."""


class TokenBucket:
    """One token per handshake; `fill_count` come back every `fill_ms`, up to `tokens_max`.

    With `tokens_max` 0 there is no bound.
    """

    __slots__ = ("_fill_count", "_fill_ms", "_filled_at", "_tokens", "_tokens_max")

    def __init__(self, tokens_max: int, fill_ms: int, fill_count: int) -> None:
        self._tokens_max = self._tokens = tokens_max
        self._fill_ms = fill_ms
        self._fill_count = fill_count
        self._filled_at = 0

    @property
    def deficit(self) -> int:
        """How many are missing from a full bucket."""
        return self._tokens_max - self._tokens

    def take(self, now: int) -> bool:
        """Whether there was a token."""
        if not self._tokens_max:
            return True
        self._fill(now)
        if self._tokens:
            self._tokens -= 1
            return True
        return False

    def _fill(self, now: int) -> None:
        """Whole steps only: what is left of one counts for the next."""
        steps = (now - self._filled_at) // self._fill_ms
        if steps > 0:
            self._filled_at += steps * self._fill_ms
            self._tokens = min(self._tokens_max, self._tokens + steps * self._fill_count)
