"""The disk: what processes see, what a power cut keeps, and the lock that dies with its holder.

A file has content that is visible and content that is synced. Renames and removals are visible at once, and kept from a
power cut only after the folder was synced; of those that were not, a power cut keeps the first few, in order. Content
that was not synced comes back as the old one, as a part of the new one, or as the new one.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from model.simulation.scheduler import Runner

from authstate.adapters.stores.disk import TEMPORARY, Disk
from authstate.adapters.stores.permissions import Finding
from authstate.engine.machines.refresh_claim import RefreshClaim

T = TypeVar("T")

HOME = "/simulated"
FILE = "auth.json"
CLAIMS = ".authstate.claims"


def claims_in(data: bytes) -> list[RefreshClaim]:
    """What a file of claims holds."""
    return msgspec.json.decode(data, type=list[RefreshClaim]) if data else []


class File:
    """One file's content."""

    __slots__ = ("allocated", "data", "synced")

    def __init__(self) -> None:
        self.data = b""
        self.synced = b""
        self.allocated = 0


class Linked(NamedTuple):
    """A name was given to a file."""

    name: str
    file: File

    def __call__(self, files: dict[str, File]) -> None:
        files[self.name] = self.file


class Renamed(NamedTuple):
    """A file took another's place."""

    old: str
    new: str
    file: File

    def __call__(self, files: dict[str, File]) -> None:
        files.pop(self.old, None)
        files[self.new] = self.file


class Removed(NamedTuple):
    """A name is gone."""

    name: str

    def __call__(self, files: dict[str, File]) -> None:
        files.pop(self.name, None)


Change = Linked | Renamed | Removed


class Watcher(Protocol):
    """Who is told of what happens to auth.json."""

    def changed(self, runner: Runner, before: bytes | None, after: bytes | None) -> None:
        """Its visible content changed."""

    def confirmed(self, durable: bytes | None) -> None:
        """The folder was synced: a power cut would keep this."""

    def claimed(self, runner: Runner, before: bytes, after: bytes) -> None:
        """What is known of refresh tokens that were sent changed."""


class VirtualDisk:
    """One folder that all processes share."""

    def __init__(self, watcher: Watcher) -> None:
        self.files: dict[str, File] = {}
        self.note = b""
        """What is noted in the lock file."""
        self.claims = b""
        """The file of the claims. It is published in the steps of auth.json, so here it changes in one."""
        self.is_full = False
        self.lock_works = True
        """Turned off by the mutant without a lock."""
        self.holder: Runner | None = None
        self._durable: dict[str, File] = {}
        self.pending: list[Change] = []
        """What changed in the folder since it was synced."""
        self._watcher = watcher

    def content(self) -> bytes | None:
        """What a reader of auth.json finds now."""
        found = self.files.get(FILE)
        return None if found is None else found.data

    def publish(self, runner: Runner, data: bytes) -> None:
        """Change the claims, for good."""
        before, self.claims = self.claims, data
        self._watcher.claimed(runner, before, data)

    def put(self, data: bytes, note: bytes) -> None:
        """What was stored, and noted in the lock file, before the history began."""
        self.note = note
        made = File()
        made.data = made.synced = data
        self.files[FILE] = self._durable[FILE] = made

    def temporary(self) -> list[str]:
        """Names of temporary files."""
        return [name for name in self.files if name.endswith(TEMPORARY)]

    def change(self, runner: Runner, what: Change) -> None:
        """Do something to the folder; durable only after `sync_folder`."""
        before = self.content()
        what(self.files)
        self.pending.append(what)
        after = self.content()
        if after is not before:
            self._watcher.changed(runner, before, after)

    def rewrite(self, runner: Runner, found: File, data: bytes) -> None:
        """Change a file's visible content."""
        is_it = self.files.get(FILE) is found
        before, found.data = found.data, data
        if is_it:
            self._watcher.changed(runner, before, data)

    def sync_folder(self) -> None:
        """Make renames and removals durable."""
        for what in self.pending:
            what(self._durable)
        self.pending.clear()
        found = self._durable.get(FILE)
        self._watcher.confirmed(None if found is None else found.synced)

    def cut_power(self, kept: int, left_of: Callable[[File], bytes]) -> None:
        """Keep what was synced, the first `kept` of the changes that were not, and of other content what is left."""
        for what in self.pending[:kept]:
            what(self._durable)
        self.pending.clear()
        self.files = dict(self._durable)
        for found in self.files.values():
            if found.data != found.synced:
                found.data = found.synced = left_of(found)
        self.holder = None

    def has_unsynced_content(self) -> bool:
        """Whether a power cut may change what a file holds."""
        named = [*self.files.values(), *self._durable.values()]
        return any(found.data != found.synced for found in named)

    def snapshot(self) -> tuple[object, ...]:
        """All of it as one value: equal values are equal disks."""
        numbers: dict[File, int] = {}

        def number(found: File) -> int:
            return numbers.setdefault(found, len(numbers))

        names = [[(name, number(found)) for name, found in way.items()] for way in (self.files, self._durable)]
        pending = [(type(what), *(number(x) if isinstance(x, File) else x for x in what)) for what in self.pending]
        content = [(found.data, found.synced, found.allocated) for found in numbers]
        holder = self.holder.name if self.holder else None
        known = tuple((claim.fingerprint, claim.state) for claim in claims_in(self.claims))  # the rest is for people
        return (*map(tuple, names), tuple(pending), tuple(content), self.note, known, self.is_full, holder)

    def died(self, runner: Runner) -> None:
        """The operating system gives back what a dead process held."""
        if self.holder is runner:
            self.holder = None


class SimDisk(Disk):
    """One process's way to the platter. Each method is a step before which everything can happen."""

    def __init__(self, virtual_disk: VirtualDisk, runner: Runner) -> None:
        self._platter = virtual_disk
        self._runner = runner
        self._marks = 0

    def begin(self, steps: Callable[[], T]) -> "asyncio.Future[T]":
        """Let the process do other things before the steps and after them, as if a thread did them."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = steps()
            except Exception as error:
                begun.set_exception(error)
            else:
                begun.set_result(result)

        loop.call_soon(run)
        return begun

    def read(self, path: str, limit: int) -> bytes:
        if path.endswith(CLAIMS):  # it changes only under the lock, so nothing can come in between
            if not self._platter.claims:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return self._platter.claims
        self._runner.pause("read")
        return self._found(path).data[:limit]

    def create(self, path: str) -> None:
        self._runner.pause("create")
        name = os.path.basename(path)
        if name in self._platter.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        made = File()
        self._platter.change(self._runner, Linked(name, made))

    def write(self, path: str, data: bytes) -> None:
        self._runner.pause("write")
        found = self._found(path)
        if self._platter.is_full and len(data) > found.allocated:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        found.allocated = max(found.allocated, len(data))
        self._platter.rewrite(self._runner, found, data[: len(data) // 2] + found.data[len(data) // 2 :])
        self._runner.pause("write_rest")
        self._platter.rewrite(self._runner, found, data)

    def sync(self, path: str) -> None:
        self._runner.pause("sync")
        found = self._found(path)
        found.synced = found.data

    def rename(self, source: str, target: str) -> None:
        self._runner.pause("rename")
        self._found(source)
        old, new = os.path.basename(source), os.path.basename(target)
        self._platter.change(self._runner, Renamed(old, new, self._platter.files[old]))

    def sync_folder(self, folder: str) -> None:
        self._runner.pause("sync_folder")
        self._platter.sync_folder()

    def publish(self, path: str, data: bytes, temporary: str) -> None:
        self._runner.pause("publish")
        if self._platter.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        self._platter.publish(self._runner, data)

    def remove(self, path: str) -> None:
        self._runner.pause("remove")
        self._found(path)
        self._platter.change(self._runner, Removed(os.path.basename(path)))

    def list_folder(self, folder: str) -> list[str]:
        self._runner.pause("list_folder")
        return list(self._platter.files)

    def make_folder(self, path: str) -> None:
        """It is there."""

    def resolve(self, path: str) -> str:
        return path

    def unique_name(self) -> str:
        self._marks += 1
        return f"{self.process_id()}.{self._marks}"

    def process_id(self) -> str:
        return self._runner.name[1:]

    def changed_at(self, path: str) -> float:
        return 0.0

    def revision(self, path: str) -> tuple[int, ...] | None:
        """Nobody removes the lock file, whose stamp alone is asked for."""
        return ()

    def read_lock_file(self, path: str, limit: int) -> bytes:
        self._runner.pause("read_lock_file")
        return self._platter.note

    def write_lock_file(self, path: str, data: bytes) -> None:
        self._runner.pause("write_lock_file")
        self._platter.note = data

    def check_replaceable(self, target: str) -> None:
        """A rename always replaces it."""

    def is_not_replaceable(self, target: str) -> bool:
        return False

    def is_of_another_user(self, path: str) -> bool:
        return False

    def reason_to_refuse(self, path: str) -> None:
        """All processes are one user's."""

    def share_with_group(self, path: str) -> None:
        """All processes are one user's."""

    def findings(self, path: str) -> list[Finding]:
        return []

    def exists(self, path: str) -> bool:
        return os.path.basename(path) in self._platter.files

    def copy_ownership(self, path: str, target: str) -> bool:
        return True

    def lock_content(self, path: str) -> None:
        """The lock file is enough: all processes share the folder."""

    def lock(self, path: str) -> "SimLock":
        return SimLock(self._platter, self._runner)

    def _found(self, path: str) -> File:
        found = self._platter.files.get(os.path.basename(path))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found


class SimLock:
    """The lock file as the operating system keeps it."""

    has_lasting_file = True

    def __init__(self, virtual_disk: VirtualDisk, runner: Runner) -> None:
        self._platter = virtual_disk
        self._runner = runner

    def acquire(self) -> bool:
        self._runner.pause("lock")
        if self._platter.holder is not None and self._platter.lock_works:
            return False
        self._platter.holder = self._runner
        return True

    def release(self) -> None:
        self._runner.pause("unlock")
        self._platter.died(self._runner)
