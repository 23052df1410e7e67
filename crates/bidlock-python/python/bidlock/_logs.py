"""What the native half has to say, in Python's ``logging``."""

from __future__ import annotations

import atexit
import logging
import os
import threading

from bidlock import _native

__all__ = ["listen"]

_root = logging.getLogger("bidlock")
_starting = threading.Lock()
_listener: threading.Thread | None = None
_process = 0

# From the native half's levels: the lower, the more it is worth.
_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG, 5: 5}


def _level() -> int:
    """The most talkative native level that a logger here would take."""
    enabled = _root.getEffectiveLevel()
    return max((native for native, level in _LEVELS.items() if level >= enabled), default=0)


def _pump() -> None:
    while True:
        entries = _native.next_logs(_level(), 1.0)
        if entries is None:
            return
        for level, target, message in entries:
            logger = _root if target == "bidlock" else _root.getChild(target)
            logger.log(_LEVELS[level], "%s", message)


def listen() -> None:
    """Start to pass messages on, once in each process."""
    global _listener, _process
    if _process == os.getpid() and _listener is not None:
        return
    with _starting:
        if _process == os.getpid() and _listener is not None:
            return
        _native.next_logs(_level(), 0.0)
        _listener = threading.Thread(target=_pump, name="bidlock-logs", daemon=True)
        _process = os.getpid()
        _listener.start()
        atexit.unregister(_end)
        atexit.register(_end)


def _after_fork() -> None:
    global _starting
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _end() -> None:
    _native.end_logs()
    if _listener is not None and _process == os.getpid():
        _listener.join(1.0)
