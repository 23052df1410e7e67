"""Locks without an event loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from bidlock import _logs, _native, _settings
from bidlock._types import Health, Key, LockInfo, Seconds, key_of, seconds, some_seconds
from bidlock.errors import (
    BidlockError,
    HeldError,
    LeaseLostError,
    LossReason,
    ReleasedError,
)

__all__ = ["Acquire", "Lease", "Locker", "Loss", "connect"]

_log = logging.getLogger("bidlock")


class Loss:
    """When and why a lease is lost."""

    __slots__ = ("_lease",)

    def __init__(self, lease: _native.Lease) -> None:
        self._lease = lease

    def wait(self) -> LossReason | None:
        """Wait for the reason; None once the lease has been released."""
        return self._lease.lost().wait()

    def add_callback(self, callback: Callable[[LossReason], object]) -> None:
        """Call ``callback`` with the reason, in a thread of its own, when the lease is lost."""

        def watch() -> None:
            reason = self.wait()
            if reason is not None:
                callback(reason)

        threading.Thread(target=watch, name="bidlock-loss", daemon=True).start()

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


class Lease:
    """A key that is held, for a limited time that is renewed in the background."""

    __slots__ = ("__weakref__", "_lease", "token")

    def __init__(self, lease: _native.Lease) -> None:
        self._lease = lease
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
        """When and why the lease is lost."""
        return Loss(self._lease)

    def check(self) -> float:
        """Test, locally and at next to no cost, whether the lease may still be believed.

        Returns the seconds left. Raises LeaseLostError from the loss on and for good.
        """
        return self._lease.check()

    def renew(self) -> float:
        """Renew now, beside the renewals in the background; returns the seconds left."""
        return self._lease.renew().wait()

    def confirm(self) -> float:
        """Make sure that the store itself has said yes to this lease; returns the seconds left."""
        return self._lease.confirm().wait()

    def release(self) -> None:
        """Stop renewing, then give the key to the next waiter, or free it.

        Raises LeaseLostError when the lease was lost before, and UnavailableError when the store
        gave no answer: the release goes on in the background then.
        """
        self._lease.release().wait()

    def expose_id(self) -> str:
        """Return the lease's identity. Whoever knows it can release the lease."""
        return self._lease.expose_id()

    def __repr__(self) -> str:
        return f"<Lease of {self.key} with token {self.token}>"


class Acquire:
    """A key that is asked for: ``get`` it, or use it in a ``with`` statement."""

    __slots__ = ("_lease", "_make")

    def __init__(self, make: Callable[[], _native.Op[_native.Lease]]) -> None:
        self._make = make
        self._lease: Lease | None = None

    def get(self) -> Lease:
        """Wait for the lease."""
        return Lease(self._make().wait())

    def __enter__(self) -> Lease:
        if self._lease is not None:
            raise RuntimeError("this acquire is in use; call acquire() again for another lease")
        self._lease = self.get()
        return self._lease

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            lease.release()
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


class Locker:
    """Takes locks of one store. It may be used from several threads."""

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
        """Ask for a key: ``.get()`` what is returned, or use it in a ``with`` statement.

        The arguments and errors are those of the asynchronous ``Locker.acquire``.
        """
        locker, key = self._locker, key_of(marketplace, posting)
        wait_s, ttl_s, max_s = some_seconds(wait), seconds(ttl), some_seconds(max_hold)
        return Acquire(lambda: locker.acquire(key, wait_s, ttl_s, max_s, label, renew))

    def try_acquire(
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
        acquire = self.acquire(
            marketplace, posting, wait=0, ttl=ttl, max_hold=max_hold, label=label, renew=renew
        )
        try:
            return acquire.get()
        except HeldError:
            return None

    def locks(self) -> Iterator[LockInfo]:
        """List the locks under the prefix, in key order."""
        last: Key | None = None
        while page := self._locker.locks(last).wait():
            for lock in page:
                yield LockInfo(**lock)
            last = page[-1]["key"]

    def inspect(self, marketplace: str | Key, posting: str | None = None) -> LockInfo | None:
        """Show one lock; None when the key is free."""
        lock = self._locker.inspect(key_of(marketplace, posting)).wait()
        return None if lock is None else LockInfo(**lock)

    def health(self) -> Health:
        """Ask the store for a sign of life."""
        return Health(**self._locker.health().wait())

    def close(self) -> None:
        """Wait until what was dropped is released. Leases that are held stay held."""
        self._locker.idle().wait()

    def __enter__(self) -> Locker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Locker at {self.endpoint}>"


def connect(
    url: str | None = None, *, prefix: str | None = None, also: str | None = None
) -> Locker:
    """Open a lock store, as the asynchronous ``connect`` does."""
    _logs.listen()
    return Locker(_settings.connect(url, prefix, also).wait())
