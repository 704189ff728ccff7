"""The numbers of the refresh protocol."""

import msgspec


class RefreshSettings(msgspec.Struct, frozen=True):
    """The numbers of the refresh protocol, in seconds. Only tests change the defaults."""

    window: float = 300.0
    """This long before expiry, a refresh runs in the background, and requests do not wait for it."""
    blocking: float = 30.0
    """This long before expiry, and after it, requests wait for the refresh."""
    stale_after: float = 8 * 86_400.0
    """An access token without `exp` is refreshed when its last refresh is older than this."""
    settle: float = 60.0
    """Tokens younger than this are never refreshed proactively, so that a wrong clock causes no refresh loop."""
    pause: float = 30.0
    """After a transient failure, no background refresh for this long. Requests get the remembered reason."""
    patience: float = 2.0
    """How long a request waits for a refresh while its token has not expired: at most half the time that is left."""
    first_wait: float = 0.5
    """The first wait between two tries. It doubles after each try."""
    longest_wait: float = 8.0
    """The longest wait between two tries, unless the issuer asks for more."""
    total: float = 30.0
    """No try starts later than this after the first try."""
    rechecks: tuple[float, ...] = (0.0, 0.25, 0.75)
    """If another program spent the refresh token: waits before each look for the tokens that it stores."""
    save_waits: tuple[float, ...] = (0.0, 0.1, 0.4)
    """Waits before each try to store new tokens."""
    parent_timeout: float = 10.0
    """How long a parent application may take to answer (protocol of the account API)."""
    revoke_grace: float = 5.0
    """How long `close` waits for revocations that are under way."""
