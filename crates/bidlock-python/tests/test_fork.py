"""Forked and spawned processes, and workers of Celery."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from conftest import HERE, Server, finish, in_child, python, wait_until

import bidlock
from bidlock import errors, sync

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def one_lock(url: str) -> None:
    sync.connect(url).acquire("upwork", "job_of_a_child", wait=20).get().release()


def test_what_belongs_to_the_parent_raises_in_the_child(url: str) -> None:
    # R7, R21
    locker = sync.connect(url)
    lease = locker.acquire("upwork", "job_1", ttl=1).get()
    made = asyncio.run(bidlock.connect(url)._connect())
    lost = lease._lease.lost()

    def child() -> None:
        for use in [
            lease.check,
            lease.release,
            lambda: lease.token and lease.key,
            lambda: locker.acquire("upwork", "job_2").get(),
            locker.health,
            lost.wait,
        ]:
            with pytest.raises(errors.ForkedError) as forked:
                use()
            assert "connect anew" in str(forked.value)

        async def main() -> None:
            with pytest.raises(errors.ForkedError):
                async with made.acquire("upwork", "job_3"):
                    pass

        asyncio.run(main())

    in_child(child)

    def forgets() -> None:
        # The child's copy goes, and takes nothing of the parent's with it.
        nonlocal lease, locker
        del lease, locker

    kept = lease
    in_child(forgets)
    assert kept.check() > 0
    kept.release()


def test_a_child_may_connect_anew(server: Server) -> None:
    locker = sync.connect(server.url)
    lease = locker.acquire("upwork", "job_1").get()

    def child() -> None:
        mine = sync.connect(server.url)
        assert mine.try_acquire("upwork", "job_1") is None
        with mine.acquire("upwork", "job_2", ttl=0.5) as other:
            assert other.token > lease.token
            time.sleep(0.8)
            assert other.check() > 0

        async def main() -> None:
            async with bidlock.connect(server.url) as locker:
                async with locker.acquire("upwork", "job_2"):
                    await asyncio.sleep(0.01)

        asyncio.run(main())
        # And a child of the child.
        in_child(lambda: one_lock(server.url))

    in_child(child)
    lease.check()
    lease.release()


def test_a_child_of_who_used_sqlite_opens_no_file(tmp_path: Path) -> None:
    # SQLite's memory of files and their locks is not to be believed in a forked child.
    sync.connect(f"sqlite://{tmp_path / 'a.db'}")

    def child() -> None:
        for url in [f"sqlite://{tmp_path / 'a.db'}", f"sqlite://{tmp_path / 'b.db'}"]:
            with pytest.raises(errors.ForkedError, match="spawn"):
                sync.connect(url)
        sync.connect("memory:").acquire("upwork", "job_1").get().release()

    in_child(child)


@pytest.mark.unhurried
def test_a_fork_in_the_middle_of_everything_hangs_nobody(server: Server) -> None:
    locker = sync.connect(server.url)

    async def main() -> None:
        mine = await bidlock.connect(server.url)

        async def work(n: int) -> None:
            while not done:
                async with mine.acquire("upwork", f"job_{n}"):
                    pass

        done = False
        tasks = [asyncio.create_task(work(n)) for n in range(10)]
        for _ in range(10):
            await asyncio.sleep(0.02)
            in_child(lambda: one_lock(server.url))
        done = True
        await asyncio.gather(*tasks)

    asyncio.run(main())
    locker.close()


def _worker(url: str, log: str, rounds: int) -> None:
    locker = sync.connect(url)
    for _ in range(rounds):
        with locker.acquire("upwork", "job_1", wait=60) as lease:
            with open(log, "a") as file:
                file.write(f"in {os.getpid()} {lease.token}\n")
                file.flush()
                file.write(f"out {os.getpid()} {lease.token}\n")
    locker.close()


TURNS = """
import multiprocessing, os, sys
from bidlock import sync
method, url, log = sys.argv[1:]

def worker():
    locker = sync.connect(url)
    for _ in range(20):
        with locker.acquire("upwork", "job_1", wait=60) as lease, open(log, "a") as file:
            file.write(f"in {os.getpid()} {lease.token}\\n")
            file.flush()
            file.write(f"out {os.getpid()} {lease.token}\\n")
    locker.close()

if __name__ == "__main__":
    if url.startswith("redis"):
        # The parent uses the library too, so that fork has something to go wrong.
        sync.connect(url).acquire("upwork", "job_1").get().release()
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=worker) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    print([each.exitcode for each in workers])
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.unhurried
def test_workers_of_multiprocessing_take_turns(
    method: str, shared_url: str, tmp_path: Path
) -> None:
    log, script = tmp_path / "log", tmp_path / "turns.py"
    script.write_text(TURNS.replace("sys.argv[1:]", repr([method, shared_url, str(log)])))
    assert finish(python(str(script))) == "[0, 0, 0, 0]\n"
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == 160
    tokens = []
    for came, went in zip(lines[::2], lines[1::2], strict=True):
        assert (came[0], went[0]) == ("in", "out") and came[1:] == went[1:]
        tokens.append(int(came[2]))
    assert tokens == sorted(set(tokens))


CELERY = """
import os, sys
from celery import Celery
from bidlock import sync
folder, url = sys.argv[1], sys.argv[2]
app = Celery("bots", broker="filesystem://", backend="cache+memory://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control",
    },
    task_ignore_result=True, worker_send_task_events=False,
)
# Made in the parent of the workers: each of them has to find out that it is not its own.
parents = sync.connect(url)
kept = parents.acquire("upwork", "job_0").get()
own = None

@app.task
def bid(n):
    global own
    try:
        kept.check()
        word = "wrong"
    except RuntimeError:
        word = "forked"
    if own is None:
        own = sync.connect(url)
    with own.acquire("upwork", "job_1", wait=60) as lease:
        with open(folder + ".log", "a") as log:
            log.write(f"{word} {os.getpid()} {lease.token}\\n")

if __name__ == "__main__":
    for n in range(20):
        bid.delay(n)
    app.Worker(pool="prefork", concurrency=3, loglevel="ERROR", quiet=True,
               without_gossip=True, without_mingle=True, without_heartbeat=True).start()
"""


@pytest.mark.unhurried
def test_workers_of_celery_take_turns(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    (folder / "control").mkdir(parents=True)
    script, log = tmp_path / "bots.py", tmp_path / "queue.log"
    script.write_text(CELERY)
    worker = python(str(script), str(folder), server.url)
    try:
        wait_until(
            lambda: worker.poll() is not None
            or (log.exists() and len(log.read_text().splitlines()) == 20),
            60,
        )
    finally:
        worker.terminate()
        out, err = worker.communicate(timeout=30)
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    assert len(lines) == 20, out + err
    assert {line[0] for line in lines} == {"forked"}
    tokens = [int(line[2]) for line in lines]
    assert tokens == sorted(set(tokens))
    # The parent has ended well, and has given back what it held.
    assert server.value("bid_lock:upwork:job_0") == "$-1"


def test_no_settings_are_needed_to_import() -> None:
    assert finish(python("-c", "import bidlock, bidlock.sync, bidlock.compat; print(1)")) == "1\n"
    assert HERE.is_dir()
