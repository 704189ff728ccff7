"""What every scenario uses: a home with a login, an engine, mounts, changes of user, and the result of a call."""

import asyncio
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
from support.prompt_disk import without_threads

from authstate import AuthEngine, ChatgptTokens, RefreshSettings
from authstate.adapters.journal.lines import Line, Redaction
from authstate.adapters.journal.recorder import LineMaker
from authstate.adapters.report.explanation import explain
from authstate.adapters.report.names import Names
from authstate.adapters.stores.auth_json_format import decode, encode, is_json_object
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.errors import AuthError
from authstate.engine.model.events import Event, Warned
from authstate.engine.ports import Clock, TokenAuthority
from authstate.testing import FakeAuthority, make_tokens

NOBODY = 65534
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
QUICK = RefreshSettings(first_wait=0.0, rechecks=(0.0,), save_waits=(0.0,))


class ScenarioResult(NamedTuple):
    """What a scenario led to. It is compared with the `Fault` of the same name."""

    state: str
    """The state of the session after the call."""
    message: str
    """The error of the call, or its warning; empty if there was neither."""
    disk: str
    """What auth.json holds, in the words of the catalogue."""
    sent: int
    """How often a refresh token was sent."""
    works_again: bool
    """Whether the same call worked once the fault was over. False if the scenario does not try."""


class ScenarioRun:
    """The home of one scenario. It belongs to an ordinary user; root becomes that user with `as_user`.

    Close `stack` to undo the mounts and to delete the home.

    Attributes:
        tokens: the login that `sign_in` stores. Its access token has expired.
        issuer: accepts the refresh token of that login.
        disk: the disk of the stores, if it is not the real one.
        events: what the engine of `engine` told its subscribers.
    """

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(without_threads())  # the clock stands still while a step runs
        folder = Path(tempfile.mkdtemp(prefix="authstate-fault-"))
        self.stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        self.disk: Disk | None = None
        self.tokens = make_tokens(expires_in=-60.0)
        self.issuer = FakeAuthority(self.tokens)
        self.events: list[Event] = []
        self._journal: list[Callable[[], Line]] = []
        for place in (folder, self.home):
            if IS_ROOT:
                self.change_owner(place, NOBODY)

    @property
    def file(self) -> Path:
        return self.home / "auth.json"

    def change_owner(self, path: Path, user: int) -> None:
        """Give a file to another user, as root."""
        with as_root():
            os.chown(path, user, user)

    @contextmanager
    def as_user(self) -> Iterator[None]:
        """Become an ordinary user for the block, because file modes do not restrict root. Not root: change nothing."""
        if not IS_ROOT:
            yield
            return
        # Import now what is otherwise imported late: this user may be unable to read the installed files.
        for name in ("filelock", "tenacity"):
            import_module(name)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    def mount_home(self, kilobytes: int) -> bool:
        """Mount a small file system at the home. Returns False if this process is not allowed to mount."""
        options = f"size={kilobytes}k,mode=0700"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.home)], capture_output=True)
        if mounted.returncode == 0:
            self.stack.callback(subprocess.run, ["umount", str(self.home)], check=True)
        return mounted.returncode == 0

    def mount_file(self, *options: str) -> bool:
        """Mount auth.json on itself, so that it is a mount point.

        Args:
            options: of the mount, for example "ro".

        Returns:
            False if this process is not allowed to mount.
        """
        command = ["mount", "--bind", str(self.file), str(self.file)]
        with as_root():
            mounted = subprocess.run(command, capture_output=True).returncode == 0
            if mounted:
                self.stack.callback(self.unmount_file)
                for option in options:
                    subprocess.run(["mount", "-o", f"remount,bind,{option}", str(self.file)], check=True)
        return mounted

    def mount_home_read_only(self) -> bool:
        """Make the home read-only, except for an auth.json that is mounted. Returns False if mounts are not allowed."""
        home = str(self.home)
        with as_root():
            mounted = subprocess.run(["mount", "--rbind", home, home], capture_output=True).returncode == 0
            if mounted:
                self.stack.callback(subprocess.run, ["umount", "--recursive", home], check=True)
                subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
        return mounted

    def unmount_file(self) -> None:
        """Unmount auth.json. Do nothing if it is not mounted."""
        with as_root():
            subprocess.run(["umount", str(self.file)], capture_output=True)

    def store(self, clock: Clock | None = None) -> AuthJsonStore:
        return AuthJsonStore(self.home, disk=self.disk, clock=clock)

    async def sign_in(self, tokens: ChatgptTokens | None = None) -> None:
        """Store a login, under the lock. The default is `self.tokens`."""
        async with self.store().locked() as held:
            await held.save(tokens or self.tokens)

    def codex_writes(self, tokens: ChatgptTokens) -> None:
        """Write auth.json as codex does: in place and without the lock."""
        self.file.write_bytes(encode(tokens, None))

    @asynccontextmanager
    async def engine(
        self,
        authority: TokenAuthority | None = None,
        clock: Clock | None = None,
        settings: RefreshSettings = QUICK,
        random: Random | None = None,
    ) -> AsyncIterator[AuthEngine]:
        """Run an engine on the stored login. `clock` is also the clock of its store."""
        made = AuthEngine(self.store(clock), authority or self.issuer, clock=clock, settings=settings, random=random)
        self._record(made)
        async with made as engine:
            self.events = []
            engine.subscribe(self.events.append)
            yield engine

    def _record(self, engine: AuthEngine) -> None:
        """Keep the lines that the journal of an engine would get."""
        lines = LineMaker(Redaction(str(self.home)))
        self._journal.append(lines.opened({"program": "program"}))
        engine.subscribe(lambda event: self._journal.append(lines.line_of(event)))
        engine.subscribe_trace(lambda step: self._journal.append(lines.line_of(step)))

    def lines(self) -> list[Line]:
        """The journal of all engines so far."""
        return [line() for line in self._journal]

    def reported(self) -> str:
        """What `authstate report` says in words, without the variable parts."""
        lines = self.lines()
        told = " ".join(explain(lines, Names(lines)))
        return re.sub(r" \(program(, engine \d+)?\)", "", self._without_variable_parts(told))

    async def result_of(
        self,
        engine: AuthEngine,
        call: Callable[[], Awaitable[object]],
        *,
        sent: Callable[[], int] | None = None,
        repair: Callable[[], object] | None = None,
        disk: Callable[[], str] | None = None,
        stored: bytes | None = None,
    ) -> ScenarioResult:
        """Make a call while the fault lasts and describe what it leads to.

        Args:
            engine: the engine that the call uses.
            call: what the user's program does. It may raise an AuthError.
            sent: returns how many refresh tokens were sent. The default counts those that `self.issuer` got.
            repair: ends the fault. After it, the call is made again, and must not raise.
            disk: returns what auth.json holds. The default compares it with its content before the call.
            stored: its content before the call, where the fault hides it from an ordinary user.
        """
        before = stored or self.content()
        message = ""
        try:
            await call()
        except AuthError as error:
            message = str(error)
        else:
            message = next((event.message for event in self.events if isinstance(event, Warned)), "")
        state, count = str(engine.session.state), (sent or (lambda: len(self.issuer.sent)))()
        found = disk() if disk is not None else ""
        if repair is not None:
            repair()
        found = found or self._compare_file(before, engine)
        works_again = False
        if repair is not None:
            await call()
            works_again = self.content() == content_for(engine)
        return ScenarioResult(state, self._without_variable_parts(message), found, count, works_again)

    async def result_in_place(self, engine: AuthEngine) -> ScenarioResult:
        """Refresh, and check that auth.json was written in place: it is the same inode."""
        before = self.file.stat().st_ino
        result = await self.result_of(engine, engine.refresh)
        return result._replace(disk=checked(f"{result.disk}, written in place", self.file.stat().st_ino == before))

    async def refresh_with_change(self, engine: AuthEngine, change: Callable[[], object]) -> None:
        """Refresh, and call `change` after the issuer got the refresh token and before it answers."""
        self.issuer.hold()
        refresh = asyncio.ensure_future(engine.refresh())
        await self.issuer.asked()
        change()
        self.issuer.release()
        await refresh

    def content(self) -> bytes | None:
        """The content of auth.json, read as root. None if the file cannot be read."""
        with as_root(), suppress(OSError):
            return self.file.read_bytes()
        return None

    def stored_refresh_token(self) -> str:
        """The refresh token in auth.json."""
        found = decode(self.content() or b"", "").credentials
        assert isinstance(found, ChatgptTokens)
        return found.refresh_token.reveal()

    def describe_if_stored(self, tokens: ChatgptTokens, text: str) -> str:
        """`text` if auth.json holds exactly these tokens, otherwise that it does not."""
        return checked(text, self.content() == encode(tokens, None))

    def _compare_file(self, before: bytes | None, engine: AuthEngine) -> str:
        """Say what auth.json holds now, in the words of the catalogue. No temporary file may be left."""
        left = [name for name in os.listdir(self.home) if name.endswith(".tmp")]
        if left:
            return f"left behind: {left}"
        now = self.content()
        if now == before:
            return AS_BEFORE
        return NEW if now is not None and is_json_object(now) and now == content_for(engine) else "something else"

    def _without_variable_parts(self, text: str) -> str:
        """Replace the home, times, process ids and ports in a message by the placeholders of the catalogue."""
        text = text.replace(str(self.home), "HOME")
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", text)
        text = re.sub(r"\[Errno -\d\] [\w ]+", "[Errno -2] Name or service not known", text)  # as resolvers differ
        return re.sub(r"\bprocess \d+", "process N", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:N", text))


def checked(text: str, is_true: bool) -> str:
    """`text` if it is true; otherwise a text that no fault in the catalogue has, so that the test fails."""
    return text if is_true else f"not so: {text}"


def login_files(folder: Path) -> list[str]:
    """The names of the files in a folder, without those that authstate keeps beside a login."""
    return sorted(name for name in os.listdir(folder) if ".authstate." not in name)


def content_for(engine: AuthEngine) -> bytes:
    """The content that auth.json must have for the credentials of the engine."""
    assert isinstance(engine.session.credentials, ChatgptTokens)
    return encode(engine.session.credentials, None)


@contextmanager
def as_root() -> Iterator[None]:
    """Become root again inside `as_user`. If the process does not run as root, change nothing."""
    user = os.geteuid()
    if IS_ROOT:
        os.seteuid(0)
    try:
        yield
    finally:
        if IS_ROOT:
            os.seteuid(user)
