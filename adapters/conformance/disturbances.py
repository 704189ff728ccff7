"""Actions outside of the account API: what is stored beforehand, other processes, restarts, and bad input."""

from authstate.adapters.conformance.connection import INITIALIZE
from authstate.adapters.conformance.held import Key, Managed
from authstate.adapters.conformance.history import READ, UPDATED, History
from authstate.adapters.conformance.home import UNKNOWN_MEMBER
from authstate.adapters.conformance.logins import START
from authstate.adapters.conformance.reference import login_of
from authstate.adapters.testing.auth_json import api_key_auth_json, chatgpt_auth_json
from authstate.engine.model.policy import LoginMethod, Policy

# Before the server starts


def given_chatgpt(history: History, expires_in: float = 3600.0, mode: int = 0o600) -> None:
    """Store a ChatGPT login."""
    history.model.stored = store_chatgpt(history, "org-1", expires_in, mode)
    history.has_unknown_member = True


def given_expired(history: History) -> None:
    """Store a ChatGPT login whose access token has expired, in a file that others may read."""
    given_chatgpt(history, -60.0, 0o644)


def given_corrupt(history: History) -> None:
    """Store half a file, and check that it counts as nobody and stays."""
    history.note("#", "auth.json is cut off")
    history.home.write("{")
    history.shows("start/corrupt-file")
    history.check("start/corrupt-file", history.home.text() == "{", "auth.json was changed")


def given_key_forbidden(history: History) -> None:
    """Store an API key, force ChatGPT logins, and start."""
    forced_to_chatgpt(history)
    _store_key(history)
    history.shows("start/policy")
    history.stores("start/policy")


def forced_to_chatgpt(history: History) -> None:
    """Force ChatGPT logins in config.toml."""
    _configure(history, 'forced_login_method = "chatgpt"', Policy(forced_login_method=LoginMethod.CHATGPT))


def forced_to_api(history: History) -> None:
    """Force API keys in config.toml."""
    _configure(history, 'forced_login_method = "api"', Policy(forced_login_method=LoginMethod.API))


def forced_workspace(history: History) -> None:
    """Force another workspace in config.toml."""
    _configure(history, 'forced_chatgpt_workspace_id = "org-2"', Policy(forced_workspaces=("org-2",)))


def unforced(history: History) -> None:
    """Allow every login in config.toml."""
    _configure(history, "", Policy())


def _configure(history: History, line: str, policy: Policy) -> None:
    """Change the policy in config.toml. A server that runs is started again, because it read the file at its start."""
    is_running = history.is_running
    if is_running:
        _end(history)
    history.note("#", f"config.toml: {line or 'forces nothing'}")
    history.home.configure(line)
    history.model.policy = policy
    if is_running:
        _start_again(history, "start/restored")


def start(history: History) -> None:
    """Start the server, and ask who is signed in."""
    _ = history.server
    history.shows("start/policy" if history.model.is_stored_refused else "start/restored")


def start_uninitialized(history: History) -> None:
    """Start the server, and send requests in the wrong order."""
    server = history.start(is_initialized=False)
    history.refused("start/not-initialized", server.call(READ, {"refreshToken": False}))
    history.initialize()
    history.model.start()
    history.refused("start/initialize-twice", server.call("initialize", INITIALIZE))


def restart(history: History) -> None:
    """End the server, and start it again."""
    _end(history)
    _start_again(history, "start/restored")


def kill(history: History) -> None:
    """Kill the server (`kill -9`), and start it again."""
    history.pending_login = None
    history.stop(kill=True)
    _start_again(history, "start/after-kill")


def _end(history: History) -> None:
    """Close the input of the server, and check that it ends."""
    is_pending, history.pending_login = history.pending_login is not None, None
    history.check("end/pending-login" if is_pending else "end/input-closed", history.stop(), "it was killed")


def _start_again(history: History, name: str) -> None:
    """Start the server, and check that it kept and uses the stored login, or that it must not use it."""
    history.stores(name)
    history.start()
    name = "start/policy" if history.model.is_stored_refused else name
    history.shows(name)
    history.stores(name)


# Other processes


def other_key(history: History) -> None:
    """Another process signs in with an API key."""
    _read_first(history)
    _store_key(history)
    _follow(history)


def other_login(history: History) -> None:
    """Another process signs in to the same workspace."""
    _read_first(history)
    history.model.stored = store_chatgpt(history, "org-1")
    _follow(history)


def other_account(history: History) -> None:
    """Another process signs in to another workspace."""
    _read_first(history)
    history.model.stored = store_chatgpt(history, "org-2")
    _follow(history)


def other_logout(history: History) -> None:
    """Another process signs out."""
    _read_first(history)
    history.note("#", "another process signs out")
    history.home.write(None)
    history.model.stored = None
    _follow(history)


def _read_first(history: History) -> None:
    """Let the server read what is stored now. If it reads the file later, it sees no change, and tells of none."""
    history.call_quietly(READ, {"refreshToken": False})


def _follow(history: History) -> None:
    """Ask for a refresh, and check that the other process's login or logout is in use."""
    model, mode, stored = history.model, history.model.mode, history.home.stored()
    history.call(READ, {"refreshToken": True})
    model.follow()
    was_refused = model.is_stored_refused
    model.adopt()
    found = history.home.stored()
    if isinstance(found, Managed) and isinstance(model.held, Managed) and found != stored:
        was_sent = history.times_sent(_refresh_of(stored)) == 1
        history.check("other-process/kept", was_sent, "the login was replaced, not refreshed")
        model.stored = model.held = history.learn_stored(model.held.workspace or "org-1")
    history.stores("other-process/kept")
    history.shows("other-process/policy" if was_refused else "other-process/seen")
    if model.mode != mode:
        updated = {"method": UPDATED, "authMode": model.mode, "planType": model.plan}
        history.server.receive_until(lambda: bool(history.server.told), history.setting.grace)
        history.told("other-process/told", updated, early=True, others=True)


def _refresh_of(held: Key | Managed | None) -> str:
    return held.refresh if isinstance(held, Managed) else ""


def store_chatgpt(history: History, workspace: str, expires_in: float = 3600.0, mode: int = 0o600) -> Managed:
    """Store a new login as another process does. Returns what the model holds of it."""
    history.note("#", f"store a ChatGPT login of {workspace}")
    tokens = history.issuer.seed(**login_of(workspace), expires_in=expires_in)
    for kind in ("refresh_token", "access_token", "id_token"):
        history.secret(tokens[kind], kind.replace("_", "-"))
    history.home.write(chatgpt_auth_json(tokens, **UNKNOWN_MEMBER), mode)
    return Managed(tokens["refresh_token"], tokens["access_token"], workspace, None, None)


def _store_key(history: History) -> None:
    history.note("#", "store an API key")
    key = Key(history.secret(f"sk-verify-{len(history.secrets)}-fedcba9876543210", "api-key"))
    history.home.write(api_key_auth_json(key.key))
    history.model.stored = key


# Bad input


def bad_requests(history: History) -> None:
    """Send requests that must be refused."""
    history.refused("input/unknown-method", history.call("account/nonsense", {}))
    history.refused("input/unknown-login", history.call(START, {"type": "nonsense"}))
    history.refused("input/missing-field", history.call(START, {"type": "apiKey"}))
    history.shows("login/refused/changes-nothing")
    history.stores("login/refused/changes-nothing")


def no_params(history: History) -> None:
    """Ask who is signed in, without `params`."""
    answer = history.call(READ)
    history.observe("input/no-params", "result" in answer, str(answer))


def not_json(history: History) -> None:
    """Send a line that is not JSON."""
    history.server.send_line("this is not JSON")
    history.call(READ, {"refreshToken": False})
    history.check("input/goes-on", True)
    history.observe("input/not-json", history.answered_without_id, "there was no answer with `id: null`")


def blank_key(history: History) -> None:
    """Sign in with a blank API key."""
    history.refused("input/blank-key", history.call(START, {"type": "apiKey", "apiKey": "  "}))
    history.shows("login/refused/changes-nothing")
