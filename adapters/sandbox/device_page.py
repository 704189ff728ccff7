"""The page of a sandbox on which a person enters the code of a device, and the page that follows. Plain HTML."""

from collections.abc import Mapping
from html import escape
from string import Template
from typing import Final

from authstate.adapters.testing import consent_page

_PAGE: Final = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title – authstate sandbox</title>
</head>
<body>
<main>
<h1>$title</h1>
$content
</main>
</body>
</html>
"""
)

_FORM: Final = Template(
    """<p>This is an issuer for tests. It needs no password.</p>
<form method="post" action="/codex/device">
<p><label>Code that the device shows <input name="user_code" required autocomplete="off" autofocus></label></p>
$people
<button>Approve</button>
</form>"""
)


def page(email: str, people: Mapping[str, str]) -> str:
    """Return the page with the form. The arguments are those of `consent_page.page`."""
    form = _FORM.substitute(people=consent_page.choice(email, people))
    return _PAGE.substitute(title="Sign in on a device", content=form)


def outcome(title: str, sentence: str) -> str:
    """Return the page that says what became of it."""
    return _PAGE.substitute(title=escape(title), content=f'<p role="status">{escape(sentence)}</p>')
