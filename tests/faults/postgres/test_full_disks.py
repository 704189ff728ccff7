"""A disk of the database that is full: before a token is sent, and when its answer is there."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from faults.postgres_parts import NO_WAITS, AnsweringAuthority, Login, let_the_hold_end, opened
from support.postgres import PostgresServer, short_folder
from support.real_parts import RealParts

from authstate import AuthEngine, ChatgptTokens, RefreshInDoubt, StoreBusy, StoreUnavailable
from authstate.adapters.postgres.store import PostgresStore
from authstate.adapters.testing.jwt import make_jwt
from authstate.engine.model.secret import Secret
from authstate.engine.ports import RefreshedTokens
from authstate.testing import make_tokens


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk with 64 MB. Only root can mount one."""
    if os.geteuid() != 0 or not Path("/proc/mounts").exists():
        pytest.skip("only root of a Linux machine can mount a small disk")
    with short_folder() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0777", "tmpfs", folder], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"this container may not mount a disk: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_server(small_disk: Path) -> Iterator[PostgresServer]:
    """A server with its tables on the small disk, and its log of changes elsewhere: a full log ends the server."""
    with short_folder() as folder:
        folder.chmod(0o777)
        server = PostgresServer(folder / "s", RealParts().postgres(), small_disk / "data")
        server.create("-X", str(folder / "wal"))
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


async def test_nothing_is_sent_while_the_disk_of_the_database_is_full(
    small_server: PostgresServer, small_disk: Path
) -> None:
    login = Login()
    async with opened(await small_server.new_database()) as database:
        await login.store_in(database)
        filled = small_disk / "filled"
        fill(filled)
        with pytest.raises(StoreUnavailable, match="the disk of the server is full"):
            await login.refresh(database)
        assert login.authority.sent == []
        filled.unlink()
        await login.refresh(database)
        await login.assert_refreshed_once(database)


def fill(file: Path) -> None:
    """Write to a file until its disk is full."""
    with file.open("wb", buffering=0) as opened_file:
        try:
            while opened_file.write(bytes(65536)):
                pass
        except OSError:
            return


class LargeAnswers(AnsweringAuthority):
    """An issuer whose access tokens need several new pages of the disk."""

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        answer = await super().refresh(refresh_token)
        return msgspec.structs.replace(answer, access_token=Secret(make_jwt(exp=4102444800, filler="x" * 40_000)))


class LateFull:
    """A database whose disk is full from the moment on when the issuer has spent the token."""

    def __init__(self, url: str, disk: Path, tokens: ChatgptTokens) -> None:
        self.url = url
        self._filled = disk / "filled"
        self.login = Login()
        self.login.tokens = tokens
        self.login.authority = LargeAnswers(tokens)
        self.login.authority.on_answer = lambda: fill(self._filled)

    def make_room(self) -> None:
        self._filled.unlink()


async def test_an_answer_that_finds_the_disk_full_is_kept_and_stored_once_there_is_room(
    small_server: PostgresServer, small_disk: Path
) -> None:
    late = LateFull(await small_server.new_database(), small_disk, make_tokens(expires_in=-60.0))
    async with opened(late.url) as database:
        await late.login.store_in(database)
        async with late.login.engine(database) as engine:
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="the disk of the server is full"):
                    await engine.authorization()
            assert await database.store("alice").load() == late.login.tokens
            late.make_room()
            await engine.authorization()
        await late.login.assert_refreshed_once(database)


async def test_an_answer_that_ends_with_its_process_before_there_is_room_is_a_doubt(
    small_server: PostgresServer, small_disk: Path
) -> None:
    late = LateFull(await small_server.new_database(), small_disk, make_tokens())
    async with opened(late.url) as database:
        await late.login.store_in(database)
        async with late.login.engine(database) as engine:
            with pytest.raises(StoreUnavailable, match="the disk of the server is full"):
                await engine.refresh()
    late.make_room()
    async with opened(late.url) as database:
        let_the_hold_end(late.url)
        async with late.login.engine(database) as engine:
            with pytest.raises(RefreshInDoubt, match="ended in the middle of a refresh"):
                await engine.refresh()
            await engine.authorization()  # the access token is good until it expires
    assert late.login.authority.sent == [late.login.tokens.refresh_token.reveal()]


async def test_nobody_else_sends_the_token_while_its_answer_waits_for_room(
    small_server: PostgresServer, small_disk: Path
) -> None:
    late = LateFull(await small_server.new_database(), small_disk, make_tokens(expires_in=-60.0))
    async with opened(late.url) as database, opened(late.url) as elsewhere:
        await late.login.store_in(database)
        async with late.login.engine(database) as engine:
            with pytest.raises(StoreUnavailable, match="the disk of the server is full"):
                await engine.authorization()
            other = PostgresStore(elsewhere, "alice", lock_timeout=0.0)
            async with AuthEngine(other, late.login.authority, settings=NO_WAITS) as waiting:
                with pytest.raises(StoreBusy):
                    await waiting.authorization()
            late.make_room()
            await engine.authorization()
        await late.login.assert_refreshed_once(elsewhere)
