"""Stores the refresh claims of a home in a file beside auth.json: `auth.json.authstate.claims`.

The file has mode 0600 and contains fingerprints, no tokens. It belongs to the home, whichever store holds the login. It
is written under the home's lock, in the same steps as auth.json: a temporary file is filled, synced and renamed. If
nothing beside auth.json is writable, it is in a folder of the user (companion_files.py). An unreadable or invalid file
counts as empty, so that it never prevents a sign-in. Only the record of doubts and dead tokens is lost with it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from authstate.adapters.logs.loggers import library_logger
from authstate.adapters.stores.companion_files import companion_paths
from authstate.adapters.stores.disk import Disk, unavailable
from authstate.engine.machines.refresh_claim import RefreshClaim, with_claim

_LARGEST = 256 * 1024  # bytes
_SUFFIX = ".authstate.claims"
_log = library_logger("stores")


class RefreshClaimsFile:
    """The refresh claims of one home.

    Args:
        path: auth.json. If it is a symbolic link, the claims are beside its target.
        disk: reads and writes the files.
    """

    def __init__(self, path: str, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._has_warned = False

    def find(self, fingerprint: str) -> RefreshClaim | None:
        """Return the claim on a refresh token, None if there is none. Blocks briefly; raises nothing."""
        return self.load().get(fingerprint)

    def record(self, claim: RefreshClaim) -> None:
        """Store a claim durably. Requires the lock. Blocks briefly. Raises StoreUnavailable."""
        beside, *elsewhere = self._paths()
        claimed = msgspec.structs.replace(claim, holder=f"process {self._disk.process_id()}")
        claims = with_claim(self._read_newest(beside, elsewhere), claimed)
        data = msgspec.json.encode(list(claims.values()))
        try:
            self._publish(beside, data)
        except OSError as error:
            if not self._disk.is_not_replaceable(beside):
                raise unavailable("write", beside, error) from error
            self._record_elsewhere(elsewhere, data, error)
        else:
            self._disk.share_with_group(beside)
            self._remove_outdated(elsewhere)

    def _record_elsewhere(self, elsewhere: list[str], data: bytes, fault: OSError) -> None:
        """Store the claims in a folder of the user, because nothing beside auth.json is writable."""
        for number, place in enumerate(elsewhere, start=1):
            try:
                self._disk.make_folder(os.path.dirname(place))
                self._publish(place, data)
            except OSError:
                continue
            self._remove_outdated(elsewhere[number:])
            return
        raise unavailable("write", self._paths()[0], fault) from fault

    def _publish(self, place: str, data: bytes) -> None:
        self._disk.publish(place, data, self._disk.temporary_path(place.removesuffix(_SUFFIX)))

    def _remove_outdated(self, paths: list[str]) -> None:
        """Remove files that are older than the one in a preferred place."""
        for place in filter(self._disk.exists, paths):
            with suppress(OSError):
                self._disk.remove(place)

    def _paths(self) -> list[str]:
        return companion_paths(self._disk.resolve(self._path), _SUFFIX)

    def load(self) -> Mapping[str, RefreshClaim]:
        """Read the claims. Blocks briefly; raises nothing."""
        beside, *elsewhere = self._paths()
        return self._read_newest(beside, elsewhere)

    def _read_newest(self, beside: str, elsewhere: list[str]) -> Mapping[str, RefreshClaim]:
        """Read the claims. A file in a less preferred place is newer: no better place was writable."""
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
