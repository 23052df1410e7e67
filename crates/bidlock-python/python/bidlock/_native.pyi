"""The native half of bidlock: not for use by itself."""

import asyncio
from typing import Generic, Literal, TypedDict, TypeVar, final

from bidlock._bidding import State
from bidlock.errors import LossReason

_T_co = TypeVar("_T_co", covariant=True)

__all__ = [
    "Asker",
    "Bid",
    "Bridge",
    "Guard",
    "Key",
    "Lease",
    "Ledger",
    "Locker",
    "Op",
    "__version__",
    "close",
    "connect",
    "end_logs",
    "metrics",
    "next_logs",
    "open_ledger",
]
__version__: str

@final
class Op(Generic[_T_co]):
    def begin(
        self, bridge: Bridge, event_loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[None] | None: ...
    def take(self) -> _T_co: ...
    def cancel(self) -> None: ...
    def wait(self) -> _T_co: ...

@final
class Bridge:
    def __new__(cls) -> Bridge: ...
    def fileno(self) -> int: ...
    def drain(self) -> None: ...

@final
class Key:
    def __new__(cls, marketplace: str, posting: str) -> Key: ...
    @staticmethod
    def named(name: str) -> Key: ...
    @staticmethod
    def read(text: str) -> Key: ...
    @property
    def marketplace(self) -> str: ...
    @property
    def posting(self) -> str: ...
    @property
    def is_encoded(self) -> bool: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __lt__(self, other: Key, /) -> bool: ...
    def __le__(self, other: Key, /) -> bool: ...
    def __gt__(self, other: Key, /) -> bool: ...
    def __ge__(self, other: Key, /) -> bool: ...

class _Lock(TypedDict):
    key: Key
    holder: str
    label: str | None
    foreign: bool
    token: int | None
    age: float | None
    remaining: float
    waiters: int
    revoked: bool

class _Health(TypedDict):
    server: str
    version: str
    role: str
    latency: float

@final
class Locker:
    @property
    def endpoint(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def shared(self) -> bool: ...
    def acquire(
        self,
        key: Key,
        wait_s: float | None,
        ttl_s: float,
        max_hold: float | None = None,
        label: str | None = None,
        renew: bool = True,
    ) -> Op[Lease]: ...
    def locks(self, after: Key | None = None, limit: int = 1000) -> Op[list[_Lock]]: ...
    def inspect(self, key: Key) -> Op[_Lock | None]: ...
    def health(self) -> Op[_Health]: ...
    def clear(self) -> Op[int]: ...
    def free_all(self, ledger: str, actor: str) -> Op[int]: ...
    def idle(self) -> Op[None]: ...

@final
class Lease:
    @property
    def key(self) -> Key: ...
    @property
    def token(self) -> int: ...
    @property
    def released(self) -> bool: ...
    def expose_id(self) -> str: ...
    def check(self) -> float: ...
    def renew(self) -> Op[float]: ...
    def confirm(self) -> Op[float]: ...
    def lost(self) -> Op[LossReason | None]: ...
    def release(self) -> Op[None]: ...
    def abandon(self) -> None: ...

class _Attempt(TypedDict):
    id: str
    marketplace: str
    posting: str
    state: State
    event: str
    token: int
    holder: str
    seen_at: float | None
    reserved_at: float
    started_at: float | None
    send_by: float | None
    decided_at: float | None
    reference: str | None
    payload: str | None
    reason: str | None

class _Verdict(TypedDict):
    name: Literal[
        "yes", "already_placed", "refused", "withdrawn", "in_progress", "in_doubt", "stale"
    ]
    attempt: _Attempt | None
    age: float | None

class _History(TypedDict):
    at: float
    attempt: str
    event: str
    token: int | None
    by: str
    detail: str | None

class _Audit(TypedDict):
    number: int
    at: float
    actor: str
    act: str
    marketplace: str | None
    posting: str | None
    attempt: str | None
    token: int | None
    because: str

class _Question(TypedDict):
    attempt: str
    marketplace: str
    posting: str
    payload: str | None
    started_at: float | None
    send_by: float | None
    reference: str | None
    holder: str

class _Report(TypedDict):
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

class _Options(TypedDict):
    wait: float | None
    ttl: float
    max_hold: float | None
    label: str | None
    submit_timeout: float
    seen_at: float | None
    max_age: float
    payload: bytes | None
    honours_keys: float | None

@final
class Ledger:
    @property
    def endpoint(self) -> str: ...
    @property
    def shared(self) -> bool: ...
    def should_bid(self, key: Key, seen_at: float | None, max_age: float) -> Op[_Verdict]: ...
    def record(
        self, attempt: str, kind: str, text: str | None
    ) -> Op[tuple[Literal["written", "already", "late"], _Attempt]]: ...
    def attempt(self, attempt: str) -> Op[_Attempt | None]: ...
    def history(self, key: Key) -> Op[list[_History]]: ...
    def bids(
        self,
        marketplace: str | None,
        posting: str | None,
        state: str | None,
        after: str | None,
        limit: int,
    ) -> Op[list[_Attempt]]: ...
    def resolve(
        self,
        key: Key,
        kind: str,
        reference: str | None,
        attempt: str | None,
        gone: bool,
        actor: str,
        because: str,
        visibility_lag: float,
    ) -> Op[_Attempt]: ...
    def withdraw(self, key: Key, actor: str, because: str) -> Op[_Attempt]: ...
    def reopen(self, key: Key, actor: str, because: str) -> Op[_Attempt]: ...
    def audit(self, key: Key | None, after: int | None) -> Op[list[_Audit]]: ...
    def health(self) -> Op[_Health]: ...

@final
class Guard:
    def __new__(cls, locker: Locker, ledger: Ledger) -> Guard: ...
    def begin(self, key: Key, options: _Options) -> Op[Bid | _Verdict]: ...
    def reconcile(
        self,
        asker: Asker,
        visibility_delay: float,
        marketplace: str | None,
        limit: int,
        ask_timeout: float,
    ) -> Op[_Report]: ...

@final
class Bid:
    @property
    def id(self) -> str: ...
    @property
    def key(self) -> Key: ...
    @property
    def token(self) -> int: ...
    @property
    def again(self) -> bool: ...
    @property
    def send_by(self) -> float: ...
    def left(self) -> float: ...
    def finish(
        self, kind: str, text: str | None
    ) -> Op[tuple[Literal["recorded", "late"], _Attempt]]: ...

@final
class Asker:
    def __new__(cls) -> Asker: ...
    def next(self) -> Op[_Question | None]: ...
    def answer(self, kind: str, text: str | None) -> None: ...

def connect(
    url: str, prefix: str | None = None, also: str | None = None
) -> Op[Locker]: ...
def open_ledger(url: str, marks: str | None = None) -> Op[Ledger]: ...
def metrics() -> list[tuple[str, str, str, float]]: ...
def close(limit: float) -> None: ...
def next_logs(level: int, limit: float) -> list[tuple[int, str, str]] | None: ...
def end_logs() -> None: ...
