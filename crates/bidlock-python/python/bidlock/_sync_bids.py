"""Bids without an event loop."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from bidlock import _bidding, _logs, _native, _settings
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
from bidlock._sync import Locker
from bidlock._types import Health, Key, Seconds, key_of, seconds
from bidlock.errors import NoOutcomeError, NotBidError

__all__ = ["Bid", "Guard", "Ledger", "open_ledger"]

_log = logging.getLogger("bidlock")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Ledger:
    """Remembers what was done about each posting. It may be used from several threads."""

    __slots__ = ("__weakref__", "_ledger")

    def __init__(self, ledger: _native.Ledger) -> None:
        self._ledger = ledger

    @property
    def endpoint(self) -> str:
        """Where the store is; never with a password."""
        return self._ledger.endpoint

    def should_bid(
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
        return _bidding.verdict_of(op.wait())

    def attempt(self, attempt: str) -> Attempt | None:
        """Read one attempt."""
        found = self._ledger.attempt(attempt).wait()
        return None if found is None else _bidding.attempt_of(found)

    def history(
        self, marketplace: str | Key, posting: str | None = None
    ) -> list[HistoryEntry]:
        """Read the history of a posting, oldest entry first."""
        entries = self._ledger.history(key_of(marketplace, posting)).wait()
        return [HistoryEntry(**entry) for entry in entries]

    def bids(
        self,
        marketplace: str | None = None,
        posting: str | None = None,
        *,
        state: State | None = None,
    ) -> Iterator[Attempt]:
        """List attempts, newest first."""
        after: str | None = None
        while page := self._ledger.bids(marketplace, posting, state, after, 1_000).wait():
            for attempt in page:
                yield _bidding.attempt_of(attempt)
            after = page[-1]["id"]

    def record_placed(self, attempt: str, reference: str | None = None) -> Attempt:
        """Keep that an attempt was placed, at any later time: a late word is kept beside it."""
        return self._record(attempt, "placed", reference)

    def record_refused(self, attempt: str, reason: str | None = None) -> Attempt:
        """Keep that the marketplace refused an attempt."""
        return self._record(attempt, "refused", reason)

    def record_not_sent(self, attempt: str, reason: str | None = None) -> Attempt:
        """Keep that nothing of an attempt was sent."""
        return self._record(attempt, "not_sent", reason)

    def record_unknown(self, attempt: str, reason: str | None = None) -> Attempt:
        """Keep that nobody can tell, and that nothing of the attempt is under way any more."""
        return self._record(attempt, "unknown", reason)

    def _record(self, attempt: str, kind: str, text: str | None) -> Attempt:
        how, info = self._ledger.record(attempt, kind, text).wait()
        if how == "late":
            _log.error("attempt %s: %s came after it was %s", attempt, kind, info["state"])
        return _bidding.attempt_of(info)

    def resolve_placed(
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
        return self._resolve(
            key_of(marketplace, posting), "placed", reference, attempt, False, actor, because, 0.0
        )

    def resolve_refused(
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
        return self._resolve(
            key_of(marketplace, posting), "refused", None, attempt, False, actor, because, lag
        )

    def resolve_not_sent(
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
        return self._resolve(
            key, "not_sent", None, attempt, sender_is_gone, actor, because, lag
        )

    def _resolve(
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
        return _bidding.attempt_of(op.wait())

    def withdraw(
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
        return _bidding.attempt_of(op.wait())

    def reopen(
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
        return _bidding.attempt_of(op.wait())

    def audit(
        self, marketplace: str | Key | None = None, posting: str | None = None
    ) -> Iterator[AuditEntry]:
        """List what was done by hand, newest first."""
        key = None if marketplace is None else key_of(marketplace, posting)
        after: int | None = None
        while page := self._ledger.audit(key, after).wait():
            for entry in page:
                yield AuditEntry(**entry)
            after = page[-1]["number"]

    def health(self) -> Health:
        """Ask the store for a sign of life."""
        return Health(**self._ledger.health().wait())

    def __repr__(self) -> str:
        return f"<Ledger at {self.endpoint}>"


def open_ledger(url: str | None = None, *, marks: str | None = None) -> Ledger:
    """Open the ledger of all bidders, as the asynchronous ``open_ledger`` does."""
    _logs.listen()
    settings = _settings.load(ledger=url)
    return Ledger(_native.open_ledger(settings.ledger, marks or settings.marks).wait())


class Bid:
    """One bid, for a ``with`` block that sends it.

    Say in the block how it went. A block that ends by an exception without a word means that
    nobody knows. No thread can be made to stop: look at ``attempt.left()`` right before the first
    byte is sent, and give the request a timeout that ends before.
    """

    __slots__ = ("_attempt", "_key", "_make", "_result")

    def __init__(
        self, key: Key, make: Callable[[], _native.Op[_native.Bid | _native._Verdict]]
    ) -> None:
        self._key = key
        self._make = make
        self._attempt: OpenAttempt | None = None
        self._result: Attempt | None = None

    @property
    def result(self) -> Attempt | None:
        """The attempt as it was kept, after the block."""
        return self._result

    def __enter__(self) -> OpenAttempt:
        if self._attempt is not None:
            raise RuntimeError("this bid is in use; call bid() again for another one")
        begun = self._make().wait()
        if not isinstance(begun, _native.Bid):
            raise _bidding.not_bid(self._key, _bidding.verdict_of(begun))
        self._attempt = OpenAttempt(begun)
        return self._attempt

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        said = attempt._outcome is not None
        how, info = attempt._bid.finish(*attempt.outcome_of(error)).wait()
        self._result = _bidding.attempt_of(info)
        if how == "late":
            _log.error("attempt %s: its outcome came after it was closed", attempt.id)
        if error is None and not said:
            silent = NoOutcomeError(
                f"{self._key}: the block said nothing about attempt {attempt.id}, which is in "
                "doubt now: call placed(), refused() or not_sent()"
            )
            silent.attempt = attempt.id
            raise silent


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
        """Bid on a posting in a ``with`` block, which runs at most once.

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
    ) -> Callable[[Callable[_P, _T]], Callable[_P, Done[_T]]]:
        """Let a function run at most once per posting, as the asynchronous ``once`` does."""

        def decorate(function: Callable[_P, _T]) -> Callable[_P, Done[_T]]:
            find = _bidding.posting_of(function, posting)
            hands = _bidding.takes_attempt(function)

            @functools.wraps(function)
            def call(*args: _P.args, **kwargs: _P.kwargs) -> Done[_T]:
                bid = self.bid(marketplace, find(*args, **kwargs), **how)
                try:
                    with bid as attempt:
                        if hands:
                            kwargs["attempt"] = attempt
                        value = function(*args, **kwargs)
                        if attempt._outcome is None:
                            attempt.placed(value if isinstance(value, str) else None)
                except NotBidError as not_bid:
                    return Done(None, self._standing(not_bid), not_bid.verdict, ran=False)
                except (MarketplaceRefused, NotSent):
                    if bid.result is None:
                        raise
                    return Done(None, bid.result, bid.result.state, ran=True)
                state = "unknown" if bid.result is None else bid.result.state
                return Done(value, bid.result, state, ran=True)

            return call

        return decorate

    def _standing(self, not_bid: NotBidError) -> Attempt | None:
        return None if not_bid.attempt is None else self.ledger.attempt(not_bid.attempt)

    def reconcile(
        self,
        ask: Callable[[Question], Answer],
        *,
        visibility_delay: Seconds = 60.0,
        marketplace: str | None = None,
        limit: int = 1_000,
        ask_timeout: Seconds = 30.0,
    ) -> Report:
        """Ask the marketplace once about all attempts in doubt that are due, and settle them.

        ``ask`` is called in this thread. The rest is as for the asynchronous ``reconcile``, but
        that an answer which takes too long is waited for, and then not used.
        """
        asker = _native.Asker()
        op = self._guard.reconcile(
            asker, seconds(visibility_delay), marketplace, limit, seconds(ask_timeout)
        )
        reports: list[Report] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                reports.append(Report(**op.wait()))
            except BaseException as failed:
                failures.append(failed)

        thread = threading.Thread(target=work, name="bidlock-reconcile", daemon=True)
        thread.start()
        while (question := asker.next().wait()) is not None:
            try:
                answer = _bidding.answer_of(ask(Question(**question)))
            except Exception as failed:
                answer = ("cannot_tell", f"{type(failed).__name__}: {failed}")
            asker.answer(*answer)
        thread.join()
        if failures:
            raise failures[0]
        return reports[0]
