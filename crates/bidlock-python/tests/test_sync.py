"""The same without an event loop."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, wait_until
from prometheus_client import CollectorRegistry, generate_latest

from bidlock import Found, NotSent, errors, metrics, sync


def test_threads_take_turns(url: str) -> None:
    locker = sync.connect(url)
    inside, tokens = 0, []

    def work() -> None:
        nonlocal inside
        for _ in range(10):
            with locker.acquire("upwork", "job_1", wait=60) as lease:
                inside += 1
                assert inside == 1
                tokens.append(lease.token)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 50 and tokens == sorted(tokens)
    assert list(locker.locks()) == []
    assert locker.health().server


def test_the_errors_are_the_same(url: str) -> None:
    locker = sync.connect(url)
    held = locker.acquire("upwork", "job_1").get()
    assert locker.try_acquire("upwork", "job_1") is None
    with pytest.raises(TimeoutError), locker.acquire("upwork", "job_1", wait=0.1):
        raise AssertionError("it went in")
    assert held.renew() > 200 and held.confirm() > 200 and not held.lost and not held.released
    with pytest.raises(KeyError), locker.acquire("upwork", "job_2"):
        raise KeyError("mine")
    held.release()
    with pytest.raises(errors.ReleasedError):
        held.renew()
    locker.close()


def test_bids(ledger_url: str) -> None:
    guard = sync.Guard(sync.connect("memory:"), sync.open_ledger(ledger_url))
    with guard.bid("upwork", "job_1") as attempt:
        assert attempt.left() > 50
        attempt.placed("offer-1")
    with pytest.raises(errors.AlreadyDecidedError), guard.bid("upwork", "job_1"):
        raise AssertionError("it was sent")
    with pytest.raises(errors.NoOutcomeError), guard.bid("upwork", "job_2", submit_timeout=0.2):
        pass
    calls = []

    @guard.once("upwork", "job")
    def submit(job: str) -> str:
        calls.append(job)
        if job == "broke":
            raise NotSent("no money")
        return "offer-2"

    assert submit("job_3").value == "offer-2"
    assert not submit("job_3") and submit("broke").verdict == "abandoned"
    assert calls == ["job_3", "broke"]
    time.sleep(0.3)
    report = guard.reconcile(lambda question: Found("offer-9"), visibility_delay=0)
    assert (report.asked, report.placed) == (1, 1)
    assert [a.reference for a in guard.ledger.bids("upwork", "job_2")] == ["offer-9"]
    assert [e.event for e in guard.ledger.history("upwork", "job_1")][-1] == "placed"
    assert guard.ledger.should_bid("upwork", "job_4")


def test_metrics_count_without_naming_postings(server: Server) -> None:
    pytest.importorskip("prometheus_client")
    locker = sync.connect(server.url)

    def counts() -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *sample.labels.values()): sample.value for sample in metrics.samples()
        }

    before = counts()
    for _ in range(3):
        with locker.acquire("fiverr", "secret_job"):
            assert locker.try_acquire("fiverr", "secret_job") is None
    after = counts()

    def grown(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown("bidlock_acquires_total", "fiverr", "acquired") == 3
    assert grown("bidlock_acquires_total", "fiverr", "busy") == 3
    assert grown("bidlock_releases_total", "fiverr", "released") == 3
    assert grown("bidlock_held_seconds_count", "fiverr") == 3
    registry = CollectorRegistry()
    registry.register(metrics.Collector())
    text = generate_latest(registry).decode()
    assert 'bidlock_acquires_total{marketplace="fiverr",outcome="acquired"}' in text
    assert "bidlock_held_seconds_count" in text
    assert "secret_job" not in text


def test_what_happens_goes_to_logging(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bidlock")
    locker = sync.connect(server.url)
    # The level is looked at once in a second.
    time.sleep(1.2)
    with pytest.raises(errors.LeaseLostError):
        with locker.acquire("upwork", "job_1", ttl=0.6) as lease:
            server.command("SET", "bid_lock:upwork:job_1", "thief")
            lease.lost.wait()
    wait_until(lambda: any("lease lost" in r.getMessage() for r in caplog.records))
    lost = next(r for r in caplog.records if "lease lost" in r.getMessage())
    assert lost.levelno == logging.WARNING and "job_1" in lost.getMessage()
    assert lease._lease is not None and lost.name.startswith("bidlock")


def test_without_settings_the_file_of_the_user_is_used(tmp_path: Path) -> None:
    locker = sync.connect()
    assert locker.endpoint == f"sqlite://{tmp_path}/state/bidlock/bidlock.db"
    ledger = sync.open_ledger()
    assert ledger.endpoint == locker.endpoint
    with sync.Guard(locker, ledger).bid("upwork", "job_1") as attempt:
        attempt.placed()
    # What this machine has started is remembered beside it.
    assert list((tmp_path / "state/bidlock/marks").iterdir())


BLOCKED = """
import asyncio, ctypes, sys, time, bidlock
from bidlock import sync
url, how = sys.argv[1:]
nap = ctypes.PyDLL(None).sleep

async def main():
    locker = await bidlock.connect(url)
    async with locker.acquire("upwork", how, ttl=6) as lease:
        print("held", flush=True)
        if how == "loop":
            time.sleep(20)
        else:
            # A call that keeps the interpreter for itself.
            nap(20)
        print(lease.check() > 0, flush=True)
asyncio.run(main())
"""


@pytest.mark.unhurried
def test_20_seconds_of_blocked_loop_or_held_interpreter_lose_nothing(
    server: Server, tmp_path: Path
) -> None:
    # R7
    file = f"sqlite://{tmp_path / 'locks.db'}"
    watchers: list[tuple[sync.Locker, str]] = []
    children: list[subprocess.Popen[str]] = []
    for url in [server.url, file]:
        for how in ["loop", "interpreter"]:
            child = subprocess.Popen(
                [sys.executable, "-c", BLOCKED, url, how], stdout=subprocess.PIPE, text=True
            )
            children.append(child)
            watchers.append((sync.connect(url), how))
    began: list[float] = []
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        began.append(time.monotonic())
    tokens: dict[Any, set[int | None]] = {}
    # Before the first of them awakes, and for longer than three TTLs.
    end = began[0] + 19
    while time.monotonic() < end:
        for locker, how in watchers:
            lock = locker.inspect("upwork", how)
            assert lock is not None, how
            tokens.setdefault((locker.endpoint, how), set()).add(lock.token)
            assert locker.try_acquire("upwork", how) is None
        time.sleep(0.2)
    assert all(len(seen) == 1 for seen in tokens.values()) and len(tokens) == 4
    for child in children:
        out, _ = child.communicate(timeout=30)
        assert child.returncode == 0 and out == "True\n"
    for locker, how in watchers:
        assert locker.inspect("upwork", how) is None
