"""Locks with fencing tokens, whose holders are told when they may no longer act."""

from recipes.locks.guard import (
    Guard,
    GuardedTransaction,
    LockLostError,
    LockSuspendedError,
    NotHeldError,
)
from recipes.locks.hold import HoldState
from recipes.locks.lock import Lock, ReadLock, WriteLock
from recipes.locks.names import LockError, MixedContendersError
from recipes.locks.semaphore import Semaphore

__all__ = [
    "Guard",
    "GuardedTransaction",
    "HoldState",
    "Lock",
    "LockError",
    "LockLostError",
    "LockSuspendedError",
    "MixedContendersError",
    "NotHeldError",
    "ReadLock",
    "Semaphore",
    "WriteLock",
]
