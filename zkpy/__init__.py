"""zkpy: a coordination server that speaks the ZooKeeper protocol."""

__version__ = "0.1.0"


def is_compiled() -> bool:
    """Whether the core runs as machine code (`scripts/compile`), and not from its sources."""
    from zkpy import zxid

    return not str(zxid.__file__).endswith(".py")
