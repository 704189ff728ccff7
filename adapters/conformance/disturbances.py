"""Actions outside of the account API: what is stored beforehand, other processes, restarts, and bad input."""

from authstate.adapters.conformance.connection import INITIALIZE
from authstate.adapters.conformance.held import Key, Managed
from authstate.adapters.conformance.history import READ, UPDATED, History
from authstate.adapters.conformance.home import UNKNOWN_MEMBER
from authstate.adapters.conformance.logins import START
from authstate.adapters.conformance.reference import login_of
from authstate.adapters.testing.auth_json import api_key_auth_json, chatgpt_auth_json
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.states import AuthState

# Before the server starts


def given_chatgpt(history: History, expires_in: float = 3600.0, mode: int = 0o600) -> None:
    """Store a ChatGPT login."""
    history.model.stored = _store_chatgpt(history, "org-1", expires_in, mode)
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
    history.note("#", 'config.toml: forced_login_method = "chatgpt"')
    history.home.configure('forced_login_method = "chatgpt"')
    history.model.policy = Policy(forced_login_method=LoginMethod.CHATGPT)


def forced_to_api(history: History) -> None:
    """Force API keys in config.toml."""
    history.note("#", 'config.toml: forced_login_method = "api"')
    history.home.configure('forced_login_method = "api"')
    history.model.policy = Policy(forced_login_method=LoginMethod.API)


def forced_workspace(history: History) -> None:
    """Force another workspace in config.toml."""
    history.note("#", 'config.toml: forced_chatgpt_workspace_id = "org-2"')
    history.home.configure('forced_chatgpt_workspace_id = "org-2"')
    history.model.policy = Policy(forced_workspaces=("org-2",))


def start(history: History) -> None:
    """Start the server, and ask who is signed in."""
    history.shows("start/restored")


def start_uninitialized(history: History) -> None:
    """Start the server, and send requests in the wrong order."""
    server = history.start(is_initialized=False)
    history.refused("start/not-initialized", server.call(READ, {"refreshToken": False}))
    history.initialize()
    history.model.start()
    history.refused("start/initialize-twice", server.call("initialize", INITIALIZE))


def restart(history: History, *, kill: bool = False) -> None:
    """End the server, and start it again."""
    is_pending, history.pending_login = history.pending_login is not None, None
    ended = history.stop(kill=kill)
    if not kill:
        history.check("end/pending-login" if is_pending else "end/input-closed", ended, "it was killed after a while")
    name = "start/after-kill" if kill else "start/restored"
    history.stores(name)
    history.start()
    history.shows(name)


def kill(history: History) -> None:
    """Kill the server (`kill -9`), and start it again."""
    restart(history, kill=True)


# Other processes


def other_key(history: History) -> None:
    """Another process signs in with an API key."""
    _ = history.server
    _store_key(history)
    _follow(history)


def other_login(history: History) -> None:
    """Another process signs in to the same workspace."""
    _ = history.server
    history.model.stored = _store_chatgpt(history, "org-1")
    _follow(history)


def other_account(history: History) -> None:
    """Another process signs in to another workspace."""
    _ = history.server
    history.model.stored = _store_chatgpt(history, "org-2")
    _follow(history)


def other_logout(history: History) -> None:
    """Another process signs out."""
    _ = history.server
    history.note("#", "another process signs out")
    history.home.write(None)
    history.model.stored = None
    _follow(history)


def _follow(history: History) -> None:
    """Ask for a refresh, and check that the other process's login or logout is in use."""
    model, mode, stored = history.model, history.model.mode, history.home.stored()
    history.call(READ, {"refreshToken": True})
    model.follow()
    was_refused = model.state is AuthState.LOGGED_OUT and model.stored is not None
    model.adopt()
    found = history.home.stored()
    if isinstance(found, Managed) and isinstance(model.held, Managed) and found != stored:
        was_sent = history.times_sent(_refresh_of(stored)) == 1
        history.check("other-process/kept", was_sent, "the login was replaced, not refreshed")
        workspace = model.held.workspace
        model.stored = model.held = history.learn_stored(workspace or "")._replace(workspace=workspace)
    history.stores("other-process/kept")
    history.shows("other-process/policy" if was_refused else "other-process/seen")
    if model.mode != mode:
        updated = {"method": UPDATED, "authMode": model.mode, "planType": model.plan}
        history.server.receive_until(lambda: bool(history.server.told), history.setting.grace)
        history.told("other-process/told", updated, early=True, others=True)


def _refresh_of(held: Key | Managed | None) -> str:
    return held.refresh if isinstance(held, Managed) else ""


def _store_chatgpt(history: History, workspace: str, expires_in: float = 3600.0, mode: int = 0o600) -> Managed:
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
