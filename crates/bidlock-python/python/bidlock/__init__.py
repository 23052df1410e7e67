"""A lock manager and bid ledger: do a thing at most once across a fleet.

``connect`` opens a lock store for asyncio; ``bidlock.sync`` has the same for threads and scripts;
``bidlock.compat`` has the interface of the lock managers that bidlock replaces.
"""

from bidlock import errors
from bidlock._async import Acquire, Connect, Lease, Locker, Loss, connect
from bidlock._native import __version__
from bidlock._types import Health, Key, LockInfo
from bidlock.errors import *  # noqa: F403
from bidlock.errors import __all__ as _errors

__all__ = [
    "Acquire",
    "Connect",
    "Health",
    "Key",
    "Lease",
    "LockInfo",
    "Locker",
    "Loss",
    "__version__",
    "connect",
    "errors",
]
__all__ += _errors
