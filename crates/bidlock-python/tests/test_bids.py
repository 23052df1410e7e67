"""One bid per posting, over every kind of ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

import bidlock
from bidlock import (
    CannotTell,
    Found,
    Guard,
    MarketplaceRefused,
    NotFound,
    NotSent,
    OpenAttempt,
    Question,
    Refused,
    errors,
)

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@asynccontextmanager
async def guarding(ledger_url: str, locks: str = "memory:") -> AsyncIterator[Guard]:
    async with bidlock.connect(locks) as locker, bidlock.open_ledger(ledger_url) as ledger:
        yield Guard(locker, ledger)


def test_one_of_many_bids(ledger_url: str, run_loop: Run) -> None:
    async def main() -> None:
        async with guarding(ledger_url) as guard:
            sent: list[str] = []

            async def bid() -> str:
                try:
                    async with guard.bid("upwork", "job_1", label="bot") as attempt:
                        sent.append(attempt.id)
                        assert attempt.left() > 50 and attempt.token > 0 and not attempt.again
                        assert 50 < attempt.send_by - time.time() <= 60
                        await asyncio.sleep(0.01)
                        attempt.placed("offer-7")
                except bidlock.AlreadyDecidedError as decided:
                    assert decided.verdict == "already_placed"
                    assert (decided.attempt, decided.reference) == (sent[0], "offer-7")
                    assert "bot" in (decided.holder or "")
                    return "decided"
                return "placed"

            ended = await asyncio.gather(*(bid() for _ in range(20)))
            assert sorted(ended) == ["decided"] * 19 + ["placed"]
            assert len(sent) == 1
            verdict = await guard.ledger.should_bid("upwork", "job_1")
            assert not verdict and verdict.name == "already_placed"
            assert verdict.attempt is not None and verdict.attempt.reference == "offer-7"
            assert await guard.ledger.should_bid("upwork", "job_2")
            history = await guard.ledger.history("upwork", "job_1")
            assert [entry.event for entry in history] == ["reserved", "started", "placed"]
            assert [a.id async for a in guard.ledger.bids(state="placed")] == sent

    run_loop(main())


def test_how_a_block_ends_is_how_it_went(ledger_url: str) -> None:
    async def main() -> None:
        async with guarding(ledger_url) as guard:

            async def state(posting: str, block: Callable[[OpenAttempt], object]) -> str:
                bid = guard.bid("upwork", posting)
                try:
                    async with bid as attempt:
                        block(attempt)
                except (RuntimeError, errors.NoOutcomeError):
                    pass
                assert bid.result is not None
                return bid.result.state

            def fails(_: OpenAttempt) -> None:
                raise RuntimeError("connection reset")

            def placed_and_fails(attempt: OpenAttempt) -> None:
                attempt.placed("x")
                raise RuntimeError("after the answer")

            assert await state("a", lambda attempt: attempt.placed()) == "placed"
            assert await state("b", lambda attempt: attempt.refused("too late")) == "refused"
            assert await state("c", lambda attempt: attempt.not_sent("no money")) == "abandoned"
            assert await state("d", lambda attempt: attempt.unknown()) == "unknown"
            assert await state("e", fails) == "unknown"
            assert await state("f", placed_and_fails) == "placed"
            assert await state("g", lambda _: None) == "unknown"
            # What was not sent may be tried again; what nobody knows may not.
            assert await state("c", lambda attempt: attempt.placed()) == "placed"
            for posting, error in [("d", errors.InDoubtError), ("b", errors.AlreadyDecidedError)]:
                with pytest.raises(error) as refused:
                    async with guard.bid("upwork", posting):
                        raise AssertionError("it was sent")
                assert not refused.value.retryable
            reasons = [a.reason async for a in guard.ledger.bids("upwork", "e")]
            assert reasons == ["RuntimeError: connection reset"]

    asyncio.run(main())


def test_a_block_ends_at_its_send_by(ledger_url: str, run_loop: Run) -> None:
    async def main() -> None:
        async with guarding(ledger_url) as guard:
            bid = guard.bid("upwork", "job_1", submit_timeout=0.3)
            with pytest.raises(errors.SendByPassedError) as late:
                async with bid as attempt:
                    await asyncio.sleep(20)
            assert isinstance(late.value, TimeoutError) and late.value.attempt == attempt.id
            assert bid.result is not None and bid.result.event == "given_up"
            # Whose word was said before is kept as it was.
            bid = guard.bid("upwork", "job_2", submit_timeout=0.3)
            async with bid as attempt:
                attempt.placed()
                await asyncio.sleep(20)
            assert bid.result is not None and bid.result.state == "placed"
            task = asyncio.current_task()
            assert task is not None and task.cancelling() == 0

    run_loop(main())


def test_a_cancelled_block_is_in_doubt_and_stays_cancelled(ledger_url: str, run_loop: Run) -> None:
    async def main() -> None:
        async with guarding(ledger_url) as guard:
            inside = asyncio.Event()

            async def work() -> None:
                async with guard.bid("upwork", "job_1"):
                    inside.set()
                    await asyncio.sleep(20)

            task = asyncio.create_task(work())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            attempt = [a async for a in guard.ledger.bids()][0]
            assert (attempt.state, attempt.event) == ("unknown", "given_up")
            # The lock is free: the ledger protects the posting now.
            assert await guard.locker.inspect("upwork", "job_1") is None

    run_loop(main())


def test_stale_postings_are_left_alone(ledger_url: str) -> None:
    async def main() -> None:
        async with guarding(ledger_url) as guard:
            with pytest.raises(errors.StaleError):
                async with guard.bid("upwork", "job_1", seen_at=time.time() - 100, max_age=60):
                    raise AssertionError("it was sent")
            verdict = await guard.ledger.should_bid("upwork", "job_1", seen_at=time.time() - 9e4)
            assert verdict.name == "stale" and verdict.age is not None and verdict.age > 8e4

    asyncio.run(main())


def test_once(ledger_url: str) -> None:
    async def main() -> None:
        async with guarding(ledger_url) as guard:
            calls: list[str] = []

            @guard.once("upwork", "job")
            async def submit(job: str, price: int = 5, *, attempt: Any = None) -> str:
                """Sends."""
                calls.append(attempt.id)
                if job == "refused":
                    raise MarketplaceRefused("closed")
                if job == "not_sent":
                    raise NotSent("no money")
                if job == "fails":
                    raise OSError("reset")
                return f"offer-{job}"

            assert submit.__doc__ == "Sends."
            done = await submit("a", price=7)
            assert done and done.value == "offer-a" and done.verdict == "placed"
            assert done.attempt is not None and done.attempt.reference == "offer-a"
            again = await submit(job="a")
            assert not again and again.verdict == "already_placed"
            assert again.attempt == done.attempt
            refused = await submit("refused")
            assert refused.ran and refused.verdict == "refused"
            for _ in range(2):
                missed = await submit("not_sent")
                assert missed.ran and missed.verdict == "abandoned"
            with pytest.raises(OSError):
                await submit("fails")
            assert (await submit("fails")).verdict == "in_doubt"
            assert len(calls) == 5

            @guard.once("upwork", lambda posting: str(posting["id"]))
            async def other(posting: dict[str, int]) -> None:
                pass

            assert (await other({"id": 9})).ran
            assert (await other({"id": 9})).verdict == "already_placed"

    asyncio.run(main())


def test_doubts_are_ended_by_people_and_by_the_marketplace(ledger_url: str) -> None:
    async def main() -> None:
        async with guarding(ledger_url) as guard:

            async def doubt(posting: str) -> str:
                with pytest.raises(RuntimeError):
                    async with guard.bid("upwork", posting, submit_timeout=0.2) as attempt:
                        raise RuntimeError("reset")
                return attempt.id

            for name in ["found", "refused", "not_found", "cannot", "raises", "odd"]:
                await doubt(name)
            await asyncio.sleep(0.3)
            asked: list[str] = []

            async def ask(question: Question) -> Any:
                asked.append(question.posting)
                assert question.marketplace == "upwork" and question.send_by
                await asyncio.sleep(0.001)
                if question.posting == "raises":
                    raise OSError("down")
                return {
                    "found": Found("offer-1"),
                    "refused": Refused("closed"),
                    "not_found": NotFound(),
                    "cannot": CannotTell("down"),
                    "odd": "what",
                }[question.posting]

            report = await guard.reconcile(ask, visibility_delay=0)
            assert len(asked) == 6
            assert (report.asked, report.placed, report.refused) == (6, 1, 1)
            assert (report.not_found, report.cannot_tell, report.in_doubt) == (1, 3, 4)
            placed = [a async for a in guard.ledger.bids("upwork", "found")][0]
            assert (placed.state, placed.reference) == ("placed", "offer-1")

            ledger = guard.ledger
            done = await ledger.resolve_placed("upwork", "cannot", because="seen", reference="r")
            assert (done.state, done.reference) == ("placed", "r")
            done = await ledger.resolve_refused("upwork", "raises", because="told")
            assert done.state == "refused"
            done = await ledger.resolve_not_sent("upwork", "odd", because="looked")
            assert done.state == "abandoned"
            with pytest.raises(errors.NotAllowedError) as known:
                await ledger.resolve_placed("upwork", "cannot", because="again")
            assert known.value.state == "placed"
            with pytest.raises(errors.NotInLedgerError):
                await ledger.resolve_placed("upwork", "never", because="x")
            assert (await ledger.withdraw("upwork", "cannot", because="mistake")).state == "withdrawn"
            assert (await ledger.reopen("upwork", "raises", because="asked")).state == "abandoned"
            acts = [entry.act async for entry in ledger.audit()]
            assert len(acts) >= 7
            late = await ledger.record_placed(done.id, "late-1")
            assert late.state == "abandoned"
            assert [e.event for e in await ledger.history("upwork", "odd")][-1] == "late_placed"
            with pytest.raises(errors.InvalidValueError):
                await ledger.attempt("no-id")
            found = await ledger.attempt(done.id)
            assert found is not None and found.posting == "odd"
            assert (await ledger.health()).server

    asyncio.run(main())


def test_an_attempt_in_doubt_is_sent_again_where_keys_are_honoured(ledger_url: str) -> None:
    async def main() -> None:
        async with guarding(ledger_url) as guard:
            how: dict[str, Any] = {"payload": "the same", "honours_keys": 3600, "submit_timeout": 0.2}
            with pytest.raises(RuntimeError):
                async with guard.bid("upwork", "job_1", **how) as first:
                    raise RuntimeError("reset")
            await asyncio.sleep(0.3)
            with pytest.raises(errors.InDoubtError):
                async with guard.bid("upwork", "job_1", **{**how, "payload": "another"}):
                    raise AssertionError("it was sent")
            async with guard.bid("upwork", "job_1", **how) as again:
                assert again.again and again.id == first.id and again.token > first.token
                again.placed("offer-1")
            assert (await guard.ledger.should_bid("upwork", "job_1")).name == "already_placed"

    asyncio.run(main())


def test_shared_locks_want_a_shared_ledger(server: Server, tmp_path: Path) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        ledger = await bidlock.open_ledger(f"sqlite://{tmp_path / 'ledger.db'}")
        with pytest.raises(errors.ConfigError, match="local_ledger"):
            Guard(locker, ledger)
        guard = Guard(locker, ledger, local_ledger=True)
        async with guard.bid("upwork", "job_1") as attempt:
            attempt.placed()
        for bad in ["memory:", server.url, "postgres://127.0.0.1:1/x"]:
            with pytest.raises((errors.ConfigError, errors.LedgerUnavailableError)):
                await bidlock.open_ledger(bad)

    asyncio.run(main())


def test_a_fleet_over_redis_and_any_ledger(server: Server, postgres: Any) -> None:
    url = postgres.new_database()

    async def main() -> None:
        guards = []
        for _ in range(4):
            locker = await bidlock.connect(server.url)
            guards.append(Guard(locker, await bidlock.open_ledger(url)))
        sent: list[str] = []

        async def bot(guard: Guard) -> None:
            for n in range(15):
                try:
                    async with guard.bid("upwork", f"job_{n}", wait=30) as attempt:
                        sent.append(f"job_{n}")
                        attempt.placed()
                except errors.AlreadyDecidedError:
                    pass

        await asyncio.gather(*(bot(guard) for guard in guards))
        assert sorted(sent) == sorted({f"job_{n}" for n in range(15)})

    asyncio.run(main())
