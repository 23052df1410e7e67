"""What the documents show is run, in its order."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT, Server

import bidlock
from bidlock import compat, metrics, sync
from bidlock.compat import RedisBidLockManager

BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text()
    return [textwrap.dedent(block) for _, block in BLOCK.findall(text)]


async def run(block: str, names: dict[str, Any]) -> None:
    code = compile(block, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, names)
    if inspect.isawaitable(made):
        await made


@pytest.mark.parametrize("page", ["docs/migrate.md", "docs/python.md"])
def test_every_block_of_a_page_runs(
    page: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIDLOCK_URL", server.url)
    monkeypatch.setenv("BIDLOCK_LEDGER_URL", f"sqlite://{tmp_path / 'ledger.db'}")
    monkeypatch.setenv("BIDLOCK_LOCAL_LEDGER", "1")
    sent: list[str] = []

    async def send_bid(posting: str, idempotency_key: str | None) -> str:
        sent.append(posting)
        return f"offer-{posting}"

    async def find_bid(attempt: str) -> None:
        return None

    async def main() -> None:
        names: dict[str, Any] = {"send_bid": send_bid, "find_bid": find_bid}
        if page == "docs/migrate.md":
            names["manager"] = RedisBidLockManager()
        shown = blocks(page)
        assert len(shown) >= 4
        for block in shown:
            await run(block, names)
        if page == "docs/migrate.md":
            # A late comer: the lock is free, and the ledger says no.
            for posting in ["job_123", "job_124"]:
                with pytest.raises(bidlock.AlreadyDecidedError):
                    async with (await RedisBidLockManager().guard()).bid("upwork", posting):
                        raise AssertionError("it was sent twice")
            assert sent == ["job_123", "job_122", "job_122", "job_124"]
        else:
            assert sent == ["job_125", "job_126"]

    asyncio.run(main())
    from prometheus_client import REGISTRY

    for collector in list(REGISTRY._collector_to_names):
        if isinstance(collector, bidlock.metrics.Collector):
            REGISTRY.unregister(collector)


def test_the_page_of_the_package_runs(server: Server) -> None:
    (shown,) = blocks("crates/bidlock-python/README.md")
    exec(shown.replace("redis://localhost:6379/0", server.url), {})
    assert server.value("bid_lock:upwork:job_123") == "$-1"


@pytest.mark.parametrize("module", [bidlock, bidlock.errors, compat, metrics, sync])
def test_everything_public_says_what_it_is(module: ModuleType) -> None:
    missing = []
    for name in module.__all__:
        found = getattr(module, name)
        if not (inspect.isclass(found) or inspect.isroutine(found)):
            continue
        members = vars(found).items() if inspect.isclass(found) else []
        shown = [(f"{name}.{member}", value) for member, value in members if member[0] != "_"]
        missing += [
            where
            for where, value in [(name, found), *shown]
            if (callable(value) or isinstance(value, property)) and not inspect.getdoc(value)
        ]
    assert not missing
