"""What the scenarios work with: a home that an ordinary user owns, a login in it, an engine, and the real faults."""

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from random import Random
from typing import NamedTuple

from faults.catalogue import AS_BEFORE, NEW

from authstate.adapters.stores.codec import encode, is_json_object
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file import AuthJsonStore
from authstate.adapters.stores.os_locks import DiskLock
from authstate.adapters.testing import FakeAuthority, make_tokens
from authstate.engine import AuthEngine, ChatgptTokens, RefreshSettings
from authstate.engine.model.errors import AuthError
from authstate.engine.model.events import Event, Warned
from authstate.engine.ports import Clock, TokenAuthority

NOBODY = 65534
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
QUICK = RefreshSettings(first_wait=0.0, rechecks=(0.0,), save_waits=(0.0,))


class Outcome(NamedTuple):
    """What a scenario left."""

    state: str
    reads: str
    disk: str
    sent: int
    works_again: bool
    """Once the fault was over, the same call worked."""


class ScenarioRun:
    """One scenario's home and its cleaning up. The home belongs to an ordinary user, whom root becomes with `as_user`.

    The login in it is `tokens`; `issuer` knows it.
    """

    def __init__(self) -> None:
        self.stack = ExitStack()
        folder = Path(tempfile.mkdtemp(prefix="authstate-fault-"))
        self.stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        self.disk: Disk | None = None
        self.tokens = make_tokens(expires_in=-60.0)
        self.issuer = FakeAuthority(self.tokens)
        for place in (folder, self.home):
            if IS_ROOT:
                self.give(place, NOBODY)

    @property
    def file(self) -> Path:
        return self.home / "auth.json"

    def give(self, path: Path, user: int) -> None:
        """Change the owner of a file, as root."""
        with as_root():
            os.chown(path, user, user)

    @contextmanager
    def as_user(self) -> Iterator[None]:
        """Be a user whom the modes mean: root may do everything whatever they say."""
        if not IS_ROOT:
            yield
            return
        # What is imported late is imported now: that user may not read where it is installed.
        for name in ("filelock", "tenacity"):
            import_module(name)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    def mount(self, kilobytes: int) -> bool:
        """Put a small file system of its own in the place of the home; False where this process may not."""
        options = f"size={kilobytes}k,mode=0700"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.home)], capture_output=True)
        if mounted.returncode == 0:
            self.stack.callback(subprocess.run, ["umount", str(self.home)], check=True)
        return mounted.returncode == 0

    def mount_file(self, *options: str) -> bool:
        """Mount auth.json by itself, in its place; False where this process may not."""
        command = ["mount", "--bind", str(self.file), str(self.file)]
        with as_root():
            mounted = subprocess.run(command, capture_output=True).returncode == 0
            if mounted:
                self.stack.callback(self.unmount_file)
                for option in options:
                    subprocess.run(["mount", "-o", f"remount,bind,{option}", str(self.file)], check=True)
        return mounted

    def mount_home_read_only(self) -> bool:
        """Make the home read-only, but for auth.json, which is mounted already; False where this process may not."""
        home = str(self.home)
        with as_root():
            mounted = subprocess.run(["mount", "--rbind", home, home], capture_output=True).returncode == 0
            if mounted:
                self.stack.callback(subprocess.run, ["umount", "--recursive", home], check=True)
                subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
        return mounted

    def unmount_file(self) -> None:
        """Take the mount away, if it is there."""
        with as_root():
            subprocess.run(["umount", str(self.file)], capture_output=True)

    def store(self, clock: Clock | None = None) -> AuthJsonStore:
        return AuthJsonStore(self.home, disk=self.disk, clock=clock)

    async def sign_in(self, tokens: ChatgptTokens | None = None) -> None:
        """Store the login, under the lock."""
        async with self.store().locked() as held:
            await held.save(tokens or self.tokens)

    def codex_writes(self, tokens: ChatgptTokens) -> None:
        """In place, and without the lock."""
        self.file.write_bytes(encode(tokens, None))

    @asynccontextmanager
    async def engine(
        self,
        authority: TokenAuthority | None = None,
        clock: Clock | None = None,
        settings: RefreshSettings = QUICK,
        random: Random | None = None,
    ) -> AsyncIterator[AuthEngine]:
        """An engine that has the login, on a store with the given clock."""
        made = AuthEngine(self.store(clock), authority or self.issuer, clock=clock, settings=settings, random=random)
        async with made as engine:
            self.heard: list[Event] = []
            engine.subscribe(self.heard.append)
            yield engine

    async def outcome(
        self,
        engine: AuthEngine,
        call: Callable[[], Awaitable[object]],
        *,
        sent: Callable[[], int] | None = None,
        heal: Callable[[], object] | None = None,
        disk: Callable[[], str] | None = None,
    ) -> Outcome:
        """Make the call, look at what is left, then end the fault and make the call once more."""
        before = self.content()
        reads = ""
        try:
            await call()
        except AuthError as error:
            reads = str(error)
        else:
            reads = next((event.message for event in self.heard if isinstance(event, Warned)), "")
        state, count = str(engine.session.state), (sent or (lambda: len(self.issuer.sent)))()
        found = disk() if disk is not None else ""
        if heal is not None:
            heal()
        found = found or self._verdict(before, engine)
        works_again = False
        if heal is not None:
            await call()
            works_again = self.content() == encode_of(engine)
        return Outcome(state, self._anonymous(reads), found, count, works_again)

    def content(self) -> bytes | None:
        """The file as root sees it; None where there is none."""
        with as_root(), suppress(OSError):
            return self.file.read_bytes()
        return None

    def _verdict(self, before: bytes | None, engine: AuthEngine) -> str:
        left = [name for name in os.listdir(self.home) if name.endswith(".tmp")]
        if left:
            return f"left behind: {left}"
        now = self.content()
        if now == before:
            return AS_BEFORE
        return NEW if now is not None and is_json_object(now) and now == encode_of(engine) else "something else"

    def _anonymous(self, text: str) -> str:
        text = text.replace(str(self.home), "HOME")
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", text)
        text = re.sub(r"\[Errno -\d\] [\w ]+", "[Errno -2] Name or service not known", text)  # as resolvers differ
        return re.sub(r"\bprocess \d+", "process N", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:N", text))


def encode_of(engine: AuthEngine) -> bytes:
    """What the file must hold for what the engine has."""
    assert isinstance(engine.session.credentials, ChatgptTokens)
    return encode(engine.session.credentials, None)


@contextmanager
def as_root() -> Iterator[None]:
    """Be root again inside of `as_user`; where this process never was root, nothing changes."""
    user = os.geteuid()
    if IS_ROOT:
        os.seteuid(0)
    try:
        yield
    finally:
        if IS_ROOT:
            os.seteuid(user)


class BrokenDisk(Disk):
    """Where a real full or read-only disk cannot be had: its error at the same steps."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_broken = False

    def _step(self) -> None:
        if self.is_broken:
            raise OSError(self.number, os.strerror(self.number))

    def write(self, path: str, data: bytes) -> None:
        self._step()
        super().write(path, data)


class ReadOnlyDisk(BrokenDisk):
    def lock(self, path: str) -> DiskLock:
        self._step()
        return super().lock(path)


class MountedDisk(Disk):
    """Where a file cannot really be mounted by itself: the errors of one that is."""

    def check_replaceable(self, target: str) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), target)

    def rename(self, source: str, target: str) -> None:
        if target.endswith("auth.json"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), target)
        super().rename(source, target)

    def remove(self, path: str) -> None:
        if path.endswith("auth.json"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        super().remove(path)
