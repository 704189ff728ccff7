"""docs/architecture.md: its picture and its table of the packages are those of the tree."""

import re
from pathlib import Path

import pytest
from repository.test_source_tree import ADAPTERS, ENGINE, module_graph, part_of
from support.paths import REPO

from authstate import AuthEngine
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.testing import FakeAuthority, make_tokens

PAGE = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = {f"engine.{name}" for name in ENGINE} | {f"adapters.{name}" for name in ADAPTERS}
EVERYWHERE = {"engine.__init__", "adapters.__init__", "engine.version"}
"""Parts that are no layer of their own: what a package shows, and the number of the version."""


def package(node: str) -> str:
    """A node of the picture as a part of the tree."""
    name = node.removesuffix(".py")
    [found] = [part for part in PACKAGES if part.partition(".")[2] == name]
    return found


def arrows() -> set[tuple[str, str]]:
    """The arrows of the picture."""
    [picture] = re.findall(r"^```mermaid\n(flowchart .*?)^```$", PAGE, re.M | re.S)
    return {(package(one), package(other)) for one, other in re.findall(r"^ +(\S+) --> (\S+)$", picture, re.M)}


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Every node that the arrows lead to from `start`."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph.get(waiting.pop(), set()) - found:
            found.add(name)
            waiting.append(name)
    return found


def imported_parts() -> dict[str, set[str]]:
    """Every part, and the parts that it imports from."""
    graph: dict[str, set[str]] = {}
    for importer, targets in module_graph().items():
        graph.setdefault(part_of(importer), set()).update(part_of(target) for target in targets)
    return {part: targets - {part} for part, targets in graph.items()}


def test_each_arrow_is_an_import() -> None:
    imported = imported_parts()
    assert {(one, other) for one, other in arrows() if other not in imported[one]} == set()


def test_each_import_follows_the_arrows() -> None:
    drawn: dict[str, set[str]] = {}
    for one, other in arrows():
        drawn.setdefault(one, set()).add(other)
    for part, targets in imported_parts().items():
        if part not in EVERYWHERE:
            assert targets - EVERYWHERE <= reachable(drawn, part), f"the picture has no way for all imports of {part}"


def test_the_table_names_every_package() -> None:
    [section] = re.findall(r"^\| package \| what it contains \|\n(.*?)\n\n", PAGE, re.M | re.S)
    first_cells = " ".join(re.findall(r"^\| (`.*?) \|", section, re.M))
    named = {name.split("/")[-1].removesuffix(".py") for name in re.findall(r"`([^`]+)`", first_cells)}
    assert named == {part.partition(".")[2] for part in PACKAGES - EVERYWHERE}


async def test_a_401_reads_auth_json_as_often_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Disk.read
    paths: list[str] = []

    def noted(disk: Disk, path: str, limit: int) -> bytes:
        paths.append(path)
        return read(disk, path, limit)

    tokens = make_tokens()
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.save(tokens)
    authority = FakeAuthority(tokens)
    async with AuthEngine(AuthJsonStore(tmp_path), authority) as engine:
        refused = await engine.authorization()
        monkeypatch.setattr(Disk, "read", noted)
        assert (await engine.recover(refused)).token != refused.token
    assert len(authority.sent) == 1
    numbers = [int(number) for number in re.findall(r"\*\*Read (\d)\*\*", PAGE)]
    assert numbers == list(range(1, 1 + sum(Path(path).name == "auth.json" for path in paths)))
