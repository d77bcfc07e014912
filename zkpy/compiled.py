"""Whether this copy of the core is machine code (`scripts/compile`), and not its sources."""

from importlib.machinery import EXTENSION_SUFFIXES
from typing import Final

COMPILED: Final = __file__.endswith(tuple(EXTENSION_SUFFIXES))
