"""The issuer as plain data, and what may be shown of the texts that it sends."""

import re
from typing import Final

import msgspec

from authstate.adapters.config import Environment
from authstate.adapters.config.settings import DEFAULT_CLIENT_ID, DEFAULT_ISSUER
from authstate.adapters.network.http_proxies import Network

DEFAULT_ORIGINATOR: Final = "authstate"

_CLIENT_NAME: Final = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")

_LONGEST_CODE: Final = 64
_LONGEST_TEXT: Final = 300


class Issuer(msgspec.Struct, frozen=True):
    """An issuer, and the client that asks it."""

    url: str = DEFAULT_ISSUER
    """Without a slash at the end."""
    client_id: str = DEFAULT_CLIENT_ID
    """The OAuth client."""
    originator: str = DEFAULT_ORIGINATOR
    """The name of the program that the person uses, for the issuer's pages and records."""
    redirect_ports: tuple[int, ...] = ()
    """The ports that it may redirect a browser to; 0 is any. Empty: those of the default issuer."""
    network: Network | None = None
    """The proxies and certificate authorities to reach it with; None: those of the environment."""

    @classmethod
    def of(cls, environment: Environment | None = None, originator: str = DEFAULT_ORIGINATOR) -> "Issuer":
        """The issuer that the environment variables name.

        Args:
            environment: the settings in environment variables. Default: those of this process.
            originator: see `Issuer.originator`.

        Raises:
            ConfigError: a variable of this process has an invalid value.
        """
        environment = Environment.read() if environment is None else environment
        url, ports = environment.issuer.rstrip("/"), environment.redirect_ports
        return cls(url, environment.client_id, originator, ports, environment.network)

    def for_client(self, name: str | None) -> "Issuer":
        """The same issuer, asked by a client of this name. A name that does not fit in a header is ignored."""
        if not name or not _CLIENT_NAME.fullmatch(name):
            return self
        return msgspec.structs.replace(self, originator=name)


def displayable_code(code: object) -> str | None:
    """Return an error code that may be shown: one short ASCII word. None for anything else."""
    if not isinstance(code, str):
        return None
    word = code.strip()
    fits = 0 < len(word) <= _LONGEST_CODE and word.isascii() and word.isprintable() and " " not in word
    return word if fits else None


def displayable_text(text: object) -> str | None:
    """Return a text of the issuer that may be shown: one line without control characters, at most 300 characters.

    It is not escaped. Escape it when you write it into a page.
    """
    if not isinstance(text, str):
        return None
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 4 * _LONGEST_TEXT]).split())
    return line if len(line) <= _LONGEST_TEXT else line[:_LONGEST_TEXT].rstrip() + "…"
