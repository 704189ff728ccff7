"""The page of a sandbox on which a person enters the code of a device, and the page that follows. Plain HTML."""

from collections.abc import Mapping
from html import escape
from string import Template
from typing import Final

from authstate.adapters.testing import consent_page

_FORM: Final = Template(
    """<h1>Sign in on a device</h1>
<p>This is an issuer for tests. It needs no password.</p>
<form method="post" action="/codex/device">
<p><label>Code that the device shows <input name="user_code" required autocomplete="off" autofocus></label></p>
$people
<button>Approve</button>
</form>"""
)


def page(chosen: str, people: Mapping[str, str]) -> str:
    """Return the page with the form. The arguments are those of `consent_page.page_with_choice`."""
    return consent_page.document("Sign in", _FORM.substitute(people=consent_page.choice(chosen, people)))


def outcome(title: str, sentence: str) -> str:
    """Return the page that says what became of it."""
    content = f'<h1>{escape(title)}</h1>\n<p role="status">{escape(sentence)}</p>'
    return consent_page.document(escape(title), content)
