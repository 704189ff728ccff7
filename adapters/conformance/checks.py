"""The checks of `authstate verify`: a stable name, one sentence, and the requirement that each comes from.

The names are part of the interface: reports, CI configurations and docs use them.
"""

from typing import Final, NamedTuple


class Check(NamedTuple):
    """What is checked. `source` names the page of the documentation that states the requirement."""

    name: str
    sentence: str
    source: str


_SOURCES: Final = {
    "start": "docs/protocol.md",
    "end": "docs/protocol.md",
    "input": "docs/protocol.md",
    "login": "docs/protocol.md",
    "logout": "docs/protocol.md",
    "refresh": "docs/reliability.md",
    "recovery": "docs/states.md",
    "limits": "docs/protocol.md",
    "other-process": "docs/protocol.md",
    "store": "docs/storage.md",
    "secrets": "docs/security-model.md",
    "answers": "docs/protocol.md",
}
"""The page that states the requirements of each area: the first part of a name."""

_SENTENCES: Final = {
    "start/not-initialized": "A request before `initialize` is refused with -32600.",
    "start/initialize": "`initialize` is answered with a `userAgent` that begins with the client's name.",
    "start/initialize-twice": "A second `initialize` is refused with -32600.",
    "start/nothing-unasked": "No account notification follows `initialize` if nobody signed in or out.",
    "start/restored": "After a start, the stored login is in use.",
    "start/corrupt-file": "A corrupt auth.json counts as nobody signed in, and is not overwritten.",
    "start/policy": "A stored login that the configuration forbids is not used, and is kept.",
    "start/after-kill": "After `kill -9`, the next start uses the login that was stored.",
    "end/input-closed": "The server ends when its input is closed.",
    "end/pending-login": "The server ends when its input is closed, even while a login is pending.",
    "input/unknown-method": "An unknown method is refused with -32600 and changes nothing.",
    "input/unknown-login": "An unknown login type is refused with -32600 and changes nothing.",
    "input/missing-field": "A login without its required member is refused with -32600 and changes nothing.",
    "input/no-params": "`account/read` is answered if it has no `params`.",
    "input/not-json": "A line that is not JSON is answered with -32700 and `id: null`.",
    "input/goes-on": "After a line that is not JSON, the server answers the next request.",
    "input/blank-key": "A blank API key is refused with -32600 and replaces no login.",
    "login/api-key/answer": "A login with an API key is answered with its type, or refused where it must be.",
    "login/api-key/order": "The answer comes first, then `account/login/completed`, then `account/updated`.",
    "login/api-key/read-back": "After the login, `account/read` and `getAuthStatus` show the API key.",
    "login/api-key/stored": "auth.json holds the API key, readable by its owner only.",
    "login/external/answer": "A login with external tokens in all members is accepted.",
    "login/external/dialects": "At least one dialect of external tokens is accepted: 0.93.0's or 0.169.0's.",
    "login/external/order": "The answer comes first, then `account/login/completed`, then `account/updated`.",
    "login/external/ends-pending": "External tokens end a pending login, and the client is told of both.",
    "login/external/read-back": "After the login, the account of the external tokens is shown.",
    "login/external/not-stored": "External tokens are written to no file.",
    "login/external/no-jwt": "An external token that is no JWT is refused with -32600 and changes nothing.",
    "login/browser/answer": "A browser login is answered with a `loginId` and an `authUrl` of the issuer.",
    "login/browser/order": "After the browser returned: `account/login/completed`, then `account/updated`.",
    "login/browser/read-back": "After a browser login, the person is shown.",
    "login/browser/stored": "auth.json holds the tokens of the browser login, readable by its owner only.",
    "login/browser/declined": "A declined login fails: `completed` with `success: false`, no `updated`.",
    "login/browser/cancelled": "A cancelled login fails: `completed` with `success: false`, no `updated`.",
    "login/browser/second-start": "A second login start ends the first one, and the client is told.",
    "login/browser/workspace": "A browser login to a forbidden workspace fails: `completed` with `success: false`.",
    "login/device/answer": "A device login is answered with `loginId`, `verificationUrl` and `userCode`.",
    "login/device/order": "After the approval: `account/login/completed`, then `account/updated`.",
    "login/device/read-back": "After a device login, the person is shown.",
    "login/device/workspace": "A device login to a forbidden workspace fails: `completed` with `success: false`.",
    "login/cancel/unknown": "The cancellation of an unknown login is answered with `notFound`.",
    "login/cancel/no-uuid": "A `loginId` that is no UUID is refused with -32600.",
    "login/refused/external": "While a parent owns the tokens, other logins are refused with -32600.",
    "login/refused/policy": "A login that the configuration forbids is refused with -32600.",
    "login/refused/changes-nothing": "A refused or failed login changes neither the session nor the store.",
    "logout/answer": "A logout is answered with `{}`.",
    "logout/order": "The answer comes first, then `account/updated` without a mode.",
    "logout/read-back": "After a logout, nobody is shown and no token is returned.",
    "logout/nothing-left": "After a logout, no file of CODEX_HOME holds a key or a token.",
    "logout/revoked": "A logout revokes the refresh token at the issuer.",
    "refresh/new-tokens": "A refresh brings a new access token, and the new tokens are stored.",
    "refresh/not-asked": "Where there is nothing to refresh, nothing is sent and nothing changes.",
    "refresh/no-token-twice": "No refresh token is sent again once the issuer exchanged it for new tokens.",
    "refresh/transient": "A refresh that fails for now changes neither the session nor the store.",
    "refresh/permanent/shown": "After a refresh token was refused for good, no account and no token is shown.",
    "refresh/permanent/kept": "After a refresh token was refused for good, auth.json is kept as it is.",
    "refresh/permanent/never-retried": "A refresh token that was refused for good is never sent again.",
    "refresh/expired": "A login whose access token has expired is refreshed when it is needed.",
    "refresh/killed": "After `kill -9` in a refresh, the token that was sent is not sent again at once.",
    "recovery/refreshed": "A request that the backend refuses with 401 is repeated with refreshed tokens.",
    "recovery/reloaded": "After a 401, tokens that another process stored are used, and no refresh token is sent.",
    "recovery/rejected": "If the issuer refuses the refresh token after a 401, the request fails.",
    "recovery/transient": "If the refresh after a 401 fails for now, the request fails and nothing changes.",
    "recovery/ends": "A request whose new tokens are refused, too, fails after at most two refreshes or questions.",
    "recovery/parent-asked": "After a 401, the parent is asked, and the request is repeated with its tokens.",
    "recovery/parent-refuses": "If the parent refuses, the request fails and nothing changes.",
    "recovery/parent-workspace": "Tokens of another workspace from the parent are not used.",
    "recovery/parent-late": "An answer of the parent that comes too late is dropped (only with `--slow`).",
    "limits/answer": "`account/rateLimits/read` is answered for a ChatGPT account.",
    "limits/refused": "`account/rateLimits/read` is refused with -32600 without a ChatGPT account.",
    "other-process/seen": "A login or logout of another process is in use once the client asks for a refresh.",
    "other-process/told": "A change by another process is told with `account/updated`.",
    "other-process/kept": "What another process stored is not overwritten.",
    "other-process/policy": "A login by another process that the configuration forbids is not used, and kept.",
    "store/unknown-members": "A refresh keeps the members of auth.json that it does not know.",
    "store/private": "auth.json can be read by its owner only, whatever mode it had.",
    "secrets/none-in-output": "No answer but `getAuthStatus` holds a token, and the error output holds none.",
    "secrets/none-in-files": "No file but auth.json holds a key or a token.",
    "answers/in-time": "Every request is answered.",
    "answers/shape": "Every line of the server is a message of the protocol.",
}

CHECKS: Final = {name: Check(name, sentence, _SOURCES[name.partition("/")[0]]) for name, sentence in _SENTENCES.items()}
"""Every check by its name, in the order of the report."""
