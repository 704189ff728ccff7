"""The stored form: what codex wrote loads, unknown members stay, and a bad file is named without its secrets."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.adapters.stores.auth_json_format import LARGEST, decode, encode, is_json_object
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, PersonalAccessToken
from authstate.engine.model.errors import StoreUnreadable
from authstate.testing import make_external_tokens, make_jwt, make_tokens

PLACE = "/home/person/.codex/auth.json"
KEY = ApiKey.parse("sk-canary-key")
ID_TOKEN = make_jwt(email="a@example.com", **{"https://api.openai.com/auth": {"chatgpt_account_id": "org-claim"}})


def tokens(**more: Any) -> dict[str, Any]:
    known = {"id_token": ID_TOKEN, "access_token": "canary-at", "refresh_token": "canary-rt", "account_id": "org-1"}
    return known | more


def read(document: Any) -> Any:
    return decode(json.dumps(document).encode(), PLACE).credentials


def test_what_codex_writes_loads() -> None:
    found = read(
        {
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": None,
            "tokens": tokens(),
            "last_refresh": "2026-11-22T22:10:11.123456789Z",
        }
    )
    assert isinstance(found, ChatgptTokens)
    assert found.access_token.reveal() == "canary-at"
    assert found.account.account_id == "org-1"
    assert found.last_refresh == pytest.approx(1795385411.123456, abs=1e-6)


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"OPENAI_API_KEY": "sk-old"}, ApiKey),
        ({"personal_access_token": "at-1", "OPENAI_API_KEY": "sk-old", "tokens": tokens()}, PersonalAccessToken),
        ({"auth_mode": "personalAccessToken", "personal_access_token": "at-1"}, PersonalAccessToken),
        ({"auth_mode": "apikey", "personal_access_token": "at-1", "OPENAI_API_KEY": "sk-old"}, ApiKey),
        ({"agent_identity": "x", "tokens": tokens()}, ChatgptTokens),
        ({"personal_access_token": None, "tokens": tokens()}, ChatgptTokens),
        ({"OPENAI_API_KEY": "sk-old", "tokens": tokens()}, ApiKey),
        ({"OPENAI_API_KEY": None, "tokens": tokens()}, ChatgptTokens),
        ({"OPENAI_API_KEY": " ", "tokens": tokens()}, ChatgptTokens),
        ({"auth_mode": None, "tokens": tokens()}, ChatgptTokens),
        ({"auth_mode": "chatgpt", "OPENAI_API_KEY": "sk-old", "tokens": tokens()}, ChatgptTokens),
        ({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-old", "tokens": tokens()}, ApiKey),
        ({}, type(None)),
        ({"last_refresh": None, "canary": 1}, type(None)),
        ({"auth_mode": None, "tokens": None, "OPENAI_API_KEY": None}, type(None)),
    ],
)
def test_the_mode_says_what_counts_and_older_files_have_none(document: Any, kind: type) -> None:
    assert isinstance(read(document), kind)


@pytest.mark.parametrize("account_id", [None, "", "  "])
def test_without_an_account_id_the_claim_counts(account_id: str | None) -> None:
    assert read({"tokens": tokens(account_id=account_id)}).account.account_id == "org-claim"


@pytest.mark.parametrize("text", ["2026-11-22T22:10:11Z", "2026-11-22T23:10:11+01:00", "2026-11-22T22:10:11"])
def test_every_spelling_of_an_instant_is_read(text: str) -> None:
    assert read({"tokens": tokens(), "last_refresh": text}).last_refresh == 1795385411.0


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"auth_mode": "chatgpt", "tok', "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'"canary"', "not a JSON object"),
        (b'{"x": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"x":' + b"[" * 100_000, "cannot be read"),
        (b" " * LARGEST + b"{}", "larger"),
        (b'{"http-basic": {"canary": 1}}', "belongs to another program"),
        (b'{"auth_mode": 3}', "auth_mode has the wrong type"),
        (b'{"OPENAI_API_KEY": {"canary": 1}}', "OPENAI_API_KEY has the wrong type"),
        (b'{"tokens": "canary"}', "tokens has the wrong type"),
        (b'{"auth_mode": "chatgpt"}', "no tokens"),
        (b'{"auth_mode": "chatgpt", "tokens": null}', "no tokens"),
        (b'{"auth_mode": "apikey"}', "no OPENAI_API_KEY"),
        (b'{"auth_mode": "apikey", "OPENAI_API_KEY": ""}', "empty"),
        (b'{"OPENAI_API_KEY": "sk-canary key"}', "OPENAI_API_KEY"),
        (b"\0\0\0", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b'\xff\xfe{\0"', "UTF-8 text"),
        ('{"canary": 1}'.encode("utf-16-le"), "zero bytes, like UTF-16 text"),
        (b'{"auth_mode": "apikey", "auth_mode": "chatgpt"}', "the member auth_mode twice"),
        (b'{"OPENAI_API_KEY": "sk-canary-1", "OPENAI_API_KEY": "sk-canary-2"}', "OPENAI_API_KEY twice"),
        (b'{"tokens": {"access_token": "canary", "access_token": "x"}}', "tokens.access_token twice"),
        (b'{"tokens": {"id_token": "canary"}, "tokens": null}', "tokens twice"),
        (json.dumps({"tokens": tokens(id_token="canary")}).encode(), "id token is not a JWT"),
        (json.dumps({"tokens": tokens(id_token=ID_TOKEN.rpartition(".")[0] + ".")}).encode(), "id token is not a JWT"),
        (json.dumps({"tokens": tokens(id_token=ID_TOKEN + ".x")}).encode(), "id token is not a JWT"),
        (json.dumps({"tokens": tokens(id_token=None)}).encode(), "tokens.id_token is missing or empty"),
        (json.dumps({"tokens": tokens(access_token=" \n")}).encode(), "tokens.access_token is missing or empty"),
        (json.dumps({"tokens": tokens(refresh_token=7)}).encode(), "tokens.refresh_token has the wrong type"),
        (json.dumps({"tokens": tokens(access_token="")}).encode(), "tokens.access_token is missing or empty"),
        (json.dumps({"tokens": tokens(account_id=[])}).encode(), "tokens.account_id has the wrong type"),
        (json.dumps({"tokens": tokens(), "last_refresh": 5}).encode(), "last_refresh has the wrong type"),
        (json.dumps({"tokens": tokens(), "last_refresh": "canary"}).encode(), "not a time stamp"),
        (json.dumps({"tokens": tokens(), "last_refresh": "0001-01-01T00:00:00+23:59"}).encode(), "not a time stamp"),
        (json.dumps({"tokens": tokens(), "last_refresh": "9999-12-31T23:59:59-23:59"}).encode(), "not a time stamp"),
    ],
)
def test_a_bad_file_is_named_with_its_fault_and_without_its_content(data: bytes, fault: str) -> None:
    with pytest.raises(StoreUnreadable) as caught:
        decode(data, PLACE)
    assert PLACE in str(caught.value)
    assert fault in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_what_an_editor_or_a_power_cut_adds_is_no_fault(encoding: str) -> None:
    """PowerShell writes a byte order mark; a power cut can leave zero bytes. Unknown members are kept all the same."""
    mine = make_tokens()
    text = encode(mine, b'{"ours": {"n": 1}, "tokens": {"scope": "\xc3\xa9"}}').decode().replace("\n", "\r\n")
    data = ("\ufeff" + text).encode(encoding) + b"\0" * 8
    assert is_json_object(data)
    assert decode(data, PLACE).credentials == mine
    written = encode(make_tokens(), data)
    assert written.startswith(b"{")
    assert (json.loads(written)["ours"], json.loads(written)["tokens"]["scope"]) == ({"n": 1}, "é")
    assert not any(is_json_object(data[:end]) for end in range(0, len(text.encode(encoding)), 50))


def test_a_member_that_is_there_twice_with_one_value_is_no_fault() -> None:
    written = encode(mine := make_tokens(), None)
    assert decode(b'{"auth_mode": "chatgpt", "x": 1, "x": 2,' + written[1:], PLACE).credentials == mine


@pytest.mark.parametrize("refresh_token", ["", " ", None])
def test_a_login_without_a_refresh_token_loads_and_is_written_as_codex_reads_it(refresh_token: str | None) -> None:
    """codex 0.93.0 and 0.171.0 load an empty refresh token; null and a missing one they refuse."""
    stored = tokens(refresh_token=refresh_token, ours=1)
    found = read({"tokens": stored})
    del stored["refresh_token"]
    assert read({"tokens": stored}) == found
    assert not found.can_refresh
    assert json.loads(encode(found, json.dumps({"tokens": stored}).encode()))["tokens"] == tokens(
        refresh_token="", ours=1
    )


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(StoreUnreadable, match="holds an agent identity") as caught:
        read({"auth_mode": "agentIdentity", "agent_identity": {"key": "canary"}})
    assert PLACE in str(caught.value)
    assert caught.value.other_login == "agentIdentity"
    with pytest.raises(StoreUnreadable, match=r"x{40}…'"):
        read({"auth_mode": "x" * 500})


PERSONAL = PersonalAccessToken.read("at-canary")


def test_a_personal_access_token_is_written_as_codex_writes_it() -> None:
    written = encode(PERSONAL, None)
    assert written == b'{\n  "OPENAI_API_KEY": null,\n  "personal_access_token": "at-canary"\n}'
    assert decode(written, PLACE).credentials == PERSONAL


@pytest.mark.parametrize(
    "over",
    [
        {"auth_mode": "chatgpt", "OPENAI_API_KEY": "sk-1", "tokens": tokens(), "last_refresh": "2026-11-22T22:10:11Z"},
        {"auth_mode": "bedrockApiKey", "bedrock_api_key": {}, "bedrock_access_keys": {}, "agent_identity": "x"},
    ],
)
def test_it_leaves_no_other_login_in_the_record(over: dict[str, Any]) -> None:
    """Without a mode, another login might count in some release."""
    written = json.loads(encode(PERSONAL, json.dumps({**over, "ours": 1}).encode()))
    assert written == {"OPENAI_API_KEY": None, "personal_access_token": "at-canary", "ours": 1}


@pytest.mark.parametrize("credentials", [KEY, make_tokens()])
def test_another_sign_in_removes_it(credentials: ApiKey | ChatgptTokens) -> None:
    assert "personal_access_token" not in json.loads(encode(credentials, encode(PERSONAL, None)))


def test_a_refresh_of_the_login_beside_it_keeps_it() -> None:
    over = {"auth_mode": "chatgpt", "tokens": tokens(), "personal_access_token": "at-canary"}
    written = json.loads(encode(read(over), json.dumps(over).encode()))
    assert (written["auth_mode"], written["personal_access_token"]) == ("chatgpt", "at-canary")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"personal_access_token": ""}, "in personal_access_token, the personal access token is empty"),
        ({"personal_access_token": "at canary"}, "in personal_access_token, no HTTP header can carry"),
        ({"personal_access_token": {"canary": 1}}, "personal_access_token has the wrong type"),
        ({"auth_mode": "personalAccessToken"}, "in personal_access_token, the personal access token is empty"),
    ],
)
def test_a_token_that_cannot_be_used_is_named_and_nothing_beside_it_is_used(document: Any, fault: str) -> None:
    with pytest.raises(StoreUnreadable, match=fault) as caught:
        read({**document, "tokens": tokens(), "OPENAI_API_KEY": "sk-canary"})
    assert "canary" not in str(caught.value)
    assert caught.value.other_login is None


def test_an_api_key_is_written_as_codex_writes_it() -> None:
    assert encode(KEY, None) == b'{\n  "auth_mode": "apikey",\n  "OPENAI_API_KEY": "sk-canary-key"\n}'
    assert encode(KEY, None, indent=-1) == b'{"auth_mode":"apikey","OPENAI_API_KEY":"sk-canary-key"}'


def test_an_api_key_replaces_tokens_and_keeps_what_is_unknown() -> None:
    before = json.dumps({"tokens": tokens(), "last_refresh": "2026-11-22T22:10:11Z", "ours": {"n": 1}}).encode()
    assert json.loads(encode(KEY, before)) == {
        "auth_mode": "apikey",
        "OPENAI_API_KEY": "sk-canary-key",
        "ours": {"n": 1},
    }


def test_tokens_keep_what_is_unknown_at_both_levels() -> None:
    before = b'{"big": 1.000000000000000000001, "tokens": {"access_token": "old", "scope": ["a"]}, "auth_mode": "x"}'
    written = encode(make_tokens(now=1795385411.123456), before)
    assert b'"big": 1.000000000000000000001' in written
    document = json.loads(written)
    assert document["tokens"]["scope"] == ["a"]
    assert document["tokens"]["access_token"] != "old"
    assert list(document)[:4] == ["auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh"]
    assert (document["auth_mode"], document["OPENAI_API_KEY"]) == ("chatgpt", None)
    assert document["last_refresh"] == "2026-11-22T22:10:11.123456Z"


def test_an_api_key_beside_the_tokens_stays_with_its_login_only() -> None:
    mine, other = make_tokens(account_id="org-1"), make_tokens(account_id="org-2")
    document = json.loads(encode(mine, None)) | {"OPENAI_API_KEY": "sk-beside"}
    before = json.dumps(document).encode()
    assert json.loads(encode(make_tokens(account_id="org-1"), before))["OPENAI_API_KEY"] == "sk-beside"
    assert json.loads(encode(other, before))["OPENAI_API_KEY"] is None
    assert json.loads(encode(mine, encode(KEY, None)))["OPENAI_API_KEY"] is None


@pytest.mark.parametrize("before", [b"", b"{", b"[]", b"\xff", b'{"tokens": 3}', b"[" * 100_000])
def test_what_is_corrupt_is_replaced(before: bytes) -> None:
    mine = make_tokens(now=1_800_000_000.25)
    assert decode(encode(mine, before), PLACE).credentials == mine


def test_external_tokens_are_never_stored() -> None:
    with pytest.raises(TypeError, match="never stored") as caught:
        encode(make_external_tokens(), None)
    assert "eyJ" not in str(caught.value)


def test_a_last_refresh_that_is_not_known_is_left_out() -> None:
    mine = ChatgptTokens.read(id_token=ID_TOKEN, access_token="a", refresh_token="r")
    assert "last_refresh" not in json.loads(encode(mine, b'{"last_refresh": "2026-11-22T22:10:11Z"}'))


def test_whole_and_half() -> None:
    whole = encode(make_tokens(), None)
    assert is_json_object(whole)
    assert not any(is_json_object(whole[:end]) for end in range(len(whole)))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
UNKNOWN = st.dictionaries(st.text().map(lambda name: "x" + name), VALUES, max_size=4)


@given(top=UNKNOWN, inner=UNKNOWN, seconds=st.floats(0, 4_000_000_000))
def test_a_round_trip_loses_nothing(top: dict[str, Any], inner: dict[str, Any], seconds: float) -> None:
    mine = make_tokens(now=round(seconds, 6))
    before = json.dumps(top | {"tokens": inner}).encode()
    written = encode(mine, before)
    found = decode(written, PLACE).credentials
    assert isinstance(found, ChatgptTokens)
    assert found.is_same_material_as(mine)
    assert found.account == mine.account
    assert found.last_refresh == pytest.approx(mine.last_refresh, abs=1e-6)
    document = json.loads(written)
    assert {name: document[name] for name in top} == top
    assert {name: document["tokens"][name] for name in inner} == inner
    assert encode(found, written) == written


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode(data, PLACE)
    except StoreUnreadable as error:
        assert PLACE in str(error)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "auth_mode": st.sampled_from(["apikey", "chatgpt", "other"]) | VALUES,
            "OPENAI_API_KEY": VALUES,
            "tokens": VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(tokens(), VALUES)),
            "last_refresh": VALUES,
        },
    )
)
def test_any_value_of_a_known_member_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        read(document)
    except StoreUnreadable as error:
        assert PLACE in str(error)
