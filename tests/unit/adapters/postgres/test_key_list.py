"""A key is added to a file: as its last line, for the owner only, and never into something else."""

import os
from pathlib import Path

import pytest

from authstate import EncryptionKeys, KeysInvalid, KeyVariable
from authstate.adapters.io.child_environment import KEYS_VARIABLE
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


async def test_keys_come_from_a_variable() -> None:
    (first, key), (second, other) = new_key(), new_key()
    environment = {KEYS_VARIABLE: f"{first}={key},{second}={other}"}
    assert (await KeyVariable(environment=environment).load()).ids == (first, second)
    assert isinstance(await KeyVariable("OTHER", {"OTHER": f"{first}={key}"}).load(), EncryptionKeys)


@pytest.mark.parametrize(("text", "said"), [("", "is not set"), (" ", "is not set"), ("a=b", "entry 1: .* not base64")])
async def test_a_variable_that_cannot_be_used_is_told(text: str, said: str) -> None:
    with pytest.raises(KeysInvalid, match=said):
        await KeyVariable(environment={KEYS_VARIABLE: text}).load()
