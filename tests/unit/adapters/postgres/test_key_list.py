"""A key is added to a file: as its last line, for the owner only, and never into something else."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from authstate import EncryptionKeys, KeysInvalid, KeyVariable
from authstate.adapters.io.child_environment import KEYS_VARIABLE
from authstate.adapters.postgres import key_list
from authstate.adapters.postgres.key_list import add_to_file
from authstate.adapters.postgres.keys import new_key


def test_a_missing_file_is_made_and_its_first_key_goes_on_encrypting(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = [new_key() for _ in range(3)]
    for key_id, encoded in made:
        keys = add_to_file(path, key_id, encoded)
    assert keys.ids == tuple(key_id for key_id, _ in made)
    assert keys.current == made[0][0]
    assert path.read_text().splitlines()[1:] == [f"{key_id}={encoded}" for key_id, encoded in made]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["keys"]


def test_a_line_without_its_end_is_ended(tmp_path: Path) -> None:
    path, (first, key), (second, other) = tmp_path / "keys", new_key(), new_key()
    path.write_text(f"{first}={key}")
    assert add_to_file(path, second, other).ids == (first, second)


@pytest.mark.parametrize("content", [b"no key\n", b"\xff\xfe", b"a=short\n"])
def test_what_is_no_list_of_keys_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(KeysInvalid):
        add_to_file(path, *new_key())
    assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["keys"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "keys")
    add_to_file(link, *new_key())
    assert link.is_symlink() and (tmp_path / "keys").exists()


needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="the lock is that of Unix")


@needs_locks
def test_keys_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    path, made, together = tmp_path / "keys", [new_key() for _ in range(8)], threading.Barrier(8)

    def add(key: tuple[str, str]) -> None:
        together.wait(60)
        add_to_file(path, *key)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, made))
    assert set(EncryptionKeys.parse(path.read_text(), "keys").ids) == {key_id for key_id, _ in made}


@needs_locks
def test_a_key_that_is_added_while_the_lock_is_waited_for_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    path, others = tmp_path / "keys", [new_key()]
    take = fcntl.flock

    def wait_for(handle: int, operation: int) -> None:
        while others:
            add_to_file(path, *others.pop())
        take(handle, operation)

    monkeypatch.setattr(fcntl, "flock", wait_for)
    assert len(add_to_file(path, *new_key()).ids) == 2


@needs_locks
def test_the_file_is_locked_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    path, replace = tmp_path / "keys", key_list._replace

    def replace_locked(target: Path, text: str) -> None:
        with path.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        replace(target, text)

    monkeypatch.setattr(key_list, "_replace", replace_locked)
    assert len(add_to_file(path, *new_key()).ids) == 1


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give files to other users")
def test_a_file_of_another_user_stays_that_users(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add_to_file(path, *new_key())
    os.chown(path, 4321, 4400)
    add_to_file(path, *new_key())
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4321, 4400, 0o600)


@needs_locks
def test_a_file_that_cannot_be_given_back_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    add_to_file(path, *new_key())
    before = path.read_bytes()
    monkeypatch.setattr(key_list, "copy_ownership", lambda new, old: False)
    with pytest.raises(PermissionError, match="run this as that user"):
        add_to_file(path, *new_key())
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@needs_locks
def test_a_pipe_is_no_list_of_keys(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys")
    with pytest.raises(OSError, match="Not a regular file"):
        add_to_file(tmp_path / "keys", *new_key())


async def test_keys_come_from_a_variable() -> None:
    (first, key), (second, other) = new_key(), new_key()
    environment = {KEYS_VARIABLE: f"{first}={key},{second}={other}"}
    assert (await KeyVariable(environment=environment).load()).ids == (first, second)
    assert isinstance(await KeyVariable("OTHER", {"OTHER": f"{first}={key}"}).load(), EncryptionKeys)


@pytest.mark.parametrize(("text", "said"), [("", "is not set"), (" ", "is not set"), ("a=b", "entry 1: .* not base64")])
async def test_a_variable_that_cannot_be_used_is_told(text: str, said: str) -> None:
    with pytest.raises(KeysInvalid, match=said):
        await KeyVariable(environment={KEYS_VARIABLE: text}).load()
