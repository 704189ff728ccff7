"""Says in words what became of a login: why it died, what failed, and what worked again."""

from collections.abc import Iterator, Mapping, Sequence

from authstate.adapters.journal.lines import Line
from authstate.adapters.report.names import Names
from authstate.adapters.report.refreshes import Refresh, deaths_in, refreshes_of
from authstate.adapters.report.words import SIGNS_IN, WHY
from authstate.engine.machines.refresh_claim import format_time
from authstate.engine.model.states import AuthState, Trigger

MOST_REFRESHES = 5
"""Of those in which something went wrong, so many are told in words: the last ones."""
_JUMP = 60.0  # seconds that a clock goes back
_BOUNDS = ("refresh_started", "refresh_ended")
_TIMES = ("not at all", "once", "twice")


def explain(lines: Sequence[Line], names: Names) -> list[str]:
    """Return what happened, as paragraphs: the last state first, then what went wrong, the last thing first."""
    if not lines:
        return ["There are no lines, so nothing is known of what happened."]
    refreshes = refreshes_of(lines)
    deaths = deaths_in(lines)
    late = [refresh for refresh in refreshes if refresh.only_found_dead(deaths)]
    unusual = [refresh for refresh in refreshes if refresh.is_unusual and not refresh.only_found_dead(deaths)]
    told = [_present(lines, names, deaths), *_of_late(late, names)]
    told += [_of_refresh(refresh, lines, names) for refresh in reversed(unusual[-MOST_REFRESHES:])]
    told += _outside_of_refreshes(lines, names)
    return told


def _of_late(late: Sequence[Refresh], names: Names) -> Iterator[str]:
    """Refreshes of a login that was dead already, in one line."""
    if late:
        last = late[-1].began
        count = "Later, a refresh" if len(late) == 1 else f"Later, {len(late)} refreshes"
        which = "at" if len(late) == 1 else "the last one at"
        yield (
            f"{count} only found that a login was dead already, and sent nothing: {which} {format_time(last.at)}, by "
            f"{names.program(last)}."
        )


def _present(lines: Sequence[Line], names: Names, deaths: Mapping[str, int]) -> str:
    """What the journal says last of the login."""
    last = next((line for line in reversed(lines) if line.what == "state_changed"), None)
    if last is None:
        return "No line tells a change of the login."
    state, data = last.data.get("state"), last.data
    who, when = names.program(last), format_time(last.at)
    trigger = data.get("trigger")
    if state == AuthState.REFRESH_DEAD:
        first = lines[deaths[str(data["token"])]] if data.get("token") else last
        who, when = names.program(first), format_time(first.at)
        return f"The login is dead since {when}, when {who} found it so: {_sentence(data.get('message'))}"
    if trigger == Trigger.CREDENTIALS_REFUSED:
        why = _sentence(data.get("message"))
        return f"Nobody is signed in: at {when}, a policy forbade what was stored, in {who}: {why}"
    if state == AuthState.LOGGED_OUT:
        return f"Nobody is signed in since {when}, when {who} signed out, or noticed that another program did."
    if trigger == Trigger.TOKENS_REFRESHED:
        return f"The login works. Its tokens are of {when}, when {who} {_renewed(last, lines)}."
    done = "read it" if data.get("generation") == 1 else "signed in, or noticed that another program did"
    return f"The login works, as far as the journal tells: at {when}, {who} {done}."


def _renewed(change: Line, lines: Sequence[Line]) -> str:
    """How new tokens came."""
    by = [line for line in lines if line.by == change.by]
    began = next((line for line in reversed(by) if line.n < change.n and line.what in _BOUNDS), None)
    ended = next((line for line in by if line.n > change.n and line.what in _BOUNDS), None)
    if began is None or ended is None or ended.data.get("outcome") != "refreshed":
        return "found them stored by another program"
    return f"refreshed it: {WHY.get(str(began.data.get('reason')), 'for another reason')}"


def _of_refresh(refresh: Refresh, lines: Sequence[Line], names: Names) -> str:
    """One refresh in words."""
    began = refresh.began
    why = WHY.get(str(began.data.get("reason")), "for a reason that this release does not know")
    told = [f"At {format_time(began.at)}, {names.program(began)} began a refresh: {why}."]
    told += _found(refresh, names)
    told.append(_sent(refresh, names))
    told += _outcome(refresh, names)
    told += [f"It warned: {_sentence(line.data.get('message'))}" for line in refresh.warnings]
    if refresh.rejected is not None:
        told += dict.fromkeys(_who_used(refresh, lines, names))
    return " ".join([*told, *_since(refresh, lines, names)])


def _found(refresh: Refresh, names: Names) -> Iterator[str]:
    token = names.token(refresh.token)
    if refresh.found == "claimed":
        yield f"Another process had claimed the refresh token {token} before, and ended in the middle of its refresh."
    elif refresh.found == "doubtful":
        yield f"The answer to an earlier refresh with {token} had been lost."


def _sent(refresh: Refresh, names: Names) -> str:
    times = _TIMES[refresh.sent] if refresh.sent < len(_TIMES) else f"{refresh.sent} times"
    token = f" {names.token(refresh.token)}" if refresh.token else ""
    lost = sum(data.get("delivery") == "unknown" for data in refresh.answers)
    lost_text = f", and {_TIMES[lost] if lost < len(_TIMES) else lost} no answer came" if lost else ""
    return f"The refresh token{token} was sent {times}{lost_text}."


def _outcome(refresh: Refresh, names: Names) -> Iterator[str]:
    if refresh.rejected is not None:
        yield "The login died."
    elif refresh.failure is not None:
        kept = "The login stayed as it was" if not refresh.failure.get("permanent") else "There is no way on"
        yield f"It failed: {_sentence(refresh.failure.get('error'))} {kept}."
    elif refresh.outcome == "refreshed":
        yield "New tokens came and were stored."
    elif refresh.outcome == "adopted":
        yield "The store held newer tokens of another program, which were used."
    elif refresh.outcome:
        yield f"It ended: {refresh.outcome}."
    else:
        yield f"No line tells its end: {names.program(refresh.began)} was killed, or its last lines are lost."


def _who_used(refresh: Refresh, lines: Sequence[Line], names: Names) -> Iterator[str]:
    """What other processes did with the token that is dead."""
    for line in lines[: refresh.place]:
        data = line.data
        if line.by == refresh.began.by or data.get("token") != refresh.token or not refresh.token:
            continue
        who, when = names.program(line), format_time(line.at)
        if line.what == "sent":
            yield f"{_capital(who)} had sent the same token at {when}."
        elif line.what == "claim" and data.get("trigger") == "settle":
            new = names.token(data.get("successor"))
            yield f"{_capital(who)} had stored the tokens that replaced it ({new}) at {when}."


def _since(refresh: Refresh, lines: Sequence[Line], names: Names) -> Iterator[str]:
    """When the login worked again, if it had not."""
    if refresh.outcome in ("refreshed", "adopted"):
        return
    end = refresh.ended.n if refresh.ended is not None else refresh.began.n
    for line in lines[refresh.place :]:
        is_later = line.by != refresh.began.by or line.n > end
        if not is_later or line.what != "state_changed":
            continue
        trigger, is_restart = line.data.get("trigger"), line.data.get("generation") == 1
        if trigger == Trigger.TOKENS_REFRESHED:
            yield f"At {format_time(line.at)}, {names.program(line)} had new tokens."
            return
        if trigger in SIGNS_IN and not is_restart:
            yield f"At {format_time(line.at)}, somebody signed in ({names.program(line)})."
            return


def _outside_of_refreshes(lines: Sequence[Line], names: Names) -> list[str]:
    """Warnings, refused logins and clocks that jumped, each once."""
    inside = {(line.by, line.n) for refresh in refreshes_of(lines) for line in refresh.warnings}
    told: dict[str, str] = {}
    latest: dict[str, float] = {}
    for line in lines:
        who, when = names.program(line), format_time(line.at)
        if line.what == "warned" and (line.by, line.n) not in inside:
            told[f"warned {line.data.get('code')}"] = f"At {when}, {who} warned: {_sentence(line.data.get('message'))}"
        elif line.what == "login_completed" and not line.data.get("success"):
            told["failed"] = f"At {when}, a sign-in in {who} failed: {_sentence(line.data.get('error'))}"
        elif line.at < latest.get(line.by, line.at) - _JUMP:
            back = latest[line.by] - line.at
            told[f"clock {line.by}"] = f"The clock of {who} went back by {back:.0f} s, to {when}."
        elif line.what == "state_changed" and _is_switch(line):
            told[f"switch {line.by}"] = (
                f"At {when}, {who} changed to {names.login(line.data.get('login'))}, as another program or account "
                "selection had done."
            )
        latest[line.by] = line.at
    return list(told.values())


def _is_switch(line: Line) -> bool:
    """Whether a session went over to what another program stored: it signed in while somebody was signed in."""
    data = line.data
    was_in = data.get("previous") in (AuthState.CHATGPT, AuthState.API_KEY)
    return was_in and data.get("trigger") in SIGNS_IN


def _sentence(text: object) -> str:
    shown = str(text or "no reason is known").strip()
    return shown if shown.endswith((".", "!", "?")) else shown + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
