"""The interface of the lock managers that bidlock replaces.

Import this module in place of ``redis_bid_lock_manager`` or ``bid_lock_manager``; where it differs
from them, it says so aloud instead of pretending: see ``docs/migrate.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator
from typing import TypedDict

from bidlock import _logs, _native, _settings
from bidlock._async import Lease, Locker
from bidlock._async_bids import Guard, open_ledger
from bidlock._loop import run
from bidlock._types import Key
from bidlock.errors import (
    BidlockError,
    HeldError,
    LeaseLostError,
    ReleasedError,
    StoreError,
    TimedOutError,
)

__all__ = [
    "BidLockManager",
    "Metrics",
    "RedisBidLockManager",
    "get_bid_lock_manager",
    "init_bid_lock_manager",
]

_log = logging.getLogger("bidlock.compat")


class Metrics(TypedDict):
    """What a manager has counted since it was made."""

    lock_attempts: int
    lock_successes: int
    lock_conflicts: int
    lock_timeouts: int
    redis_errors: int
    active_locks: int


_managers: weakref.WeakSet[_Manager] = weakref.WeakSet()


class _Manager:
    """What both managers do. It may be used from several event loops and threads."""

    def __init__(
        self, url: str, prefix: str | None, also: str | None, ttl: float
    ) -> None:
        self.ttl: float = ttl
        self._url = url
        self._prefix = prefix
        self._also = also
        self._begin()
        _managers.add(self)

    def _begin(self) -> None:
        """Start with nothing: at first, and in a forked child, where the parent's is not ours."""
        # A new one, because another thread of the parent may have had it at the fork.
        self._guard = threading.Lock()
        self._locker: Locker | None = None
        self._bids: Guard | None = None
        # By posting, in the order in which they were taken, each with its caller's holder id.
        self._leases: dict[Key, list[tuple[str | None, Lease]]] = {}
        self._counts = {"attempts": 0, "successes": 0, "conflicts": 0, "timeouts": 0, "errors": 0}

    def _place(self) -> tuple[str, str | None, str | None]:
        return self._url, self._prefix, self._also

    async def _connected(self) -> Locker:
        with self._guard:
            locker = self._locker
        if locker is None:
            _logs.listen()
            made = Locker(await run(_native.connect(self._url, self._prefix, self._also)))
            with self._guard:
                locker = self._locker = self._locker or made
        return locker

    async def acquire_lock(
        self,
        marketplace_id: str,
        posting_id: str,
        timeout: float = 10.0,
        holder_id: str | None = None,
    ) -> bool:
        """Take a posting's lock; False when somebody else had it for the whole wait."""
        return await self._acquire(marketplace_id, posting_id, timeout, holder_id) is not None

    async def _acquire(
        self, marketplace_id: str, posting_id: str, timeout: float, holder_id: str | None
    ) -> Lease | None:
        key = _key(marketplace_id, posting_id)
        self._count("attempts")
        try:
            locker = await self._connected()
            lease = await locker.acquire(
                key, wait=max(0.0, timeout), ttl=self.ttl, label=_label(holder_id)
            )
        except (HeldError, TimedOutError):
            self._count("conflicts")
            self._count("timeouts")
            return None
        except StoreError:
            self._count("errors")
            raise
        self._count("successes")
        with self._guard:
            self._leases.setdefault(key, []).append((holder_id, lease))
        return lease

    async def release_lock(
        self, marketplace_id: str, posting_id: str, holder_id: str | None = None
    ) -> bool:
        """Give back what this manager has acquired, under that label when one is given.

        False when there is nothing of ours, or no longer. It never releases somebody else's.
        """
        lease = self._ours(_key(marketplace_id, posting_id), holder_id)
        return lease is not None and await self._give_back(lease)

    def _ours(self, key: Key, holder_id: str | None) -> Lease | None:
        """Take out the last lease of a posting that was acquired under that holder id."""
        with self._guard:
            for label, lease in reversed(self._leases.get(key, [])):
                if holder_id is None or holder_id == label:
                    self._forget(key, lease)
                    return lease
        return None

    def _forget(self, key: Key, lease: Lease) -> None:
        left = [(label, known) for label, known in self._leases.get(key, []) if known is not lease]
        if left:
            self._leases[key] = left
        else:
            self._leases.pop(key, None)

    def _all(self) -> list[Lease]:
        """Take out everything."""
        with self._guard:
            leases = [lease for known in self._leases.values() for _, lease in known]
            self._leases.clear()
        return leases

    def _drop(self, key: Key, lease: Lease) -> None:
        with self._guard:
            self._forget(key, lease)

    async def _give_back(self, lease: Lease) -> bool:
        try:
            await lease.release()
        except (LeaseLostError, ReleasedError):
            return False
        except StoreError:
            self._count("errors")
            raise
        return True

    @contextlib.asynccontextmanager
    async def with_lock(
        self,
        marketplace_id: str,
        posting_id: str,
        timeout: float = 10.0,
        holder_id: str | None = None,
    ) -> AsyncGenerator[None, None]:
        """Hold a posting's lock for a block; TimeoutError when the wait ended.

        Losing the lock cancels the block, and raises LeaseLostError. An exception of the block's
        own always wins.
        """
        key = _key(marketplace_id, posting_id)
        self._count("attempts")
        try:
            locker = await self._connected()
            acquire = locker.acquire(
                key, wait=max(0.0, timeout), ttl=self.ttl, label=_label(holder_id)
            )
            lease = await acquire.__aenter__()
        except (HeldError, TimedOutError) as held:
            self._count("conflicts")
            self._count("timeouts")
            raise TimeoutError(f"{held}") from held
        except StoreError:
            self._count("errors")
            raise
        self._count("successes")
        with self._guard:
            self._leases.setdefault(key, []).append((holder_id, lease))
        try:
            yield
        except BaseException as error:
            self._drop(key, lease)
            await acquire.__aexit__(type(error), error, error.__traceback__)
            raise
        self._drop(key, lease)
        await acquire.__aexit__(None, None, None)

    async def guard(self, ledger_url: str | None = None) -> Guard:
        """Return what places bids at most once, with this manager's locks and a ledger.

        The ledger is the one that the settings name, unless a URL is given.
        """
        locker = await self._connected()
        with self._guard:
            known = self._bids
        if known is None or known.locker is not locker:
            settings = _settings.load(self._url, ledger=ledger_url)
            ledger = await open_ledger(settings.ledger)
            known = Guard(locker, ledger, local_ledger=settings.local_ledger)
            with self._guard:
                self._bids = known
        return known

    def get_metrics(self) -> Metrics:
        """What this manager has counted, and how many locks it holds."""
        with self._guard:
            counts = self._counts
            return Metrics(
                lock_attempts=counts["attempts"],
                lock_successes=counts["successes"],
                lock_conflicts=counts["conflicts"],
                lock_timeouts=counts["timeouts"],
                redis_errors=counts["errors"],
                active_locks=sum(
                    not lease.lost and not lease.released
                    for leases in self._leases.values()
                    for _, lease in leases
                ),
            )

    async def health_check(self) -> bool:
        """Whether the store answers."""
        try:
            await (await self._connected()).health()
        except BidlockError as failed:
            _log.warning("health check: %s", failed)
            self._count("errors")
            return False
        return True

    async def cleanup_all(self, force: bool = False) -> int:
        """Release every lease that this manager holds, and clear what was left behind.

        With ``force``, as the old one did, every lock of the prefix, whoever holds it, and kept
        in the audit. Returns how many locks were freed.
        """
        locker = await self._connected()
        freed = 0
        for lease in self._all():
            freed += await self._give_back(lease)
        freed += await run(locker._locker.clear())
        if force:
            settings = _settings.load(self._url)
            freed += await run(locker._locker.free_all(settings.ledger, _settings.actor()))
        return freed

    async def close(self) -> None:
        """Release what this manager holds, and forget the store."""
        ours = self._all()
        with self._guard:
            locker, self._locker = self._locker, None
        for lease in ours:
            with contextlib.suppress(StoreError):
                await self._give_back(lease)
        if locker is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0):
                    await locker.close()

    def _count(self, what: str) -> None:
        with self._guard:
            self._counts[what] += 1


class RedisBidLockManager(_Manager):
    """Guards postings by locks on a Redis or Valkey server."""

    def __init__(self, redis_url: str | None = None, ttl: float = 300) -> None:
        settings = _settings.load(redis_url)
        url = settings.url if settings.named else "redis://localhost:6379/0"
        super().__init__(url, settings.prefix, settings.also, ttl)


class BidLockManager(_Manager):
    """Guards postings by locks in the file of this machine, without a server."""

    def __init__(self, ttl: float = 300) -> None:
        settings = _settings.load()
        embedded = settings.url.startswith(("sqlite:", "memory:"))
        url = settings.url if embedded else settings.file
        super().__init__(url, settings.prefix, settings.also, ttl)


_manager: _Manager | None = None
_manager_guard = threading.Lock()
# Managers of the process that another has taken the place of: what they hold is held on.
_former: list[_Manager] = []


def _after_fork() -> None:
    global _manager_guard
    _manager_guard = threading.Lock()
    for manager in list(_managers):
        manager._begin()


os.register_at_fork(after_in_child=_after_fork)


async def init_bid_lock_manager(
    redis_url: str | None = None, ttl: float = 300
) -> RedisBidLockManager:
    """Make the manager of this process; RuntimeError with the cause when it has no server.

    Called again, as by each of several threads, it returns the same one; only another server makes
    another manager.
    """
    global _manager
    manager = RedisBidLockManager(redis_url, ttl)
    try:
        await (await manager._connected()).health()
    except BidlockError as failed:
        raise RuntimeError(f"no lock manager: {failed}") from failed
    with _manager_guard:
        known = _manager
        if isinstance(known, RedisBidLockManager) and known._place() == manager._place():
            known.ttl = ttl
            return known
        if known is not None:
            _former.append(known)
        _manager = manager
    return manager


async def get_bid_lock_manager() -> _Manager:
    """Return the one manager of this process, made with the settings at the first call."""
    global _manager
    with _manager_guard:
        if _manager is None:
            _manager = RedisBidLockManager()
        return _manager


def _key(marketplace_id: str, posting_id: str) -> Key:
    key = Key(marketplace_id, posting_id)
    if key.is_encoded:
        _warn_of_encoding(key)
    return key


_warned = False


def _warn_of_encoding(key: Key) -> None:
    global _warned
    if not _warned:
        _warned = True
        _log.warning("%s: clients of the old kind lock another key for this posting", key)


def _label(holder_id: str | None) -> str | None:
    """A caller's holder id as a label: for people, and for nothing else."""
    if holder_id is None:
        return None
    seen = "".join(c if c.isprintable() else " " for c in holder_id).strip()
    return seen.encode()[:128].decode(errors="ignore").strip() or None
