"""What tells accounts apart."""

import pytest

from authstate.engine.model.account import Account


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (Account("a@x", account_id="org-1", user_id="u-1"), Account("b@x", account_id="org-1", user_id="u-1"), True),
        (Account(account_id="org-1", user_id="u-1"), Account(account_id="org-2", user_id="u-1"), False),
        (Account(account_id="org-1", user_id="u-1"), Account(account_id="org-1", user_id="u-2"), False),
        (Account(user_id="u-1"), Account(account_id="u-1"), False),
        (Account("a@x"), Account("a@x"), True),
        (Account("a@x"), Account("b@x"), False),
        (Account(), Account(), True),
    ],
)
def test_a_digest_tells_logins_apart(one: Account, other: Account, is_same: bool) -> None:
    assert (one.digest == other.digest) is is_same
    assert len(one.digest) == 16
