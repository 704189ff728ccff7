"""The file of refresh claims: its size limit, unreadable content, and where it is kept."""

import os
from pathlib import Path

import msgspec
import pytest
from support.failing_disk import FailingDisk
from support.own_log import own_messages

from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.refresh_claims_file import RefreshClaimsFile
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState
from authstate.engine.model.errors import StoreUnavailable

pytestmark = pytest.mark.skipif(os.name == "nt", reason="locks and modes are those of Unix")
SPENT = RefreshClaim("ab" * 16, RefreshClaimState.SPENT, 5.0)


def test_claims_of_256_kib_are_read_and_longer_ones_count_as_none(file: Path) -> None:
    data = msgspec.json.encode([SPENT])
    claims = Path(f"{file}.authstate.claims")
    claims.write_bytes(b" " * (256 * 1024 - len(data)) + data)
    assert RefreshClaimsFile(str(file), Disk()).find(SPENT.fingerprint) == SPENT
    claims.write_bytes(b" " * (256 * 1024 - len(data) + 1) + data)
    assert RefreshClaimsFile(str(file), Disk()).find(SPENT.fingerprint) is None


@pytest.mark.parametrize("strange", ["\x00", "\ud800", "\udfff"])
def test_a_refusal_with_a_character_that_cannot_be_stored_is_recorded(file: Path, strange: str) -> None:
    claims = RefreshClaimsFile(str(file), Disk())
    claims.record(RefreshClaim("ab" * 16, RefreshClaimState.DEAD, 5.0, detail=f"refused {strange} here"))
    found = claims.find(SPENT.fingerprint)
    assert found is not None and found.detail == "refused \ufffd here"


def test_claims_that_cannot_be_understood_are_told_once_and_replaced(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    claims = RefreshClaimsFile(str(file), Disk())
    assert claims.find(SPENT.fingerprint) is None
    assert own_messages(caplog) == [], "that there are none is no fault"
    Path(f"{file}.authstate.claims").write_text("half a fi")
    for _ in range(2):
        assert claims.find(SPENT.fingerprint) is None
    [message] = own_messages(caplog)
    assert message.endswith("cannot be read, and counts as empty (DecodeError)")
    claims.record(SPENT)
    found = claims.find(SPENT.fingerprint)
    assert found == msgspec.structs.replace(SPENT, holder=f"process {os.getpid()}")


def test_a_claim_that_cannot_be_written_although_others_could_be_is_a_fault(file: Path, state: Path) -> None:
    claims = RefreshClaimsFile(str(file), FailingDisk(publish=".claims"))
    with pytest.raises(StoreUnavailable, match=r"cannot write .*auth\.json\.authstate\.claims: input/output error"):
        claims.record(SPENT)
    assert not state.exists(), "only a folder that cannot be written sends them elsewhere"


def test_claims_elsewhere_win_and_are_forgotten_where_a_better_place_is_to_be_had(
    file: Path, state: Path, tmp_path: Path
) -> None:
    beside, first, second, *_ = (Path(place) for place in RefreshClaimsFile(str(file), Disk())._paths())
    assert first.parent == state
    for place in (first, second):
        place.parent.mkdir(parents=True, mode=0o700)
        place.write_bytes(msgspec.json.encode([SPENT]))
    fixed = FailingDisk(fixed="", publish=beside.name)
    RefreshClaimsFile(str(file), fixed).record(RefreshClaim("cd" * 16, RefreshClaimState.DEAD))
    assert (beside.exists(), first.exists(), second.exists()) == (False, True, False)
    assert RefreshClaimsFile(str(file), Disk()).find(SPENT.fingerprint) == SPENT
    RefreshClaimsFile(str(file), FailingDisk(remove=first.name)).record(RefreshClaim("ef" * 16, RefreshClaimState.DEAD))
    assert first.exists(), "what cannot be removed keeps no claim from being recorded"
    RefreshClaimsFile(str(file), Disk()).record(RefreshClaim("01" * 16, RefreshClaimState.DEAD))
    assert (beside.exists(), first.exists()) == (True, False)
    assert len(msgspec.json.decode(beside.read_bytes())) >= 3
