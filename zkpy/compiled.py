"""Whether this copy of the core is machine code (`scripts/compile`), and not its sources."""

from typing import Final

COMPILED: Final = not __file__.endswith(".py")
