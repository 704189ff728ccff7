"""A child is handed the tokens that its release asks for, and no more."""

import msgspec
import pytest
from msgspec import Raw
from support.child_in_memory import Child, World, tokens

from authstate.adapters.child.token_dialects import ChildTokenSet, Dialect, dialect_of, tokens_of
from authstate.testing import make_external_tokens, make_tokens

ID_TOKEN = {"idToken", "accessToken"}
ACCOUNT = {"accessToken", "chatgptAccountId", "chatgptPlanType"}


@pytest.mark.parametrize(
    ("agent", "dialect"),
    [
        ("interop/0.93.0 (Debian 12.0.0; x86_64) xterm (interop; 1.0)", Dialect.ID_TOKEN),
        ("interop/0.90.1", Dialect.ID_TOKEN),
        ("interop/0.100.0 (Debian)", Dialect.BOTH),
        ("interop/0.120.0 (Debian 12.0.0; x86_64)", Dialect.ACCOUNT),
        ("my editor/0.171.0 (Mac OS 26.0.0; arm64)", Dialect.ACCOUNT),
        ("x/0.172.0-alpha.3 (Linux)", Dialect.ACCOUNT),
        ("x/1.0.0", Dialect.ACCOUNT),
        ("a/b 0.93.0/0.169.0 (Linux)", Dialect.ACCOUNT),
        ("fake/1.0", Dialect.BOTH),
        ("", Dialect.BOTH),
    ],
)
def test_the_release_tells_the_dialect(agent: str, dialect: Dialect) -> None:
    assert dialect_of(f'{{"userAgent": "{agent}"}}'.encode()) is dialect


@pytest.mark.parametrize("answer", [b"", b"null", b"7", b"[]", b"{}", b'{"userAgent": 7}', b"[" * 100_000])
def test_an_answer_that_names_no_release_is_of_either_dialect(answer: bytes) -> None:
    assert dialect_of(Raw(answer)) is Dialect.BOTH


def members(handed: ChildTokenSet) -> set[str]:
    """The names of what is on the wire."""
    return set(msgspec.to_builtins(handed))


def test_each_dialect_has_its_members() -> None:
    for credentials in (make_tokens(), make_external_tokens()):
        assert members(tokens_of(credentials, Dialect.ID_TOKEN)) == ID_TOKEN
        assert members(tokens_of(credentials, Dialect.ACCOUNT)) == ACCOUNT
        assert members(tokens_of(credentials, Dialect.BOTH)) == ID_TOKEN | ACCOUNT


def test_a_login_without_a_workspace_has_the_id_token_in_every_dialect() -> None:
    for dialect in Dialect:
        assert members(tokens_of(make_tokens(account_id=None), dialect)) >= ID_TOKEN


@pytest.mark.parametrize(("release", "members"), [("0.93.0", ID_TOKEN), ("0.169.0", ACCOUNT)])
async def test_a_child_gets_the_same_members_at_the_start_and_in_answers(release: str, members: set[str]) -> None:
    world, child = World(tokens()), Child(f"test/{release} (Linux)")
    async with world.engine, world.child(child):
        handed = next(params for name, params in child.requests if name == "account/login/start")
        assert set(handed) == {"type"} | members
        await child.ask()
        assert set(child.answers[-1]) == members
