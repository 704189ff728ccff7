"""What is known of refresh tokens that were sent, in a file beside auth.json: `auth.json.authstate.claims`.

It holds fingerprints and no token, with mode 0600, and belongs to the home, wherever the login itself is kept. It is
written under the home's lock, in the same steps as auth.json: a temporary file is filled and synced, then renamed.
Where only auth.json can be written, and nothing beside it, it is in a folder of the user (companion_files.py). A
file that cannot be read or understood counts as empty, so that it never keeps anybody from signing in; what is lost
with it is the memory of doubts and of dead tokens.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from authstate.adapters.stores.companion_files import companion_paths
from authstate.adapters.stores.disk import Disk, unavailable
from authstate.engine.machines.refresh_claim import RefreshClaim, with_claim

_LARGEST = 256 * 1024  # bytes
_TAIL = ".authstate.claims"
_log = logging.getLogger("authstate.stores")


class RefreshClaimsFile:
    """The claims of one home.

    Args:
        path: auth.json; where that is a symbolic link, the claims are beside what it leads to.
        disk: what does the reading and writing.
    """

    def __init__(self, path: str, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._has_warned = False

    def find(self, fingerprint: str) -> RefreshClaim | None:
        """What is known of a refresh token. Blocks briefly; raises nothing."""
        return self._known().get(fingerprint)

    def record(self, claim: RefreshClaim) -> None:
        """Keep a claim, so that a crash keeps it. For who holds the lock. Blocks briefly. Raises StoreUnavailable."""
        beside, *elsewhere = self._paths()
        claims = with_claim(self._known(), msgspec.structs.replace(claim, holder=f"process {self._disk.process_id()}"))
        data = msgspec.json.encode(list(claims.values()))
        try:
            self._publish(beside, data)
        except OSError as error:
            if not self._disk.is_not_replaceable(beside):
                raise unavailable("write", beside, error) from error
            self._record_elsewhere(elsewhere, data, error)
        else:
            self._disk.share_with_group(beside)
            self._forget(elsewhere)

    def _record_elsewhere(self, elsewhere: list[str], data: bytes, fault: OSError) -> None:
        """Keep the claims where auth.json itself can be written, and nothing beside it."""
        for number, place in enumerate(elsewhere, start=1):
            try:
                self._disk.make_folder(os.path.dirname(place))
                self._publish(place, data)
            except OSError:
                continue
            self._forget(elsewhere[number:])
            return
        raise unavailable("write", self._paths()[0], fault) from fault

    def _publish(self, place: str, data: bytes) -> None:
        self._disk.publish(place, data, self._disk.temporary_path(place.removesuffix(_TAIL)))

    def _forget(self, paths: list[str]) -> None:
        """Remove claims that are older than those in a better place."""
        for place in filter(self._disk.exists, paths):
            with suppress(OSError):
                self._disk.remove(place)

    def _paths(self) -> list[str]:
        return companion_paths(self._disk.resolve(self._path), _TAIL)

    def _known(self) -> Mapping[str, RefreshClaim]:
        """What is kept. Claims in a worse place are newer: a better one was not to be had."""
        beside, *elsewhere = self._paths()
        return self._read(next(filter(self._disk.exists, reversed(elsewhere)), beside))

    def _read(self, place: str) -> Mapping[str, RefreshClaim]:
        try:
            claims = msgspec.json.decode(self._disk.read(place, _LARGEST), type=list[RefreshClaim])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as fault:
            if not self._has_warned:
                self._has_warned = True
                _log.warning("%s cannot be read, and counts as empty (%s)", place, type(fault).__name__)
            return {}
        return {claim.fingerprint: claim for claim in claims}
