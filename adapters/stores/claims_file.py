"""What is known of refresh tokens that were sent, in a file beside auth.json: `auth.json.authstate.claims`.

It holds fingerprints and no token, with mode 0600, and belongs to the home, wherever the login itself is kept. It is
written under the home's lock, in the same steps as auth.json: a temporary file is filled and synced, then renamed. A
file that cannot be read or understood counts as empty, so that it never keeps anybody from signing in; what is lost
with it is the memory of doubts and of dead tokens.
"""

import logging
from collections.abc import Mapping

import msgspec

from authstate.adapters.stores.disk import Disk, unavailable
from authstate.engine.claims import Claim, keep

_LARGEST = 256 * 1024  # bytes
_TAIL = ".authstate.claims"
_log = logging.getLogger("authstate.stores")


class ClaimsFile:
    """The claims of one home.

    Args:
        path: auth.json; where that is a symbolic link, the claims are beside what it leads to.
        disk: what does the reading and writing.
    """

    def __init__(self, path: str, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._complained = False

    def find(self, fingerprint: str) -> Claim | None:
        """What is known of a refresh token. Blocks briefly; raises nothing."""
        return self._read(self._place()).get(fingerprint)

    def record(self, claim: Claim) -> None:
        """Keep a claim, so that a crash keeps it. For who holds the lock. Blocks briefly. Raises StoreUnavailable."""
        place = self._place()
        claims = keep(self._read(place), msgspec.structs.replace(claim, holder=f"process {self._disk.process()}"))
        data = msgspec.json.encode(list(claims.values()))
        try:
            self._disk.publish(place, data, self._disk.spare(place.removesuffix(_TAIL)))
        except OSError as error:
            raise unavailable("write", place, error) from error

    def _place(self) -> str:
        return self._disk.resolve(self._path) + _TAIL

    def _read(self, place: str) -> Mapping[str, Claim]:
        try:
            claims = msgspec.json.decode(self._disk.read(place, _LARGEST), type=list[Claim])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as fault:
            if not self._complained:
                self._complained = True
                _log.warning("%s cannot be read, and counts as empty (%s)", place, type(fault).__name__)
            return {}
        return {claim.fingerprint: claim for claim in claims}
