"""A bridge: leases that hold the row of an older system's table as well."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

import pytest
from conftest import ROOT, Server, finish, in_child, old_table, python, rows, sql, wait_until

import bidlock
from bidlock import Key, errors, sync
from bidlock.compat import RedisBidLockManager

TABLE = "distributed_locks"
ROW = "bid:lock:upwork:job_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The file of the older system."""
    old_table(tmp_path / "old.db")
    return tmp_path / "old.db"


def insert(old: Path, seconds: float = 300, holder: str = "old-bot") -> None:
    """What an old worker does."""
    now = time.time()
    values = ("some id", ROW, holder, now, now + seconds)
    sql(old, f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)", *values)


def delete(old: Path) -> None:
    sql(old, f"DELETE FROM {TABLE}")


def test_a_lease_holds_both(url: str, old: Path) -> None:
    async def main() -> None:
        # Relative to where the program runs.
        async with bidlock.connect(url, also=f"sqlite:old.db?table={TABLE}") as locker:
            async with locker.acquire("upwork", "job_1", ttl=60) as lease:
                ((key, holder, left),) = rows(old)
                assert key == ROW and 50 < left <= 63
                # Whoever reads the row cannot release the lease.
                assert holder not in lease.expose_id()
                lock = await locker.inspect("upwork", "job_1")
                assert lock is not None and lock.token == lease.token and not lock.foreign
                # An old worker is kept out, as by any other row.
                with pytest.raises(AssertionError, match="UNIQUE constraint failed"):
                    insert(old)
            assert rows(old) == []
            # A name that is no posting's is locked in the new store only.
            async with locker.acquire(Key.named("nightly-report")):
                assert rows(old) == []

    asyncio.run(main())


def test_an_old_lock_keeps_new_ones_out(url: str, old: Path) -> None:
    locker = sync.connect(url, also=f"sqlite://{old}?table={TABLE}")
    insert(old)
    assert locker.try_acquire("upwork", "job_1") is None
    with pytest.raises(errors.HeldError) as held:
        locker.acquire("upwork", "job_1", wait=0).get()
    assert TABLE in held.value.holder and 290 < held.value.remaining <= 302
    with pytest.raises(errors.TimedOutError):
        locker.acquire("upwork", "job_1", wait=0.2).get()
    lock = locker.inspect("upwork", "job_1")
    assert lock is not None and lock.foreign and lock.token is None
    assert [lock.key for lock in locker.locks()] == [Key("upwork", "job_1")]
    delete(old)
    with locker.acquire("upwork", "job_1", wait=5) as lease:
        assert lease.token > 0 and len(rows(old)) == 1
    # An expired one keeps nobody out.
    insert(old, -10)
    with locker.acquire("upwork", "job_1", wait=5):
        assert rows(old)[0][1] != "old-bot"
    locker.close()


def test_a_row_that_is_gone_is_a_loss(server: Server, old: Path) -> None:
    async def main() -> None:
        locker = await bidlock.connect(server.url, also=f"sqlite://{old}?table={TABLE}")
        with pytest.raises(bidlock.LeaseLostError) as lost:
            async with locker.acquire("upwork", "job_1", ttl=1.5):
                await asyncio.to_thread(delete, old)
                async with asyncio.timeout(10):
                    await asyncio.sleep(20)
        assert lost.value.reason == "taken"
        await locker.close()

    asyncio.run(main())
    # Neither side keeps what is nobody's any more.
    wait_until(lambda: server.value("bid_lock:upwork:job_1") == "$-1")
    assert rows(old) == []


def test_the_bridge_of_the_settings_is_there_whoever_names_the_url(
    server: Server, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"BIDLOCK_ALSO=sqlite:old.db?table={TABLE}\n")

    async def main() -> None:
        # One that left it out would not be kept out by old workers.
        for url in [server.url, None]:
            async with bidlock.connect(url) as locker, locker.acquire("upwork", "job_1", wait=5):
                assert len(rows(old)) == 1
        async with RedisBidLockManager(server.url).with_lock("upwork", "job_1"):
            assert len(rows(old)) == 1
        # Who means none says so.
        async with bidlock.connect(server.url, also="") as locker:
            async with locker.acquire("upwork", "job_1"):
                assert rows(old) == []

    monkeypatch.setenv("BIDLOCK_URL", server.url)
    asyncio.run(main())
    with sync.connect(server.url).acquire("upwork", "job_1", wait=5):
        assert len(rows(old)) == 1
    # The old file stays as it is: no ledger is made in it.
    for ledger in [f"sqlite://{old}", "sqlite:old.db", f"sqlite:///{old}"]:
        with pytest.raises(errors.ConfigError, match="same file"):
            sync.open_ledger(ledger)


def test_the_prefix_of_the_settings_is_there_whoever_names_the_url(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIDLOCK_PREFIX", "staging")
    assert sync.connect(server.url).prefix == "staging"
    assert sync.connect(server.url, prefix="mine").prefix == "mine"


def test_what_is_wrong_with_an_old_table_is_said_before_anything_is_made(
    old: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.db"

    def refused(also: str, error: type[errors.BidlockError], said: str) -> errors.BidlockError:
        with pytest.raises(error, match=re.escape(said)) as failed:
            sync.connect(f"sqlite://{new}", also=also)

        async def main() -> None:
            with pytest.raises(error, match=re.escape(said)):
                await bidlock.connect(f"sqlite://{new}", also=also)

        asyncio.run(main())
        assert not new.exists()
        return failed.value

    for also, said in [
        ("redis://localhost", "an old lock table is in a SQLite file"),
        (f"sqlite://{old}", "its table is not named"),
        (f"sqlite://{old}?table=a;b", "a table's name is"),
        ("sqlite:?table=t", "no file is named"),
    ]:
        refused(also, errors.ConfigError, said)
    plain = tmp_path / "plain"
    plain.write_text("not a database, but long enough to look like one" * 50)
    for also, refusal, said in [
        (f"sqlite://{tmp_path}/gone.db?table={TABLE}", "wrong_type", "is not there"),
        (f"sqlite://{old}?table=other", "wrong_type", "no table other"),
        (f"sqlite://{plain}?table={TABLE}", "corrupt", "is not an SQLite"),
    ]:
        error = refused(also, errors.RefusedError, said)
        assert isinstance(error, errors.RefusedError) and error.refusal == refusal
        assert error.op == "open" and "?table=" in error.endpoint and not error.retryable
    assert not (tmp_path / "gone.db").exists()
    with pytest.raises(errors.ConfigError, match="same file"):
        sync.connect(f"sqlite://{old}", also=f"sqlite:old.db?table={TABLE}")


AS_NOBODY = """
import os, sys
from bidlock import errors, sync
url, folder, also = sys.argv[1:]
os.chdir(folder)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    sync.connect(url, also=also)
except PermissionError as denied:
    print(type(denied).__name__, denied.refusal, denied.endpoint)
"""


def test_a_right_that_is_missing_at_the_old_file_is_a_permission_error(
    server: Server, old: Path
) -> None:
    also = f"sqlite://{old}?table={TABLE}"
    os.chmod(old, 0o444)
    for folder in [old.parent, *old.parent.parents]:
        if folder.owner() == old.owner() and folder.stat().st_mode & 0o005 != 0o005:
            os.chmod(folder, folder.stat().st_mode | 0o005)
    said = finish(python("-c", AS_NOBODY, server.url, "/", also))
    assert said == f"PermissionDeniedError permission {also}\n"


def test_an_old_file_that_goes_away_lets_nobody_in(server: Server, old: Path) -> None:
    locker = sync.connect(server.url, also=f"sqlite://{old}?table={TABLE}")
    old.unlink()
    with pytest.raises(errors.RefusedError, match="deleted or replaced") as gone:
        locker.acquire("upwork", "job_1", wait=0.3).get()
    assert gone.value.key == "bid_lock:upwork:job_1" and "?table=" in gone.value.endpoint
    locker.close()
    wait_until(lambda: server.value("bid_lock:upwork:job_1") == "$-1")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_who_has_a_bridge_builds_none(server: Server, old: Path) -> None:
    also = f"sqlite://{old}?table={TABLE}"
    locker = sync.connect(server.url, also=also)
    lease = locker.acquire("upwork", "job_1").get()

    def child() -> None:
        with pytest.raises(errors.ForkedError):
            lease.check()
        with pytest.raises(errors.ForkedError, match="spawn"):
            sync.connect(server.url, also=also)

    in_child(child)
    assert lease.check() > 0 and len(rows(old)) == 1
    lease.release()
    assert rows(old) == []


def settings_of(page: str) -> str:
    """What a page of the documents shows of ``.env``."""
    text = (ROOT / page).read_text()
    (shown,) = re.findall(r"```\n( *BIDLOCK_URL=.*?BIDLOCK_ALSO=.*?)\n *```", text, re.DOTALL)
    return "\n".join(line.strip() for line in shown.splitlines()) + "\n"


@pytest.mark.parametrize("page", ["docs/migrate.md", "docs/operations.md"])
def test_the_settings_that_the_documents_show_make_a_bridge(
    page: str, server: Server, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = settings_of(page)
    text = text.replace("redis://localhost:6379/0", server.url)
    text = text.replace("/srv/bots/old.db", str(old))
    (tmp_path / ".env").write_text(text)
    with sync.connect().acquire("upwork", "job_1"):
        assert len(rows(old)) == 1 and server.value("bid_lock:upwork:job_1") != "$-1"
