"""Tables that hypothesis makes up, and one with hostile names, for tests of whatever shows a table."""

from hypothesis import strategies as st

from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import Words

_EVIL = (
    "\"><script>window.wasHacked = true</script>' onload=alert(1) <img src=x onerror=alert(1)> "
    "]]>--><!-- &lt;/style></script>"
)

HOSTILE_TABLE = Table(
    name=f"evil/table#1~?{_EVIL}",
    title=f"Title {_EVIL}",
    states=(f"one {_EVIL}", "two/with#signs%20~no?&=", "\u202ethree\x00\ud800\u2066", "状態 ﷽ é", "a`b"),
    initial=f"one {_EVIL}",
    rows=(
        Row(f"go/{_EVIL}", (f"one {_EVIL}",), "two/with#signs%20~no?&=", _EVIL, guard=f"may {_EVIL}", effect=_EVIL),
        Row("say~no", ("two/with#signs%20~no?&=",), "\u202ethree\x00\ud800\u2066", "`code` <b>bold</b>"),
        Row("%2F~no!'()*", ("\u202ethree\x00\ud800\u2066", "状態 ﷽ é"), "状態 ﷽ é", "é"),
        Row("__proto__", ("状態 ﷽ é",), "a`b", "", guard="constructor"),
        Row("back", ("a`b",), f"one {_EVIL}", "a\nb"),
    ),
)
"""Its names are markup, separators of addresses, control characters, and letters of unusual width and direction."""

HOSTILE_WORDS = Words(
    states=dict.fromkeys(HOSTILE_TABLE.states, f"State {_EVIL}"),
    triggers={"back": _EVIL},
    guards={f"may {_EVIL}": _EVIL},
    effects={_EVIL: _EVIL},
    refusals={f"may {_EVIL}": (f"Error{_EVIL}",)},
    missing=f"Missing{_EVIL}",
    events={"back": (f"Event{_EVIL}",)},
    timeouts={"a`b": f"`a` {_EVIL}"},
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Any table of at most 8 states and 14 rows."""
    states = tuple(f"state_{'x' * draw(st.integers(0, 9))}{index}" for index in range(draw(st.integers(1, 8))))
    rows = tuple(
        Row(
            f"trigger_{index}",
            tuple(sorted(draw(st.sets(st.sampled_from(states), min_size=1)))),
            draw(st.sampled_from(states)),
            "it happens",
            guard=draw(st.sampled_from(("", "", "is_so"))),
        )
        for index in range(draw(st.integers(0, 14)))
    )
    return Table("generated", "Generated", states, draw(st.sampled_from(states)), rows)
