"""zkpy: a coordination server that speaks the ZooKeeper protocol."""

__version__ = "0.1.0"
