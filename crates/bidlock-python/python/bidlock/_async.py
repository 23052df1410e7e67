"""Locks for asyncio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any

from bidlock import _logs, _native, _settings
from bidlock._loop import bridge_of, run
from bidlock._types import Health, Key, LockInfo, Seconds, key_of, seconds, some_seconds
from bidlock.errors import (
    BidlockError,
    HeldError,
    LeaseLostError,
    LossReason,
    ReleasedError,
)

__all__ = ["Acquire", "Connect", "Lease", "Locker", "Loss", "connect"]

_log = logging.getLogger("bidlock")


class Loss:
    """When and why a lease is lost.

    Await it for the reason, or None once the lease has been released; or give a callback.
    """

    __slots__ = ("_lease", "_watched")

    def __init__(self, lease: _native.Lease) -> None:
        self._lease = lease
        self._watched: list[_native.Op[LossReason | None]] = []

    def __await__(self) -> Generator[Any, None, LossReason | None]:
        return run(self._lease.lost()).__await__()

    def add_callback(self, callback: Callable[[LossReason], object]) -> None:
        """Call ``callback`` with the reason in the running loop when the lease is lost."""
        loop = asyncio.get_running_loop()
        op = self._lease.lost()
        waiter = op.begin(bridge_of(loop), loop)

        def told(_: object = None) -> None:
            reason = op.take()
            if reason is not None:
                callback(reason)

        if waiter is None:
            loop.call_soon(told)
            return
        self._watched.append(op)
        waiter.add_done_callback(told)

    @property
    def reason(self) -> LossReason | None:
        """Why the lease is lost, or None while it is not."""
        try:
            self._lease.check()
        except LeaseLostError as lost:
            return lost.reason
        except ReleasedError:
            pass
        return None

    def __bool__(self) -> bool:
        return self.reason is not None

    def _forget(self) -> None:
        if self:
            # They are on their way to the loop.
            return
        for op in self._watched:
            op.cancel()
        self._watched.clear()


class Lease:
    """A key that is held, for a limited time that is renewed in the background.

    Renewal needs neither the event loop nor the interpreter. A lease that is forgotten is released
    in the background as soon as the garbage collector finds it; leave nothing to that.
    """

    __slots__ = ("__weakref__", "_lease", "_loss", "token")

    def __init__(self, lease: _native.Lease) -> None:
        self._lease = lease
        self._loss: Loss | None = None
        self.token: int = lease.token
        """The fencing token: above that of every earlier grant of the key."""

    @property
    def key(self) -> Key:
        """What is held."""
        return self._lease.key

    @property
    def released(self) -> bool:
        """Whether the lease was released by its owner."""
        return self._lease.released

    @property
    def lost(self) -> Loss:
        """When and why the lease is lost: awaitable, and with callbacks."""
        if self._loss is None:
            self._loss = Loss(self._lease)
        return self._loss

    def check(self) -> float:
        """Test, locally and at next to no cost, whether the lease may still be believed.

        Returns the seconds left. Raises LeaseLostError from the loss on and for good: stop what
        the lease guards. A process that was stopped for longer than the lease fails here first.
        """
        return self._lease.check()

    async def renew(self) -> float:
        """Renew now, beside the renewals in the background; returns the seconds left."""
        return await run(self._lease.renew())

    async def confirm(self) -> float:
        """Make sure that the store itself has said yes to this lease; returns the seconds left.

        A grant that was passed on by a message starts without that.
        """
        return await run(self._lease.confirm())

    async def release(self) -> None:
        """Stop renewing, then give the key to the next waiter, or free it.

        Raises LeaseLostError when the lease was lost before, and UnavailableError when the store
        gave no answer: the release goes on in the background then, as it does when cancelled.
        """
        if self._loss is not None:
            self._loss._forget()
        await run(self._lease.release())

    def expose_id(self) -> str:
        """Return the lease's identity. Whoever knows it can release the lease."""
        return self._lease.expose_id()

    def __repr__(self) -> str:
        return f"<Lease of {self.key} with token {self.token}>"


class Acquire:
    """A key that is asked for: await it for the lease, or use it with ``async with``.

    In an ``async with`` block, losing the lease cancels the block's task, and the block ends with
    LeaseLostError. An exception of the block's own always wins.
    """

    __slots__ = ("_cancels", "_lease", "_lost", "_make", "_task", "_watch")

    def __init__(self, make: Callable[[], _native.Op[_native.Lease]]) -> None:
        self._make = make
        self._lease: Lease | None = None
        self._lost: LossReason | None = None
        self._task: asyncio.Task[Any] | None = None
        self._watch: _native.Op[LossReason | None] | None = None
        self._cancels = 0

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._acquire().__await__()

    async def _acquire(self) -> Lease:
        return Lease(await run(self._make()))

    async def __aenter__(self) -> Lease:
        if self._lease is not None:
            raise RuntimeError("this acquire is in use; call acquire() again for another lease")
        lease = await self._acquire()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a lease is to be used in a task")
        self._lease, self._task, self._lost = lease, task, None
        self._cancels = task.cancelling()
        loop = asyncio.get_running_loop()
        self._watch = watch = lease._lease.lost()
        waiter = watch.begin(bridge_of(loop), loop)
        if waiter is None:
            loop.call_soon(self._on_lost)
        else:
            waiter.add_done_callback(self._on_lost)
        return lease

    def _on_lost(self, _: object = None) -> None:
        watch, task = self._watch, self._task
        if watch is None or task is None:
            return
        reason = watch.take()
        self._watch = None
        if reason is not None:
            self._lost = reason
            task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lease, task, watch = self._lease, self._task, self._watch
        self._lease = self._task = self._watch = None
        if lease is None or task is None:
            return
        if watch is not None:
            watch.cancel()
        if self._lost is not None:
            # Ours is taken back; one from outside remains, and goes on.
            outside = task.uncancel() > self._cancels
            lease._lease.abandon()
            if kind is None or (issubclass(kind, asyncio.CancelledError) and not outside):
                raise _lost(lease.key, self._lost) from error
            return
        try:
            await lease.release()
        except ReleasedError:
            # The block has released it itself.
            pass
        except LeaseLostError as lost:
            if kind is None:
                raise
            _log.warning("%s, found at its release", lost)
        except BidlockError as failed:
            # The work is done all the same, and the release goes on in the background.
            _log.warning("release after the work was done: %s", failed)


def _lost(key: Key, reason: LossReason) -> LeaseLostError:
    error = LeaseLostError(f"the lease of {key} was lost: {reason}")
    error.key, error.reason = str(key), reason
    return error


class Locker:
    """Takes locks of one store. It may be used from several event loops and threads."""

    __slots__ = ("__weakref__", "_locker")

    def __init__(self, locker: _native.Locker) -> None:
        self._locker = locker

    @property
    def endpoint(self) -> str:
        """Where the store is; never with a password."""
        return self._locker.endpoint

    @property
    def prefix(self) -> str:
        """The prefix that keys are put under."""
        return self._locker.prefix

    def acquire(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        wait: Seconds | None = 10.0,
        ttl: Seconds = 300.0,
        max_hold: Seconds | None = None,
        label: str | None = None,
        renew: bool = True,
    ) -> Acquire:
        """Ask for a key; await what is returned, or use it with ``async with``.

        ``wait`` is how long to wait for it, None for as long as it takes, 0 for not at all.
        ``ttl`` is how long the lease lives without renewal. ``max_hold`` ends it, renewed or not.
        ``label`` tells people why or for whom the key is held.

        Raises TimedOutError (a TimeoutError) after a wait, HeldError without one, and
        UnavailableError (a ConnectionError) when the store gave no answer for the whole wait.
        """
        locker, key = self._locker, key_of(marketplace, posting)
        wait_s, ttl_s, max_s = some_seconds(wait), seconds(ttl), some_seconds(max_hold)
        return Acquire(lambda: locker.acquire(key, wait_s, ttl_s, max_s, label, renew))

    async def try_acquire(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        ttl: Seconds = 300.0,
        max_hold: Seconds | None = None,
        label: str | None = None,
        renew: bool = True,
    ) -> Lease | None:
        """Ask for a key once; None when somebody else has it."""
        try:
            return await self.acquire(
                marketplace,
                posting,
                wait=0,
                ttl=ttl,
                max_hold=max_hold,
                label=label,
                renew=renew,
            )
        except HeldError:
            return None

    async def locks(self) -> AsyncIterator[LockInfo]:
        """List the locks under the prefix, in key order."""
        last: Key | None = None
        while page := await run(self._locker.locks(last)):
            for lock in page:
                yield LockInfo(**lock)
            last = page[-1]["key"]

    async def inspect(self, marketplace: str | Key, posting: str | None = None) -> LockInfo | None:
        """Show one lock; None when the key is free."""
        lock = await run(self._locker.inspect(key_of(marketplace, posting)))
        return None if lock is None else LockInfo(**lock)

    async def health(self) -> Health:
        """Ask the store for a sign of life."""
        return Health(**await run(self._locker.health()))

    async def close(self) -> None:
        """Wait until what was dropped is released. Leases that are held stay held."""
        await run(self._locker.idle())

    async def __aenter__(self) -> Locker:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Locker at {self.endpoint}>"


class Connect:
    """A store that is to be opened: await it, or use it with ``async with``."""

    __slots__ = ("_locker", "_make")

    def __init__(self, make: Callable[[], _native.Op[_native.Locker]]) -> None:
        self._make = make
        self._locker: Locker | None = None

    def __await__(self) -> Generator[Any, None, Locker]:
        return self._connect().__await__()

    async def _connect(self) -> Locker:
        _logs.listen()
        return Locker(await run(self._make()))

    async def __aenter__(self) -> Locker:
        self._locker = await self._connect()
        return self._locker

    async def __aexit__(self, *_: object) -> None:
        locker, self._locker = self._locker, None
        if locker is not None:
            await locker.close()


def connect(
    url: str | None = None, *, prefix: str | None = None, also: str | None = None
) -> Connect:
    """Open a lock store: ``redis://host:6379/0``, ``sqlite:///path``, ``memory:`` ….

    Without a URL, the one that the environment and ``.env`` name, else the file of this user.
    ``also`` names the lock table of an older system, ``sqlite:old.db?table=distributed_locks``,
    which is held as well until its last worker is gone.

    Await what is returned, or use it with ``async with``. Raises ConfigError for a URL that is not
    understood, and UnavailableError (a ConnectionError) for a store that cannot be reached.
    """
    return Connect(lambda: _settings.connect(url, prefix, also))
