"""How a call of the native half is awaited."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from typing import TypeVar

from bidlock import _native

__all__ = ["bridge_of", "run"]

T = TypeVar("T")

# A loop owns its bridge, by listening to it; here are only the ways to find it.
_bridges: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, weakref.ref[_native.Bridge]
] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _after_fork() -> None:
    global _making
    _making = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def bridge_of(loop: asyncio.AbstractEventLoop) -> _native.Bridge:
    """Find the bridge of a loop, or build it."""
    known = _bridges.get(loop)
    bridge = known() if known is not None else None
    if bridge is None:
        bridge = _native.Bridge()
        loop.add_reader(bridge.fileno(), bridge.drain)
        with _making:
            _bridges[loop] = weakref.ref(bridge)
    return bridge


async def run(op: _native.Op[T]) -> T:
    """Make a call. Cancelled, it gives back in the background what it may have taken."""
    loop = asyncio.get_running_loop()
    waiter = op.begin(bridge_of(loop), loop)
    if waiter is not None:
        try:
            await waiter
        except BaseException:
            op.cancel()
            raise
    return op.take()


# What is held when the interpreter ends normally is given back; a store that gives no answer
# cannot hold up the end for longer than this.
atexit.register(_native.close, 2.0)
