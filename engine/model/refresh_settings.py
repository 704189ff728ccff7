"""All the numbers of the refresh protocol."""

import msgspec


class RefreshSettings(msgspec.Struct, frozen=True):
    """All the numbers of the refresh protocol, in seconds. The defaults are the product's; tests change them."""

    window: float = 300.0
    """This long before expiry, a refresh runs in the background while requests go on."""
    blocking: float = 30.0
    """This long before expiry, and after it, requests wait for the refresh."""
    stale_after: float = 8 * 86_400.0
    """For a token without `exp`: refresh when the last one is older."""
    settle: float = 60.0
    """Tokens younger than this are never refreshed proactively: a wrong clock must not turn into a storm."""
    pause: float = 30.0
    """After a transient failure, no background refresh for this long; requests get the remembered reason."""
    patience: float = 2.0
    """How long a request waits for a refresh while its token has not expired; it never waits half of what is left."""
    first_wait: float = 0.5
    longest_wait: float = 8.0
    total: float = 30.0
    """No try starts later than this after the first one."""
    rechecks: tuple[float, ...] = (0.0, 0.25, 0.75)
    """When the token was used up elsewhere: waits before looking for the tokens that the other program stores."""
    save_waits: tuple[float, ...] = (0.0, 0.1, 0.4)
    """Waits before each try to store new tokens."""
    parent_timeout: float = 10.0
    """How long a parent may take to answer (protocol of the account API)."""
    revoke_grace: float = 5.0
    """How long the end of the program waits for a revocation under way."""
