"""Settings from the environment and from ``.env``, read as the command line reads them."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bidlock import _native
from bidlock.errors import ConfigError

__all__ = ["Settings", "actor", "connect", "load"]

_PARTS = ("REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=[ \t]*(.*?)\s*\Z", re.DOTALL)
_FORM = (
    "not of the form NAME=value (a value with a space, $, #, a quote or a backslash stands in "
    "single quotes)"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is used where the caller names nothing."""

    url: str
    """The lock store."""
    file: str
    """The embedded store of this machine."""
    named: bool
    """Whether anything names it."""
    ledger: str
    """The ledger."""
    prefix: str | None
    """The text before every key."""
    also: str | None
    """The lock table of an older system, which is held as well."""
    marks: str
    """Where this machine remembers what it has started."""
    local_ledger: bool
    """Whether a ledger of this machine only is meant."""


def load(url: str | None = None, *, ledger: str | None = None) -> Settings:
    """Merge what the caller names, the environment, ``.env`` and defaults, in this order."""
    found = _variables()
    store = url or found.get("BIDLOCK_URL") or found.get("REDIS_URL")
    if store is None:
        store = _from_parts(found)
    elif url is None and found.get("BIDLOCK_URL") is None and store.startswith("redis:"):
        _no_tls_is_asked_for(found)
    file = f"sqlite://{_state_file()}"
    named = store is not None
    store = store or file
    ledger = ledger or found.get("BIDLOCK_LEDGER_URL")
    if ledger is None:
        ledger = store if store.startswith("sqlite:") else file
    also = found.get("BIDLOCK_ALSO")
    if also is not None and _file(also) is not None and _file(also) == _file(ledger):
        raise ConfigError(
            f"BIDLOCK_ALSO {also!r}: the ledger is to be in the same file; name another one"
        )
    local = (found.get("BIDLOCK_LOCAL_LEDGER") or "0").lower()
    if local not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ConfigError(f"BIDLOCK_LOCAL_LEDGER {local!r}: write 1 or 0")
    return Settings(
        url=store,
        file=file,
        named=named,
        ledger=ledger,
        prefix=found.get("BIDLOCK_PREFIX"),
        also=also,
        marks=str(_state_file().with_name("marks")),
        local_ledger=local in {"1", "true", "yes", "on"},
    )


def connect(
    url: str | None, prefix: str | None, also: str | None
) -> _native.Op[_native.Locker]:
    """Open the lock store that the caller or the settings name.

    Each is looked up for itself: who names a URL in code has the prefix and the bridge of the
    deployment all the same, as under the command line's ``--url``. An empty ``also`` is none.
    """
    found = _variables()
    url = load().url if url is None else url
    prefix = found.get("BIDLOCK_PREFIX") if prefix is None else prefix
    also = found.get("BIDLOCK_ALSO") if also is None else also
    return _native.connect(url, prefix, also or None)


def actor() -> str:
    """Who acts, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class _Variables:
    """The environment, with the file behind it; an empty variable counts as unset."""

    def __init__(self, environment: Mapping[str, str], file: Mapping[str, str]) -> None:
        self._environment, self._file = environment, file

    def get(self, name: str) -> str | None:
        return self._environment.get(name) or self._file.get(name) or None


def _variables() -> _Variables:
    return _Variables(os.environ, _read(Path(".env")))


def _from_parts(found: _Variables) -> str | None:
    host, port, database, password = (found.get(name) for name in _PARTS)
    if host is None and port is None and database is None and password is None:
        return None
    _no_tls_is_asked_for(found)
    host = host or "localhost"
    if host.count(":") == 1 or "/" in host or "@" in host:
        raise ConfigError(
            "REDIS_HOST: a host alone is expected; REDIS_PORT names the port, and REDIS_URL takes "
            "a URL"
        )
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    user = found.get("REDIS_USERNAME") or found.get("REDIS_USER")
    if user is not None and password is None:
        raise ConfigError("REDIS_USERNAME: a user is named without REDIS_PASSWORD")
    login = ""
    if password is not None:
        login = f"{quote(user or '', safe='')}:{quote(password, safe='')}@"
    return f"redis://{login}{host}:{_number('REDIS_PORT', port, 1, 6379)}/" + str(
        _number("REDIS_DB", database, 0, 0)
    )


def _file(url: str) -> Path | None:
    """The file of an embedded store; None for any other."""
    kind, _, rest = url.partition(":")
    path = rest.partition("?")[0]
    if kind.lower() != "sqlite" or not path:
        return None
    # Slashes in front of an absolute path collapse into one.
    return Path(re.sub(r"\A/+", "/", path)).resolve()


def _number(name: str, text: str | None, least: int, standard: int) -> int:
    if text is None:
        return standard
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= 65_535):
        raise ConfigError(f"{name} {text!r}: not a number from {least} to 65535")
    return int(text)


def _no_tls_is_asked_for(found: _Variables) -> None:
    """Refuse what asks for TLS where only a URL can: nothing is sent in plain text against it."""
    for name in ("REDIS_TLS", "REDIS_SSL"):
        value = found.get(name)
        if value is not None and value.lower() not in {"0", "false", "no", "off"}:
            raise ConfigError(
                f"{name} {value!r}: TLS is asked for by a URL: use "
                "REDIS_URL=rediss://USER:PASSWORD@HOST:PORT"
            )


def _state_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state, "bidlock", "bidlock.db")
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        raise ConfigError("no place for the default store: neither HOME nor XDG_STATE_HOME is set")
    return Path(home, ".local", "state", "bidlock", "bidlock.db")


def _read(path: Path) -> dict[str, str]:
    """Read a file of settings. What is wrong names a line's number, never the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as failed:
        raise ConfigError(f"{path}: cannot be read: {failed}") from None
    pairs: dict[str, str] = {}
    for number, line in _lines(text):
        match = _LINE.match(line)
        if match is None or _is_open(line):
            raise ConfigError(f"{path}: line {number}: {_FORM}")
        name = match[1]
        ours = name.startswith(("BIDLOCK_", "REDIS_"))
        value = _value(match[2])
        if value is None and ours:
            raise ConfigError(f"{path}: line {number}: {_FORM}")
        # The first of two lines counts, as in the tools that also read this file.
        if ours and value is not None:
            pairs.setdefault(name, value)
    return pairs


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Settings and the numbers of their lines; a value in quotes may have several."""
    begun: list[str] = []
    lines = text.replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if not begun and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun.append(line)
        whole = "\n".join(begun)
        if not _is_open(whole) or number == len(lines):
            yield number + 1 - len(begun), whole
            begun.clear()


def _is_open(line: str) -> bool:
    """Whether a quote in it does not end."""
    quote, blank = "", True
    characters = iter(line.partition("=")[2])
    for character in characters:
        if character == "\\" and quote != "'":
            next(characters, "")
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and blank:
            return False
        blank = character.isspace()
    return bool(quote)


def _value(text: str) -> str | None:
    """A value without its quotes; None when it is not one."""
    quoted = re.match(r"'([^']*)'\s*(?:#.*)?\Z", text)
    if quoted is not None:
        return quoted[1]
    quoted = re.match(r'"((?:[^"\\$]|\\.)*)"\s*(?:#.*)?\Z', text)
    if quoted is not None:
        return re.sub(r"\\(.)", lambda c: "\n" if c[1] == "n" else c[1], quoted[1])
    text = re.sub(r"(?:^|\s+)#.*\Z", "", text)
    if re.search(r"[\s'\"$\\]", text):
        return None
    return text
