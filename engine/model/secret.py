"""A secret that shows itself nowhere, and what a header can carry."""

import hmac
from typing import NoReturn

from authstate.engine.model.errors import InvalidCredentials

MAX_TOKEN_LENGTH = 256 * 1024
"""In characters."""


class Secret:
    """A string that no log, repr, format or exception shows. Only `reveal()` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for a header, a request body or a store."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # An error of the codec would quote the secret, so none is possible here.
        mine, theirs = (one._value.encode("utf-8", "surrogatepass") for one in (self, other))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __getstate__(self) -> NoReturn:
        self.__reduce__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: store credentials through a CredentialStore")


def fits_header(text: str, longest: int = MAX_TOKEN_LENGTH) -> bool:
    """Whether a header can carry this: visible ASCII without white space, at most `longest` characters.

    Check it first: an HTTP client that refuses to send a header quotes it in its exception.
    """
    return 0 < len(text) <= longest and text.isascii() and text.isprintable() and " " not in text


def ensure_header(text: str, name: str, longest: int = MAX_TOKEN_LENGTH) -> None:
    """Raise InvalidCredentials if no header can carry this. The message calls it by `name` and does not quote it."""
    if not fits_header(text, longest):
        raise InvalidCredentials(
            f"no HTTP header can carry the {name}: it has white space, a control character or a character that is not "
            f"ASCII, or more than {longest} characters"
        )


def ensure_unicode(text: str, name: str) -> None:
    """Raise InvalidCredentials if UTF-8 cannot encode this. The message calls it by `name` and does not quote it.

    Check it first: the error of the codec quotes the whole text.
    """
    if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
        raise InvalidCredentials(f"the {name} is no valid text: it has half of a character (a lone surrogate)")
