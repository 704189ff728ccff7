"""A damaged home or auth.json: the error is typed and names the file, and no file is changed."""

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from authstate import ApiKey, AuthEngine, AuthState, ChatgptTokens, RefreshSettings
from authstate.adapters.stores.auth_json_format import encode
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.errors import (
    PermanentRefreshError,
    RefreshDeadReason,
    StoreBusy,
    StoreUnavailable,
    StoreUnreadable,
)
from authstate.engine.model.events import Event, Warned
from authstate.engine.model.secret import Secret
from authstate.testing import FakeAuthority, make_tokens

KEY = ApiKey(Secret("sk-new"))
QUICK = RefreshSettings(first_wait=0.0, rechecks=(0.0,), save_waits=(0.0,))
unix = pytest.mark.skipif(sys.platform == "win32", reason="file modes and symbolic links are those of Unix here")

CORRUPT = {
    "empty": b"",
    "white space": b" \n\t ",
    "half": encode(make_tokens(), None)[:200],
    "binary": bytes(range(256)),
    "not UTF-8": b'{"auth_mode": "\xff\xfe"}',
    "null": b"null",
    "list": b"[]",
    "string": b'"sk-1"',
    "of another program": b'{"http-basic": {"host": {"password": "p"}}}',
    "foreign mode": b'{"auth_mode": "a mode of the future", "blob": 1}',
    "tokens of the wrong type": b'{"auth_mode": "chatgpt", "tokens": "secret"}',
    "token missing": b'{"auth_mode": "chatgpt", "tokens": {"id_token": "a.b.c", "access_token": "a"}}',
    "id token is not a JWT": b'{"tokens": {"id_token": "x", "access_token": "a", "refresh_token": "r"}}',
    "key of the wrong type": b'{"auth_mode": "apikey", "OPENAI_API_KEY": 7}',
    "deep": b"[" * 100_000,
    "huge": b'{"padding": "' + b"x" * 20_000_000 + b'"}',
}


def files_of(home: Path) -> dict[str, bytes]:
    """The content of each file in a home, without the lock file."""
    return {path.name: path.read_bytes() for path in home.iterdir() if path.is_file() and path.suffix != ".lock"}


async def seed(home: Path, tokens: ChatgptTokens | None = None) -> ChatgptTokens:
    """Store a login. Its access token has expired by default."""
    tokens = tokens or make_tokens(expires_in=-60.0)
    async with AuthJsonStore(home).locked() as held:
        await held.save(tokens)
    return tokens


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT.keys())
async def test_what_cannot_be_read_is_named_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(content)
    with pytest.raises(StoreUnreadable) as caught:
        await AuthJsonStore(tmp_path).load()
    assert str(path) in str(caught.value)
    heard: list[Event] = []
    engine = AuthEngine(AuthJsonStore(tmp_path), FakeAuthority(), settings=QUICK)
    engine.subscribe(heard.append)
    async with engine:
        assert engine.session.state is AuthState.LOGGED_OUT
        assert isinstance(engine.store_fault, StoreUnreadable)
        assert [event.code for event in heard if isinstance(event, Warned)] == ["store_unreadable"]
        await engine.refresh()
        await engine.check()
        assert files_of(tmp_path) == {"auth.json": content}
        await engine.use_api_key(KEY)
    assert await AuthJsonStore(tmp_path).load() == KEY


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT.keys())
async def test_a_file_that_goes_bad_underneath_is_not_overwritten_by_a_refresh(content: bytes, tmp_path: Path) -> None:
    issuer = FakeAuthority(await seed(tmp_path))
    async with AuthEngine(AuthJsonStore(tmp_path), issuer, settings=QUICK) as engine:
        (tmp_path / "auth.json").write_bytes(content)
        session = engine.session
        with pytest.raises(StoreUnreadable):
            await engine.refresh()
        assert not await engine.reload()
        assert engine.session is session
    assert issuer.sent == []
    assert files_of(tmp_path) == {"auth.json": content}


@pytest.mark.parametrize("cut", [0, 1, 150])
async def test_half_a_file_is_read_again_until_its_writer_is_done(cut: int, tmp_path: Path) -> None:
    """codex truncates the file and then writes it in place."""
    tokens = make_tokens()
    whole, path = encode(tokens, None), tmp_path / "auth.json"
    path.write_bytes(whole[:cut])
    waits: list[float] = []

    class WriterIsDone:
        """A clock. The other program finishes its write during the second wait."""

        def now(self) -> float:
            return 1_800_000_000.0

        def monotonic(self) -> float:
            return sum(waits)

        async def sleep(self, seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                path.write_bytes(whole)
            await asyncio.sleep(0)

    loaded = await AuthJsonStore(tmp_path, clock=WriterIsDone()).load()
    assert isinstance(loaded, ChatgptTokens)
    assert loaded.is_same_material_as(tokens)
    assert len(waits) == 2


async def test_another_account_underneath_is_neither_sent_nor_overwritten(tmp_path: Path) -> None:
    issuer = FakeAuthority(await seed(tmp_path))
    async with AuthEngine(AuthJsonStore(tmp_path), issuer, settings=QUICK) as engine:
        await seed(tmp_path, make_tokens(account_id="org-2"))
        before = files_of(tmp_path)
        for _ in range(3):
            with pytest.raises(PermanentRefreshError) as caught:
                await engine.refresh()
            assert caught.value.reason is RefreshDeadReason.ACCOUNT_CHANGED
        assert issuer.sent == []
    assert files_of(tmp_path) == before


async def test_a_missing_home_is_no_login_and_is_made_by_the_first_one(tmp_path: Path) -> None:
    home = tmp_path / "not" / "there"
    async with AuthEngine(AuthJsonStore(home), FakeAuthority()) as engine:
        assert engine.session.state is AuthState.LOGGED_OUT
        assert engine.store_fault is None
        assert not home.exists()
        await engine.use_api_key(KEY)
    assert await AuthJsonStore(home).load() == KEY
    if sys.platform != "win32":
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "auth.json").stat().st_mode) == 0o600


async def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_bytes(b"somebody's letter")
    async with AuthEngine(AuthJsonStore(home), FakeAuthority()) as engine:
        assert engine.session.state is AuthState.LOGGED_OUT
        with pytest.raises(StoreUnavailable, match=str(home)):
            await engine.use_api_key(KEY)
        assert engine.session.state is AuthState.LOGGED_OUT
    assert home.read_bytes() == b"somebody's letter"


async def test_a_folder_in_the_place_of_auth_json(tmp_path: Path) -> None:
    """A folder cannot be used as a file even by root, whom file modes do not restrict."""
    path = tmp_path / "auth.json"
    path.mkdir()
    (path / "kept").write_bytes(b"kept")
    async with AuthEngine(AuthJsonStore(tmp_path), FakeAuthority()) as engine:
        assert isinstance(engine.store_fault, StoreUnavailable)
        assert str(path) in str(engine.store_fault)
        with pytest.raises(StoreUnavailable, match=r"auth\.json"):
            await engine.use_api_key(KEY)
        with pytest.raises(StoreUnavailable, match=r"auth\.json"):
            await engine.log_out()
        assert engine.session.state is AuthState.LOGGED_OUT
    assert (path / "kept").read_bytes() == b"kept"
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix == ".tmp"] == []


@unix
async def test_a_pipe_in_the_place_of_auth_json_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "auth.json")
    with pytest.raises(StoreUnavailable, match=r"auth\.json"):
        await AuthJsonStore(tmp_path).load()


@unix
async def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    real, home = tmp_path / "real", tmp_path / "home"
    real.mkdir()
    home.mkdir()
    issuer = FakeAuthority(await seed(real))
    (home / "auth.json").symlink_to(real / "auth.json")
    async with AuthEngine(AuthJsonStore(home), issuer, settings=QUICK) as engine:
        await engine.refresh()
        assert (home / "auth.json").is_symlink()
        assert await AuthJsonStore(real).load() == engine.session.credentials
    assert len(issuer.sent) == 1


@unix
@pytest.mark.parametrize("to", ["nowhere", "auth.json"], ids=["dangling", "to itself"])
async def test_a_symbolic_link_that_leads_nowhere(to: str, tmp_path: Path) -> None:
    (tmp_path / "auth.json").symlink_to(tmp_path / to)
    async with AuthEngine(AuthJsonStore(tmp_path), FakeAuthority()) as engine:
        assert engine.session.state is AuthState.LOGGED_OUT
        if to == "nowhere":
            await engine.use_api_key(KEY)
            assert await AuthJsonStore(tmp_path).load() == KEY
        else:
            assert isinstance(engine.store_fault, StoreUnavailable)
    assert (tmp_path / "auth.json").is_symlink()


async def test_a_lock_that_somebody_keeps(tmp_path: Path) -> None:
    issuer = FakeAuthority(await seed(tmp_path))
    before = files_of(tmp_path)
    store = AuthJsonStore(tmp_path, lock_timeout=0.05)
    async with AuthJsonStore(tmp_path).locked(), AuthEngine(store, issuer, settings=QUICK) as engine:
        with pytest.raises(StoreBusy, match=r"auth\.json\.authstate\.lock"):
            await engine.refresh()
        with pytest.raises(StoreBusy):
            await engine.log_out()
        assert engine.session.state is AuthState.CHATGPT
    assert issuer.sent == []
    assert files_of(tmp_path) == before
