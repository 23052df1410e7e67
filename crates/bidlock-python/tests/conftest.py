"""Stores that tests run against: files in folders of their own, servers on ports of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
FULL_SIZE = os.environ.get("BIDLOCK_SOAK") == "1"


def tools() -> Path:
    """Where ``cargo xtask tools`` puts servers that Debian lacks."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "tools"


def program(kind: str) -> str:
    """The program of a kind of server; a missing one is a failure, and no skip."""
    if kind == "redis70":
        found = shutil.which("redis-server")
    else:
        folder, name = {"redis62": ("redis62", "redis-server"), "valkey9": ("valkey9", "valkey-server")}[kind]
        path = tools() / folder / name
        found = str(path) if path.is_file() else None
    assert found, f"the server {kind} is not installed; `cargo xtask tools` installs it"
    return found


def in_child(work: Callable[[], None]) -> None:
    """Run something in a forked child, which has to end well and soon."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    ended: list[int] = []

    def over() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            ended.append(os.waitstatus_to_exitcode(status))
        return bool(ended)

    try:
        wait_until(over)
    finally:
        if not ended:
            os.kill(child, 9)
            os.waitpid(child, 0)
    said = os.read(reader, 100_000).decode()
    os.close(reader)
    assert ended == [0], said


def at_full_size() -> bool:
    """Whether what is scaled down in other runs is to be done at its full size."""
    return FULL_SIZE


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A real server of the tests; gone when closed."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [program(self.kind), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            return self.command("PING") == "+PONG"
        except OSError:
            return False

    def command(self, *words: str) -> str:
        """The first line of the answer to a command."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            answer = connection.makefile("rb")
            line = answer.readline().decode().rstrip()
            if line.startswith("$") and line != "$-1":
                return answer.read(int(line[1:])).decode()
            return line

    def value(self, key: str) -> str:
        return self.command("GET", key)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class SlowWay:
    """A way to a server on which everything takes a while longer, each way."""

    def __init__(self, port: int, seconds: float) -> None:
        self._to, self._seconds = port, seconds
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self._loop.call_later(self._seconds, writer.write, data)
        self._loop.call_later(self._seconds, writer.close)

    async def _close(self) -> None:
        self._server.close()
        # What is carried late finds a closed connection.
        await asyncio.sleep(self._seconds * 2)
        for writer in self._writers:
            writer.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            with contextlib.suppress(ConnectionError):
                await task

    def stop(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


def postgres_program(name: str) -> str:
    """A program of the newest PostgreSQL that Debian has, else of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*"), key=lambda path: int(path.name))
    paths = [str(path / "bin") for path in reversed(versions)] + [os.environ["PATH"]]
    found = shutil.which(name, path=os.pathsep.join(paths))
    assert found, f"{name} is not installed; `cargo xtask tools` installs it"
    return found


class Postgres:
    """A real PostgreSQL of the tests, with a superuser who needs no password."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bidlock-postgres-"))
        self.account: dict[str, Any] = {}
        if os.geteuid() == 0:
            # It refuses to run as root.
            names = [name for name in ("postgres", "nobody") if name in _users()]
            user = pwd.getpwnam(names[0])
            self.account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        data = self.folder / "data"
        init = [postgres_program("initdb"), "--username=postgres", "--auth=trust", "--no-sync"]
        init += ["--encoding=UTF8", "--locale=C", "--pgdata", str(data)]
        subprocess.run(init, check=True, capture_output=True, cwd="/", **self.account)
        self.port = free_port()
        self.log = (self.folder / "log").open("wb")
        command = [postgres_program("postgres"), "-D", str(data), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self.folder), "-c", "fsync=off"]
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, cwd="/", **self.account
        )
        self.databases = 0
        wait_until(self._answers, 60)

    def _answers(self) -> bool:
        ready = [postgres_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready).returncode == 0

    def new_database(self) -> str:
        """The URL of an empty database."""
        self.databases += 1
        name = f"test_{self.databases}"
        create = [postgres_program("createdb"), "-U", "postgres", "-h", "127.0.0.1"]
        subprocess.run([*create, "-p", str(self.port), name], check=True)
        return f"postgres://postgres@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)


def _users() -> set[str]:
    return {user.pw_name for user in pwd.getpwall()}


def wait_until(condition: Callable[[], object], limit: float = 20.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """One server of each kind, started when first asked for."""
    started: dict[str, Server] = {}

    def get(kind: str) -> Server:
        if kind not in started:
            started[kind] = Server(kind, tmp_path_factory.mktemp(kind))
        return started[kind]

    yield get
    for server in started.values():
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests."""
    postgres = Postgres()
    yield postgres
    postgres.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Every kind of ledger, one after the other."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'ledger.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new_database()


@pytest.fixture
def server(servers: Callable[[str], Server]) -> Server:
    """A Redis, emptied for the test."""
    server = servers("redis70")
    server.command("FLUSHALL")
    return server


@pytest.fixture(params=["memory", "sqlite", "redis70", "valkey9"])
def url(request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[str], Server]) -> str:
    """Every kind of lock store, one after the other."""
    kind: str = request.param
    if kind == "memory":
        return "memory:"
    if kind == "sqlite":
        return f"sqlite://{tmp_path / 'locks.db'}"
    server = servers(kind)
    server.command("FLUSHALL")
    return server.url


@pytest.fixture(params=["sqlite", "redis70"])
def shared_url(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[str], Server]
) -> str:
    """Stores that several processes can meet at."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'locks.db'}"
    server = servers(request.param)
    server.command("FLUSHALL")
    return server.url


LOOPS = ["asyncio", "debug", "uvloop"]


@pytest.fixture(params=LOOPS)
def run_loop(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Every kind of event loop, one after the other."""
    return lambda main: run_in(request.param, main)


def run_in(kind: str, main: Coroutine[Any, Any, Any]) -> Any:
    if kind == "uvloop":
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main, debug=kind == "debug")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's own deployment is seen."""
    for name in list(os.environ):
        if name.startswith(("BIDLOCK_", "REDIS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def python(*args: str, **variables: str) -> subprocess.Popen[str]:
    """Start another interpreter with this one's packages."""
    return subprocess.Popen(
        [sys.executable, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


OLD_TABLE = (
    "CREATE TABLE distributed_locks (id TEXT PRIMARY KEY, lock_key TEXT UNIQUE NOT NULL, "
    "holder_id TEXT NOT NULL, acquired_at REAL NOT NULL, expires_at REAL NOT NULL)"
)
# In a process of its own, because an old file and a bridge to it do not go together in one.
SQL = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
print(json.dumps(connection.execute(*json.loads(sys.argv[2])).fetchall()))
connection.close()
"""


def sql(path: Path, text: str, *values: object) -> list[list[Any]]:
    """What a statement finds in an SQLite file."""
    found = finish(python("-c", SQL, str(path), json.dumps([text, values])))
    return cast("list[list[Any]]", json.loads(found))


def old_table(path: Path) -> None:
    """Make the lock table of the first lock manager."""
    sql(path, OLD_TABLE)


def rows(path: Path) -> list[list[Any]]:
    """What is locked in it: keys, holders, and seconds that are left."""
    left = "round(expires_at - (julianday('now') - 2440587.5) * 86400)"
    return sql(path, f"SELECT lock_key, holder_id, {left} FROM distributed_locks ORDER BY 1")


def finish(process: subprocess.Popen[str], limit: float = 60.0) -> str:
    """What a process has printed, which has to end well."""
    out, err = process.communicate(timeout=limit)
    assert process.returncode == 0, f"exit {process.returncode}\n{out}\n{err}"
    return out
