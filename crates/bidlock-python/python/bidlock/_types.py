"""Values that both fronts show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from bidlock import _native

__all__ = ["Health", "Key", "LockInfo", "Seconds", "key_of", "seconds", "some_seconds"]

Key = _native.Key

Seconds: TypeAlias = float | timedelta
"""A length of time: seconds, or a ``timedelta``."""


@dataclass(frozen=True, slots=True)
class LockInfo:
    """What a listing shows of one lock."""

    key: Key
    holder: str
    """Who has it, for people; never enough to release it."""
    label: str | None
    """What the holder said about itself."""
    foreign: bool
    """Whether it is a lock of another kind of client, such as a plain ``SET NX``."""
    token: int | None
    """The grant's fencing token; None for a foreign lock."""
    age: float | None
    """Seconds that it has been held, where that is known."""
    remaining: float
    """Seconds until it ends unless it is renewed."""
    waiters: int
    """How many wait for it."""
    revoked: bool
    """Whether an operator has taken it, and its holder has not yet stopped."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a store is."""

    server: str
    version: str
    role: str
    latency: float
    """Seconds that it took to answer."""


def seconds(length: Seconds) -> float:
    """A length of time in seconds."""
    return length.total_seconds() if isinstance(length, timedelta) else float(length)


def some_seconds(length: Seconds | None) -> float | None:
    """A length of time in seconds, if there is one."""
    return None if length is None else seconds(length)


def key_of(marketplace: str | Key, posting: str | None) -> Key:
    """The key that a caller means."""
    if isinstance(marketplace, str) and posting is not None:
        return Key(marketplace, posting)
    if isinstance(marketplace, Key) and posting is None:
        return marketplace
    raise TypeError("name a marketplace and a posting, or give a Key alone")
