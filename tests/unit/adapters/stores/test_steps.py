"""Claims, writes in place and the lock file, in each step by itself."""

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from authstate.adapters.stores import companion_files, home_lock, os_locks
from authstate.adapters.stores.codec import LARGEST
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.held_file import HeldAuthJson
from authstate.adapters.stores.home_lock import HomeLock, SaveRecord
from authstate.adapters.stores.in_place import InPlaceWriter, PendingWrite, pending_paths
from authstate.adapters.stores.os_locks import SOFT, ContentLock, FileLock
from authstate.adapters.stores.refresh_claims_file import RefreshClaimsFile
from authstate.adapters.testing import ManualClock
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState
from authstate.engine.model.errors import StoreUnavailable

pytestmark = pytest.mark.skipif(os.name == "nt", reason="locks and modes are those of Unix")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0
SPENT = RefreshClaim("ab" * 16, RefreshClaimState.SPENT, 5.0)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return tmp_path / "state" / "authstate"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    made = tmp_path / "home" / "auth.json"
    made.write_bytes(b'{"a": "old"}')
    return made


class Failing(Disk):
    """A disk on which the steps that are named fail for paths that end so."""

    def __init__(self, **failing: str) -> None:
        self.failing = failing

    def _fail(self, step: str, path: str) -> None:
        if path.endswith(self.failing.get(step, "\0")):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def read(self, path: str, limit: int) -> bytes:
        self._fail("read", path)
        return super().read(path, limit)

    def overwrite(self, path: str, data: bytes) -> None:
        self._fail("overwrite", path)
        super().overwrite(path, data)

    def remove(self, path: str) -> None:
        self._fail("remove", path)
        super().remove(path)

    def release_space(self, path: str, size: int) -> None:
        self._fail("release_space", path)
        super().release_space(path, size)

    def publish(self, path: str, data: bytes, temporary: str) -> None:
        self._fail("publish", path)
        super().publish(path, data, temporary)

    def is_not_replaceable(self, target: str) -> bool:
        return "fixed" in self.failing


# Claims


def test_claims_of_256_kib_are_read_and_longer_ones_count_as_none(file: Path) -> None:
    data = msgspec.json.encode([SPENT])
    claims = Path(f"{file}.authstate.claims")
    claims.write_bytes(b" " * (256 * 1024 - len(data)) + data)
    assert RefreshClaimsFile(str(file), Disk()).find(SPENT.fingerprint) == SPENT
    claims.write_bytes(b" " * (256 * 1024 - len(data) + 1) + data)
    assert RefreshClaimsFile(str(file), Disk()).find(SPENT.fingerprint) is None


def test_claims_that_cannot_be_understood_are_told_once_and_replaced(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    claims = RefreshClaimsFile(str(file), Disk())
    assert claims.find(SPENT.fingerprint) is None
    assert caplog.messages == [], "that there are none is no fault"
    Path(f"{file}.authstate.claims").write_text("half a fi")
    for _ in range(2):
        assert claims.find(SPENT.fingerprint) is None
    [message] = caplog.messages
    assert message.endswith("cannot be read, and counts as empty (DecodeError)")
    claims.record(SPENT)
    found = claims.find(SPENT.fingerprint)
    assert found == msgspec.structs.replace(SPENT, holder=f"process {os.getpid()}")


def test_a_claim_that_cannot_be_written_although_others_could_be_is_a_fault(file: Path, state: Path) -> None:
    claims = RefreshClaimsFile(str(file), Failing(publish=".claims"))
    with pytest.raises(StoreUnavailable, match=r"cannot write .*auth\.json\.authstate\.claims: input/output error"):
        claims.record(SPENT)
    assert not state.exists(), "only a folder that cannot be written sends them elsewhere"


def test_claims_elsewhere_win_and_are_forgotten_where_a_better_place_is_to_be_had(
    file: Path, state: Path, tmp_path: Path
) -> None:
    beside, first, second, *_ = (Path(place) for place in RefreshClaimsFile(str(file), Disk())._paths())
    assert first.parent == state
    for place in (first, second):
        place.parent.mkdir(parents=True, mode=0o700)
        place.write_bytes(msgspec.json.encode([SPENT]))
    fixed = Failing(fixed="", publish=beside.name)
    RefreshClaimsFile(str(file), fixed).record(RefreshClaim("cd" * 16, RefreshClaimState.DEAD))
    assert (beside.exists(), first.exists(), second.exists()) == (False, True, False)
    assert RefreshClaimsFile(str(file), Disk()).find(SPENT.fingerprint) == SPENT
    RefreshClaimsFile(str(file), Failing(remove=first.name)).record(RefreshClaim("ef" * 16, RefreshClaimState.DEAD))
    assert first.exists(), "what cannot be removed keeps no claim from being recorded"
    RefreshClaimsFile(str(file), Disk()).record(RefreshClaim("01" * 16, RefreshClaimState.DEAD))
    assert (beside.exists(), first.exists()) == (True, False)
    assert len(msgspec.json.decode(beside.read_bytes())) >= 3


def test_where_windows_keeps_what_cannot_be_beside_auth_json(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companion_files, "_UNIX", False)
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert [os.path.dirname(place) for place in companion_files.companion_paths(str(file), ".x")] == [
        str(file.parent),
        "/local/authstate",
    ]
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setenv("HOME", "/home/me")
    assert os.path.dirname(companion_files.companion_paths(str(file), ".x")[1]) == "/home/me/authstate"


def test_a_folder_that_cannot_be_looked_at_is_left_alone(file: Path) -> None:
    assert companion_files._is_private(str(file.parent / "later")) is True
    assert companion_files._is_private(str(file / "below a file")) is False


# Writing in place


def test_space_is_reserved_once_until_it_is_given_back(file: Path) -> None:
    place, before = InPlaceWriter(str(file), Disk()), file.read_bytes()
    for _ in range(2):
        place.reserve(10)
        place.reserve(10)
        assert file.read_bytes() == before + b" " * 10
        place.discard()
        assert file.read_bytes() == before
        place.discard()


def test_space_that_cannot_be_given_back_is_no_fault(file: Path) -> None:
    place, before = InPlaceWriter(str(file), Failing(release_space="auth.json")), file.read_bytes()
    place.reserve(10)
    place.discard()
    assert file.read_bytes() == before + b" " * 10


def test_after_a_write_there_is_nothing_to_give_back(file: Path) -> None:
    place = InPlaceWriter(str(file), Disk())
    place.reserve(10)
    place.write(b"{}")
    place.discard()
    assert file.read_bytes() == b"{}"


def test_what_cannot_be_read_can_be_written_over(file: Path) -> None:
    InPlaceWriter(str(file), Failing(read="auth.json")).write(b'{"a": "new"}')
    assert file.read_bytes() == b'{"a": "new"}'


def test_a_write_of_the_largest_files_that_was_cut_short_is_finished(file: Path) -> None:
    old, new = (b'"' + letter * (LARGEST - 2) + b'"' for letter in (b"o", b"n"))
    file.write_bytes(old)
    place = InPlaceWriter(str(file), Failing(overwrite="auth.json"))
    with pytest.raises(OSError, match="output"):
        place.write(new)
    assert place.has_pending_write is True
    InPlaceWriter(str(file), Disk()).recover()
    assert file.read_bytes() == new
    assert place.has_pending_write is False


def test_a_write_that_cannot_be_finished_now_is_kept_and_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    pending = Path(pending_paths(str(file))[0])
    pending.write_bytes(msgspec.json.encode(PendingWrite(b'{"a": "old"}', b'{"a": "new"}')))
    InPlaceWriter(str(file), Failing(overwrite="auth.json")).recover()
    assert pending.exists()
    assert [message.partition(" was ")[2] for message in caplog.messages] == [
        "written in part, and cannot be finished now: Input/output error"
    ]
    caplog.clear()
    InPlaceWriter(str(file), Failing(remove=".pending")).recover()
    assert file.read_bytes() == b'{"a": "new"}'
    assert caplog.messages == [f"{file}: a write that was cut short was finished"]
    InPlaceWriter(str(file), Disk()).recover()
    assert not pending.exists()


def test_of_two_pending_writes_one_that_is_no_use_does_not_stand_for_the_other(file: Path, state: Path) -> None:
    beside, elsewhere, *_ = (Path(place) for place in pending_paths(str(file)))
    elsewhere.parent.mkdir(parents=True, mode=0o700)
    beside.write_text("half a fi")
    elsewhere.write_bytes(msgspec.json.encode(PendingWrite(b'{"a": "old"}', b'{"a": "new"}')))
    InPlaceWriter(str(file), Disk()).recover()
    assert file.read_bytes() == b'{"a": "new"}'
    assert (beside.exists(), elsewhere.exists()) == (False, False)


# The lock file


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize("has_locks", [True, False])
def test_one_at_a_time_holds_a_lock_file(has_locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    path = tmp_path / "lock"
    one, other = FileLock(str(path)), FileLock(str(path))
    one.release()
    assert one.acquire() is True
    assert other.acquire() is False
    made = path if has_locks else Path(f"{path}{SOFT}")
    assert made.stat().st_mode & 0o777 == 0o600
    freeing = threading.Thread(target=one.release)  # the event loop may free it in another thread than it was taken in
    freeing.start()
    freeing.join()
    assert other.acquire() is True
    other.release()


def test_what_keeps_a_lock_file_from_being_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError) as fault:
        FileLock(str(tmp_path / "lock")).acquire()
    assert fault.value.errno == errno.EISDIR


@pytest.mark.skipif(not is_root, reason="only root can give files to other users")
@pytest.mark.parametrize("has_locks", [True, False])
def test_a_lock_file_that_root_makes_belongs_to_the_owner_of_the_folder(
    has_locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    os.chown(tmp_path, 4321, 4321)
    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = FileLock(str(tmp_path / "lock"))
    assert lock.acquire() is True
    assert {path.stat().st_uid for path in tmp_path.glob("lock*")} == {4321}
    lock.release()


def test_notes_of_4096_bytes_are_read_and_longer_ones_count_as_none(tmp_path: Path) -> None:
    home, lock = HomeLock(str(tmp_path), Disk(), ManualClock(), 0.0), tmp_path / "auth.json.authstate.lock"
    data = msgspec.json.encode([SaveRecord("digest", 5.0, 7)])
    lock.write_bytes(b" " * (4096 - len(data)) + data)
    assert home.recent_saves() == [SaveRecord("digest", 5.0, 7)]
    lock.write_bytes(b" " * (4096 - len(data) + 1) + data)
    assert home.recent_saves() == []


async def test_a_lock_file_of_another_user_is_made_anew(tmp_path: Path) -> None:
    lock = tmp_path / "auth.json.authstate.lock"
    lock.write_text("root's")

    class Foreign(Disk):
        def lock(self, path: str) -> os_locks.DiskLock:
            if os.path.exists(path) and Path(path).read_text() == "root's":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return super().lock(path)

        def is_of_another_user(self, path: str) -> bool:
            return True

        def is_not_replaceable(self, target: str) -> bool:
            return False

    taken = await HomeLock(str(tmp_path), Foreign(), ManualClock(), 0.0).acquire()
    assert lock.read_bytes() == b""
    taken.release()


def test_who_holds_a_lock_file_that_is_gone_is_not_known(tmp_path: Path) -> None:
    assert home_lock._pid_of(str(tmp_path / "gone"), []) is None
    assert home_lock._holder(str(tmp_path / "gone")) == "another process"


def test_one_leftover_that_cannot_be_removed_does_not_keep_the_others(file: Path) -> None:
    for number in (1, 2):
        Path(f"{file}.{number}.ff.tmp").touch()
    [first, _] = sorted(os.listdir(file.parent))[1:]
    disk = Failing(remove=first)
    disk.list_folder = lambda folder: sorted(os.listdir(folder))
    HeldAuthJson.remove_leftovers(SimpleNamespace(_target=str(file), _disk=disk))  # type: ignore[arg-type]
    assert sorted(os.listdir(file.parent)) == ["auth.json", first]


# The lock on a file, and forks


def is_held(path: Path) -> bool:
    other = ContentLock(str(path))
    if other.acquire():
        other.release()
        return False
    return True


def test_a_lock_that_a_child_has_inherited_is_freed_by_its_owner(file: Path) -> None:
    lock = ContentLock(str(file))
    assert lock.acquire()
    assert lock._handle is not None
    inherited = os.dup(lock._handle)  # as in a child that runs another program
    lock.release()
    assert not is_held(file)
    os.close(inherited)


def test_a_process_that_was_forked_has_closed_the_lock(file: Path) -> None:
    lock = ContentLock(str(file))
    assert lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock._handle is None and not list(os_locks._held_content_locks) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_held(file)
    os_locks._after_fork()
    assert (lock._handle, list(os_locks._held_content_locks)) == (None, [])
    assert not is_held(file)
    lock.close_after_fork()
    lock.release()


def test_closing_a_file_that_is_closed_is_no_fault(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    os_locks.close(handle)
    os_locks.close(handle)


@pytest.mark.parametrize("step", ["open", "read"])
def test_a_lock_that_lets_readers_open_the_file_and_not_read_it_counts_as_none(
    step: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KeptOut:
        def __enter__(self) -> "KeptOut":
            return self

        def __exit__(self, *_: object) -> None:
            """It is closed."""

        def read(self, size: int) -> bytes:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def opened(*_: object, **options: object) -> KeptOut:
        return KeptOut() if step == "read" else KeptOut().read(1)  # type: ignore[return-value]

    monkeypatch.setattr(os_locks, "open", opened, raising=False)
    with pytest.raises(OSError) as fault:
        ContentLock(str(file)).acquire()
    assert fault.value.errno == errno.ENOLCK
