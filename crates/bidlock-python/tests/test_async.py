"""Locks for asyncio, on every store and every loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

import bidlock
from bidlock import Key, errors

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_one_holder_at_a_time_and_tokens_that_rise(url: str, run_loop: Run) -> None:
    async def main() -> None:
        async with bidlock.connect(url) as locker:
            inside, tokens = 0, []

            async def work() -> None:
                nonlocal inside
                for _ in range(5):
                    async with locker.acquire("upwork", "job_123", wait=60) as lease:
                        inside += 1
                        assert inside == 1
                        tokens.append(lease.token)
                        assert 0 < lease.check() <= 300
                        await asyncio.sleep(0)
                        inside -= 1

            await asyncio.gather(*(work() for _ in range(6)))
            assert len(tokens) == 30
            assert tokens == sorted(set(tokens))
            assert await locker.inspect("upwork", "job_123") is None

    run_loop(main())


def test_who_does_not_get_it_is_told_who_has_it(url: str, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(url)
        held = await locker.acquire("upwork", "job_1", label="night shift", ttl=30)
        assert await locker.try_acquire("upwork", "job_1") is None
        with pytest.raises(errors.HeldError) as refused:
            await locker.acquire("upwork", "job_1", wait=0)
        assert "night shift" in refused.value.holder
        assert 0 < refused.value.remaining <= 30
        assert refused.value.retryable
        with pytest.raises(TimeoutError) as late:
            await locker.acquire("upwork", "job_1", wait=timedelta(milliseconds=150))
        assert isinstance(late.value, errors.TimedOutError)
        assert 0.15 <= late.value.waited < 1
        assert late.value.key == "bid_lock:upwork:job_1"
        await held.release()
        with pytest.raises(errors.ReleasedError):
            held.check()
        with pytest.raises(errors.ReleasedError):
            await held.release()

    run_loop(main())


def test_a_waiter_gets_it_as_soon_as_it_is_released(url: str, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(url)
        first = await locker.acquire("upwork", "job_1")
        second = asyncio.create_task(waiting())
        await asyncio.sleep(0.1)
        assert not second.done()
        released = time.monotonic()
        await first.release()
        lease = await second
        assert time.monotonic() - released < 2
        assert lease.token > first.token
        await lease.release()

    async def waiting() -> bidlock.Lease:
        locker = lockers[0]
        return await locker.acquire("upwork", "job_1", wait=None)

    lockers: list[bidlock.Locker] = []

    async def with_locker() -> None:
        lockers.append(await bidlock.connect(url))
        if url == "memory:":
            # Its locks are those of one locker.
            locker = lockers[0]
            first = await locker.acquire("upwork", "job_1")
            second = asyncio.create_task(waiting())
            await asyncio.sleep(0.05)
            await first.release()
            await (await second).release()
        else:
            await main()

    run_loop(with_locker())


def test_nothing_starts_before_it_is_awaited(url: str, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(url)
        locker.acquire("upwork", "job_1")
        coroutine = locker.try_acquire("upwork", "job_1")
        await asyncio.sleep(0.05)
        coroutine.close()
        assert await locker.inspect("upwork", "job_1") is None

    run_loop(main())


def test_a_lease_that_is_forgotten_is_released(url: str, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(url)
        await locker.acquire("upwork", "job_1")
        gc.collect()
        await locker.close()
        lease = await locker.acquire("upwork", "job_1", wait=1)
        await lease.release()

    run_loop(main())


def test_locks_are_listed_without_what_would_release_them(url: str, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(url)
        leases = [await locker.acquire("upwork", f"job_{n}", label="me") for n in range(3)]
        listed = [lock async for lock in locker.locks()]
        assert [lock.key for lock in listed] == [lease.key for lease in leases]
        assert [lock.token for lock in listed] == [lease.token for lease in leases]
        assert all(lock.label == "me" and not lock.foreign for lock in listed)
        secret = leases[0].expose_id()
        assert secret.rsplit(":", 1)[1] not in repr(listed) + repr(leases)
        for lease in leases:
            await lease.release()
        health = await locker.health()
        assert health.server and health.latency < 5

    run_loop(main())


def test_a_lease_renews_itself_and_can_be_renewed(url: str, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(url)
        async with locker.acquire("upwork", "job_1", ttl=0.5) as lease:
            await asyncio.sleep(1.2)
            assert lease.check() <= 0.5
            assert await lease.renew() > 0.3
            assert await lease.confirm() > 0.3
            assert not lease.lost

    run_loop(main())


def test_a_named_key_and_another_prefix(url: str, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(url, prefix="staging")
        async with locker.acquire(Key.named("nightly-report")) as lease:
            assert str(lease.key) == "staging::nightly-report"
            assert lease.key == Key.read("staging::nightly-report")
        assert locker.prefix == "staging"

    run_loop(main())


def test_values_out_of_bounds_are_refused_before_anything_is_done(run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect("memory:")
        bad: list[tuple[tuple[str, str], dict[str, Any]]] = [
            (("", "job_1"), {}),
            (("upwork", ""), {}),
            (("Upwork", "job_1"), {}),
            (("upwork", "job_1"), {"ttl": 0}),
            (("upwork", "job_1"), {"ttl": -1}),
            (("upwork", "job_1"), {"wait": -1}),
            (("upwork", "job_1"), {"ttl": float("nan")}),
            (("upwork", "job_1"), {"max_hold": 0.01}),
            (("upwork", "job_1"), {"label": "a\nb"}),
        ]
        for arguments, options in bad:
            with pytest.raises(ValueError) as refused:
                await locker.acquire(*arguments, **options)
            assert isinstance(refused.value, errors.InvalidValueError), refused.value
            assert refused.value.what
        with pytest.raises(TypeError):
            locker.acquire("upwork")
        assert [lock async for lock in locker.locks()] == []

    run_loop(main())


def test_a_store_that_cannot_be_reached_or_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionError) as gone:
            await bidlock.connect("redis://:hunter2@127.0.0.1:1/0")
        assert isinstance(gone.value, errors.UnavailableError)
        assert gone.value.retryable and gone.value.op == "open" and gone.value.key is None
        assert "127.0.0.1:1" in gone.value.endpoint
        assert "hunter2" not in str(gone.value) + gone.value.endpoint
        for bad in ["", "mysql://h", "postgres://h/x", "memory:x"]:
            with pytest.raises(errors.ConfigError):
                await bidlock.connect(bad)
        file = tmp_path / "no-database"
        file.write_text("no database " * 1000)
        with pytest.raises(errors.RefusedError) as damaged:
            await bidlock.connect(f"sqlite://{file}")
        assert damaged.value.refusal == "corrupt"

    asyncio.run(main())


def test_tls_is_built_in(server: Server) -> None:
    # What the library needs for it is set up before anybody asks: a server that speaks none is
    # one that gives no answer, and no bug.
    async def main() -> None:
        with pytest.raises(errors.UnavailableError) as plain:
            await bidlock.connect(f"rediss://127.0.0.1:{server.port}/0")
        assert "rediss://" in plain.value.endpoint and "tls" in str(plain.value).lower()

    asyncio.run(main())


def test_missing_rights_are_told_apart(server: Server) -> None:
    server.command("ACL", "SETUSER", "weak", "on", ">secret", "-@all", "+ping", "+hello")

    async def main() -> None:
        for user in ["weak:secret", "weak:wrong"]:
            with pytest.raises(PermissionError) as denied:
                await bidlock.connect(f"redis://{user}@127.0.0.1:{server.port}/0")
            assert isinstance(denied.value, errors.PermissionDeniedError)
            assert not denied.value.retryable

    asyncio.run(main())


def test_a_foreign_value_under_the_key_is_respected(server: Server) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        server.command("SET", "bid_lock:upwork:job_1", "old-bot", "NX", "EX", "300")
        with pytest.raises(errors.HeldError) as held:
            await locker.acquire("upwork", "job_1", wait=0)
        assert "old-bot" in held.value.holder
        server.command("DEL", "bid_lock:upwork:job_1")
        server.command("LPUSH", "bid_lock:upwork:job_2", "x")
        with pytest.raises(errors.RefusedError) as wrong:
            await locker.acquire("upwork", "job_2", wait=0)
        assert wrong.value.refusal == "wrong_type"

    asyncio.run(main())
