"""What the rows of a database mean."""

from collections.abc import Mapping
from typing import Any

import msgspec

from authstate.engine.machines.refresh_claim import MAX_CLAIMS, RefreshClaim, RefreshClaimState
from authstate.engine.model.errors import RefreshDeadReason

_FIELDS = ("fingerprint", "at", "holder", "sends", "detail", "successor")


def claim_from(row: Mapping[str, Any]) -> RefreshClaim | None:
    """Read a refresh claim. None if a newer release wrote something that this one does not know."""
    try:
        state = RefreshClaimState(row["state"])
    except ValueError:
        return None
    reason = row["reason"]
    known = reason if reason in set(RefreshDeadReason) else RefreshDeadReason.UNKNOWN
    fields = {name: row[name] for name in _FIELDS}
    return RefreshClaim(
        **fields, state=state, account=row["owner"], reason=None if reason is None else RefreshDeadReason(known)
    )


def claim_values(claim: RefreshClaim) -> dict[str, Any]:
    """Return the values of a claim for a statement."""
    fields = {name: value for name, value in msgspec.structs.asdict(claim).items() if name in _FIELDS}
    del fields["holder"]
    return {
        **fields,
        "state": claim.state.value,
        "reason": None if claim.reason is None else claim.reason.value,
        "owner": claim.account,
        "kept": MAX_CLAIMS,
    }
