"""The page of the loopback issuer where a person agrees to a sign-in or declines it. Plain HTML, without a script."""

from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Final
from urllib.parse import urlencode, urlsplit

DECLINED: Final = {"error": "access_denied", "error_description": "The person declined"}
"""The query of the redirect when the person declines, besides `state`."""

_NEEDED: Final = {"response_type": "code", "code_challenge_method": "S256"}
_KEPT: Final = ("redirect_uri", "state", "code_challenge")

_PAGE: Final = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title – loopback issuer</title>
</head>
<body>
<main>
$content
</main>
</body>
</html>
"""
)

_CONTENT: Final = Template(
    """<h1>Sign in to $client?</h1>
<p>This is an issuer for tests. $who</p>
<form method="post" action="/oauth/authorize">
$fields
<button name="answer" value="agree">Agree</button>
<button name="answer" value="decline">Decline</button>
</form>"""
)


def fault(asked: Mapping[str, str]) -> str | None:
    """Return what is wrong with the parameters of the browser's request. None if they are valid."""
    for name, value in _NEEDED.items():
        if asked.get(name) != value:
            return f"{name} must be {value}"
    missing = [name for name in (*_KEPT, "client_id", "scope") if not asked.get(name)]
    if missing:
        return f"{' and '.join(missing)} must be given"
    return None if _is_callback(asked["redirect_uri"]) else "redirect_uri must be http://localhost:PORT/auth/callback"


def _is_callback(uri: str) -> bool:
    try:
        target = urlsplit(uri)
        port = target.port
    except ValueError:
        return False
    is_loopback = target.hostname in ("localhost", "127.0.0.1")  # codex sends the second one from 0.169 on
    return is_loopback and port != 0 and (target.scheme, target.path) == ("http", "/auth/callback")


def page(asked: Mapping[str, str], email: str) -> str:
    """Return the page with its two buttons. The parameters must be valid."""
    return _page(asked, f"You would be signed in as {escape(email)}.", ())


def page_with_choice(asked: Mapping[str, str], chosen: str, people: Mapping[str, str]) -> str:
    """Return the page on which a person also chooses who signs in.

    Args:
        asked: the parameters of the browser's request. They must be valid.
        chosen: who is chosen at first.
        people: the emails of those whom the page offers, by the value of the form's `person`.
    """
    return _page(asked, "It needs no password.", [choice(chosen, people)])


def _page(asked: Mapping[str, str], who: str, more: Sequence[str]) -> str:
    fields = [f'<input type="hidden" name="{name}" value="{escape(asked[name])}">' for name in _KEPT]
    content = _CONTENT.substitute(client=escape(asked["client_id"]), who=who, fields="\n".join([*fields, *more]))
    return document("Sign in", content)


def document(title: str, content: str) -> str:
    """Return a page of the issuer. Both arguments are HTML."""
    return _PAGE.substitute(title=title, content=content)


def choice(chosen: str, people: Mapping[str, str]) -> str:
    """Return the part of a form in which a person is chosen. The arguments are those of `page_with_choice`."""
    rows = ["<fieldset>", "<legend>Sign in as</legend>"]
    for name, shown in people.items():
        checked = " checked" if name == chosen else ""
        button = f'<input type="radio" name="person" value="{escape(name)}"{checked}>'
        rows.append(f"<p><label>{button} {escape(shown)}</label></p>")
    return "\n".join([*rows, "</fieldset>"])


def redirect_url(form: Mapping[str, str], **answer: str) -> str:
    """Return the URL that the browser is redirected to."""
    return f"{form.get('redirect_uri', '')}?{urlencode({**answer, 'state': form.get('state', '')})}"
