"""Configurations: typed, checked, published whole, with history; and a last good copy."""

from recipes.config.document import MAX_BYTES, Published
from recipes.config.errors import (
    ConfigError,
    ConflictError,
    FormatError,
    InvalidConfigError,
    NotPublishedError,
    OutcomeUnknownError,
    TooLargeError,
)
from recipes.config.publisher import ConfigPublisher
from recipes.config.schema import Schema
from recipes.config.subscriber import ConfigSubscriber, Freshness, Refused

__all__ = [
    "MAX_BYTES",
    "ConfigError",
    "ConfigPublisher",
    "ConfigSubscriber",
    "ConflictError",
    "FormatError",
    "Freshness",
    "InvalidConfigError",
    "NotPublishedError",
    "OutcomeUnknownError",
    "Published",
    "Refused",
    "Schema",
    "TooLargeError",
]
