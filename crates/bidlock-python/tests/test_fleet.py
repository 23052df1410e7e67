"""Old bots and new ones in one fleet, and the ways from the ones to the others and back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, at_full_size, old_table, rows, wait_until
from fleet import Fleet, Kind

import bidlock
from bidlock import sync

WORKERS = 8
# For each worker that is replaced, twice over: 2,000 postings with what comes at the end.
FULL, REST = 110, 240


def then(fleet: Fleet) -> tuple[int, int]:
    """For what comes after the way over: workers that go on, and postings for each."""
    workers, postings = (WORKERS, FULL) if at_full_size() else (3, 20)
    fleet.end(*fleet.running[workers:])
    return workers, postings


@pytest.mark.unhurried
def test_old_clients_and_new_ones_never_hold_one_posting_together(
    server: Server, tmp_path: Path
) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.start(Kind("old-redis", server.url), 3)
        fleet.start(Kind("new", server.url), 3)
        fleet.post(400)
        fleet.bid_on_all()
        fleet.end(*fleet.running)
    print(fleet.judge())


def in_the_ledger(url: str) -> list[str]:
    """What ``bidlock bids --json`` lists."""
    return [attempt.posting for attempt in sync.open_ledger(url).bids()]


def over_and_back(fleet: Fleet, old: Kind, new: Kind) -> int:
    """8 workers are replaced one by one, among 2,000 postings; then back, and over once more.

    Returns how many postings there are for each step that comes after.
    """
    fleet.start(old, WORKERS)
    fleet.replace(new, FULL)
    fleet.post(REST)
    fleet.bid_on_all()
    assert fleet.postings == 2_000
    _, postings = then(fleet)
    fleet.replace(old, postings)
    fleet.replace(new, postings)
    return postings


def with_ledger(fleet: Fleet, ledger: Kind, old: Kind) -> None:
    """Step 5 of both ways, and its way back."""
    workers, postings = then(fleet)
    url = ledger.settings["BIDLOCK_LEDGER_URL"]
    fleet.replace(ledger, postings)
    # Each of them bids on each posting now, whenever it comes to it: the lock is long free.
    fleet.late_comers(postings * workers)
    # The way back: all stop, and the old ones leave alone what the ledger knows.
    fleet.end(*fleet.running)
    late = [f"job_{n}" for n in range(*fleet.late)]
    known = in_the_ledger(url)
    assert set(late) <= set(known)
    fleet.skip(known)
    fleet.start(old, workers)
    fleet.post(postings * workers)
    fleet.bid_on_all()
    fleet.end(*fleet.running)


@pytest.mark.timeout(900)
@pytest.mark.unhurried
def test_the_way_from_the_lock_of_redis_py(server: Server, postgres: Any, tmp_path: Path) -> None:
    # docs/migrate.md, up to the ledger.
    old, new = Kind("old-redis", server.url), Kind("new", server.url)
    with Fleet(tmp_path) as fleet:
        over_and_back(fleet, old, new)
        settings = {"BIDLOCK_LEDGER_URL": postgres.new_database()}
        with_ledger(fleet, Kind("ledger", server.url, settings), old)
    print(fleet.judge())


@pytest.mark.timeout(900)
@pytest.mark.unhurried
def test_the_way_from_the_row_in_sqlite(server: Server, tmp_path: Path) -> None:
    # docs/migrate.md: the new workers hold the old row as well, until the last old one is gone.
    path = tmp_path / "old.db"
    old_table(path)
    old = Kind("old-sqlite", str(path))
    new = Kind("new", server.url)
    both = Kind("new", server.url, {"BIDLOCK_ALSO": f"sqlite://{path}?table=distributed_locks"})
    with Fleet(tmp_path) as fleet:
        postings = over_and_back(fleet, old, both)
        # Step 4: the last old worker is gone, and the bridge goes.
        fleet.replace(new, postings)
        # Its way back: first the bridge for everybody, then old workers.
        fleet.replace(both, postings)
        fleet.replace(old, postings)
        fleet.replace(both, postings)
        fleet.replace(new, postings)
        assert rows(path) == []
        path.unlink()
        fleet.post(postings)
        fleet.bid_on_all()
        # Step 5. On its way back the old table is an empty one.
        old_table(path)
        url = f"sqlite://{tmp_path / 'ledger.db'}"
        settings = {"BIDLOCK_LEDGER_URL": url, "BIDLOCK_LOCAL_LEDGER": "1"}
        with_ledger(fleet, Kind("ledger", server.url, settings), old)
    print(fleet.judge())
    assert rows(path) == []


def test_the_judge_finds_two_where_the_bridge_is_left_out(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old_table(path)
    with Fleet(tmp_path) as fleet:
        fleet.start(Kind("old-sqlite", str(path)), 2)
        fleet.start(Kind("new", server.url), 2)
        fleet.post(200)
        fleet.bid_on_all()
        fleet.end(*fleet.running)
    with pytest.raises(AssertionError, match="twice"):
        fleet.judge()


def test_the_judge_finds_the_late_comer_where_the_ledger_is_left_out(
    server: Server, tmp_path: Path
) -> None:
    # The first lines of docs/migrate.md: a lock knows nothing of what was done under it.
    with Fleet(tmp_path) as fleet:
        fleet.start(Kind("new", server.url), 2)
        fleet.late_comers(20)
        wait_until(lambda: "twice" in fleet.said())
        fleet.end(*fleet.running)
    with pytest.raises(AssertionError, match="twice"):
        fleet.judge()


def test_a_late_delete_of_an_old_client_is_reported_as_taken(server: Server) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        with pytest.raises(bidlock.LeaseLostError) as lost:
            async with locker.acquire("upwork", "job_1", ttl=0.6):
                # An old client that was paused for longer than its TTL.
                server.command("DEL", "bid_lock:upwork:job_1")
                await asyncio.sleep(20)
        assert lost.value.reason == "taken"

    asyncio.run(main())


def test_a_new_waiter_has_an_old_lock_soon_after_it_is_deleted(server: Server) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url)
        server.command("SET", "bid_lock:upwork:job_1", "old-bot", "NX", "EX", "300")
        waiter = asyncio.create_task(locker.acquire("upwork", "job_1", wait=20)._acquire())
        await asyncio.sleep(0.3)
        server.command("DEL", "bid_lock:upwork:job_1")
        began = time.monotonic()
        lease = await waiter
        assert time.monotonic() - began < 2
        await lease.release()

    asyncio.run(main())
    wait_until(lambda: server.value("bid_lock:upwork:job_1") == "$-1")
