"""Encrypts what a database holds: AES-256-GCM, with a key of its own for each account and column.

    stored         1 byte format, 12 bytes nonce, ciphertext, 16 bytes tag
    key            HKDF-SHA-256 of the key of the list, for this account and column
    authenticated  the format, the account, the column and the id of the key

So a value that is moved to another account, another column or under another key cannot be decrypted. A key of the list
encrypts each account with another key, and a random nonce is far from its limit, however many accounts there are.
"""

import secrets
from typing import TYPE_CHECKING, Final

from authstate.adapters.postgres.keys import KEY_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class NotDecrypted(Exception):
    """A value was changed or truncated, or it belongs to another account, column or key."""


def seal(key: bytes, key_id: str, account: str, column: str, plaintext: bytes) -> bytes:
    """Encrypt a value.

    Args:
        key: 32 bytes.
        key_id: its id.
        account: whose row the value is for.
        column: which column.
        plaintext: the value.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    bound = _bound(key_id, account, column)
    return _FORMAT + nonce + _cipher(key, bound).encrypt(nonce, plaintext, bound)


def unseal(key: bytes, key_id: str, account: str, column: str, stored: bytes) -> bytes:
    """Decrypt a value. The arguments are those of `seal`. Raises NotDecrypted."""
    from cryptography.exceptions import InvalidTag

    if stored[:1] != _FORMAT or len(stored) < 1 + _NONCE_BYTES + _TAG_BYTES:
        raise NotDecrypted
    bound = _bound(key_id, account, column)
    try:
        return _cipher(key, bound).decrypt(stored[1 : 1 + _NONCE_BYTES], stored[1 + _NONCE_BYTES :], bound)
    except InvalidTag:
        raise NotDecrypted from None


def _cipher(key: bytes, bound: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt=None, info=bound).derive(key))


def _bound(key_id: str, account: str, column: str) -> bytes:
    """Return what a value is bound to. Each part has its length before it, so no two lists of parts are equal."""
    parts = (b"authstate", _FORMAT, *(part.encode() for part in (account, column, key_id)))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
