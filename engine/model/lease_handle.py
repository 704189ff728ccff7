"""The handle of a lease: what stands in the place of a refresh token, and yields access tokens from a broker only.

    authstate_lease_SECRET            as it was issued
    authstate_lease_SECRET.SEEN       as a broker returns it, with a digest of the access token that came along

SECRET is 256 random bits. SEEN is no secret. It tells the broker which access token the client has: a client that
presents the digest of the current one could not use that one, and any other client is behind. An issuer learns the same
from refresh tokens, because it issues a new one with each access token.
"""

import hashlib
import re

import msgspec

from authstate.engine.model.secret import Secret

PREFIX = "authstate_lease_"
"""What every handle begins with, so that neither a person nor a program takes it for a refresh token."""
SECRET_BYTES = 32

_FORM = re.compile(rf"{PREFIX}([A-Za-z0-9_-]{{43}})(?:\.([0-9a-f]{{16}}))?")


class LeaseHandle(msgspec.Struct, frozen=True):
    """A handle, taken apart."""

    secret: Secret
    """The handle as it was issued: the prefix and the random part."""
    seen: str | None = None
    """The digest of the access token that the client got last, see `digest_of_access`. None if it got none."""

    @classmethod
    def of(cls, random: bytes) -> "LeaseHandle":
        """Make a handle of 32 random bytes. Raises ValueError for another number of bytes."""
        if len(random) != SECRET_BYTES:
            raise ValueError(f"a handle needs {SECRET_BYTES} random bytes")
        return cls(Secret(PREFIX + _base64url(random)))

    @classmethod
    def parse(cls, text: str) -> "LeaseHandle | None":
        """Take a handle apart. None if the text is anything else."""
        found = _FORM.fullmatch(text)
        return None if found is None else cls(Secret(PREFIX + found[1]), found[2])

    @property
    def digest(self) -> str:
        """What is stored of the handle: the SHA-256 of its secret, from which it cannot be computed."""
        return hashlib.sha256(self.secret.reveal().encode()).hexdigest()

    def text(self, access_token: Secret | None = None) -> Secret:
        """Return what a client presents.

        Args:
            access_token: the one that the client gets with it, if any.
        """
        if access_token is None:
            return self.secret
        return Secret(f"{self.secret.reveal()}.{digest_of_access(access_token)}")


def is_lease(refresh_token: Secret) -> bool:
    """Whether this is the handle of a lease: no issuer accepts it, only a broker."""
    return refresh_token.reveal().startswith(PREFIX)


def digest_of_access(access_token: Secret) -> str:
    """Return 16 hexadecimal digits that tell access tokens apart. The token cannot be computed from them."""
    return hashlib.sha256(access_token.reveal().encode()).hexdigest()[:16]


def _base64url(data: bytes) -> str:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(data).rstrip(b"=").decode()
