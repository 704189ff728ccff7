"""Lists of encryption keys: how they are written, and what is wrong with those that cannot be used."""

import asyncio
import base64
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate import EncryptionKeys, KeyFile, KeysInvalid, PostgresDatabase
from authstate.adapters.postgres.keys import KEY_BYTES, new_key

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    other = base64.b64encode(b"o" * KEY_BYTES).decode()
    keys = EncryptionKeys.parse(f"# newest first, then older ones\n\n 2026-11 = {TEXT}\n2026-05={other}\n", "the test")
    assert (keys.current, keys.ids) == ("2026-11", ("2026-11", "2026-05"))
    assert (keys.find("2026-11"), keys.find("2026-05"), keys.find("2025-01")) == (KEY, b"o" * KEY_BYTES, None)


@given(
    st.dictionaries(IDS, st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), min_size=1, max_size=5),
    st.sampled_from("\n,"),
)
def test_every_list_that_can_be_made_can_be_written_and_read(keys: dict[str, bytes], separator: str) -> None:
    text = separator.join(f"{name}={base64.b64encode(key).decode()}" for name, key in keys.items())
    read = EncryptionKeys.parse(text, "the test")
    assert {name: read.find(name) for name in read.ids} == keys
    assert read.ids == tuple(keys)


def test_a_new_key_can_be_used() -> None:
    (name, key), (other_name, other_key) = new_key(), new_key()
    assert EncryptionKeys.parse(f"{name}={key}\n{other_name}={other_key}", "the test").current == name
    assert key != other_key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no encryption key"),
        ("# nothing\n", "holds no encryption key"),
        (TEXT[:20], r"entry 1: expected ID=BASE64"),
        (f"\na={TEXT}\nb", r"entry 3: expected ID=BASE64"),
        ("a=secret?", r"entry 1: the key is not base64"),
        ("a=c2VjcmV0", r"entry 1: the key a has 6 bytes instead of 32"),
        (f"a b={TEXT}", r"entry 1: the id of a key has 1 to 64 letters"),
        (f"{'a' * 65}={TEXT}", r"entry 1: the id of a key has 1 to 64 letters"),
        (f"a={TEXT}\na={TEXT}", r"entry 2: there are two keys with the id a"),
    ],
)
def test_a_list_that_cannot_be_used_is_explained_without_a_key(text: str, message: str) -> None:
    with pytest.raises(KeysInvalid, match=message) as raised:
        EncryptionKeys.parse(text, "keys.txt")
    assert "keys.txt" in str(raised.value)
    assert (
        "secret" not in str(raised.value) and "c2VjcmV0" not in str(raised.value) and TEXT[:20] not in str(raised.value)
    )


def test_no_keys_are_no_keys() -> None:
    with pytest.raises(KeysInvalid, match="new-key"):
        EncryptionKeys({})


def test_keys_do_not_show_themselves() -> None:
    keys = EncryptionKeys({"a": KEY})
    shown = f"{keys} {keys!r} {vars(keys)}"
    assert "a" in repr(keys) and TEXT not in shown and repr(KEY) not in shown


def test_a_key_file_is_read_each_time(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"\ufeffa={TEXT}\n", encoding="utf-8")
    path.chmod(0o600)
    file = KeyFile(path)
    assert asyncio.run(file.load()).current == "a"
    path.write_text(f"b={TEXT}\na={TEXT}\n")
    assert asyncio.run(file.load()).ids == ("b", "a")


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (None, 0o600, "cannot be read: No such file"),
        (b"\xff\xfe\x00", 0o600, "it is not UTF-8"),
        (b"#" * 70_000, 0o600, "more than 65536 bytes"),
        (b"a=b", 0o600, "entry 1"),
        *((b"a=b", mode, "others have access .* chmod 600") for mode in (0o640, 0o604, 0o620)),
    ],
)
def test_a_key_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, mode: int, message: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    if os.name != "posix" and "others" in message:
        pytest.skip("modes are those of POSIX")
    with pytest.raises(KeysInvalid, match=message) as raised:
        asyncio.run(KeyFile(path).load())
    assert str(path) in str(raised.value)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and owners of files are those of Unix")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    os.mkfifo(path, 0o600)
    with pytest.raises(KeysInvalid, match="cannot be read: Not a regular file"):
        asyncio.run(KeyFile(path).load())


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeysInvalid, match="cannot be read: "):
        asyncio.run(KeyFile(tmp_path).load())


@pytest.mark.skipif(sys.platform == "win32", reason="owners of files are those of Unix")
def test_a_file_of_another_user_is_refused_unless_that_is_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text(f"a={TEXT}")
    path.chmod(0o600)
    owner = path.stat().st_uid
    assert asyncio.run(KeyFile(path).load()).current == "a"
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        assert asyncio.run(KeyFile(path).load()).current == "a"
        os.chown(path, 4321, 4400)
        owner = 4321
    with pytest.raises(KeysInvalid, match=f"belong to user {owner}, who could replace them: .* chown"):
        asyncio.run(KeyFile(path).load())
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # an operator with sudo uses the file of a service
    assert asyncio.run(KeyFile(path).load()).current == "a"


@pytest.mark.parametrize(
    ("url", "keys", "account", "message"),
    [
        ("dbname=x", "/etc/secret-path", "alice", "keys is of the type str, which has no method load: give a KeyFile"),
        ("dbname=x", KeyFile, "alice", "keys is the class KeyFile: give a KeyFile"),
        (b"x", EncryptionKeys({"first": KEY}), "alice", "url is of the type bytes: give postgresql://"),
        ("dbname=x", EncryptionKeys({"first": KEY}), 17, "account is of the type int: give its id, a str"),
    ],
)
def test_an_argument_of_another_type_is_named(url: Any, keys: Any, account: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message) as raised:
        PostgresDatabase(url, keys).store(account)
    assert "secret" not in str(raised.value)
