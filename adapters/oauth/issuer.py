"""Who signs people in: the issuer as plain data, and what of its words a person may be shown."""

import re
from typing import Final

import msgspec

from authstate.adapters.config import Environment
from authstate.adapters.config.settings import DEFAULT_CLIENT_ID, DEFAULT_ISSUER
from authstate.adapters.network.proxies import Network

DEFAULT_ORIGINATOR: Final = "authstate"

_CLIENT_NAME: Final = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")

_LONGEST_CODE: Final = 64
_LONGEST_TEXT: Final = 300


class Issuer(msgspec.Struct, frozen=True):
    """An issuer, and as whom we ask it."""

    url: str = DEFAULT_ISSUER
    """Without a slash at the end."""
    client_id: str = DEFAULT_CLIENT_ID
    """The OAuth client."""
    originator: str = DEFAULT_ORIGINATOR
    """The program that the person uses, as the issuer's pages and records name it."""
    redirect_ports: tuple[int, ...] = ()
    """The ports of this machine that it lets a browser come back to; 0 is any. Empty: those of the default issuer."""
    network: Network | None = None
    """The proxies and certificate authorities to reach it with; None: those of the environment."""

    @classmethod
    def of(cls, environment: Environment, originator: str = DEFAULT_ORIGINATOR) -> "Issuer":
        """The issuer that the environment variables name."""
        url, ports = environment.issuer.rstrip("/"), environment.redirect_ports
        return cls(url, environment.client_id, originator, ports, environment.network)

    def for_client(self, name: str | None) -> "Issuer":
        """The same issuer, asked as the client of this name; a name that fits in no header names nobody."""
        if not name or not _CLIENT_NAME.fullmatch(name):
            return self
        return msgspec.structs.replace(self, originator=name)


def shown_code(code: object) -> str | None:
    """An error code as it may be shown: one short word of ASCII. None for what is no such word."""
    if not isinstance(code, str):
        return None
    word = code.strip()
    fits = 0 < len(word) <= _LONGEST_CODE and word.isascii() and word.isprintable() and " " not in word
    return word if fits else None


def shown_text(text: object) -> str | None:
    """A sentence from outside as it may be shown: on one line, without control characters, cut where it is too long.

    It is not escaped: whoever writes it into a page does that.
    """
    if not isinstance(text, str):
        return None
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 4 * _LONGEST_TEXT]).split())
    return line if len(line) <= _LONGEST_TEXT else line[:_LONGEST_TEXT].rstrip() + "…"
