"""What `use_api_key` takes: a key or a token, also as a person pastes it."""

import pytest

from authstate import Account, AuthEngine, AuthState, InvalidCredentials, MemoryStore, PersonalAccessToken
from authstate.testing import FakeAuthority

ACCEPTED = ["sk-example", ' "sk-example" ', "export OPENAI_API_KEY=sk-example\n", "\ufeffsk-example"]


@pytest.mark.parametrize("text", ACCEPTED)
async def test_text_is_a_key_as_a_person_pastes_it(text: str) -> None:
    store = MemoryStore()
    async with AuthEngine(store, FakeAuthority()) as engine:
        await engine.use_api_key(text)
        assert engine.session.state is AuthState.API_KEY
        assert (await engine.authorization()).headers() == {"Authorization": "Bearer sk-example"}
    assert await store.load() == engine.session.credentials


@pytest.mark.parametrize("text", ["at-example", " 'at-example'"])
async def test_text_that_begins_with_at_is_a_personal_access_token(text: str) -> None:
    authority = FakeAuthority()
    authority.owners["at-example"] = Account(account_id="org-1", user_id="user-1")
    async with AuthEngine(MemoryStore(), authority) as engine:
        await engine.use_api_key(text)
        assert isinstance(engine.session.credentials, PersonalAccessToken)


@pytest.mark.parametrize("text", ["", "  ", '""', "sk two words", "sk-\x00"])
async def test_text_that_is_no_key_is_refused(text: str) -> None:
    async with AuthEngine(MemoryStore(), FakeAuthority()) as engine:
        with pytest.raises(InvalidCredentials):
            await engine.use_api_key(text)
        assert engine.session.state is AuthState.LOGGED_OUT


@pytest.mark.parametrize("given", [None, b"sk-canary", 7, ["sk-canary"]])
async def test_anything_else_is_refused_with_what_is_wanted(given: object) -> None:
    async with AuthEngine(MemoryStore(), FakeAuthority()) as engine:
        with pytest.raises(TypeError, match="give an API key as text, an ApiKey or a PersonalAccessToken") as refused:
            await engine.use_api_key(given)  # type: ignore[arg-type]
        assert "canary" not in str(refused.value)
        assert engine.session.state is AuthState.LOGGED_OUT
