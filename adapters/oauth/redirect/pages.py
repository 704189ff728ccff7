"""The pages that a browser shows after the redirect: small, without scripts and without external resources.

They name nobody and contain no secret, because another program on this machine might fetch them first. Texts of the
issuer are escaped. The content security policy allows only the style sheet, by its hash.
"""

import hashlib
from base64 import b64encode
from enum import StrEnum
from html import escape
from string import Template
from typing import Final

import msgspec

from authstate.adapters.network.loopback_server import CONTENT_POLICY, Response

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f3f4f6; --card: #ffffff; --text: #1b1f24; --quiet: #4b5563;
  --line: #d5d9e0; --good: #14692f; --bad: #a3172a; --still: #7a4b00 }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171c; --card: #1e2229; --text: #eef0f3; --quiet: #b4bcc8;
    --line: #3a414d; --good: #6fd694; --bad: #ff9ba6; --still: #f3c06b }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; min-height: 100dvh; display: grid; place-items: center; padding: 1.25rem;
  background: var(--page); color: var(--text); font: 1.0625rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif }
main { width: 100%; max-width: 34rem; padding: clamp(1.5rem, 6vw, 2.75rem); background: var(--card);
  border: 1px solid var(--line); border-top: .3rem solid var(--tone); border-radius: .75rem }
.good { --tone: var(--good) }
.bad { --tone: var(--bad) }
.still { --tone: var(--still) }
h1 { margin: 0 0 1rem; font-size: clamp(1.375rem, 5vw, 1.75rem); line-height: 1.25; color: var(--tone) }
p { margin: 0 0 1rem; overflow-wrap: anywhere }
dl { margin: 1.25rem 0 0; padding-top: 1.25rem; border-top: 1px solid var(--line) }
dt { color: var(--quiet); font-size: .9375rem }
dd { margin: .125rem 0 0; overflow-wrap: anywhere }
code { font: .9375rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
footer { margin-top: 1.5rem; color: var(--quiet); font-size: .875rem }
"""

_PAGE: Final = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>$title – authstate</title>
<style>$style</style>
</head>
<body>
<main class="$tone">
<h1>$title</h1>
<div role="status">
$paragraphs
</div>
$details<footer>This page was made by authstate on this computer. It contains no secret.</footer>
</main>
</body>
</html>
"""
)

_POLICY: Final = f"{CONTENT_POLICY}; style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"


class Tone(StrEnum):
    """How the page looks."""

    GOOD = "good"
    BAD = "bad"
    STILL = "still"


class Page(msgspec.Struct, frozen=True):
    """A page as plain text. `response` escapes it."""

    title: str
    paragraphs: tuple[str, ...]
    tone: Tone = Tone.BAD
    status: int = 200
    code: str | None = None
    """The issuer's error code."""

    def response(self) -> Response:
        """The page as an answer."""
        details = ""
        if self.code is not None:
            details = f"<dl>\n<dt>Error code of the issuer</dt>\n<dd><code>{escape(self.code)}</code></dd>\n</dl>\n"
        html = _PAGE.substitute(
            title=escape(self.title),
            tone=escape(self.tone),
            style=_STYLE,
            paragraphs="\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in self.paragraphs),
            details=details,
        )
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _POLICY}
        return Response(self.status, html.encode("utf-8", "replace"), headers)


_AGAIN: Final = "Go back to the application and start the sign-in again."

SUCCESS: Final = Page(
    "You are signed in",
    (
        "Your sign-in is complete and stored on this computer.",
        "You can close this page and go back to the application.",
    ),
    Tone.GOOD,
)
CANCELLED: Final = Page(
    "Sign-in cancelled",
    ("The sign-in was cancelled. Nothing has changed.", _AGAIN, "You can close this page."),
    Tone.STILL,
)
EXPIRED: Final = Page(
    "Sign-in expired",
    ("The sign-in took too long and is over. Nothing has changed.", _AGAIN, "You can close this page."),
    Tone.STILL,
)
SUPERSEDED: Final = Page(
    "Sign-in replaced",
    (
        "This sign-in was replaced before it was complete: by another sign-in, a sign-out or the end of the "
        "application. It changed nothing.",
        "Go back to the application to see who is signed in.",
    ),
    Tone.STILL,
)
WRONG_STATE: Final = Page(
    "This link does not belong to the sign-in",
    (
        "The link does not belong to the sign-in that is waiting on this computer, so it was ignored. The sign-in is "
        "still waiting.",
        "Finish it in the browser window that the application opened, or start it again there.",
    ),
    status=400,
)
USED: Final = Page(
    "This link was already used",
    ("A sign-in link works only once.", "Go back to the application to see whether you are signed in."),
    Tone.STILL,
    status=409,
)
NOTHING_TO_CANCEL: Final = Page(
    "Nothing to cancel",
    ("This sign-in is already over.", "Go back to the application to see whether you are signed in."),
    Tone.STILL,
    status=409,
)
NOT_FOUND: Final = Page(
    "Nothing to see here",
    (
        "This address belongs to a sign-in and shows its outcome once.",
        "Go back to the application to see who is signed in.",
    ),
    Tone.STILL,
    status=404,
)


def failure(what_happened: str, code: str | None = None) -> Page:
    """The page for a sign-in that failed.

    Args:
        what_happened: and what to do about it, one sentence or more; not escaped.
        code: the issuer's error code.
    """
    sentence = what_happened[:1].upper() + what_happened[1:]
    if sentence and sentence[-1] not in ".!?…":
        sentence += "."
    unchanged = "Nothing was stored. If you were signed in before, that sign-in still works."
    return Page("Sign-in failed", (sentence, unchanged, _AGAIN), code=code)
