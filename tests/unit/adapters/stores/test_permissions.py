"""What other users can do to a home: it is reported, and files that another user planted are refused."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from authstate.adapters.cli.main import main
from authstate.adapters.stores import permissions
from authstate.adapters.stores.auth_json_format import encode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.keyring import AutoStore, KeyringStore
from authstate.adapters.stores.permissions import findings, reason_to_refuse
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.testing import make_tokens

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes are those of Unix")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="only root can give files to other users")
KEY = ApiKey.parse("sk-canary-key")
USER, OTHER = 4321, 4322


def owners(home: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in home.iterdir()}


async def save(home: Path, credentials: Credentials = KEY, disk: Disk | None = None) -> None:
    async with AuthJsonStore(home, disk=disk).locked() as held:
        await held.prepare()
        await held.save(credentials)


def make(path: Path, owner: int = 0, group: int = 0, mode: int = 0o600) -> Path:
    path.write_text("{}")
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


FINDINGS = {
    "nothing": (0o700, 0o600, []),
    "readable by the group": (0o750, 0o640, []),
    "writable by the group": (0o770, 0o660, []),
    "readable by all": (0o755, 0o644, ["file_readable_by_others"]),
    "writable by all": (0o755, 0o666, ["file_writable_by_others"]),
    "a home for all": (0o777, 0o600, ["home_writable_by_others"]),
    "a home and a file for all": (0o1777, 0o666, ["home_writable_by_others", "file_writable_by_others"]),
}


@pytest.mark.parametrize(("folder", "file", "codes"), FINDINGS.values(), ids=FINDINGS)
async def test_what_others_can_do_is_found_logged_and_shown(
    folder: int,
    file: int,
    codes: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = tmp_path / "home"
    await save(home, make_tokens())
    (home / "auth.json").chmod(file)
    home.chmod(folder)
    for store in (AuthJsonStore(home), KeyringStore(home), AutoStore(home)):
        assert [finding.code for finding in store.findings()] == codes
    store = AuthJsonStore(home)
    await store.load()
    await store.load()
    logged = [record.getMessage() for record in caplog.records if str(home) in record.getMessage()]
    assert logged == [finding.message for finding in store.findings()]
    monkeypatch.setenv("CODEX_HOME", str(home))
    capsys.readouterr()
    assert await asyncio.to_thread(main, ["status", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "", "status says it itself"
    shown = json.loads(out)
    assert [finding["code"] for finding in shown["storeFindings"]] == codes
    assert shown["warnings"] == [finding["message"] for finding in shown["storeFindings"]]
    assert await asyncio.to_thread(main, ["status"]) == 0
    assert capsys.readouterr().out.count("  warning ") == len(codes)
    await save(home, make_tokens())
    assert "file_" not in str([finding.code for finding in store.findings()]), "the next write makes it private"


@needs_root
async def test_a_file_of_another_user_in_a_home_that_is_ones_own_is_used_and_told_of(tmp_path: Path) -> None:
    """So it is in a container: uid 0 with a file of uid 1000."""
    home = tmp_path / "home"
    await save(home)
    os.chown(home / "auth.json", USER, USER)
    assert [finding.code for finding in findings(str(home / "auth.json"))] == ["file_of_another_user"]
    assert reason_to_refuse(str(home / "auth.json")) is None
    await save(home, make_tokens())
    assert owners(home)["auth.json"] == (USER, USER)


@needs_root
@pytest.mark.parametrize("kind", ["file", "link", "target"])
async def test_what_a_stranger_put_in_a_home_that_all_can_write_is_neither_used_nor_written(
    kind: str, tmp_path: Path
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
        folder.chmod(0o1777)
    target = (home if kind == "file" else elsewhere) / "auth.json"
    target.write_bytes(encode(KEY, None))
    if kind != "file":
        (home / "auth.json").symlink_to(target)
    planted = home / "auth.json" if kind == "link" else target
    os.chown(planted, OTHER, OTHER, follow_symlinks=False)
    before = target.read_bytes()
    with pytest.raises(StoreUnavailable, match=f"belongs to user {OTHER}"):
        await AuthJsonStore(home).load()
    with pytest.raises(StoreUnavailable, match=f"belongs to user {OTHER}"):
        await save(home, make_tokens())
    assert target.read_bytes() == before


@needs_root
def test_a_refusal_names_what_was_put_there_and_root_is_no_stranger(tmp_path: Path) -> None:
    folder, file, link = tmp_path / "all", tmp_path / "all" / "file", tmp_path / "all" / "link"
    folder.mkdir()
    folder.chmod(0o777)
    file.touch()
    link.symlink_to(tmp_path / "nowhere")
    assert (reason_to_refuse(str(file)), reason_to_refuse(str(link))) == (None, None)
    for path in (file, link):
        os.chown(path, OTHER, OTHER, follow_symlinks=False)
    assert "this file belongs" in str(reason_to_refuse(str(file)))
    assert "this symbolic link belongs" in str(reason_to_refuse(str(link)))
    os.chown(folder, OTHER, OTHER)
    assert reason_to_refuse(str(file)) is None, "its owner owns the folder, too"


@needs_root
def test_whose_a_file_is(tmp_path: Path) -> None:
    assert permissions.is_of_another_user(str(make(tmp_path / "own"))) is False
    assert permissions.is_of_another_user(str(make(tmp_path / "theirs", OTHER))) is True
    assert permissions.is_of_another_user(str(tmp_path / "nothing")) is False


@pytest.mark.parametrize("find", [permissions.reason_to_refuse, permissions.findings], ids=["refused", "found"])
def test_where_there_is_no_file_nothing_is_found(find: Callable[[str], object], tmp_path: Path) -> None:
    assert not find(str(tmp_path / "nothing"))
    assert not find(str(tmp_path / "nowhere" / "nothing"))


@needs_root
@pytest.mark.parametrize(
    ("me", "owner", "folder", "is_trusted"),
    [
        (USER, USER, 0, True),
        (USER, 0, USER, True),
        (USER, OTHER, OTHER, True),
        (USER, OTHER, 0, False),
        (0, 1, 0, False),
    ],
)
def test_whose_file_is_trusted_where_every_user_can_write(
    me: int, owner: int, folder: int, is_trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make(tmp_path / "file", owner)
    os.chown(tmp_path, folder, folder)
    tmp_path.chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: me)
    reason = permissions.reason_to_refuse(str(file))
    assert (reason is None) is is_trusted
    if not is_trusted:
        assert f"belongs to user {owner}, in a folder that every user can write" in str(reason)
        assert str(reason).endswith(f"chmod o-w {tmp_path}")
    tmp_path.chmod(0o775)
    assert permissions.reason_to_refuse(str(file)) is None, "nobody else can have put it there"
