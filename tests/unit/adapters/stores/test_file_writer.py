"""What a save keeps of the file that it replaces, whatever happens between the steps of one hold."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.errors import StoreUnreadable
from authstate.engine.ports import HeldStore
from authstate.testing import make_tokens

TOKENS = make_tokens()


async def run(held: HeldStore, *steps: str) -> None:
    for step in steps:
        await (held.load() if step == "load" else held.prepare() if step == "prepare" else held.delete())


def add_member(home: Path, name: str) -> None:
    """What codex does: write in place, without the lock."""
    (home / "auth.json").write_text(json.dumps({**read(home), name: name}))


def read(home: Path) -> Mapping[str, Any]:
    content: dict[str, Any] = json.loads((home / "auth.json").read_bytes())
    return content


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.save(TOKENS)
    (tmp_path / "auth.json").write_text(json.dumps({**read(tmp_path), "OPENAI_API_KEY": "sk-old", "first": "first"}))
    return tmp_path


@pytest.mark.parametrize("before", [(), ("load",), ("prepare",), ("load", "prepare"), ("prepare", "load")])
@pytest.mark.parametrize("after", [(), ("load",), ("prepare",), ("load", "prepare"), ("prepare", "load")])
async def test_a_member_that_another_program_adds_at_any_moment_is_kept(
    before: tuple[str, ...], after: tuple[str, ...], home: Path
) -> None:
    async with AuthJsonStore(home).locked() as held:
        await run(held, *before)
        add_member(home, "second")
        await run(held, *after)
        await held.save(TOKENS)
        await run(held, *before)
        add_member(home, "third")
        await held.save(TOKENS)
    assert {name: read(home).get(name) for name in ("first", "second", "third")} == {
        "first": "first",
        "second": "second",
        "third": "third",
    }


@pytest.mark.parametrize("before", [(), ("load",), ("prepare",), ("load", "prepare"), ("prepare", "load")])
async def test_a_save_brings_nothing_back_that_was_deleted(before: tuple[str, ...], home: Path) -> None:
    async with AuthJsonStore(home).locked() as held:
        await run(held, *before, "delete")
        await held.save(TOKENS)
    assert "first" not in read(home)
    assert read(home)["OPENAI_API_KEY"] is None


class SlowWriterDisk(Disk):
    """Another program is writing the file: the first reads find half of it."""

    def __init__(self, half_reads: int) -> None:
        super().__init__()
        self._half_reads = half_reads

    def read(self, path: str, limit: int) -> bytes:
        data = super().read(path, limit)
        if not path.endswith("auth.json") or self._half_reads == 0:
            return data
        self._half_reads -= 1
        return data[: len(data) // 2]


async def test_a_sign_in_waits_longer_for_a_program_that_is_writing_than_a_read(home: Path) -> None:
    async with AuthJsonStore(home, disk=SlowWriterDisk(half_reads=8)).locked() as held:
        with pytest.raises(StoreUnreadable):
            await held.load()  # reads six times
        await held.prepare()
        await held.save(TOKENS)
    assert read(home)["first"] == "first"
