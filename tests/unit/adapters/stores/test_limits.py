"""What a store of auth.json does not read, and does not use."""

import errno
import os
from pathlib import Path

import pytest

from authstate.adapters.stores import last_change
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file import AuthJsonStore
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import StoreUnavailable, StoreUnreadable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "auth.json"
    made.write_bytes(b'{"a": "old"}')
    return made


async def test_an_auth_json_of_four_mebibytes_is_read_and_a_larger_one_is_not(file: Path) -> None:
    data = b'{"OPENAI_API_KEY": "sk-1"}'
    file.write_bytes(b" " * (4 * 1024 * 1024 - len(data)) + data)
    assert await AuthJsonStore(file.parent).load() == ApiKey.parse("sk-1")
    file.write_bytes(b" " * (4 * 1024 * 1024 - len(data) + 1) + data)
    with pytest.raises(StoreUnreadable, match="it is larger than 4194304 bytes"):
        await AuthJsonStore(file.parent).load()


@pytest.mark.parametrize("call", ["load", "lock"])
async def test_a_file_that_is_distrusted_is_not_used(call: str, file: Path) -> None:
    class RefusingDisk(Disk):
        def reason_to_refuse(self, path: str) -> str | None:
            return f"{path} is not used: somebody put it there"

    store = AuthJsonStore(file.parent, disk=RefusingDisk())
    with pytest.raises(StoreUnavailable, match="somebody put it there"):
        if call == "load":
            await store.load()
        else:
            async with store.locked() as held:
                await held.prepare()
                await held.save(ApiKey.parse("sk-1"))
    assert file.read_bytes() == b'{"a": "old"}'


def test_where_no_processes_can_be_listed_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(path: str) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "listdir", hidden)
    assert list(last_change._codex_processes(str(tmp_path))) == []
