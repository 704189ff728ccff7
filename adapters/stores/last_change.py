"""Tells who changed what is stored: authstate under its lock, or a program that does not take the lock.

Every save and delete under the lock is recorded (home_lock.py). If what is stored now matches none of the last records,
another program stored it. Which program that was is not recorded. The most likely one is a codex process that uses the
same home, and Linux shows whether there is one. A codex that keeps its login in memory is not counted, such as the
child of `authstate wrap`.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from authstate.adapters.stores.home_lock import SaveRecord
from authstate.engine.machines.refresh_claim import format_time
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, PersonalAccessToken
from authstate.engine.ports import LastChange

_MAX_PROCESSES = 3
_IN_MEMORY = re.compile(rb"cli_auth_credentials_store\s*=\s*[\"']?ephemeral\b")


def digest_of(credentials: Credentials | None) -> str:
    """Return the digest that a save record contains. It identifies credentials, but they cannot be computed from it."""
    if isinstance(credentials, ApiKey):
        secret = credentials.key.reveal()
    elif isinstance(credentials, PersonalAccessToken):
        secret = credentials.token.reveal()
    elif isinstance(credentials, ChatgptTokens):
        secret = credentials.refresh_token.reveal() + credentials.access_token.reveal()
    else:
        return "nothing"
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def last_change(
    stored: Credentials | None, changed_at: float | None, saves: Sequence[SaveRecord], place: str, home: str
) -> LastChange:
    """Describe the last change of what is stored.

    Args:
        stored: what is stored now.
        changed_at: when it was changed, in seconds since the epoch; None if the store does not tell.
        saves: the last saves under the lock.
        place: where it is stored, for the message.
        home: the folder that the login belongs to.
    """
    digest = digest_of(stored)
    ours = next((save for save in reversed(saves) if save.digest == digest), None)
    did = "removed" if stored is None else "last changed"
    if ours is not None:
        return LastChange(f"{place} was {did} by authstate (process {ours.pid}) at {format_time(ours.at)}.", False)
    when = f" at {format_time(changed_at)}" if changed_at is not None else ""
    running = [str(pid) for pid in _codex_processes(home)][:_MAX_PROCESSES]
    suspects = f" codex uses this home just now (process {', '.join(running)})." if running else ""
    return LastChange(f"{place} was {did}{when} by a program that does not take authstate's lock.{suspects}", True)


def _codex_processes(home: str) -> Iterator[int]:
    """Yield the codex processes of this user that store their login in the home, as far as Linux shows them."""
    wanted = os.path.realpath(home)
    with suppress(OSError):
        for name in sorted(filter(str.isdecimal, os.listdir("/proc")), key=int):
            with suppress(OSError):
                is_codex = _read(f"/proc/{name}/comm").strip() == b"codex"
                if is_codex and _home_of(name) == wanted and _stores_login(name):
                    yield int(name)


def _stores_login(pid: str) -> bool:
    """Return whether a codex process stores its login: its command line does not say to keep it in memory."""
    return not any(_IN_MEMORY.search(word) for word in _read(f"/proc/{pid}/cmdline").split(b"\0"))


def _home_of(pid: str) -> str | None:
    """Return the CODEX_HOME that a process was started with, None if it cannot be read."""
    pairs = (line.partition(b"=") for line in _read(f"/proc/{pid}/environ").split(b"\0"))
    variables = {name: value for name, _, value in pairs}
    named = variables.get(b"CODEX_HOME") or (variables[b"HOME"] + b"/.codex" if b"HOME" in variables else b"")
    return os.path.realpath(os.fsdecode(named)) if named else None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 20)
