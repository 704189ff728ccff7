"""Writes what the loopback issuer and backend were asked into a transcript. Only the standard library: a fast start."""

from typing import Any, NamedTuple

from authstate.adapters.testing.transcript import Transcript, refusal, tokens_of

Json = dict[str, Any]

_UNANSWERED = {"hang": "no answer", "reset": "no answer", "lost": "answer lost"}


class Exchange(NamedTuple):
    """A request and its answer."""

    endpoint: str
    method: str
    path: str
    bearer: str
    asked: Json
    """The body of the request."""
    mode: str
    """How the endpoint behaved."""
    status: int
    """The status of the answer. 0: it is no answer of this endpoint, such as a page of HTML."""
    answered: Json
    """The body of the answer."""


def record(transcript: Transcript, exchange: Exchange) -> None:
    """Append the line of an exchange, without its secrets."""
    transcript.add(_asked(transcript, exchange), _answered(transcript, exchange))


def _asked(transcript: Transcript, exchange: Exchange) -> str:
    if exchange.endpoint in ("refresh", "revoke"):
        token = exchange.asked.get("refresh_token" if exchange.endpoint == "refresh" else "token")
        return f"{exchange.endpoint} {transcript.name('refresh', str(token or ''))}"
    if exchange.endpoint == "whoami":
        return f"identify {transcript.name('key', exchange.bearer)}"
    if exchange.endpoint in ("backend", "model"):
        return f"{exchange.method} {exchange.path} {transcript.name('access', exchange.bearer)}"
    return "exchange a code" if exchange.endpoint == "exchange" else f"{exchange.method} {exchange.path}"


def _answered(transcript: Transcript, exchange: Exchange) -> str:
    endpoint, status = exchange.endpoint, exchange.status
    if exchange.mode in _UNANSWERED:
        if endpoint == "refresh":
            tokens_of(transcript, exchange.answered)
        return _UNANSWERED[exchange.mode]
    if not status:
        return exchange.mode
    if endpoint in ("backend", "model", "authorize", "device", "other"):
        return str(status)
    if status == 200:
        is_grant = endpoint in ("refresh", "exchange")
        return tokens_of(transcript, exchange.answered) if is_grant else {"whoami": "an account"}.get(endpoint, "done")
    if endpoint == "refresh" and status == 401:
        return refusal(exchange.answered.get("error"))
    return "unavailable" if status >= 500 else "refused" if status == 401 else str(status)
