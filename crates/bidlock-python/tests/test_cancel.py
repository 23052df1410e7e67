"""Calls that are given up, loops that close, interpreters that end."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from conftest import Server, finish, python

import bidlock
from bidlock import sync

Run = Callable[[Coroutine[Any, Any, Any]], Any]
FULL = 1_000


def test_a_cancelled_acquire_leaves_nothing_behind(url: str, run_loop: Run) -> None:
    # R9, R21: at any point of an acquire, 1,000 times over all stores and loops.
    async def main() -> None:
        locker = await bidlock.connect(url)
        rounds = FULL // 12 + 1
        for n in range(rounds):
            task = asyncio.ensure_future(locker.try_acquire("upwork", f"job_{n}"))
            delay = n / rounds * 0.002
            if delay > 0.0002:
                await asyncio.sleep(delay)
            elif n % 2:
                await asyncio.sleep(0)
            task.cancel()
            try:
                lease = await task
            except asyncio.CancelledError:
                lease = None
            if lease is not None:
                await lease.release()
            del lease, task
        gc.collect()
        await locker.close()
        for n in range(rounds):
            assert await locker.inspect("upwork", f"job_{n}") is None, n

    run_loop(main())


def test_a_cancelled_waiter_leaves_the_queue(url: str, run_loop: Run) -> None:
    async def main() -> None:
        locker = await bidlock.connect(url)
        held = await locker.acquire("upwork", "job_1")
        for n in range(20):
            # Of a short TTL, because a request that was not answered is remembered for a part of it.
            waiter = asyncio.ensure_future(
                locker.acquire("upwork", "job_1", wait=None, ttl=0.8)._acquire()
            )
            await asyncio.sleep(n * 0.001)
            if n == 19:
                # The grant and the cancellation cross.
                await held.release()
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            del waiter
        gc.collect()
        async with locker.acquire("upwork", "job_1", wait=5):
            pass
        await locker.close()
        assert await locker.inspect("upwork", "job_1") is None

    run_loop(main())


def test_wait_for_gives_back_what_came_too_late(server: Server) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        for n in range(100):
            try:
                lease = await asyncio.wait_for(
                    locker.acquire("upwork", "job_1", wait=1)._acquire(), n * 0.00001
                )
                await lease.release()
            except TimeoutError:
                pass
        await locker.close()
        assert await locker.inspect("upwork", "job_1") is None

    asyncio.run(main())


def test_a_loop_that_closes_with_waiters_leaves_none_of_them(server: Server, run_loop: Run) -> None:
    owner = sync.connect(server.url)
    held = owner.acquire("upwork", "job_1").get()
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        locker = await bidlock.connect(server.url)
        waiters = [
            asyncio.create_task(locker.acquire("upwork", "job_1", wait=None)._acquire())
            for _ in range(5)
        ]
        await asyncio.sleep(0.1)
        lock = await locker.inspect("upwork", "job_1")
        assert lock is not None and lock.waiters == 5
        del waiters

    run_loop(main())
    gc.collect()
    assert loops[0]() is None
    lock = owner.inspect("upwork", "job_1")
    assert lock is not None and lock.waiters == 0
    held.release()
    assert owner.inspect("upwork", "job_1") is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_without_cancelling_leaves_no_waiter(server: Server) -> None:
    owner = sync.connect(server.url)
    held = owner.acquire("upwork", "job_1").get()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    locker = loop.run_until_complete(bidlock.connect(server.url)._connect())
    task = loop.create_task(locker.acquire("upwork", "job_1", wait=None)._acquire())
    loop.run_until_complete(asyncio.sleep(0.1))
    loop.close()
    del task, loop
    gc.collect()
    locker.close
    lock = owner.inspect("upwork", "job_1")
    assert lock is not None and lock.waiters == 0
    held.release()


def test_one_locker_serves_many_loops_and_threads(url: str) -> None:
    locker = asyncio.run(bidlock.connect(url)._connect())
    inside, seen = 0, 0

    async def work() -> None:
        nonlocal inside, seen
        for _ in range(10):
            async with locker.acquire("upwork", "job_1", wait=60):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1
                seen += 1

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == 40


def test_an_interrupt_is_heard_within_50_ms(shared_url: str) -> None:
    owner = sync.connect(shared_url)
    held = owner.acquire("upwork", "job_1").get()
    main = threading.main_thread().ident
    assert main is not None
    slowest = 0.0
    for _ in range(3):
        sent: list[float] = []

        def interrupt() -> None:
            time.sleep(0.2)
            sent.append(time.monotonic())
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            owner.acquire("upwork", "job_1", wait=None).get()
        slowest = max(slowest, time.monotonic() - sent[0])
        thread.join()
    # 50 ms, and what a busy machine takes to run a thread.
    assert slowest < 0.05 + 0.05
    owner.close()
    lock = owner.inspect("upwork", "job_1")
    assert lock is not None and lock.waiters == 0
    held.release()


END = """
import asyncio, sys, threading, bidlock
from bidlock import sync
url = sys.argv[1]
locker = sync.connect(url)
kept = locker.acquire("upwork", "job_1").get()
def wait(): locker.acquire("upwork", "job_1", wait=None).get()
threading.Thread(target=wait, daemon=True).start()
async def main():
    mine = await bidlock.connect(url)
    global other
    other = await mine.acquire("upwork", "job_2")
asyncio.run(main())
print("ended", flush=True)
"""


def test_an_interpreter_that_ends_gives_back_what_it_holds(shared_url: str) -> None:
    assert finish(python("-X", "dev", "-c", END, shared_url), 20) == "ended\n"
    owner = sync.connect(shared_url)
    assert list(owner.locks()) == []
