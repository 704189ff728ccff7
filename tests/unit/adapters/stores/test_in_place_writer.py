"""`InPlaceWriter`: reserved space, interrupted writes and their recovery."""

import os
from pathlib import Path

import msgspec
import pytest
from support.failing_disk import FailingDisk
from support.own_log import own_messages

from authstate.adapters.stores.auth_json_format import LARGEST
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.in_place import InPlaceWriter, PendingWrite, pending_paths

pytestmark = pytest.mark.skipif(os.name == "nt", reason="locks and modes are those of Unix")


def test_space_is_reserved_once_until_it_is_given_back(file: Path) -> None:
    place, before = InPlaceWriter(str(file), Disk()), file.read_bytes()
    for _ in range(2):
        place.reserve(10)
        place.reserve(10)
        assert file.read_bytes() == before + b" " * 10
        place.discard()
        assert file.read_bytes() == before
        place.discard()


def test_space_that_cannot_be_given_back_is_no_fault(file: Path) -> None:
    place, before = InPlaceWriter(str(file), FailingDisk(release_space="auth.json")), file.read_bytes()
    place.reserve(10)
    place.discard()
    assert file.read_bytes() == before + b" " * 10


def test_after_a_write_there_is_nothing_to_give_back(file: Path) -> None:
    place = InPlaceWriter(str(file), Disk())
    place.reserve(10)
    place.write(b"{}")
    place.discard()
    assert file.read_bytes() == b"{}"


def test_what_cannot_be_read_can_be_written_over(file: Path) -> None:
    InPlaceWriter(str(file), FailingDisk(read="auth.json")).write(b'{"a": "new"}')
    assert file.read_bytes() == b'{"a": "new"}'


def test_a_write_of_the_largest_files_that_was_cut_short_is_finished(file: Path) -> None:
    old, new = (b'"' + letter * (LARGEST - 2) + b'"' for letter in (b"o", b"n"))
    file.write_bytes(old)
    place = InPlaceWriter(str(file), FailingDisk(overwrite="auth.json"))
    with pytest.raises(OSError, match="output"):
        place.write(new)
    assert place.has_pending_write is True
    InPlaceWriter(str(file), Disk()).recover()
    assert file.read_bytes() == new
    assert place.has_pending_write is False


def test_a_write_that_cannot_be_finished_now_is_kept_and_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    pending = Path(pending_paths(str(file))[0])
    pending.write_bytes(msgspec.json.encode(PendingWrite(b'{"a": "old"}', b'{"a": "new"}')))
    InPlaceWriter(str(file), FailingDisk(overwrite="auth.json")).recover()
    assert pending.exists()
    assert [message.partition(" was ")[2] for message in own_messages(caplog)] == [
        "written in part, and cannot be finished now: Input/output error"
    ]
    caplog.clear()
    InPlaceWriter(str(file), FailingDisk(remove=".pending")).recover()
    assert file.read_bytes() == b'{"a": "new"}'
    assert own_messages(caplog) == [f"{file}: a write that was cut short was finished"]
    InPlaceWriter(str(file), Disk()).recover()
    assert not pending.exists()


def test_of_two_pending_writes_one_that_is_no_use_does_not_stand_for_the_other(file: Path, state: Path) -> None:
    beside, elsewhere, *_ = (Path(place) for place in pending_paths(str(file)))
    elsewhere.parent.mkdir(parents=True, mode=0o700)
    beside.write_text("half a fi")
    elsewhere.write_bytes(msgspec.json.encode(PendingWrite(b'{"a": "old"}', b'{"a": "new"}')))
    InPlaceWriter(str(file), Disk()).recover()
    assert file.read_bytes() == b'{"a": "new"}'
    assert (beside.exists(), elsewhere.exists()) == (False, False)
