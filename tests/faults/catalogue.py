"""The catalogue of faults: what happens, what the user reads, and what is stored afterwards.

faults/scenarios has a function for each fault, and test_faults.py compares what it returns with the fault. The table in
docs/reliability.md is generated: `python -m faults.catalogue` in `tests/` writes it.

Placeholders in messages: HOME is the home folder, N the id of a process or a port, TIME a time.
"""

from typing import NamedTuple

from support.paths import REPO

PAGE = REPO / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"

AS_BEFORE, NEW, THEIRS = "as before", "the new tokens", "what codex wrote"
IN_PLACE = f"{NEW}, written in place"
AGAIN, SIGN_IN, NOTHING = "the same call works", "`authstate login`", "nothing to do"

_SIGN_IN = "Sign in again: `authstate login`. What is stored was not changed."
_BY_ANOTHER = (
    "by a program that does not take authstate's lock. Sign in again to use this account: `authstate login`. To "
    "use what is stored now, try again in a moment, or restart this program if it does not follow other sign-ins."
)
_ELSEWHERE = f"by a program that does not take authstate's lock. {_SIGN_IN}"
_LOCK = "HOME/auth.json.authstate.lock"
_NETWORK = "check the network and the proxy, then try again"
_LOST = (
    "The answer to the refresh was lost, so the refresh token may be spent: the access token is used until it expires "
    "or is refused, and then the refresh is tried once more"
)
_PROXY = "try again; if that does not help, check the proxy"
_ACCESS = "give this user read and write access to it and to its folder"


class Fault(NamedTuple):
    """A fault that happens to a user who is signed in while a program refreshes, and what it leads to."""

    name: str
    """The name of its scenario."""
    happens: str
    """What happens, for the table."""
    state: str
    """The state of the session afterwards."""
    message: str
    """What the user reads: the error of the call, or the warning; empty if there is neither."""
    disk: str
    """What auth.json holds afterwards. No temporary file is left."""
    then: str
    """What helps once the fault is over. For `AGAIN`, the test repeats the call."""
    sent: int = 0
    """How often a refresh token was sent while the fault lasted."""


FAULTS = (
    Fault(
        "disk_full",
        "The disk is full.",
        "chatgpt",
        "cannot write beside HOME/auth.json: no space left on device: free some space on that disk",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "file_system_read_only",
        "The file system becomes read-only.",
        "chatgpt",
        f"cannot lock {_LOCK}: read-only file system: set CODEX_HOME to a folder that can be written",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "home_not_writable",
        "This user may not write in the home any more (mode 0500).",
        "chatgpt",
        "",
        IN_PLACE,
        NOTHING,
        sent=1,
    ),
    Fault(
        "home_and_file_not_writable",
        "This user may write neither in the home (mode 0500) nor in auth.json (mode 0400) any more.",
        "chatgpt",
        f"cannot write beside HOME/auth.json: permission denied: {_ACCESS}",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "file_mounted",
        "auth.json alone is mounted (`docker -v host/auth.json:...`): nothing can take its place.",
        "chatgpt",
        "",
        IN_PLACE,
        NOTHING,
        sent=1,
    ),
    Fault(
        "read_only_container",
        "The same in a container whose disk is read-only: no lock file, and nothing beside auth.json.",
        "chatgpt",
        "",
        IN_PLACE,
        NOTHING,
        sent=1,
    ),
    Fault(
        "file_mounted_during_the_refresh",
        "auth.json is mounted by itself while the issuer is asked.",
        "chatgpt",
        "",
        IN_PLACE,
        NOTHING,
        sent=1,
    ),
    Fault(
        "file_mounted_read_only",
        "auth.json alone is mounted, and cannot be written (`-v host/auth.json:...:ro`).",
        "chatgpt",
        "cannot write HOME/auth.json: read-only file system: set CODEX_HOME to a folder that can be written",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "file_mounted_on_full_disk",
        "auth.json alone is mounted, and its disk is full.",
        "chatgpt",
        "cannot write HOME/auth.json: no space left on device: free some space on that disk",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "killed_during_write_in_place",
        "A program is killed while it writes a mounted auth.json in place: half of the new tokens is there.",
        "chatgpt",
        "",
        "the new tokens of the program that was killed",
        NOTHING,
    ),
    Fault(
        "file_of_root_in_sticky_folder",
        "auth.json is root's, mode 0666, in a folder that lets nobody else replace it (sticky).",
        "chatgpt",
        "",
        f"{IN_PLACE}; it belongs to its owner",
        NOTHING,
        sent=1,
    ),
    Fault(
        "file_planted_by_another_user",
        "auth.json belongs to another user, in a home that every user can write: who put it there is handed what is "
        "written to it.",
        "chatgpt",
        "HOME/auth.json is not used: this file belongs to user 1, in a folder that every user can write: see who put "
        "it there, remove it, and chmod o-w HOME",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "run_as_root",
        "root runs the program in the home of another user.",
        "chatgpt",
        "",
        f"{NEW}; everything in the home belongs to that user",
        NOTHING,
        sent=1,
    ),
    Fault(
        "lock_of_another_user",
        "The lock file belongs to root, mode 0600.",
        "chatgpt",
        "",
        NEW,
        NOTHING,
        sent=1,
    ),
    Fault(
        "file_system_without_locks",
        "The file system has no locks (ENOLCK).",
        "chatgpt",
        "",
        NEW,
        NOTHING,
        sent=1,
    ),
    Fault(
        "home_not_accessible",
        "This user may not enter the home any more (mode 0000).",
        "chatgpt",
        f"cannot lock {_LOCK}: permission denied: {_ACCESS}",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "owned_by_another_user",
        "auth.json now belongs to another user (root, mode 0600).",
        "chatgpt",
        f"cannot read HOME/auth.json: permission denied: {_ACCESS}",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "home_deleted",
        "The home is deleted while the program runs.",
        "refresh_dead",
        "Another program signed in with another account, or signed out, where these credentials are stored. "
        f"HOME/auth.json was removed at TIME {_BY_ANOTHER}",
        "nothing; the home is there again",
        SIGN_IN,
    ),
    Fault(
        "file_is_symbolic_link",
        "auth.json is a symbolic link.",
        "chatgpt",
        "",
        f"{NEW}, in the file that the link leads to; the link stays",
        NOTHING,
        sent=1,
    ),
    Fault(
        "folder_named_auth_json",
        "A folder takes the place of auth.json.",
        "chatgpt",
        "cannot read HOME/auth.json: is a directory: move the folder of this name away: a file belongs there",
        "the folder, as it was",
        AGAIN,
    ),
    Fault(
        "lock_held_by_hanging_process",
        "A process that hangs holds the lock.",
        "chatgpt",
        f"{_LOCK} is held by process N for more than 60 s: wait for it to finish, or end it, then try again",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "file_truncated",
        "codex was killed while it wrote auth.json in place.",
        "chatgpt",
        "HOME/auth.json cannot be read: it is not valid JSON (Input data was truncated). Sign in again to replace "
        "it, or repair it",
        "the half file, as it was",
        AGAIN,
    ),
    Fault(
        "codex_rewrites_in_place",
        "codex refreshes, empties auth.json and writes it in place while authstate looks.",
        "chatgpt",
        "",
        THEIRS,
        NOTHING,
    ),
    Fault(
        "codex_refreshes_at_the_same_time",
        "codex spends the same refresh token a moment before, and stores the new one a moment after.",
        "chatgpt",
        "another program that does not take our lock refreshed the login of person@example.com (workspace org-1) in "
        "HOME/auth.json; its tokens were adopted",
        THEIRS,
        NOTHING,
        sent=1,
    ),
    Fault(
        "codex_spends_the_token_and_stores_nothing",
        "codex stored the login, spends its refresh token, and stores nothing.",
        "refresh_dead",
        "Your sign-in was used up: its refresh token works only once and was spent already. "
        f"HOME/auth.json was last changed at TIME {_ELSEWHERE}",
        AS_BEFORE,
        SIGN_IN,
        sent=1,
    ),
    Fault(
        "copy_used_elsewhere",
        "A copy of the login is used on another machine, and its refresh token spent there.",
        "refresh_dead",
        "Your sign-in was used up: its refresh token works only once and was spent already. "
        "HOME/auth.json was last changed by authstate (process N) at TIME. So a copy of this login is probably in use "
        f"elsewhere: another machine, or another CODEX_HOME. {_SIGN_IN}",
        AS_BEFORE,
        SIGN_IN,
        sent=1,
    ),
    Fault(
        "answer_lost",
        "The issuer takes the refresh token, and the connection is reset before its answer.",
        "refresh_dead",
        "Your sign-in was used up: its refresh token works only once and was spent already. Probably this program "
        "spent it: the answer to an earlier request was lost on its way. "
        f"{_SIGN_IN}",
        AS_BEFORE,
        SIGN_IN,
        sent=2,
    ),
    Fault(
        "killed_before_the_token_was_spent",
        "A program (a `wrap`, say) is killed in the middle of a refresh, before the issuer acts on it. The next one "
        "needs a token.",
        "chatgpt",
        "",
        NEW,
        NOTHING,
        sent=1,
    ),
    Fault(
        "killed_after_the_token_was_spent",
        "The same, and the issuer had taken the refresh token.",
        "refresh_dead",
        "Your sign-in was used up: its refresh token works only once and was spent already. Probably an earlier "
        f"refresh spent it: process N ended in the middle of a refresh at TIME. {_SIGN_IN}",
        AS_BEFORE,
        SIGN_IN,
        sent=1,
    ),
    Fault(
        "backup_restored",
        "A backup of auth.json is restored, from before a refresh of the program that runs.",
        "chatgpt",
        "HOME/auth.json holds tokens that this program replaced, as after a restored backup: they are not used",
        NEW,
        NOTHING,
        sent=2,  # the one in the backup before, the newest now
    ),
    Fault(
        "another_account",
        "Somebody signs in with another account underneath.",
        "refresh_dead",
        "Another program signed in with another account, or signed out, where these credentials are stored. "
        f"HOME/auth.json was last changed at TIME {_BY_ANOTHER}",
        "the other account",
        SIGN_IN,
    ),
    Fault(
        "another_account_followed",
        "The same, and the program follows other sign-ins, as `app-server` and `wrap` do.",
        "chatgpt",
        "",
        "the other account",
        NOTHING,
    ),
    Fault(
        "expired_without_refresh_token",
        "The login has no refresh token (a CI job's), and its access token has expired.",
        "refresh_dead",
        "The access token has expired, or the backend refused it, and this sign-in has no refresh token to get a new "
        f"one with. {_SIGN_IN}",
        AS_BEFORE,
        SIGN_IN,
    ),
    Fault(
        "valid_access_token_without_refresh_token",
        "The same, and its access token is good.",
        "chatgpt",
        "",
        AS_BEFORE,
        NOTHING,
    ),
    Fault(
        "signed_out_during_the_refresh",
        "codex signs out, without the lock, while the issuer is asked.",
        "refresh_dead",
        "Another program signed in with another account, or signed out, where these credentials are stored. "
        f"HOME/auth.json was removed at TIME {_BY_ANOTHER}",
        "nothing",
        SIGN_IN,
        sent=1,
    ),
    Fault(
        "another_account_during_the_refresh",
        "codex signs in with another account, without the lock, while the issuer is asked.",
        "refresh_dead",
        "Another program signed in with another account, or signed out, where these credentials are stored. "
        f"HOME/auth.json was last changed at TIME {_BY_ANOTHER}",
        "the other account",
        SIGN_IN,
        sent=1,
    ),
    Fault(
        "clock_a_year_ahead",
        "The clock jumps a year ahead: every token looks expired.",
        "chatgpt",
        "new tokens look expired already: check this machine's clock",
        NEW,
        NOTHING,
        sent=1,
    ),
    Fault(
        "clock_a_year_back",
        "The clock jumps a year back: an expired token looks good, and the backend refuses it.",
        "chatgpt",
        "",
        NEW,
        NOTHING,
        sent=1,
    ),
    Fault(
        "issuer_name_not_found",
        "The issuer's name is not found.",
        "chatgpt",
        f"issuer.invalid cannot be reached: [Errno -2] Name or service not known: {_NETWORK}",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "connection_refused",
        "The connection is refused.",
        "chatgpt",
        f"127.0.0.1:N cannot be reached: All connection attempts failed: {_NETWORK}",
        AS_BEFORE,
        AGAIN,
    ),
    Fault(
        "connection_reset",
        "The connection is reset before an answer, each time.",
        "chatgpt",
        f"127.0.0.1:N gave no answer: ReadError: {_PROXY}. {_LOST}",
        AS_BEFORE,
        AGAIN,
        sent=2,
    ),
    Fault(
        "answer_truncated",
        "The connection ends in the middle of the answer, each time.",
        "chatgpt",
        f"127.0.0.1:N gave no answer: RemoteProtocolError: {_PROXY}. {_LOST}",
        AS_BEFORE,
        AGAIN,
        sent=2,
    ),
    Fault(
        "issuer_overloaded",
        "429, with Retry-After: 3600.",
        "chatgpt",
        "127.0.0.1:N answered with status 429: it is overloaded: try again in 3600 seconds",
        AS_BEFORE,
        AGAIN,
        sent=1,
    ),
    Fault(
        "issuer_unavailable_for_minutes",
        "503 for five minutes, while a program asks once a minute.",
        "chatgpt",
        "127.0.0.1:N answered with status 503: it is overloaded: try again later",
        AS_BEFORE,
        AGAIN,
        sent=35,
    ),
)


_REFRESHED = "The login works. Its tokens are of TIME, when process N refreshed it: somebody asked for a refresh."
_ADOPTED = "The login works. Its tokens are of TIME, when process N found them stored by another program."
_UNEVENTFUL = {
    "killed_during_write_in_place": _ADOPTED,
    "codex_rewrites_in_place": _ADOPTED,
    "codex_refreshes_at_the_same_time": (
        "It warned: another program that does not take our lock refreshed the login of [email] (workspace [id]) in "
        "HOME/auth.json; its tokens were adopted."
    ),
    "killed_before_the_token_was_spent": (
        "Another process had claimed the refresh token rt-1 before, and ended in the middle of its refresh. The "
        "refresh token rt-1 was sent once. New tokens came and were stored."
    ),
    "backup_restored": (
        "New tokens came and were stored. It warned: HOME/auth.json holds tokens that this program replaced, as after "
        "a restored backup: they are not used."
    ),
    "another_account_followed": (
        "At TIME, process N changed to login B, as another program or account selection had done."
    ),
    "valid_access_token_without_refresh_token": (
        "The login works, as far as the journal tells: at TIME, process N read it."
    ),
    "clock_a_year_ahead": "process N warned: new tokens look expired already: check this machine's clock.",
    "clock_a_year_back": "process N refreshed it: the backend had refused the access token (401).",
}
"""What the report says where nothing failed, unless it is `_REFRESHED`."""


def words_of_report(fault: Fault) -> str:
    """What `authstate report` says of a fault, among other things. Placeholders as in the messages."""
    if fault.state == "refresh_dead":
        return f"The login is dead since TIME, when process N found it so: {fault.message}"
    if fault.then == AGAIN:
        return f"It failed: {fault.message}. The login stayed as it was."
    return _UNEVENTFUL.get(fault.name, _REFRESHED)


def table() -> str:
    """The catalogue as a Markdown table."""
    lines = [
        "| what happens | state afterwards | what the person reads | refresh tokens sent | auth.json | what helps |",
        "|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        message = fault.message.replace("|", "\\|") or "nothing"
        cells = (fault.happens, f"`{fault.state}`", message, str(fault.sent), fault.disk, fault.then)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page_with_table(page: str) -> str:
    """Return a page with the table between its markers replaced by the current one."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
