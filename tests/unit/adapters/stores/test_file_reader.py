"""Reading auth.json: incomplete files, the size limit, and files that are refused because of their owner."""

import asyncio
from pathlib import Path

import pytest

from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import StoreUnavailable, StoreUnreadable
from authstate.testing import ManualClock

KEY = ApiKey.parse("sk-canary-key")


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


async def test_half_a_file_is_read_again(tmp_path: Path) -> None:
    clock, file = ManualClock(), tmp_path / "auth.json"
    file.write_text("")

    class FinishedBeforeFourthRead(Disk):
        reads = 0

        def read(self, path: str, limit: int) -> bytes:
            if self.reads == 3:
                file.write_text('{"OPENAI_API_KEY": "sk-canary-key"}')
            self.reads += 1
            return super().read(path, limit)

    load = asyncio.ensure_future(AuthJsonStore(tmp_path, disk=FinishedBeforeFourthRead(), clock=clock).load())
    await clock.elapse(1)
    assert await load == KEY
    assert clock.slept == [0.02] * 3


async def test_a_file_that_stays_half_is_unreadable_and_a_login_replaces_it(tmp_path: Path) -> None:
    clock, file = ManualClock(), tmp_path / "auth.json"
    file.write_text('{"OPENAI_API_KEY": "sk-can')
    store = AuthJsonStore(tmp_path, clock=clock)
    load = asyncio.ensure_future(store.load())
    await clock.elapse(1)
    with pytest.raises(StoreUnreadable, match="not valid JSON") as caught:
        await load
    assert str(file) in str(caught.value)
    assert clock.slept == [0.02] * 5

    async def log_in() -> None:
        async with store.locked() as held:
            await held.save(KEY)

    login = asyncio.ensure_future(log_in())
    while not login.done():
        await clock.elapse(1)
    await login
    assert await store.load() == KEY


async def test_an_unknown_mode_costs_no_wait(tmp_path: Path) -> None:
    clock = ManualClock()
    (tmp_path / "auth.json").write_text('{"auth_mode": "new"}')
    with pytest.raises(StoreUnreadable, match="'new'"):
        await AuthJsonStore(tmp_path, clock=clock).load()
    assert clock.slept == []
