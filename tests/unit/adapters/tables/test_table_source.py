"""Tables read from source that is not executed: all that releases are written in, and a clear error for the rest."""

from collections.abc import Mapping

import pytest
from support.paths import REPO

from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.table_data import CannotReadTables, TableData, running_tables
from authstate.adapters.tables.table_source import tables_of_source
from authstate.engine.machines.table import Row

HEAD = "from authstate.engine.machines.table import Row, Table\n"
WORDS = "from authstate.engine.machines.words import IGNORED, Words\n"
GO = 'Row("go", ("a",), "b", "go on")'
TABLE = f'T_TABLE = Table(name="t", title="T", states=("a", "b"), initial="a", rows=({GO},))\n'


def read(text: str, **others: str) -> dict[str, TableData]:
    files = {"engine/t.py": text, **{f"engine/{name}.py": other for name, other in others.items()}}
    return tables_of_source(["engine/t.py"], files.get)


def test_the_source_of_the_working_tree_says_what_runs() -> None:
    files = [path for top in ("engine", "adapters") for path in (REPO / top).rglob("*.py")]
    paths = [path.relative_to(REPO).as_posix() for path in files if "= Table(" in path.read_text(encoding="utf-8")]

    def text_of(path: str) -> str | None:
        return (REPO / path).read_text(encoding="utf-8") if (REPO / path).exists() else None

    found = tables_of_source(paths, text_of)
    running = running_tables(TABLES, TABLE_WORDS)
    assert {name: (data.table, data.words) for name, data in found.items()} == {
        name: (data.table, data.words) for name, data in running.items()
    }
    assert all(type(state) is str for data in running.values() for state in data.table.states)


def test_a_table_may_be_written_with_enums_of_another_module() -> None:
    states = "from enum import StrEnum\nclass S(StrEnum):\n    '''Doc.'''\n    A = 'a'\n    B = 'b'\n"
    text = (
        f"{HEAD}from typing import Final\nfrom authstate.engine.states import S\n_A, _B = S\n"
        "T_TABLE: Final = Table('t', 'T', tuple(S), _A, ROWS)\n"
        "ROWS = (Row(S.A, (_A, *(s for s in S if s not in (_A,))), _B, 'x' 'y'),)\n"
    )
    table = read(text, states=states)["t"].table
    assert (table.states, table.initial) == (("a", "b"), "a")
    assert table.rows == (Row("a", ("a", "b"), "b", "xy"),)


def test_words_beside_the_table_are_read() -> None:
    words = "IGNORED = ''\n"
    text = (
        f"{HEAD}{WORDS}{TABLE}_ENDS = ('go',)\n"
        "T_WORDS = Words(states={s: 'A state.' for s in T_TABLE.states}, missing=IGNORED,\n"
        "  missing_in={**{(s, e): 'EngineClosed' for s in ('a', 'b') for e in _ENDS if s != 'a'}},\n"
        "  events={'x': ('Y',)} | dict.fromkeys(_ENDS, ('Z',)), timeouts={})\n"
    )
    read_words = tables_of_source(["t.py"], {"t.py": text, "engine/machines/words.py": words}.get)["t"].words
    assert read_words is not None
    assert read_words.states == {"a": "A state.", "b": "A state."}
    assert (read_words.missing, read_words.missing_in) == ("", {("b", "go"): "EngineClosed"})
    assert read_words.events == {"x": ("Y",), "go": ("Z",)}


def test_what_is_no_table_of_authstate_is_not_looked_at() -> None:
    assert read("from sqlalchemy import Table\nT = Table(anything())\n") == {}
    assert read("class Table: ...\nT = Table(1)\n") == {}
    assert tables_of_source(["gone.py"], lambda _: None) == {}


def test_nothing_is_executed() -> None:
    text = f"raise SystemExit\n{HEAD}{TABLE}import nothing_of_this_name\nexit(1)\n"
    assert list(read(text)) == ["t"]


def table_of(rows: str) -> str:
    return f'T_TABLE = Table(name="t", title="T", states=("a", "b"), initial="a", rows={rows})\n'


ERRORS: Mapping[str, tuple[str, str]] = {
    "no Python": (f"{HEAD}T = Table(", r"^engine/t\.py:2 cannot be parsed: "),
    "a NUL": ("\0", r"^engine/t\.py cannot be parsed: "),
    "a call": (f"{HEAD}{table_of('rows()')}", r"^engine/t\.py does not define rows$"),
    "a call of a function": (f"{HEAD}def f(): ...\n{table_of('f()')}", r"^engine/t\.py does not define f$"),
    "a call of a known value": (
        f"{HEAD}{table_of('tuple(1)')}",
        r"^engine/t\.py:2: 'tuple\(1\)' cannot be looped ov",
    ),
    "a lambda": (f"{HEAD}{table_of('(lambda: ())()')}", r"^engine/t\.py:2: 'lambda: \(\)' cannot be read without"),
    "a method": (
        f"{HEAD}{table_of('().count(1)')}",
        r"^engine/t\.py:2: '\(\)\.count' cannot be read without",
    ),
    "a repetition": (f"{HEAD}{table_of(f'({GO},) * 9')}", r"^engine/t\.py:2: .* cannot be read without executing it$"),
    "unpacked arguments": (f"{HEAD}T = Table(**{{}})\n", r"arguments that are unpacked from a dictionary"),
    "a field of the future": (
        f"{HEAD}T = Table(name='t', colour='red')\n",
        r"^engine/t\.py:2: Table has a field that this release does not know: colour$",
    ),
    "a field that is missing": (
        f"{HEAD}T = Table(name='t')\n",
        r"^engine/t\.py:2: this is not a Table as this",
    ),
    "a wrong type": (f"{HEAD}{table_of('1')}", r"^the table 't' in engine/t\.py cannot be read: Expected `array`"),
    "a row of a wrong type": (
        f"{HEAD}{table_of('(1,)')}",
        r"cannot be read: Expected `object`, got `int` - at ",
    ),
    "a class that is no enum": (
        f"{HEAD}class C: A = 1\n{table_of('tuple(C)')}",
        r"^engine/t\.py:2: the class C is",
    ),
    "a member that is not there": (
        f"{HEAD}from enum import Enum\nclass C(Enum): A = 1\n{table_of('C.B')}",
        r"^engine/t\.py:4: 'C\.B' cannot be read",
    ),
    "an import that leads nowhere": (
        f"{HEAD}from authstate.engine.gone import ROWS\n{table_of('ROWS')}",
        r"^engine/t\.py imports ROWS from authstate\.engine\.gone, which is not there$",
    ),
    "names that do not fit": (f"{HEAD}A, B = (1, 2, 3)\n{table_of('A')}", r"^engine/t\.py:2: 3 values for 2 names$"),
    "a loop over parts that do not fit": (f"{HEAD}{table_of('(x for x, y in (1,))')}", r"the loop cannot be read"),
    "a key that is none": (f"{HEAD}{table_of('{ {}: 1 }')}", r"^engine/t\.py:2: '\{\}' cannot be a key$"),
    "a dictionary of no dictionary": (f"{HEAD}{table_of('{**()}')}", r"only a dictionary can be unpacked into one$"),
    "a comparison of three": (f"{HEAD}{table_of('(x for x in (1,) if 1 == 1 == 1)')}", r"'1 == 1 == 1' cannot be read"),
    "a comparison": (f"{HEAD}{table_of('(x for x in (1,) if x < 2)')}", r"'x < 2' cannot be read without"),
    "a name that stands for itself": (f"{HEAD}A = A\n{table_of('A')}", r"nested too deeply, or stands for itself$"),
    "modules that import each other": (
        f"{HEAD}from authstate.engine.t import A\n{table_of('A')}",
        r"^engine/t\.py: A: the expression is nested too deeply, or stands for itself$",
    ),
    "a deep expression": (f"{HEAD}{table_of('(' * 150 + '1,' + ',)' * 150)}", r"nested too deeply|cannot be parsed"),
    "a table that is too large": (
        HEAD + "A0 = (1, 2)\n" + "".join(f"A{n + 1} = (*A{n}, *A{n})\n" for n in range(20)) + table_of("A20"),
        r"the tables take too much work to read$",
    ),
    "a loop that is too long": (
        f"{HEAD}A = (1, 2, 3, 4, 5, 6, 7, 8, 9)\n"
        + table_of("(a for a in A for b in A for c in A for d in A for e in A for f in A)"),
        r"the tables take too much work to read$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_read_is_named_with_its_place(name: str) -> None:
    text, message = ERRORS[name]
    with pytest.raises(CannotReadTables, match=message):
        read(text)


def test_two_tables_of_one_name_are_an_error() -> None:
    files = {"a.py": HEAD + TABLE, "b.py": HEAD + TABLE}
    with pytest.raises(CannotReadTables, match=r"^a\.py and b\.py both define a table 't'$"):
        tables_of_source(files, files.get)
