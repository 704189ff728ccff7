"""The forms in which a token is printed, and what each of them cannot carry."""

import json
import subprocess

import msgspec
import pytest

from authstate.adapters.cli.token_formats import TokenAnswer, TokenFormat, TokenKind, format_token
from authstate.engine.model.errors import InvalidCredentials

TOKEN = "eyJhbGciOi.eyJleHAi-_.c2ln"
CHATGPT = TokenAnswer(TOKEN, TokenKind.ACCESS_TOKEN, "org-1", 1_795_875_330.9)
KEY = TokenAnswer("sk-example", TokenKind.API_KEY)


@pytest.mark.parametrize(
    ("answer", "form", "text"),
    [
        (CHATGPT, "bearer", f"{TOKEN}\n"),
        (KEY, "bearer", "sk-example\n"),
        (CHATGPT, "header", f"Authorization: Bearer {TOKEN}\nchatgpt-account-id: org-1\n"),
        (KEY, "header", "Authorization: Bearer sk-example\n"),
        (
            CHATGPT,
            "env",
            f"AUTHSTATE_TOKEN={TOKEN}\nAUTHSTATE_WORKSPACE_ID=org-1\nAUTHSTATE_TOKEN_EXPIRES_AT=2026-11-28T14:15:30Z\n",
        ),
        (KEY, "env", "AUTHSTATE_TOKEN=sk-example\nAUTHSTATE_WORKSPACE_ID=\nAUTHSTATE_TOKEN_EXPIRES_AT=\n"),
    ],
)
def test_the_lines(answer: TokenAnswer, form: str, text: str) -> None:
    assert format_token(answer, TokenFormat(form)) == text


def test_one_json_object_on_one_line() -> None:
    text = format_token(CHATGPT, TokenFormat.JSON)
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "token": TOKEN,
        "kind": "access_token",
        "expiresAt": "2026-11-28T14:15:30Z",
        "workspaceId": "org-1",
    }
    assert json.loads(format_token(KEY, TokenFormat.JSON)) == {
        "token": "sk-example",
        "kind": "api_key",
        "expiresAt": None,
        "workspaceId": None,
    }


@pytest.mark.parametrize("form", TokenFormat)
@pytest.mark.parametrize("bad", ["", "two words", "two\nlines", "nul\0", "ümlaut", "carriage\r"])
def test_what_no_header_can_carry_is_not_printed(form: TokenFormat, bad: str) -> None:
    for answer in (
        msgspec.structs.replace(KEY, token=bad),
        msgspec.structs.replace(CHATGPT, workspace_id=bad or " "),
    ):
        with pytest.raises(InvalidCredentials) as refused:
            format_token(answer, form)
        assert not bad or bad not in str(refused.value)


@pytest.mark.parametrize("bad", ["a$b", "a;b", "a'b", 'a"b', "a`b", "a\\b", "a*b", "a&b", "~a", "a:~b", "#a", "a(b"])
def test_what_a_shell_changes_is_not_printed_as_variables(bad: str) -> None:
    for answer in (msgspec.structs.replace(KEY, token=bad), msgspec.structs.replace(CHATGPT, workspace_id=bad)):
        with pytest.raises(InvalidCredentials, match="use --format json"):
            format_token(answer, TokenFormat.ENV)
        assert bad in json.loads(format_token(answer, TokenFormat.JSON)).values()


@pytest.mark.parametrize("token", ["a.b-c_d", "a+b/c==", "a~b", "a%41@b", "-n", "=a"])
def test_a_shell_reads_what_was_printed(token: str) -> None:
    lines = format_token(msgspec.structs.replace(CHATGPT, token=token), TokenFormat.ENV)
    script = f'{lines}printf "%s|%s|%s" "$AUTHSTATE_TOKEN" "$AUTHSTATE_WORKSPACE_ID" "$AUTHSTATE_TOKEN_EXPIRES_AT"'
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{token}|org-1|2026-11-28T14:15:30Z"
