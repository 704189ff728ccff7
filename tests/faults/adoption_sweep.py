"""Kills a process (SIGKILL) at every step of an adoption and of a release, and checks what the next process finds.

    python -m faults.adoption_sweep --kills 200

First, a victim is killed just before each operation of the disk and of the keyring, and in the middle of each write.
Then, victims that adopt and release all the time are killed at random moments. After each kill:

- the login is there, and in use in one place: both kinds of look agree
- what was known of its refresh token is still known
- an adoption and a release, each on a copy of the home, leave the refresh token in one place, and no temporary
  file that may hold it
- the home holds a lease that works, or its login and no lease that works

Prints a report as one JSON object.
"""

import argparse
import asyncio
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import keyring
from faults.forked_processes import exit_status_of, fork
from support.adopted_home import Home
from support.fake_keyring import FakeKeyring

from authstate.adapters.config.home import ConfigError
from authstate.adapters.config.settings import StoreMode
from authstate.adapters.stores.disk import Disk
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError
from authstate.engine.model.lease_handle import is_lease
from authstate.testing import make_tokens

Json = dict[str, Any]
STEPS = (
    *("create", "write", "sync", "rename", "sync_folder", "remove", "overwrite", "reserve_space", "release_space"),
    *("make_folder", "write_lock_file", "lock"),
)
"""The operations of a disk that change something."""
KEYRING_STEPS = ("set_password", "delete_password")
LONGEST_LIFE = 120
"""Seconds after which a process that hangs is ended by SIGALRM."""
LONGEST_SEARCH = 60.0
"""Seconds after which a sweep gives up to meet a victim in the middle of its steps."""


class EntriesInAFile(MutableMapping[tuple[str, str], str]):
    """The entries of a keyring that outlives its process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self) -> dict[str, str]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def _write(self, entries: dict[str, str]) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(entries))
        beside.rename(self._path)

    def __getitem__(self, key: tuple[str, str]) -> str:
        return self._read()["\n".join(key)]

    def __setitem__(self, key: tuple[str, str], value: str) -> None:
        self._write(self._read() | {"\n".join(key): value})

    def __delitem__(self, key: tuple[str, str]) -> None:
        entries = self._read()
        del entries["\n".join(key)]
        self._write(entries)

    def __iter__(self) -> Any:
        return iter(tuple(name.split("\n")) for name in self._read())

    def __len__(self) -> int:
        return len(self._read())


def use_keyring(folder: Path) -> None:
    """Use the keyring whose entries are in a folder."""
    backend = FakeKeyring()
    backend.entries = EntriesInAFile(folder / "keyring.json")  # type: ignore[assignment]
    keyring.set_keyring(backend)


def kill_before(number: int, report: Callable[[int], None] = lambda count: None) -> None:
    """Kill this process before its operation with this number, counted from 1. Each write counts twice: a kill at the
    second count comes after half of the data.

    Args:
        number: of the operation; 0 for none.
        report: called with the count of operations so far.
    """
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        report(count)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(original: Callable[..., Any], halves: bool) -> Callable[..., Any]:
        def call(owner: Any, *arguments: Any) -> Any:
            step()
            if halves and number == count + 1:
                path, data = arguments
                original(owner, path, data[: len(data) // 2])
            if halves:
                step()
            return original(owner, *arguments)

        return call

    for owner, names in ((Disk, STEPS), (FakeKeyring, KEYRING_STEPS)):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name), name == "write"))


class Place:
    """A folder with a home and a keyring, for one kind of store."""

    def __init__(self, folder: Path, mode: StoreMode, faults: list[str]) -> None:
        self.folder = folder
        self.mode = mode
        self.faults = faults

    def home(self) -> Home:
        """What a new process sees. Uses the keyring of this place."""
        use_keyring(self.folder)
        return Home(self.folder / "home", self.mode)

    def copy(self, folder: Path) -> "Place":
        """Return a copy. Restore it to use it: the entry of a keyring has a name that is made of the path."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        return Place(folder, self.mode, self.faults)

    def restore(self, copy: Path) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)

    def places_of(self, secret: str) -> list[str]:
        """The files and entries that contain a text."""
        found = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
        return [
            name
            for name in found
            if secret.encode() in (self.folder / name).read_bytes() and not name.startswith("keyring.")
        ] + [str(key) for key, text in EntriesInAFile(self.folder / "keyring.json").items() if secret in text]

    def begin(self, tokens: ChatgptTokens, *, adopted: bool) -> None:
        """Sign in, with a doubt about the refresh token, and adopt the login if wished."""

        async def sign_in() -> None:
            home = self.home()
            await home.sign_in(tokens)
            async with home.vault.home_account.home.locked() as held:
                await held.record(
                    RefreshClaim(fingerprint_of(tokens.refresh_token), RefreshClaimState.DOUBTFUL, 1.0, sends=1)
                )
            if adopted:
                await home.adoption.adopt()

        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        asyncio.run(sign_in())

    def check(self, tokens: ChatgptTokens, after: str) -> None:
        """Check that the login is there and in use in one place, and that what was known of it still is."""
        for fault in asyncio.run(self._faults(tokens)):
            self.faults.append(f"{self.mode.value}, {after}: {fault}")

    async def _faults(self, tokens: ChatgptTokens) -> list[str]:
        store = self.home().vault.home_account
        found = []
        if (loaded := await store.load()) != tokens:
            found.append(f"the login is not there: {type(loaded).__name__}")
        async with store.locked() as held:
            if await held.load() != tokens:
                found.append("under the lock, another login counts")
        claim = await store.claim_on(fingerprint_of(tokens.refresh_token))
        if claim is None or not claim.is_in_doubt:
            found.append("the doubt about the refresh token is lost")
        return found

    def check_follow_up(self, tokens: ChatgptTokens, what: str, after: str) -> None:
        """Adopt or release, and check that this is complete."""

        async def follow_up() -> list[str]:
            home = self.home()
            try:
                await (home.adoption.adopt() if what == "adopt" else home.adoption.release())
            except (AuthError, ConfigError) as error:
                return [f"{type(error).__name__}: {error}"]
            found = await self._faults(tokens)
            places = self.places_of(tokens.refresh_token.reveal())
            if len(places) != 1:
                found.append(f"the refresh token is in {places}")
            stands = await home.stands_there()
            active = home.active()
            if what == "adopt":
                if not (isinstance(stands, ChatgptTokens) and is_lease(stands.refresh_token)):
                    found.append("no lease is in the home")
                elif active != [(await home.handle()).digest]:
                    found.append(f"{len(active)} leases of the home work")
            elif stands != tokens or active:
                found.append(f"the home has not its login, or {len(active)} leases work")
            left = [path.name for path in self.folder.rglob("auth.json*.tmp")]  # others hold no secret
            return found + [f"left: {left}"] * bool(left)

        for fault in asyncio.run(follow_up()):
            self.faults.append(f"{self.mode.value}, {after}, then {what}: {fault}")


async def do(home: Home, what: str) -> None:
    """Adopt or release, as a victim."""
    signal.alarm(LONGEST_LIFE)
    await (home.adoption.adopt() if what == "adopt" else home.adoption.release())


def sweep(folder: Path, mode: StoreMode, what: str, faults: list[str]) -> int:
    """Kill a victim at each of its steps. Returns how many there are."""
    tokens = make_tokens(expires_in=-60)
    place, number = Place(folder / "place", mode, faults), 0
    place.begin(tokens, adopted=what == "release")
    place.copy(folder / "before")
    while True:
        number += 1
        place.restore(folder / "before")
        home = place.home()

        def victim(number: int = number, home: Home = home) -> Any:
            kill_before(number)
            return do(home, what)

        status = exit_status_of(fork(victim))
        if status == 0:
            return number - 1
        if status != -signal.SIGKILL:
            faults.append(f"{mode.value}: a victim ended with {status}")
            return number
        after = f"{what} killed at step {number}"
        place.check(tokens, after)
        place.copy(folder / "after")
        for follow_up in ("adopt", "release"):
            place.restore(folder / "after")
            place.check_follow_up(tokens, follow_up, after)


async def back_and_forth(home: Home, wake: int) -> None:
    """Adopt and release until somebody kills this process. Tell when it begins."""
    signal.alarm(LONGEST_LIFE)
    os.write(wake, b".")
    while True:
        await home.adoption.adopt()
        await home.adoption.release()


def kill_at_random(folder: Path, mode: StoreMode, kills: int, rng: random.Random, faults: list[str]) -> Json:
    """Kill victims at random moments, all on one home. On a busy machine, where no kill met a victim in the middle of
    its steps, more are killed, and later.
    """
    tokens = make_tokens(expires_in=-60)
    place = Place(folder / "place", mode, faults)
    place.begin(tokens, adopted=False)
    found: Counter[str] = Counter()
    number, longest, deadline = 0, 0.08, time.monotonic() + LONGEST_SEARCH
    while number < kills or (len(found) < 2 and time.monotonic() < deadline):
        number += 1
        longest *= 1.0 if number <= kills else 1.2
        home = place.home()
        wake_reader, wake_writer = os.pipe()
        child = fork(lambda home=home, wake=wake_writer: back_and_forth(home, wake))  # type: ignore[misc]
        os.read(wake_reader, 1)
        select.select([], [], [], rng.uniform(0.0, longest))  # the victim runs meanwhile
        os.kill(child, signal.SIGKILL)
        if exit_status_of(child) != -signal.SIGKILL:
            faults.append(f"{mode.value}: a victim ended by itself")
        os.close(wake_reader)
        os.close(wake_writer)
        after = f"random kill {number}"
        found[f"the refresh token in {len(place.places_of(tokens.refresh_token.reveal()))} places"] += 1
        place.check(tokens, after)
        place.check_follow_up(tokens, rng.choice(("adopt", "release")), after)
    return dict(found)


def run(kills: int, seed: int) -> Json:
    """Run all sweeps. Returns the report."""
    began = time.monotonic()
    faults: list[str] = []
    steps: Json = {}
    at_random: Json = {}
    rng = random.Random(seed)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # a kill does not lose what was written
    with tempfile.TemporaryDirectory(dir=memory) as name:
        for mode in (StoreMode.FILE, StoreMode.KEYRING, StoreMode.AUTO):
            for what in ("adopt", "release"):
                steps[f"{mode.value} {what}"] = sweep(Path(name), mode, what, faults)
            share = kills if mode is StoreMode.FILE else kills // 4
            at_random[mode.value] = kill_at_random(Path(name), mode, share, rng, faults)
    seconds = round(time.monotonic() - began, 1)
    return {"steps": steps, "at_random": at_random, "faults": faults, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    json.dump(run(options.kills, options.seed), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
