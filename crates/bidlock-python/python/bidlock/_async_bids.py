"""Bids for asyncio."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from datetime import datetime
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from bidlock import _bidding, _logs, _native, _settings
from bidlock._async import Locker
from bidlock._bidding import (
    Answer,
    Attempt,
    AuditEntry,
    Done,
    HistoryEntry,
    MarketplaceRefused,
    NotSent,
    OpenAttempt,
    Question,
    Report,
    State,
    Verdict,
)
from bidlock._loop import run
from bidlock._types import Health, Key, Seconds, key_of, seconds
from bidlock.errors import NoOutcomeError, NotBidError, SendByPassedError

__all__ = ["Bid", "Guard", "Ledger", "OpenAttempt", "OpenLedger", "open_ledger"]

_log = logging.getLogger("bidlock")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Ledger:
    """Remembers what was done about each posting. It may be used from several loops and threads."""

    __slots__ = ("__weakref__", "_ledger")

    def __init__(self, ledger: _native.Ledger) -> None:
        self._ledger = ledger

    @property
    def endpoint(self) -> str:
        """Where the store is; never with a password."""
        return self._ledger.endpoint

    async def should_bid(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        seen_at: float | datetime | None = None,
        max_age: Seconds = 86_400.0,
    ) -> Verdict:
        """Tell whether a posting should be bid on. Only a bid's own start is binding."""
        op = self._ledger.should_bid(
            key_of(marketplace, posting), _bidding.moment(seen_at), seconds(max_age)
        )
        return _bidding.verdict_of(await run(op))

    async def attempt(self, attempt: str) -> Attempt | None:
        """Read one attempt."""
        found = await run(self._ledger.attempt(attempt))
        return None if found is None else _bidding.attempt_of(found)

    async def history(
        self, marketplace: str | Key, posting: str | None = None
    ) -> list[HistoryEntry]:
        """Read the history of a posting, oldest entry first."""
        entries = await run(self._ledger.history(key_of(marketplace, posting)))
        return [HistoryEntry(**entry) for entry in entries]

    async def bids(
        self,
        marketplace: str | None = None,
        posting: str | None = None,
        *,
        state: State | None = None,
    ) -> AsyncIterator[Attempt]:
        """List attempts, newest first."""
        after: str | None = None
        while page := await run(self._ledger.bids(marketplace, posting, state, after, 1_000)):
            for attempt in page:
                yield _bidding.attempt_of(attempt)
            after = page[-1]["id"]

    async def record_placed(self, attempt: str, reference: str | None = None) -> Attempt:
        """Keep that an attempt was placed, at any later time: a late word is kept beside it."""
        return await self._record(attempt, "placed", reference)

    async def record_refused(self, attempt: str, reason: str | None = None) -> Attempt:
        """Keep that the marketplace refused an attempt."""
        return await self._record(attempt, "refused", reason)

    async def record_not_sent(self, attempt: str, reason: str | None = None) -> Attempt:
        """Keep that nothing of an attempt was sent."""
        return await self._record(attempt, "not_sent", reason)

    async def record_unknown(self, attempt: str, reason: str | None = None) -> Attempt:
        """Keep that nobody can tell, and that nothing of the attempt is under way any more."""
        return await self._record(attempt, "unknown", reason)

    async def _record(self, attempt: str, kind: str, text: str | None) -> Attempt:
        how, info = await run(self._ledger.record(attempt, kind, text))
        if how == "late":
            _log.error("attempt %s: %s came after it was %s", attempt, kind, info["state"])
        return _bidding.attempt_of(info)

    async def resolve_placed(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        because: str,
        reference: str | None = None,
        attempt: str | None = None,
        actor: str | None = None,
    ) -> Attempt:
        """End a doubt: the marketplace has the bid."""
        return await self._resolve(
            key_of(marketplace, posting), "placed", reference, attempt, False, actor, because, 0.0
        )

    async def resolve_refused(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        because: str,
        attempt: str | None = None,
        visibility_lag: Seconds = 0.0,
        actor: str | None = None,
    ) -> Attempt:
        """End a doubt: the marketplace has refused the bid."""
        lag = seconds(visibility_lag)
        return await self._resolve(
            key_of(marketplace, posting), "refused", None, attempt, False, actor, because, lag
        )

    async def resolve_not_sent(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        because: str,
        attempt: str | None = None,
        sender_is_gone: bool = False,
        visibility_lag: Seconds = 0.0,
        actor: str | None = None,
    ) -> Attempt:
        """End a doubt: nothing was sent, and the posting may be tried again."""
        key, lag = key_of(marketplace, posting), seconds(visibility_lag)
        return await self._resolve(
            key, "not_sent", None, attempt, sender_is_gone, actor, because, lag
        )

    async def _resolve(
        self,
        key: Key,
        kind: str,
        reference: str | None,
        attempt: str | None,
        gone: bool,
        actor: str | None,
        because: str,
        lag: float,
    ) -> Attempt:
        who = actor or _settings.actor()
        op = self._ledger.resolve(key, kind, reference, attempt, gone, who, because, lag)
        return _bidding.attempt_of(await run(op))

    async def withdraw(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        because: str,
        actor: str | None = None,
    ) -> Attempt:
        """Note that a placed bid was taken back at the marketplace."""
        key = key_of(marketplace, posting)
        op = self._ledger.withdraw(key, actor or _settings.actor(), because)
        return _bidding.attempt_of(await run(op))

    async def reopen(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        because: str,
        actor: str | None = None,
    ) -> Attempt:
        """Let a posting be tried again whose bid was refused or withdrawn."""
        key = key_of(marketplace, posting)
        op = self._ledger.reopen(key, actor or _settings.actor(), because)
        return _bidding.attempt_of(await run(op))

    async def audit(
        self, marketplace: str | Key | None = None, posting: str | None = None
    ) -> AsyncIterator[AuditEntry]:
        """List what was done by hand, newest first."""
        key = None if marketplace is None else key_of(marketplace, posting)
        after: int | None = None
        while page := await run(self._ledger.audit(key, after)):
            for entry in page:
                yield AuditEntry(**entry)
            after = page[-1]["number"]

    async def health(self) -> Health:
        """Ask the store for a sign of life."""
        return Health(**await run(self._ledger.health()))

    def __repr__(self) -> str:
        return f"<Ledger at {self.endpoint}>"


class OpenLedger:
    """A ledger that is to be opened: await it, or use it with ``async with``."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], _native.Op[_native.Ledger]]) -> None:
        self._make = make

    def __await__(self) -> Generator[Any, None, Ledger]:
        return self._open().__await__()

    async def _open(self) -> Ledger:
        _logs.listen()
        return Ledger(await run(self._make()))

    async def __aenter__(self) -> Ledger:
        return await self._open()

    async def __aexit__(self, *_: object) -> None:
        pass


def open_ledger(url: str | None = None, *, marks: str | None = None) -> OpenLedger:
    """Open the ledger of all bidders: ``postgres://host/db`` or ``sqlite:///path``.

    Without a URL, the one that the environment and ``.env`` name. ``marks`` is a folder where this
    machine remembers what it has started, to tell a ledger that was restored from an old copy; it
    lies in the user's state folder unless another is named.
    """

    def make() -> _native.Op[_native.Ledger]:
        settings = _settings.load(ledger=url)
        return _native.open_ledger(settings.ledger, marks or settings.marks)

    return OpenLedger(make)


class Bid:
    """One bid, for an ``async with`` block that sends it.

    Say in the block how it went. A block that ends by an exception without a word means that
    nobody knows, as does one that takes longer than it may: it is cancelled at its send-by.
    """

    __slots__ = ("_attempt", "_cancels", "_key", "_late", "_make", "_result", "_task", "_timer")

    def __init__(
        self, key: Key, make: Callable[[], _native.Op[_native.Bid | _native._Verdict]]
    ) -> None:
        self._key = key
        self._make = make
        self._attempt: OpenAttempt | None = None
        self._result: Attempt | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        self._cancels = 0

    @property
    def result(self) -> Attempt | None:
        """The attempt as it was kept, after the block."""
        return self._result

    async def __aenter__(self) -> OpenAttempt:
        if self._attempt is not None:
            raise RuntimeError("this bid is in use; call bid() again for another one")
        begun = await run(self._make())
        if not isinstance(begun, _native.Bid):
            raise _bidding.not_bid(self._key, _bidding.verdict_of(begun))
        self._attempt = attempt = OpenAttempt(begun)
        self._task, self._late = asyncio.current_task(), False
        if self._task is None:
            raise RuntimeError("a bid is to be made in a task")
        self._cancels = self._task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(begun.left(), self._on_send_by)
        return attempt

    def _on_send_by(self) -> None:
        if self._task is not None:
            self._late = True
            self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        attempt, task, timer = self._attempt, self._task, self._timer
        self._attempt = self._task = self._timer = None
        if attempt is None or task is None or timer is None:
            return False
        timer.cancel()
        stopped = False
        if self._late:
            # Ours is taken back; one from outside remains, and goes on.
            outside = task.uncancel() > self._cancels
            stopped = isinstance(error, asyncio.CancelledError) and not outside
        said = attempt._outcome is not None
        outcome, text = attempt.outcome_of(error)
        if stopped and not said:
            outcome, text = "given_up", "stopped at its send-by"
        how, info = await _kept(attempt._bid.finish(outcome, text))
        self._result = _bidding.attempt_of(info)
        if how == "late":
            _log.error("attempt %s: its outcome came after it was closed", attempt.id)
        if stopped and not said:
            late = SendByPassedError(f"{self._key}: stopped at its send-by; it is in doubt now")
            late.attempt = attempt.id
            raise late from error
        if error is None and not said:
            silent = NoOutcomeError(
                f"{self._key}: the block said nothing about attempt {attempt.id}, which is in "
                "doubt now: call placed(), refused() or not_sent()"
            )
            silent.attempt = attempt.id
            raise silent
        return stopped


async def _kept(op: _native.Op[_T]) -> _T:
    """Make a call to its end although its task may be cancelled: the outcome is worth more."""
    task = asyncio.ensure_future(run(op))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # It goes on; and in the native half, even without this loop.
        await asyncio.wait([task], timeout=1.0)
        raise


class Guard:
    """Places a bid at most once: joins the lock, which says who may act now, with the ledger."""

    __slots__ = ("__weakref__", "_guard", "ledger", "locker")

    def __init__(self, locker: Locker, ledger: Ledger, *, local_ledger: bool = False) -> None:
        """Join a locker and a ledger.

        Locks that several machines share beside a ledger that they do not are refused, unless
        ``local_ledger`` says that only this machine bids.
        """
        _bidding.check_shared(locker._locker, ledger._ledger, local_ledger)
        self._guard = _native.Guard(locker._locker, ledger._ledger)
        self.locker: Locker = locker
        self.ledger: Ledger = ledger

    def bid(
        self,
        marketplace: str | Key,
        posting: str | None = None,
        *,
        wait: Seconds | None = 10.0,
        ttl: Seconds = 300.0,
        max_hold: Seconds | None = None,
        label: str | None = None,
        submit_timeout: Seconds = 60.0,
        seen_at: float | datetime | None = None,
        max_age: Seconds = 86_400.0,
        payload: bytes | str | None = None,
        honours_keys: Seconds | None = None,
    ) -> Bid:
        """Bid on a posting in an ``async with`` block, which runs at most once.

        ``submit_timeout`` is how long the block may send. ``seen_at`` is when the posting was
        seen: nothing is done when that is longer ago than ``max_age``. ``payload`` is what is
        sent, of which a fingerprint is kept. ``honours_keys`` declares for how long the
        marketplace takes the attempt's id for an idempotency key.

        Entering raises AlreadyDecidedError, InDoubtError, InProgressError or StaleError where the
        ledger says so, and the errors of an acquire: nothing was sent then.
        """
        key = key_of(marketplace, posting)
        how = _bidding.options(
            wait=wait,
            ttl=ttl,
            max_hold=max_hold,
            label=label,
            submit_timeout=submit_timeout,
            seen_at=seen_at,
            max_age=max_age,
            payload=payload,
            honours_keys=honours_keys,
        )
        return Bid(key, lambda: self._guard.begin(key, how))

    def once(
        self, marketplace: str, posting: str | Callable[..., str], **how: Any
    ) -> Callable[[Callable[_P, Awaitable[_T]]], Callable[_P, Awaitable[Done[_T]]]]:
        """Let an async function run at most once per posting.

        ``posting`` names the argument that has the posting's id, or finds it in the arguments; the
        rest is as for ``bid``. A function that takes an argument ``attempt`` is handed the
        attempt. Returning means placed, a text that is returned is the marketplace's reference;
        raising MarketplaceRefused or NotSent says so, and any other exception means that nobody
        knows. Where the ledger stands against it, the function does not run.
        """

        def decorate(function: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[Done[_T]]]:
            find = _bidding.posting_of(function, posting)
            hands = _bidding.takes_attempt(function)

            @functools.wraps(function)
            async def call(*args: _P.args, **kwargs: _P.kwargs) -> Done[_T]:
                bid = self.bid(marketplace, find(*args, **kwargs), **how)
                value: _T | None = None
                try:
                    async with bid as attempt:
                        if hands:
                            kwargs["attempt"] = attempt
                        value = await function(*args, **kwargs)
                        if attempt._outcome is None:
                            attempt.placed(value if isinstance(value, str) else None)
                except NotBidError as not_bid:
                    return Done(None, await self._standing(not_bid), not_bid.verdict, ran=False)
                except (MarketplaceRefused, NotSent):
                    if bid.result is None:
                        raise
                    return Done(None, bid.result, bid.result.state, ran=True)
                state = "unknown" if bid.result is None else bid.result.state
                return Done(value, bid.result, state, ran=True)

            return call

        return decorate

    async def _standing(self, not_bid: NotBidError) -> Attempt | None:
        return None if not_bid.attempt is None else await self.ledger.attempt(not_bid.attempt)

    async def reconcile(
        self,
        ask: Callable[[Question], Awaitable[Answer]],
        *,
        visibility_delay: Seconds = 60.0,
        marketplace: str | None = None,
        limit: int = 1_000,
        ask_timeout: Seconds = 30.0,
    ) -> Report:
        """Ask the marketplace once about all attempts in doubt that are due, and settle them.

        An attempt is due when its send-by and ``visibility_delay`` have passed. Found settles it
        as placed, Refused as refused; NotFound and CannotTell change nothing. An exception of
        ``ask`` counts as CannotTell.
        """
        asker = _native.Asker()
        timeout = seconds(ask_timeout)
        op = self._guard.reconcile(asker, seconds(visibility_delay), marketplace, limit, timeout)
        work = asyncio.ensure_future(run(op))
        try:
            while (question := await run(asker.next())) is not None:
                try:
                    async with asyncio.timeout(timeout):
                        answer = _bidding.answer_of(await ask(Question(**question)))
                except Exception as failed:
                    answer = ("cannot_tell", f"{type(failed).__name__}: {failed}")
                asker.answer(*answer)
            return Report(**await work)
        finally:
            work.cancel()

