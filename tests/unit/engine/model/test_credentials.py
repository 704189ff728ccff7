"""Credentials: secrets that show themselves to nobody, keys, tokens and the account in their claims."""

import copy
import pickle
from base64 import urlsafe_b64encode

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authstate.adapters.stores.auth_json_format import decode, encode
from authstate.engine.model.account import Account, PlanType, account_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens, storable_time
from authstate.engine.model.errors import InvalidCredentials
from authstate.engine.model.jwt_claims import expiry_of, read_jwt_claims
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.secret import Secret, fits_header
from authstate.testing import make_external_tokens, make_jwt, make_tokens

AUTH = "https://api.openai.com/auth"


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("hush-7")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", format(secret)):
        assert "hush" not in shown
    assert secret.reveal() == "hush-7"
    for reader in (pickle.dumps, Secret.__getstate__, Secret.__reduce__):
        with pytest.raises(TypeError, match="not pickled") as refusal:
            reader(secret)
        assert "hush" not in str(refusal.value)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    assert copy.deepcopy(ApiKey(secret)) == ApiKey(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


def test_secrets_compare_by_value_and_only_with_secrets() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("ä") == Secret("ä")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a")
    assert not Secret("")


def test_credentials_cannot_be_changed() -> None:
    tokens = make_tokens()
    for thing, name in ((tokens, "access_token"), (tokens.account, "email"), (ApiKey.parse("sk-1"), "key")):
        with pytest.raises(AttributeError):
            setattr(thing, name, None)
        with pytest.raises(AttributeError):
            setattr(thing, "something_new", 1)  # noqa: B010 - a type checker forbids the assignment


@pytest.mark.parametrize(
    "text",
    [
        *("sk-1", "  sk-1\n", "\tsk-1\r\n", "\ufeffsk-1\r\n", '"sk-1"', "'sk-1'\n"),
        *("OPENAI_API_KEY=sk-1", 'export OPENAI_API_KEY="sk-1"', "export CODEX_API_KEY='sk-1';\n"),
        *("set OPENAI_API_KEY=sk-1", '$env:OPENAI_API_KEY = "sk-1"', "OPENAI_API_KEY = sk-1"),
        *("'OPENAI_API_KEY=sk-1'", "\"export OPENAI_API_KEY='sk-1'\"", "`sk-1`", "“sk-1”", "\ufeff ' sk-1 '"),
    ],
)
def test_a_key_is_read_without_what_is_around_it(text: str) -> None:
    assert ApiKey.parse(text) == ApiKey(Secret("sk-1"))


@pytest.mark.parametrize("text", ["YWJjKEY==", 'a"b', "sk-1=", "'sk-1", "key=sk-1", "=sk-1", '"'])
def test_what_only_resembles_an_assignment_or_quotes_is_part_of_the_key(text: str) -> None:
    assert ApiKey.parse(text) == ApiKey(Secret(text))


@pytest.mark.parametrize("text", ["", "  \n", '""', "my KEY=sk-1", "sk 1", "sk-\x00", "sk-\n1", "sk-ü", "sk-\u200b1"])
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidCredentials, match="the API key") as refusal:
        ApiKey.parse(text)
    assert "sk" not in str(refusal.value)


@pytest.mark.parametrize(
    ("claim", "plan"),
    [
        ("plus", "plus"),
        ("PLUS", "plus"),
        (" Pro ", "pro"),
        ("hc", "enterprise"),
        ("education", "edu"),
        ("gold", "unknown"),
        ("", "unknown"),
        (7, "unknown"),
        (None, "unknown"),
    ],
)
def test_plans(claim: object, plan: str) -> None:
    assert PlanType.from_claim(claim) == plan


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Account(account_id="a"), Account(account_id="a"), True),
        (Account(account_id="a"), Account(account_id="b"), False),
        (Account(account_id="a"), Account(), False),
        (Account(account_id="a", user_id="u"), Account(account_id="a", user_id="u"), True),
        (Account(account_id="a", user_id="u"), Account(account_id="a", user_id="v"), False),
        (Account(account_id="a", user_id="u"), Account(account_id="a"), True),
        (Account(email="e"), Account(email="e"), True),
        (Account(email="e"), Account(email="f"), False),
    ],
)
def test_same_account(one: Account, other: Account, same: bool) -> None:
    assert one.is_same_as(other) is same
    assert other.is_same_as(one) is same


def test_an_account_for_people() -> None:
    assert str(Account("me@example.com", account_id="org-1")) == "me@example.com (workspace org-1)"
    assert str(Account("me@example.com")) == "me@example.com"
    assert str(Account()) == "an account without an email"


def test_tokens_are_read_with_their_account_and_expiry() -> None:
    id_token = make_jwt(
        **{
            "https://api.openai.com/profile": {"email": "me@example.com"},
            AUTH: {"chatgpt_account_id": "org-1", "user_id": "user-1", "chatgpt_plan_type": "Team"},
        }
    )
    tokens = ChatgptTokens.read(id_token=id_token, access_token=make_jwt(exp=5), refresh_token="rt", last_refresh=3.0)
    assert tokens.account == Account("me@example.com", PlanType.TEAM, "org-1", "user-1")
    assert (tokens.expires_at, tokens.last_refresh) == (5.0, 3.0)
    assert (
        ChatgptTokens.read(
            id_token=id_token, access_token="opaque", refresh_token="rt", account_id="org-2"
        ).account.account_id
        == "org-2"
    )
    with pytest.raises(InvalidCredentials, match="id token"):
        ChatgptTokens.read(id_token="x", access_token="a", refresh_token="r")


def test_same_material() -> None:
    tokens = make_tokens()
    assert tokens.is_same_material_as(msgspec.structs.replace(tokens, last_refresh=1.0))
    assert not tokens.is_same_material_as(msgspec.structs.replace(tokens, access_token=Secret("x")))
    assert not tokens.is_same_material_as(msgspec.structs.replace(tokens, refresh_token=Secret("x")))


def test_external_tokens_in_both_dialects() -> None:
    access = make_jwt(exp=9, email="access@example.com", **{AUTH: {"chatgpt_account_id": "org-a"}})
    identity = make_jwt(email="id@example.com", **{AUTH: {"chatgpt_account_id": "org-i", "chatgpt_plan_type": "free"}})
    alone = ExternalTokens.read(access_token=access)
    assert (alone.account.email, alone.account.account_id, alone.id_token) == ("access@example.com", "org-a", None)
    both = ExternalTokens.read(access_token=access, id_token=identity)
    assert (both.account.email, both.account.account_id) == ("id@example.com", "org-i")
    assert both.id_token == Secret(identity)
    assert both.expires_at == 9.0
    told = ExternalTokens.read(access_token=access, account_id="org-x", plan_type="pro")
    assert (told.account.account_id, told.account.plan_type) == ("org-x", PlanType.PRO)
    assert ExternalTokens.read(access_token="opaque", id_token=identity).expires_at is None
    for wrong in ({"access_token": " "}, {"access_token": "opaque"}, {"access_token": access, "id_token": "x"}):
        with pytest.raises(InvalidCredentials):
            ExternalTokens.read(**wrong)
    assert make_external_tokens().account.email == "person@example.com"


def payload(data: bytes) -> str:
    return f"e30.{urlsafe_b64encode(data).rstrip(b'=').decode()}.sig"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        ".b.c",
        "a..c",
        "a.b.c",
        "e30.e30.",
        "e30.e30",
        "e30.e30.sig.",
        "a.ü.c",
        "a.\ud800.c",
        payload(b"no json"),
        payload(b"\xff\xfe"),
        payload(b"[1]"),
        payload(b'"text"'),
        payload(b"null"),
        payload(b"[" * 100_000),
        payload(b'{"a":"' + b"x" * 300_000 + b'"}'),
    ],
)
def test_what_is_no_jwt_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(InvalidCredentials, match="the thing is not a JWT") as refusal:
        read_jwt_claims(token, "thing")
    assert len(str(refusal.value)) < 100
    assert refusal.value.__cause__ is None
    assert expiry_of(token) is None


def test_what_is_too_long_for_a_jwt_is_called_that() -> None:
    with pytest.raises(InvalidCredentials, match="longer than 262144 characters"):
        read_jwt_claims("a." * 2 + "a" * 262_141, "thing")


def test_a_signature_is_not_checked() -> None:
    assert read_jwt_claims(payload(b"{}"), "thing") == {}


@pytest.mark.parametrize(
    ("exp", "expected"),
    [
        (5, 5.0),
        (5.5, 5.5),
        (0, None),
        (-1, None),
        ("5", None),
        (True, None),
        (None, None),
        ([], None),
        (1e300, None),
        (253_402_300_799, 253_402_300_799.0),
        (253_402_300_800, None),
    ],
)
def test_expiry(exp: object, expected: float | None) -> None:
    assert expiry_of(make_jwt(exp=exp)) == expected


@given(st.floats(-1e12, 1e12))
@example(1_764_000_000.1234567)
def test_the_time_of_a_refresh_is_stored_as_it_is_in_memory(clock: float) -> None:
    tokens = make_tokens(now=clock, expires_in=None)
    assert decode(encode(tokens, None), "here").credentials == tokens
    assert abs(storable_time(clock) - clock) < 1e-5 or not 0 <= clock <= 253_402_300_799


@pytest.mark.parametrize("wrong", [7, "text", ["a"], None, True])
def test_claims_of_the_wrong_type_count_as_missing(wrong: object) -> None:
    nothing = Account()
    assert account_of({AUTH: wrong, "https://api.openai.com/profile": wrong}) == nothing
    for claims in ({"chatgpt_account_id": wrong}, {"chatgpt_user_id": wrong}, {"user_id": wrong}):
        if wrong != "text":
            assert account_of({AUTH: claims}) == nothing
    if wrong != "text":
        assert account_of({"email": wrong}) == nothing


def test_a_policy_names_what_to_do() -> None:
    only_api = Policy(LoginMethod.API)
    assert only_api.violation(ApiKey.parse("sk-1")) is None
    assert "sign in with an API key" in str(only_api.violation(make_tokens()))
    only_chatgpt = Policy(LoginMethod.CHATGPT, ("org-7",))
    assert "sign in with a ChatGPT account" in str(only_chatgpt.violation(ApiKey.parse("sk-1")))
    assert "workspace org-1" in str(only_chatgpt.violation(make_tokens()))
    assert "no workspace" in str(only_chatgpt.violation(make_external_tokens(account_id=None)))
    assert only_chatgpt.violation(make_tokens(account_id="org-7")) is None


def test_an_empty_access_token_of_a_parent_is_named() -> None:
    with pytest.raises(InvalidCredentials, match=r"^the access token is empty$"):
        ExternalTokens.read(access_token=" ", id_token=make_jwt())


def test_a_secret_is_no_string() -> None:
    assert (Secret("a") == "a") is False
    assert (Secret("a") != "a") is True


def test_policies_that_allow_the_same_are_equal_whoever_made_them() -> None:
    policy = Policy(LoginMethod.API, ("org-1",))
    same = Policy(LoginMethod.API, ("org-1",), "forced_login_method in FILE", "allowed_workspaces in FILE")
    assert policy == same and hash(policy) == hash(same)
    assert (policy != same) is False
    assert policy != Policy(LoginMethod.API) != Policy(LoginMethod.CHATGPT)
    assert policy != "api"


# Limits


@pytest.mark.parametrize(
    ("policy", "account_id", "says"),
    [
        (
            Policy(forced_workspaces=("org-7", "org-8")),
            "org-1",
            "these tokens belong to workspace org-1, and the configuration allows only org-7, org-8 "
            "(forced_chatgpt_workspace_id): sign in to an allowed workspace",
        ),
        (
            Policy(forced_workspaces=("org-7",), workspace_rule="allowed_chatgpt_workspaces in FILE"),
            None,
            "these tokens belong to no workspace, and the configuration allows only org-7 "
            "(allowed_chatgpt_workspaces in FILE): sign in to an allowed workspace, or ask your administrator",
        ),
    ],
)
def test_a_workspace_that_is_not_allowed_is_named_with_the_rule(
    policy: Policy, account_id: str | None, says: str
) -> None:
    assert str(policy.violation(make_tokens(account_id=account_id))) == says


def jwt_of(length: int) -> str:
    """A JWT of so many characters, with no claims."""
    head = "e30.e30."
    return head + "s" * (length - len(head))


def test_the_longest_token_has_256_kib() -> None:
    longest = 256 * 1024
    assert read_jwt_claims(jwt_of(longest), "token") == {}
    assert fits_header(jwt_of(longest))
    with pytest.raises(InvalidCredentials, match="longer than 262144 characters"):
        read_jwt_claims(jwt_of(longest + 1), "token")
    assert not fits_header(jwt_of(longest + 1))


def test_the_longest_account_id_has_1024_characters() -> None:
    assert account_of({}, account_id="a" * 1024).account_id == "a" * 1024
    with pytest.raises(InvalidCredentials, match="more than 1024 characters"):
        account_of({}, account_id="a" * 1025)


@pytest.mark.parametrize(("text", "fits"), [("", False), ("a", True), ("a b", False), ("\x7f", False), ("ä", False)])
def test_what_a_header_can_carry(text: str, fits: bool) -> None:
    assert fits_header(text) is fits
