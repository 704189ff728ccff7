"""Signs in for a test as a person with a browser would: answers the sign-in page, and follows the redirect."""

from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import parse_qsl, urljoin, urlsplit

_PATIENCE: Final = 30.0  # seconds: the application exchanges the code before it answers
_MOST_REDIRECTS: Final = 3  # within the application, for example to a page whose address holds no code


class RedirectUnreachable(Exception):
    """The application did not answer the redirect. The message says why."""


def parameters_of(auth_url: str) -> dict[str, str]:
    """Return the parameters of the URL that an application opens in a browser."""
    return dict(parse_qsl(auth_url.partition("?")[2]))


def follow_redirect(url: str) -> int:
    """Follow the redirect to the application, and return the status of the page that a browser then shows.

    Args:
        url: a checked redirect URL on loopback. No message quotes it, because it holds a code.

    Raises:
        RedirectUnreachable: nothing listens there, or it did not answer in time.
    """
    try:
        status, location = _get(url)
        for _ in range(_MOST_REDIRECTS):
            following = urljoin(url, location)
            if not location or urlsplit(following).netloc != urlsplit(url).netloc:
                break
            status, location = _get(following)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        message = f"the application did not answer the redirect ({reason}): is its sign-in still waiting?"
        raise RedirectUnreachable(message) from None
    return status


def _get(url: str) -> tuple[int, str]:
    """Return the status and the `Location` of an answer."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_PATIENCE)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location", "")
    finally:
        connection.close()
