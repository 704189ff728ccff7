"""Lets processes refresh a login while others adopt and release it, and while codex signs in and out without the lock.

    python -m faults.adoption_races --seconds 5

The refreshes go to a real issuer, which refuses a refresh token that comes a second time. Two processes adopt and
release all the time. With `--codex`, one more process writes auth.json as codex 0.93.0 does, without a lock: new logins
of the same person and of somebody else, and sign-outs. Prints a report as one JSON object.
"""

import argparse
import asyncio
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from faults.forked_processes import exit_status_of, fork
from faults.many_processes import sign_in
from support.adopted_home import COLLEAGUE, Home

from authstate import AuthEngine, RefreshSettings
from authstate.adapters.config.home import ConfigError
from authstate.adapters.config.settings import StoreMode
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, NotSignedIn, PermanentRefreshError, StoreBusy, StoreUnreadable
from authstate.engine.model.session import Authorization
from authstate.testing import LoopbackIssuer

Json = dict[str, Any]
Tell = Callable[[str], None]
GoesOn = Callable[[], bool]
"""Whether the run goes on."""
REFRESHERS = 4
WANTED = ("refreshed", "adopt: moved", "release: moved")
"""What each of them does at least once, without codex: else a run proves nothing."""
LONGEST_EXTENSION = 60.0
"""Seconds that a run goes on for what is wanted of it, on a busy machine."""


def engine_at(home: str, issuer: str) -> AuthEngine:
    """An engine that uses the login of the home, wherever it is."""
    store = VaultStore(Home(Path(home), StoreMode.FILE).vault)
    return AuthEngine(store, HttpTokenAuthority(issuer, "client"), settings=RefreshSettings(rechecks=(0.0,)))


async def refresher(home: str, issuer: str, goes_on: GoesOn, tell: Tell) -> None:
    """Refresh all the time, as a window whose backend refuses every token. Follow who is signed in."""
    async with engine_at(home, issuer) as engine:
        while goes_on():
            await engine.follow()
            try:
                if engine.session.credentials is None:
                    tell("signed out")
                    await asyncio.sleep(0.001)
                    continue
                await engine.recover(Authorization.of(engine.session))
                tell("refreshed")
            except (AuthError, ConfigError) as error:
                tell(type(error).__name__)


async def mover(home: str, issuer: str, goes_on: GoesOn, tell: Tell) -> None:
    """Adopt and release all the time."""
    while goes_on():
        for step in ("adopt", "release"):
            adoption = Home(Path(home), StoreMode.FILE).adoption
            try:
                moved = await (adoption.adopt() if step == "adopt" else adoption.release())
                tell(f"{step}: {'moved' if moved else 'nothing to do'}")
            except (NotSignedIn, StoreBusy, StoreUnreadable) as error:  # unreadable: codex is in the middle of a write
                tell(f"{step}: {type(error).__name__}")


def codex(issuer: LoopbackIssuer, seed: int) -> Callable[[str, str, GoesOn, Tell], Coroutine[Any, Any, None]]:
    """A program that signs in and out without a lock, writing in place."""

    async def work(home: str, url: str, goes_on: GoesOn, tell: Tell) -> None:
        rng, path = random.Random(seed), Path(home, "auth.json")
        while goes_on():
            await asyncio.sleep(rng.uniform(0.0, 0.2))
            what = rng.choice(("the same person", "the same person", "somebody else", "sign out"))
            if what == "sign out":
                path.unlink(missing_ok=True)
            else:
                who = {} if what == "the same person" else {"email": COLLEAGUE["email"], "account_id": "org-2"}
                tokens = issuer.seed(**who)
                names = ("id_token", "access_token", "refresh_token", "account_id")
                members = {name: tokens[name] for name in names}
                text = json.dumps({"auth_mode": "chatgpt", "tokens": members, "last_refresh": "2026-01-01T00:00:00Z"})
                path.write_text(text)
                path.chmod(0o600)
            tell(f"codex: {what}")

    return work


def run(seconds: float, *, with_codex: bool, seed: int) -> Json:
    """Run all processes. Returns the report."""
    told: Counter[str] = Counter()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # no waits for a disk: more happens at once
    with tempfile.TemporaryDirectory(dir=memory) as home, LoopbackIssuer() as issuer:
        asyncio.run(sign_in(home, issuer.seed()))
        workers: list[Any] = [refresher] * REFRESHERS + [mover] * 2
        if with_codex:
            workers.append(codex(issuer, seed))
        reader, writer = os.pipe()
        until = time.monotonic() + seconds
        has_enough = mmap.mmap(-1, 1)  # the processes share it
        has_enough[0] = with_codex

        def goes_on() -> bool:
            over = time.monotonic() - until
            return over < (0.0 if has_enough[0] else LONGEST_EXTENSION)

        def tell(text: str) -> None:
            os.write(writer, f"{text}\n".encode())

        def start(work: Any) -> int:
            def child() -> Coroutine[Any, Any, None]:
                signal.alarm(int(seconds + LONGEST_EXTENSION) + 60)
                done: Coroutine[Any, Any, None] = work(home, issuer.url, goes_on, tell)
                return done

            return fork(child)

        children = [start(work) for work in workers]
        os.close(writer)
        with os.fdopen(reader) as lines:
            for line in lines:
                told[line.strip()] += 1
                has_enough[0] |= all(told[what] for what in WANTED)
        statuses = sorted({exit_status_of(child) for child in children})
        stats = issuer.stats()
        sent = Counter(stats["refresh_tokens_sent"])
        return {
            "told": dict(told.most_common()),
            "refreshes_accepted": stats["refreshes_accepted"],
            "refreshes_refused": stats["refreshes_refused"],
            "tokens_sent_twice": sum(times > 1 for times in sent.values()),
            "statuses": statuses,
            "last_login": asyncio.run(last_login(home, issuer)),
            "accounts": len(Home(Path(home), StoreMode.FILE).vault.accounts().entries),
        }


async def last_login(home: str, issuer: LoopbackIssuer) -> str:
    """What is left: a login that works, or nobody's. Adopts and releases it once more first."""
    place = Home(Path(home), StoreMode.FILE)
    if await place.vault.home_account.load() is None:
        return "nobody"
    await place.adoption.adopt()
    await place.adoption.release()
    if place.active() or not isinstance(await place.stands_there(), ChatgptTokens):
        return "not released"
    async with engine_at(home, issuer.url) as engine:
        try:
            await engine.refresh()
        except PermanentRefreshError as dead:
            return f"dead: {dead}"
    return "works"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--codex", action="store_true")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    json.dump(run(options.seconds, with_codex=options.codex, seed=options.seed), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
