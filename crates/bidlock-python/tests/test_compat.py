"""The interface of the lock managers that bidlock replaces."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, Server, finish, free_port, in_child, python

import bidlock
from bidlock import _settings, compat, sync
from bidlock.compat import BidLockManager, RedisBidLockManager


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(params=["redis", "embedded"])
def make(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], RedisBidLockManager | BidLockManager]:
    """Managers of one store, each of both kinds."""
    if request.param == "redis":
        return lambda: RedisBidLockManager(server.url)
    return BidLockManager


Make = Callable[[], RedisBidLockManager | BidLockManager]


def test_it_locks_and_releases_only_what_is_its_own(make: Make) -> None:
    async def main() -> None:
        one, two = make(), make()
        assert await one.acquire_lock("upwork", "job_1") is True
        assert await two.acquire_lock("upwork", "job_1", timeout=0.1) is False
        assert await two.acquire_lock("upwork", "job_1", timeout=0) is False
        assert await two.release_lock("upwork", "job_1") is False
        assert await one.release_lock("upwork", "job_2") is False
        assert await one.release_lock("upwork", "job_1") is True
        assert await one.release_lock("upwork", "job_1") is False
        assert await two.acquire_lock("upwork", "job_1", timeout=1) is True
        assert one.get_metrics() == {
            "lock_attempts": 1,
            "lock_successes": 1,
            "lock_conflicts": 0,
            "lock_timeouts": 0,
            "redis_errors": 0,
            "active_locks": 0,
        }
        metrics = two.get_metrics()
        assert (metrics["lock_attempts"], metrics["lock_successes"]) == (3, 1)
        assert (metrics["lock_conflicts"], metrics["lock_timeouts"]) == (2, 2)
        assert metrics["active_locks"] == 1
        await one.close()
        await two.close()
        assert two.get_metrics()["active_locks"] == 0
        # A closed one may be used again, as the old one.
        assert await one.acquire_lock("upwork", "job_1", timeout=1)
        await one.close()

    asyncio.run(main())


def test_empty_ids_are_refused(make: Make) -> None:
    async def main() -> None:
        manager = make()
        for ids in [("", "job_1"), ("upwork", "")]:
            with pytest.raises(ValueError):
                await manager.acquire_lock(*ids)
            with pytest.raises(ValueError):
                await manager.release_lock(*ids)
            with pytest.raises(ValueError):
                async with manager.with_lock(*ids):
                    raise AssertionError("it went in")

    asyncio.run(main())


def test_with_lock_holds_for_its_block_and_the_blocks_own_exception_wins(make: Make) -> None:
    async def main() -> None:
        manager, other = make(), make()
        async with manager.with_lock("upwork", "job_1", holder_id="bot-7"):
            assert manager.get_metrics()["active_locks"] == 1
            with pytest.raises(TimeoutError):
                async with other.with_lock("upwork", "job_1", timeout=0.1):
                    raise AssertionError("it went in")
        assert manager.get_metrics()["active_locks"] == 0
        with pytest.raises(KeyError, match="mine"):
            async with manager.with_lock("upwork", "job_1"):
                raise KeyError("mine")
        async with other.with_lock("upwork", "job_1", timeout=1):
            pass
        # Released in the block: nothing is left to release after it.
        async with manager.with_lock("upwork", "job_1", timeout=1):
            assert await manager.release_lock("upwork", "job_1")
        async with other.with_lock("upwork", "job_1", timeout=1):
            pass

    asyncio.run(main())


def test_a_lock_renews_itself_and_its_loss_ends_the_block(server: Server) -> None:
    key = "bid_lock:upwork:job_1"

    async def main() -> None:
        manager = RedisBidLockManager(server.url, ttl=1)
        async with manager.with_lock("upwork", "job_1"):
            await asyncio.sleep(2.5)
            assert not await RedisBidLockManager(server.url).acquire_lock("upwork", "job_1", 0)
        with pytest.raises(bidlock.LeaseLostError) as lost:
            async with manager.with_lock("upwork", "job_1", timeout=1):
                server.command("SET", key, "thief")
                await asyncio.sleep(20)
        assert lost.value.reason == "taken" and manager.get_metrics()["active_locks"] == 0
        server.command("DEL", key)
        with pytest.raises(KeyError, match="mine"):
            async with manager.with_lock("upwork", "job_1", timeout=1):
                server.command("SET", key, "thief")
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    raise KeyError("mine") from None
        # What was lost is not released: it is somebody else's.
        server.command("DEL", key)
        assert await manager.acquire_lock("upwork", "job_1")
        server.command("SET", key, "thief")
        assert await manager.release_lock("upwork", "job_1") is False
        assert server.value(key) == "thief"

    asyncio.run(main())


def test_a_holder_id_is_a_label_and_never_an_identity(server: Server) -> None:
    async def main() -> None:
        manager = RedisBidLockManager(server.url)
        other = RedisBidLockManager(server.url)
        assert await manager.acquire_lock("upwork", "job_1", holder_id="bot-7")
        # The same id is another lease all the same.
        assert not await other.acquire_lock("upwork", "job_1", timeout=0.1, holder_id="bot-7")
        assert not await manager.acquire_lock("upwork", "job_1", timeout=0.1, holder_id="bot-7")
        value = server.value("bid_lock:upwork:job_1")
        host, pid, rest = value.split(":", 2)
        assert host and pid.isdigit() and "bot-7" in rest
        lock = await (await bidlock.connect(server.url)).inspect("upwork", "job_1")
        assert lock is not None and lock.label == "bot-7"
        assert not await manager.release_lock("upwork", "job_1", holder_id="bot-8")
        assert not await other.release_lock("upwork", "job_1", holder_id="bot-7")
        assert await manager.release_lock("upwork", "job_1", holder_id="bot-7")
        # What an old bot used as its id is made to fit, and never refused.
        for odd in ["x" * 500, "a\nb", "\x00", "", "späť"]:
            assert await manager.acquire_lock("upwork", "job_1", 1, odd), odd
            assert await manager.release_lock("upwork", "job_1", odd), odd

    asyncio.run(main())


def test_the_ttl_can_be_read_and_set(server: Server) -> None:
    async def main() -> None:
        manager = RedisBidLockManager(server.url, ttl=60)
        assert manager.ttl == 60
        manager.ttl = 20
        assert await manager.acquire_lock("upwork", "job_1")
        assert 15_000 < int(server.command("PTTL", "bid_lock:upwork:job_1")[1:]) <= 20_000
        await manager.close()

    asyncio.run(main())


def test_an_unreachable_server_is_an_error_and_no_false() -> None:
    async def main() -> None:
        url = f"redis://127.0.0.1:{free_port()}/0"
        manager = RedisBidLockManager(url)
        with pytest.raises(bidlock.UnavailableError):
            await manager.acquire_lock("upwork", "job_1", timeout=0.2)
        with pytest.raises(ConnectionError):
            async with manager.with_lock("upwork", "job_1", timeout=0.2):
                raise AssertionError("it went in")
        assert await manager.health_check() is False
        assert manager.get_metrics()["redis_errors"] == 3
        with pytest.raises(RuntimeError, match=url) as failed:
            await compat.init_bid_lock_manager(url)
        assert isinstance(failed.value.__cause__, bidlock.UnavailableError)

    asyncio.run(main())


def test_there_is_one_manager_for_all_loops_and_threads(server: Server) -> None:
    made = asyncio.run(compat.init_bid_lock_manager(server.url, ttl=30))
    got: list[object] = []

    async def work() -> None:
        manager = await compat.get_bid_lock_manager()
        got.append(manager)
        for _ in range(10):
            async with manager.with_lock("upwork", "job_1", timeout=60):
                await asyncio.sleep(0)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [made] * 4
    assert made.ttl == 30
    assert made.get_metrics()["lock_successes"] == 40
    assert asyncio.run(made.health_check())


def test_each_thread_may_make_the_one_manager(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat, "_manager", None)
    made: list[RedisBidLockManager] = []
    threads = [
        threading.Thread(target=lambda: made.append(asyncio.run(compat.init_bid_lock_manager(server.url))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [made[0]] * 4 and asyncio.run(compat.get_bid_lock_manager()) is made[0]

    async def main() -> None:
        assert await made[0].acquire_lock("upwork", "job_1")
        # Whoever makes it anew still has what it holds.
        again = await compat.init_bid_lock_manager(server.url, ttl=20)
        assert again is made[0] and again.ttl == 20
        assert again.get_metrics()["active_locks"] == 1
        # Another server is another manager; the first one's locks are held on.
        other = await compat.init_bid_lock_manager(f"redis://127.0.0.1:{server.port}/1")
        assert other is not made[0] and await compat.get_bid_lock_manager() is other
        made.clear()
        del again
        gc.collect()
        await other.health_check()
        assert server.value("bid_lock:upwork:job_1") != "$-1"
        await compat._former.pop().close()
        assert server.value("bid_lock:upwork:job_1") == "$-1"

    asyncio.run(main())


def test_a_forked_child_has_nothing_of_its_parents_and_connects_anew(server: Server) -> None:
    manager = asyncio.run(compat.init_bid_lock_manager(server.url))
    assert asyncio.run(manager.acquire_lock("upwork", "job_1"))

    def child() -> None:
        assert manager.get_metrics() == dict.fromkeys(manager.get_metrics(), 0)

        async def main() -> None:
            assert await compat.get_bid_lock_manager() is manager
            assert not await manager.release_lock("upwork", "job_1")
            assert not await manager.acquire_lock("upwork", "job_1", timeout=0)
            async with manager.with_lock("upwork", "job_2", timeout=5):
                assert manager.get_metrics()["active_locks"] == 1
            assert await manager.cleanup_all() == 0
            await manager.close()

        asyncio.run(main())

    # Also when another thread is in the middle of it.
    with manager._guard, compat._manager_guard:
        in_child(child)
    assert manager.get_metrics()["active_locks"] == 1
    assert asyncio.run(manager.release_lock("upwork", "job_1"))


TOLD = """
import asyncio, logging, sys
from bidlock.compat import RedisBidLockManager
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(name)s: %(message)s")
async def main():
    manager = RedisBidLockManager(sys.argv[1], ttl=1)
    await manager.acquire_lock("upwork", "job_1")
    print("held", flush=True)
    await asyncio.sleep(2)
asyncio.run(main())
"""


def test_what_happens_is_told_to_logging_without_more(server: Server) -> None:
    bot = python("-u", "-c", TOLD, server.url)
    assert bot.stdout is not None and bot.stdout.readline() == "held\n"
    server.command("SET", "bid_lock:upwork:job_1", "thief")
    assert "lease lost" in finish(bot)


def test_cleanup_takes_its_own_and_with_force_everything(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = f"sqlite://{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("BIDLOCK_LEDGER_URL", ledger)

    async def main() -> None:
        manager, other = RedisBidLockManager(server.url), RedisBidLockManager(server.url)
        for n in range(3):
            assert await manager.acquire_lock("upwork", f"job_{n}")
        assert await other.acquire_lock("upwork", "job_9")
        server.command("SET", "bid_lock:upwork:old", "old-bot", "EX", "300")
        assert await manager.cleanup_all() == 3
        assert server.value("bid_lock:upwork:job_9") != "$-1"
        assert await manager.cleanup_all(force=True) == 1
        assert server.value("bid_lock:upwork:job_9") == "$-1"
        # A foreign lock is nobody's to take.
        assert server.value("bid_lock:upwork:old") == "old-bot"
        assert await other.release_lock("upwork", "job_9") is False

    asyncio.run(main())
    # Before and after, with who it was and why; releases of its own are nobody's business.
    audit = [(e.act, e.posting, e.actor, e.because) for e in sync.open_ledger(ledger).audit()]
    who, why = _settings.actor(), "cleanup_all(force=True)"
    acts = ["revoke_now", "revoked_freed"]
    assert sorted(audit) == [(act, "job_9", who, why) for act in acts]


def test_settings_are_those_of_the_command_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RedisBidLockManager()._url == "redis://localhost:6379/0"
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", str(server.port))
    assert RedisBidLockManager()._url == f"redis://127.0.0.1:{server.port}/0"
    assert RedisBidLockManager("redis://other:1/2")._url == "redis://other:1/2"
    monkeypatch.setenv("REDIS_PASSWORD", "s3c/ret")
    assert RedisBidLockManager()._url == f"redis://:s3c%2Fret@127.0.0.1:{server.port}/0"
    monkeypatch.setenv("REDIS_URL", "redis://named:6380/1")
    assert RedisBidLockManager()._url == "redis://named:6380/1"
    (tmp_path / ".env").write_text("# ours\nBIDLOCK_URL='redis://file:1/0'\nBIDLOCK_PREFIX=bots\n")
    assert RedisBidLockManager()._url == "redis://file:1/0"
    assert RedisBidLockManager()._prefix == "bots"
    monkeypatch.setenv("BIDLOCK_URL", server.url)
    assert RedisBidLockManager()._url == server.url
    (tmp_path / ".env").write_text("\nBIDLOCK_URL=two words\n")
    with pytest.raises(bidlock.ConfigError, match="line 2") as refused:
        RedisBidLockManager()
    assert "two words" not in str(refused.value)


def test_the_embedded_store_is_shared_by_all_processes_of_the_user(tmp_path: Path) -> None:
    async def main() -> None:
        manager = BidLockManager()
        assert await manager.acquire_lock("upwork", "job_1")
        other = sync.connect(f"sqlite://{tmp_path}/state/bidlock/bidlock.db")
        assert other.try_acquire("upwork", "job_1") is None
        await manager.close()

    asyncio.run(main())


def test_an_id_with_another_key_in_old_clients_is_warned_about_once(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat, "_warned", False)

    async def main() -> None:
        manager = RedisBidLockManager(server.url)
        for _ in range(2):
            async with manager.with_lock("upwork", "job 1"):
                pass

    with caplog.at_level(logging.WARNING, "bidlock"):
        asyncio.run(main())
    warned = [r for r in caplog.records if "old kind" in r.getMessage()]
    assert len(warned) == 1


SAMPLES = json.loads((HERE / "settings.json").read_text())


@pytest.mark.parametrize("sample", SAMPLES, ids=[repr(sample["text"])[:40] for sample in SAMPLES])
def test_a_file_of_settings_is_read_as_the_command_line_reads_it(
    sample: dict[str, Any], tmp_path: Path
) -> None:
    # The command line's own tests read the same samples.
    path = tmp_path / "settings"
    path.write_bytes(sample["text"].encode())
    if "line" not in sample:
        assert _settings._read(path) == sample["values"]
        return
    with pytest.raises(bidlock.ConfigError, match=f"line {sample['line']}: ") as refused:
        _settings._read(path)
    # The line may hold a password.
    assert "open" not in str(refused.value) and "words" not in str(refused.value)
