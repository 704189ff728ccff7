"""The address that a browser arrived at, as a person copies it from a browser on another machine.

That browser is sent to `localhost`, which is its own machine, so its page does not open; its address has the answer.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

from authstate.adapters.oauth.authorization_request import CALLBACK_PATH, AuthorizationRequest
from authstate.adapters.oauth.issuer import displayable_code, displayable_text
from authstate.adapters.oauth.issuer_errors import IssuerRequest, Outcome, verdict_of
from authstate.engine.model.errors import LoginFailed, strip_tracebacks

_LONGEST: Final = 16 * 1024  # characters, as much as the loopback server reads
_MAX_FIELDS: Final = 32
_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_PASTE_MARKS: Final = re.compile(r"\x1b\[20[01]~")  # what a terminal puts around a paste
_AROUND: Final = "\"'`<>()“”‘’«»,;"
_BARE: Final = re.compile(r"\??(?:[a-z_]+=[^&]*)(?:&[a-z_]+=[^&]*)*", re.IGNORECASE)


class NotTheCallback(LoginFailed):
    """The pasted text does not answer the sign-in. The sign-in still waits, and another text may be pasted."""


@strip_tracebacks
def parameters_of(text: str, question: AuthorizationRequest, port: int) -> Mapping[str, Sequence[str]]:
    """Return the parameters of the redirect, from the whole address or from its part with `code` and `state`.

    White space, quotes, backslashes of a shell and the `&amp;` of a web page are ignored.

    Raises:
        NotTheCallback: the text is something else, belongs to another sign-in, or has an error of the issuer. The
            message quotes only the issuer's own text.
    """
    pasted = "".join(_PASTE_MARKS.sub("", text).split()).strip(_AROUND)
    pasted = pasted.replace("\\", "").replace("&amp;", "&")
    expected = f"http://localhost:{port}{CALLBACK_PATH}?code=…&state=…"
    if not pasted or len(pasted) > _LONGEST or not pasted.isprintable():
        raise NotTheCallback(f"this is not an address: paste the whole address that the browser arrived at, {expected}")
    query = _query_of(pasted, port)
    if query is None:
        raise NotTheCallback(
            f"this is not the address that the browser arrives at: paste the one that begins with "
            f"http://localhost:{port}{CALLBACK_PATH}"
        )
    try:
        parameters = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        parameters = {}
    if not parameters.get("state"):
        raise NotTheCallback(f"this address is incomplete, its state is missing: paste all of it, {expected}")
    if not question.is_answered_by(parameters["state"]):
        raise NotTheCallback(
            "this address belongs to another sign-in: open the URL that is shown here, and paste the address that the "
            "browser then arrives at"
        )
    if "error" in parameters:
        raise NotTheCallback(_refusal(parameters))
    codes = parameters.get("code", [])
    if len(codes) != 1 or not codes[0].strip():
        raise NotTheCallback(f"this address is incomplete, its code is missing: paste all of it, {expected}")
    return parameters


def _query_of(pasted: str, port: int) -> str | None:
    """The query of the address; None when it is not the one that the browser is sent to."""
    pasted = pasted.partition("#")[0]
    if _BARE.fullmatch(pasted):
        return pasted.removeprefix("?")
    if pasted.startswith("/"):
        pasted = f"http://localhost:{port}{pasted}"
    elif "://" not in pasted:
        pasted = f"http://{pasted}"
    try:
        parts = urlsplit(pasted)
        is_ours = parts.scheme == "http" and parts.hostname in _HOSTS and parts.port == port
    except ValueError:
        return None
    return parts.query if is_ours and "@" not in parts.netloc and parts.path == CALLBACK_PATH else None


def _refusal(parameters: Mapping[str, Sequence[str]]) -> str:
    """What the issuer's error means. The person may go back to its page and agree: the sign-in still waits."""
    code = displayable_code(parameters["error"][0])
    said = displayable_text(parameters.get("error_description", [None])[0])
    what = f"the issuer refused the sign-in{f' with the error {code}' if code else ''}"
    if verdict_of(IssuerRequest.AUTHORIZATION, 0, code or "") is Outcome.DECLINED:
        what = "the sign-in was declined on the issuer's page"
    return (
        what + (f', which says "{said}"' if said else "") + ": open the URL again to agree, or press Ctrl-C to give up"
    )
