"""The list of accounts that a front-end of codex 0.169.0 or later asks for: authstate keeps one login, and lists it."""

from authstate.adapters.app_server.wire import AccountSession, AccountSessionsResult, AccountSessionWorkspace
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState


def sessions_of(session: Session, now: float) -> AccountSessionsResult:
    """Return what codex lists for the same login, as far as it is known here.

    A ChatGPT login is one session, which is in use now. Nothing else is a session: not an API key, tokens of a parent,
    or a login whose refresh token is dead. (Measured with 0.169.0 and 0.171.0, which name a session by the user or by
    random letters.) The names of workspaces come from the backend, and are null here.

    Args:
        session: who is signed in.
        now: seconds since the epoch.
    """
    tokens = session.credentials
    if session.state is not AuthState.CHATGPT or not isinstance(tokens, ChatgptTokens):
        return AccountSessionsResult()
    account = tokens.account
    name = account.user_id or account.account_id or account.email or "default"
    workspaces = [AccountSessionWorkspace(account.account_id)] if account.account_id else []
    shown = AccountSession(
        session_id=name,
        email=account.email,
        user_id=account.user_id,
        last_used_at=int(now),
        selected_workspace_account_id=account.account_id,
        workspaces=workspaces,
    )
    return AccountSessionsResult(name, [shown])
