"""What publishing and reading of configurations can answer instead of doing it."""

from collections.abc import Iterable


class ConfigError(Exception):
    """What goes wrong with a configuration."""


class InvalidConfigError(ConfigError):
    """Values that a schema, or a check, does not take."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        """One per value, with the place of it: `pools[2].size: not an int`."""
        super().__init__("; ".join(self.problems))


class FormatError(ConfigError):
    """A node holds what no publisher wrote."""


class ConflictError(ConfigError):
    """Somebody else has published meanwhile."""

    def __init__(self, expected: int, found: int) -> None:
        self.expected, self.found = expected, found
        super().__init__(f"revision {found} is in force, not {expected}")


class TooLargeError(ConfigError):
    """A document has more bytes than fit."""


class NotPublishedError(ConfigError):
    """There is no revision, or not that one any more."""


class OutcomeUnknownError(ConfigError):
    """The answer to a publish was lost, and when it was looked for, history had moved on."""
