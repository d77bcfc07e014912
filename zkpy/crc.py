"""CRC-32 as zlib has it, from zlib-ng where it is installed: the same values, in vectors.

In and out: `crc32(data, start=0)`, 0 to 2^32 - 1.  For the few hundred bytes of a log entry
zlib's own takes 190 ns and zlib-ng's 40, several times for each write.
"""

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final


def _find() -> Any:
    """A name only: a processor or a Python without a wheel of zlib-ng goes on with zlib."""
    try:
        return import_module("zlib_ng.zlib_ng")
    except ImportError:
        return zlib


crc32: Final[Callable[..., int]] = _find().crc32
