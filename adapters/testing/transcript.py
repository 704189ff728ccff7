"""What was sent to an issuer and a backend, as lines without secrets.

Imports only the standard library, so that the loopback issuer starts fast.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar, Final, SupportsIndex, cast, overload

REASONS: Final = {
    "refresh_token_expired": "expired",
    "refresh_token_reused": "exhausted",
    "refresh_token_invalidated": "revoked",
    "refresh_token_unknown": "unknown",
}
"""Why the issuer refuses a refresh token (`RefreshDeadReason`), by its error code."""


class Transcript(Sequence[str]):
    """The requests so far, a line for each, in the order in which they were served. Compare it with a list of lines.

    A line says what was asked, with which token, and what the answer was:

        refresh refresh-1 -> access-2 refresh-2
        refresh refresh-1 -> refused: exhausted
        GET /wham/usage access-2 -> 200

    A token is shown as its kind and a number: `access-2` is the second access token that appeared. No line holds a
    secret, an email address or the query of a URL. The transcript itself keeps digests of secrets only.

    Args:
        lines: the lines at the beginning.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._lines = list(lines)
        self._names: dict[bytes, str] = {}  # by the digest of the secret
        self._counts: dict[str, int] = {}

    def name(self, kind: str, secret: str) -> str:
        """Return the name of a secret in this transcript. A secret that is new gets the next number of its kind.

        Args:
            kind: for example `access` or `refresh`. It counts only for a secret that is new.
            secret: the token or the key. Empty: `none`.
        """
        if not secret:
            return "none"
        digest = sha256(secret.encode("utf-8", "surrogatepass")).digest()
        if digest not in self._names:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._names[digest] = f"{kind}-{self._counts[kind]}"
        return self._names[digest]

    def add(self, asked: str, answered: str) -> None:
        """Append a line. The caller names the secrets: see `name`."""
        self._lines.append(f"{asked} -> {answered}")

    def clear(self) -> None:
        """Forget the lines so far. The tokens keep their names."""
        self._lines.clear()

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        return self._lines[index]

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Transcript | list | tuple):
            return NotImplemented
        return self._lines == list(cast("Sequence[object]", other))

    __hash__: ClassVar[None]  # type: ignore[assignment] # pyright: ignore[reportIncompatibleMethodOverride]

    def __repr__(self) -> str:
        return "[" + "".join(f"\n    {line!r}," for line in self._lines) + ("\n]" if self._lines else "]")


def tokens_of(transcript: Transcript, answer: Mapping[str, Any]) -> str:
    """Return the names of the tokens in an answer of the token endpoint."""
    kinds = (("access", "access_token"), ("refresh", "refresh_token"))
    named = [transcript.name(kind, answer[member]) for kind, member in kinds if answer.get(member)]
    return " ".join(named) or "no tokens"


def refusal(error: object) -> str:
    """Return how a line shows that the issuer refused a refresh token for good.

    Args:
        error: the member `error` of the issuer's answer.
    """
    code = str(cast("dict[str, Any]", error).get("code")) if isinstance(error, dict) else ""
    return f"refused: {REASONS.get(code, 'unknown')}"
