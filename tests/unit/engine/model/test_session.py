"""What a moment of a login tells of its credentials."""

import msgspec
import pytest

from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.session import Session
from authstate.testing import make_external_tokens, make_tokens

TOKENS, KEY, EXTERNAL = make_tokens(), ApiKey.parse("sk-1"), make_external_tokens()


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        (TOKENS, TOKENS, True),
        (TOKENS, msgspec.structs.replace(TOKENS, refresh_token=make_tokens().refresh_token), True),
        (TOKENS, make_tokens(), False),
        (TOKENS, None, False),
        (None, TOKENS, False),
        (None, None, True),
        (KEY, KEY, True),
        (EXTERNAL, EXTERNAL, True),
        (EXTERNAL, make_external_tokens(), False),
    ],
)
def test_same_access(mine: Credentials | None, theirs: Credentials | None, same: bool) -> None:
    assert Session(credentials=mine).has_same_access_as(Session(credentials=theirs)) is same


def test_only_chatgpt_tokens_have_an_account() -> None:
    assert Session(credentials=TOKENS).account is TOKENS.account
    assert Session(credentials=EXTERNAL).account is EXTERNAL.account
    assert Session(credentials=KEY).account is None
    assert Session().account is None
