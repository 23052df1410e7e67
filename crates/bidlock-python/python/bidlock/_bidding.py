"""What both fronts say about bids."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from bidlock import _native
from bidlock._types import Key, Seconds, seconds, some_seconds
from bidlock.errors import (
    AlreadyDecidedError,
    ConfigError,
    InDoubtError,
    InProgressError,
    NotBidError,
    StaleError,
)

__all__ = [
    "Answer",
    "Attempt",
    "AuditEntry",
    "CannotTell",
    "Done",
    "Found",
    "HistoryEntry",
    "MarketplaceRefused",
    "NotFound",
    "NotSent",
    "OpenAttempt",
    "Question",
    "Refused",
    "Report",
    "State",
    "Verdict",
]

T = TypeVar("T")

State = Literal[
    "reserved", "started", "placed", "refused", "unknown", "withdrawn", "abandoned"
]
"""How far an attempt has come."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the ledger knows of one attempt. Times are seconds since 1970."""

    id: str
    """Its identity, and the idempotency key for the marketplace."""
    marketplace: str
    posting: str
    state: State
    """How far it has come: one that started and is past its send-by reads as unknown."""
    event: str
    """The event that brought it there."""
    token: int
    holder: str
    seen_at: float | None
    reserved_at: float
    started_at: float | None
    send_by: float | None
    decided_at: float | None
    reference: str | None
    """The marketplace's name for the bid."""
    payload: str | None
    """The fingerprint of what was to be sent."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a posting should be bid on; true when nothing stands against it."""

    name: Literal[
        "yes", "already_placed", "refused", "withdrawn", "in_progress", "in_doubt", "stale"
    ]
    attempt: Attempt | None
    """The attempt that stands against it."""
    age: float | None
    """How many seconds ago a stale posting was seen."""

    def __bool__(self) -> bool:
        return self.name == "yes"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of a posting's history."""

    at: float
    attempt: str
    event: str
    token: int | None
    by: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act by hand."""

    number: int
    at: float
    actor: str
    act: str
    marketplace: str | None
    posting: str | None
    attempt: str | None
    token: int | None
    because: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is known of an attempt whose outcome nobody knows."""

    attempt: str
    marketplace: str
    posting: str
    payload: str | None
    started_at: float | None
    send_by: float | None
    reference: str | None
    holder: str


@dataclass(frozen=True, slots=True)
class Found:
    """The marketplace has the bid: the attempt becomes placed."""

    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The marketplace has refused the bid."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NotFound:
    """The marketplace shows no such bid. This proves nothing, and changes nothing."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """Nobody could tell."""

    why: str | None = None


Answer: TypeAlias = Found | Refused | NotFound | CannotTell
"""What the marketplace says of an attempt."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one round of questions came to, as numbers of attempts."""

    due: int
    waiting: int
    left_over: int
    asked: int
    placed: int
    refused: int
    not_found: int
    cannot_tell: int
    skipped_busy: int
    overtaken: int
    left: int
    failed: int
    in_doubt: int


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """How a call of a ``once`` function ended; true when this call has run it."""

    value: T | None
    """What the function returned, where it ran."""
    attempt: Attempt | None
    """The attempt, or the one that stood against it."""
    verdict: str
    """``placed``, ``refused``, ``abandoned`` … where it ran, else why it did not."""
    ran: bool

    def __bool__(self) -> bool:
        return self.ran


class MarketplaceRefused(Exception):
    """Raised in a bid by who sends it: the marketplace has refused it."""


class NotSent(Exception):
    """Raised in a bid by who sends it: nothing was sent, and a later call may try again."""


class OpenAttempt:
    """An attempt that may be sent now, until ``left()`` is zero."""

    __slots__ = ("_bid", "_outcome", "again", "id", "key", "send_by", "token")

    def __init__(self, bid: _native.Bid) -> None:
        self._bid = bid
        self._outcome: tuple[str, str | None] | None = None
        self.id: str = bid.id
        """Its identity: hand it to the marketplace as idempotency key."""
        self.key: Key = bid.key
        self.token: int = bid.token
        """The lock's fencing token."""
        self.again: bool = bid.again
        """Whether it may have been sent before, under the same id."""
        self.send_by: float = bid.send_by
        """From when on nothing may be sent, in seconds since 1970."""

    def left(self) -> float:
        """Seconds left. Look right before the first byte is sent: at zero, send nothing."""
        return self._bid.left()

    def placed(self, reference: str | None = None) -> None:
        """Say that the marketplace has taken the bid, and its name for it."""
        self._outcome = ("placed", reference)

    def refused(self, reason: str | None = None) -> None:
        """Say that the marketplace has refused the bid."""
        self._outcome = ("refused", reason)

    def not_sent(self, reason: str | None = None) -> None:
        """Say that nothing was sent, and that a later call may try again."""
        self._outcome = ("not_sent", reason)

    def unknown(self, reason: str | None = None) -> None:
        """Say that nobody can tell, and that nothing is under way any more."""
        self._outcome = ("unknown", reason)

    def outcome_of(self, error: BaseException | None) -> tuple[str, str | None]:
        """Tell what a block's end means for the ledger."""
        if self._outcome is not None:
            return self._outcome
        match error:
            case None:
                return "unknown", "its block ended without a word"
            case MarketplaceRefused():
                return "refused", str(error) or None
            case NotSent():
                return "not_sent", str(error) or None
            case Exception():
                return "unknown", f"{type(error).__name__}: {error}"
            case _:
                # Not its own word: what it has started may still be sending.
                return "given_up", f"its block was ended by {type(error).__name__}"

    def __repr__(self) -> str:
        return f"<OpenAttempt {self.id} at {self.key}>"


def attempt_of(shown: _native._Attempt) -> Attempt:
    """An attempt as Python's front shows it."""
    return Attempt(**shown)


def verdict_of(shown: _native._Verdict) -> Verdict:
    """A verdict as Python's front shows it."""
    attempt = shown["attempt"]
    return Verdict(shown["name"], None if attempt is None else Attempt(**attempt), shown["age"])


_STANDS: Mapping[str, type[NotBidError]] = {
    "already_placed": AlreadyDecidedError,
    "refused": AlreadyDecidedError,
    "withdrawn": AlreadyDecidedError,
    "in_doubt": InDoubtError,
    "in_progress": InProgressError,
    "stale": StaleError,
}


def not_bid(key: Key, verdict: Verdict) -> NotBidError:
    """The exception that a verdict is."""
    attempt = verdict.attempt
    what = verdict.name.replace("_", " ")
    by = "" if attempt is None else f", attempt {attempt.id} by {attempt.holder}"
    error = _STANDS.get(verdict.name, NotBidError)(f"{key}: {what}{by}; nothing was sent")
    error.verdict = verdict.name
    error.attempt = None if attempt is None else attempt.id
    error.reference = None if attempt is None else attempt.reference
    error.holder = None if attempt is None else attempt.holder
    error.retryable = verdict.name == "in_progress"
    return error


def moment(at: float | datetime | None) -> float | None:
    """Seconds since 1970; a ``datetime`` has to know its zone."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ConfigError(f"{at}: a time without a zone; use datetime.now(timezone.utc)")
        return at.timestamp()
    return at


def options(
    *,
    wait: Seconds | None,
    ttl: Seconds,
    max_hold: Seconds | None,
    label: str | None,
    submit_timeout: Seconds,
    seen_at: float | datetime | None,
    max_age: Seconds,
    payload: bytes | str | None,
    honours_keys: Seconds | None,
) -> _native._Options:
    """How to bid, as the native half takes it."""
    return {
        "wait": some_seconds(wait),
        "ttl": seconds(ttl),
        "max_hold": some_seconds(max_hold),
        "label": label,
        "submit_timeout": seconds(submit_timeout),
        "seen_at": moment(seen_at),
        "max_age": seconds(max_age),
        "payload": payload.encode() if isinstance(payload, str) else payload,
        "honours_keys": some_seconds(honours_keys),
    }


def check_shared(
    locker: _native.Locker, ledger: _native.Ledger, local_ledger: bool
) -> None:
    """Refuse locks that several machines share beside a ledger that they do not."""
    if locker.shared and not ledger.shared and not local_ledger:
        raise ConfigError(
            f"the lock store {locker.endpoint} is shared between machines, but the ledger "
            f"{ledger.endpoint} is not: name a ledger that all machines reach, or say "
            "local_ledger=True if only this machine bids"
        )


def answer_of(answer: object) -> tuple[str, str | None]:
    """An answer as the native half takes it."""
    match answer:
        case Found(reference):
            return "found", reference
        case Refused(reason):
            return "refused", reason
        case NotFound():
            return "not_found", None
        case CannotTell(why):
            return "cannot_tell", why
        case _:
            return "cannot_tell", f"the callback returned {answer!r:.100}"


def posting_of(
    function: Callable[..., object], posting: str | Callable[..., str]
) -> Callable[..., str]:
    """A function that finds the posting id in a call's arguments."""
    if callable(posting):
        return posting
    name, signature = posting, inspect.signature(function)
    if name not in signature.parameters:
        raise TypeError(f"{function!r} has no argument {name!r}")

    def find(*args: Any, **kwargs: Any) -> str:
        call = signature.bind_partial(*args, **kwargs)
        call.apply_defaults()
        return str(call.arguments[name])

    return find


def takes_attempt(function: Callable[..., object]) -> bool:
    """Whether a function wants to know its attempt."""
    return "attempt" in inspect.signature(function).parameters
