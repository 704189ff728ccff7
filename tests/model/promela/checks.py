"""What is checked of the models, and which safeguards are removed."""

from collections.abc import Mapping
from typing import NamedTuple

FILES = "refresh_files"


class Check(NamedTuple):
    """One run of a verifier."""

    options: Mapping[str, int]
    """What may go wrong, and how often."""
    claim: str = ""
    """What must hold in the long run. Empty: the promises at each step, and that there is no deadlock."""


CHECKS: Mapping[str, Check] = {
    "one process dies, and one answer or request is lost": Check({"CRASHES": 1, "LOSSES": 1}),
    "the power fails": Check({"POWER_CUTS": 1}),
    "a write fails": Check({"FAULTS": 1}),
    "somebody signs in, also as another account, or out": Check({"PEOPLE": 1}),
    "a parent application passes tokens in": Check({"PARENTS": 1}),
    "a refresh is cancelled": Check({"CANCELS": 1}),
    "the issuer answers without an access token": Check({"PARTIALS": 1}),
    "callers get a 401 late": Check({"CALLERS": 1}),
    "every wait ends, although one process stands still for ever": Check({"STALLS": 1}, "every_wait_ends"),
    "tokens come, although one answer or request is lost": Check({"LOSSES": 1}, "tokens_come"),
}


class Safeguard(NamedTuple):
    """A safeguard, and how Spin finds that it is missing."""

    name: str
    """In the model."""
    check: Check
    breaks: str
    """A part of the broken promise, as it is written in the model."""


_ONE_CRASH_ONE_LOSS = Check({"CRASHES": 1, "LOSSES": 1})
_POWER = Check({"POWER_CUTS": 1})
_CANCEL = Check({"CANCELS": 1})
OF_SIMULATION: Mapping[str, Safeguard] = {
    "no lock": Safeguard("NO_LOCK", _ONE_CRASH_ONE_LOSS, "claim[current]"),
    "no reload under the lock": Safeguard("NO_RELOAD", _ONE_CRASH_ONE_LOSS, "is_lost[current]"),
    "no shield": Safeguard("NO_SHIELD", _CANCEL, "is_underway[stored]"),
    "rename before fsync": Safeguard("RENAME_BEFORE_SYNC", _POWER, "is_torn"),
    "no fsync of the file": Safeguard("NO_FILE_SYNC", _POWER, "is_torn"),
    "no fsync of the folder": Safeguard("NO_FOLDER_SYNC", Check({}), "was_durable[result]"),
    "write in place": Safeguard("WRITE_IN_PLACE", Check({"CRASHES": 1}), "is_torn"),
    "no generation check after a 401": Safeguard("NO_GENERATION_CHECK", Check({"CALLERS": 1}), "age[current]"),
    "no check that the session is the same": Safeguard("NO_SESSION_CHECK", Check({"PARENTS": 1}), "session["),
    "a spent token may be cancelled": Safeguard("CANCELLED_WHILE_SPENT", _CANCEL, "is_underway[stored]"),
    "used before it is stored": Safeguard("USED_BEFORE_STORED", Check({}), "is_underway[stored]"),
    "a dead token is sent again": Safeguard("DEAD_SENT_AGAIN", _ONE_CRASH_ONE_LOSS, "dead[current]"),
    "no claim": Safeguard("NO_CLAIM", Check({}), "claim[current]"),
    "no look at the claim": Safeguard("NO_LOOK_AT_CLAIM", _ONE_CRASH_ONE_LOSS, "fired"),
    "a doubt is sent at once": Safeguard("DOUBT_SENT_AT_ONCE", _ONE_CRASH_ONE_LOSS, "is_doubtful["),
    "a lost answer is repeated": Safeguard("LOST_REPEATED", Check({"LOSSES": 3}), "repeats["),
}
"""By the name that the simulation gives to what it removes (tests/model/simulation/mutants.py)."""

ONLY_HERE: Mapping[str, Safeguard] = {
    "the lock outlives its process": Safeguard(
        "LOCK_OUTLIVES_PROCESS", Check({"CRASHES": 1}, "tokens_come"), "acceptance cycle"
    ),
    "a wait for the lock has no limit": Safeguard(
        "NO_LOCK_TIMEOUT", Check({"STALLS": 1}, "every_wait_ends"), "acceptance cycle"
    ),
    "claims die with their process": Safeguard("CLAIMS_DIE_WITH_PROCESS", _ONE_CRASH_ONE_LOSS, "is_lost["),
}
"""What the simulation cannot remove: the operating system's lock, time limits, the file of the claims."""

NOT_MODELLED: Mapping[str, str] = {
    "an ended lease goes on": "the model has no leases: they change no step of a refresh",
    "a lease yields tokens of whoever is signed in": "the model has no leases: they change no step of a refresh",
}
"""What the simulation removes and the model does not have, and why."""

NOT_IN_A_TRACE: Mapping[str, str] = {
    "no shield": "the simulation stops when a caller is told that it was cancelled, and a trace has no callers",
    **NOT_MODELLED,
}
"""Whose histories the model accepts, and why."""
