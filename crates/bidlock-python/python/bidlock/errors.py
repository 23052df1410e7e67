"""Why something could not be done: one class for each thing that a caller may do about it."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "AlreadyDecidedError",
    "BidlockError",
    "ConfigError",
    "FencedError",
    "ForkedError",
    "HeldError",
    "InDoubtError",
    "InProgressError",
    "InvalidValueError",
    "LeaseLostError",
    "LedgerDiffersError",
    "LedgerError",
    "LedgerPermissionError",
    "LedgerRefusedError",
    "LedgerUnavailableError",
    "LedgerUnknownOutcomeError",
    "LossReason",
    "NoOutcomeError",
    "NotAllowedError",
    "NotBidError",
    "NotInLedgerError",
    "PermissionDeniedError",
    "RefusedError",
    "ReleasedError",
    "SendByPassedError",
    "StaleError",
    "StoreBusyError",
    "StoreError",
    "TimedOutError",
    "TooLateError",
    "UnavailableError",
    "UnknownOutcomeError",
]

LossReason = Literal[
    "expired", "taken", "revoked", "unreachable", "data_lost", "suspended", "max_hold"
]
"""Why a lease was lost."""


class BidlockError(Exception):
    """What bidlock could not do, and why."""

    retryable: bool = False
    """Whether the same call, made again later, can succeed without anybody mending anything."""


class HeldError(BidlockError):
    """Somebody else has the key, and the caller would not wait."""

    key: str
    """What was asked for."""
    holder: str
    """Who has it, for people."""
    remaining: float
    """Seconds until it ends unless it is renewed."""


class TimedOutError(BidlockError, TimeoutError):
    """Somebody else had the key for the whole wait."""

    key: str
    """What was asked for."""
    holder: str
    """Who had it last, for people."""
    remaining: float
    """Seconds until it ends unless it is renewed, as of the last look."""
    waited: float
    """Seconds that the caller waited."""


class LeaseLostError(BidlockError):
    """The lease ended before the caller was done."""

    key: str
    """What was held."""
    reason: LossReason
    """Why it is no longer."""


class ReleasedError(BidlockError):
    """The lease was released before, by its own owner."""

    key: str
    """What was held."""


class FencedError(BidlockError):
    """The ledger has seen a higher token: the caller's lease is not the newest."""

    key: str
    """What was held."""
    token: int
    """The caller's token."""
    seen: int
    """The highest token that the ledger knows."""


class StoreError(BidlockError):
    """The lock store gave no answer, or refused."""

    op: str
    """What was being done."""
    key: str | None
    """On which key, where it was on one."""
    endpoint: str
    """At which store; never with a password."""


class UnavailableError(StoreError, ConnectionError):
    """The store could not be reached. Nothing was changed."""


class UnknownOutcomeError(UnavailableError):
    """The store was asked and gave no answer. It may have taken effect."""


class TooLateError(StoreError):
    """The request reached the store after its own deadline. Nothing was changed."""


class StoreBusyError(StoreError):
    """Others kept the store busy for all of the time that the request had. Nothing was changed."""


class RefusedError(StoreError):
    """The store answered, and will not."""

    refusal: str
    """Which kind of refusal, such as ``full`` or ``read_only``."""


class PermissionDeniedError(RefusedError, PermissionError):
    """The caller lacks a right at the store."""


class LedgerError(BidlockError):
    """The ledger gave no answer, or refused."""

    op: str
    """What was being done."""
    subject: str
    """To what."""
    endpoint: str | None
    """At which store; never with a password."""


class LedgerUnavailableError(LedgerError, ConnectionError):
    """The ledger could not be reached. Nothing was changed."""


class LedgerUnknownOutcomeError(LedgerUnavailableError):
    """The ledger was asked and gave no answer. Read it back before anything is sent."""


class LedgerRefusedError(LedgerError):
    """The ledger's store answered, and will not."""

    refusal: str
    """Which kind of refusal, such as ``full`` or ``newer``."""


class LedgerPermissionError(LedgerRefusedError, PermissionError):
    """The caller lacks a right at the ledger's store."""


class NotInLedgerError(LedgerError, LookupError):
    """The ledger has no such attempt, or the posting has none that is open."""


class LedgerDiffersError(LedgerError):
    """What was to be taken in is not what this ledger knows. Nothing was changed."""


class NotAllowedError(LedgerError):
    """An attempt has no such step from where it is. Nothing was changed."""

    state: str
    """The attempt's state, as everybody reads it."""
    why: str
    """Why, and the way out."""
    until: float | None
    """When it will be allowed, in seconds since 1970, where time alone stands against it."""


class InvalidValueError(BidlockError, ValueError):
    """A value was refused before anything was done."""

    what: str
    """What the value was meant to be."""
    value: str
    """The value, cut to a length that fits."""
    why: str
    """Why it is refused, and what would be accepted."""


class ConfigError(BidlockError, ValueError):
    """A store cannot be set up as it was asked for."""


class ForkedError(BidlockError, RuntimeError):
    """What was used belongs to the process that this one was forked from: connect anew."""


class NotBidError(BidlockError):
    """The ledger says that there is nothing to send, or not now. Nothing was sent."""

    verdict: str
    """Why, such as ``already_placed`` or ``in_doubt``."""
    attempt: str | None
    """The attempt that stands against it."""
    reference: str | None
    """The marketplace's name for the bid, where it was placed."""
    holder: str | None
    """Who made that attempt, for people."""


class AlreadyDecidedError(NotBidError):
    """The bid is placed, refused or withdrawn."""


class InDoubtError(NotBidError):
    """Nobody can tell how an attempt went: it has to be resolved first."""


class InProgressError(NotBidError):
    """Somebody else is at it."""


class StaleError(NotBidError):
    """The posting was seen longer ago than the caller allows, or before the last prune's horizon.

    What was known of it may be forgotten then, and no ``max_age`` helps; seen again later, it may
    be bid on.
    """


class NoOutcomeError(BidlockError):
    """A bid's block ended without a word about how it went: the attempt is in doubt now."""

    attempt: str
    """The attempt's identity."""


class SendByPassedError(BidlockError, TimeoutError):
    """A bid's block took longer than it may send: the attempt is in doubt now."""

    attempt: str
    """The attempt's identity."""
