"""The account API on top of an engine: each method of docs/protocol.md, and the engine's events as notifications.

A method that need not wait answers without a task: `account/read` with a usable token costs a comparison. Methods that
change who is signed in are exclusive: the next request waits for their answer.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Raw

from authstate.adapters.app_server import wire
from authstate.adapters.app_server.interactive_logins import InteractiveLogins
from authstate.adapters.jsonrpc.peer import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Exclusive,
    Peer,
    PeerClosed,
    RemoteError,
    RpcError,
)
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens, PersonalAccessToken
from authstate.engine.model.errors import (
    AuthError,
    InvalidCredentials,
    LoginAttemptEnded,
    NotSignedIn,
    ParentUnavailable,
    PermanentRefreshError,
    PolicyViolation,
    TransientAuthError,
    TransitionRefused,
)
from authstate.engine.model.events import AccountUpdated, AuthMode, Event, LoginCompleted
from authstate.engine.model.states import AuthState

# The forms of a UUID: with or without hyphens, in braces, as a URN.
_UUID = re.compile(r"(?:urn:uuid:)?(\{)?(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?(1)\})", re.I)

_read_params = wire.ParamsDecoder[wire.AccountReadParams](wire.AccountReadParams)
_login_start = wire.ParamsDecoder[wire.LoginStart](wire.LoginStart, wire.LOGIN_TYPES)
_login_cancel = wire.ParamsDecoder[wire.LoginCancelParams](wire.LoginCancelParams)
_no_params = wire.ParamsDecoder[wire.NoParams](wire.NoParams)
_status_params = wire.ParamsDecoder[wire.AuthStatusParams](wire.AuthStatusParams)
_refresh_answer = wire.ParamsDecoder[wire.RefreshAnswer](wire.RefreshAnswer)

_REFRESH_WITHIN = 2.0  # seconds that a client waits for a refresh when it asks who is signed in
_REFUSALS = (InvalidCredentials, LoginAttemptEnded, NotSignedIn, PolicyViolation, TransitionRefused)


class Notify(Protocol):
    """Sends a notification to the client, unless the client opted out."""

    def __call__(self, method: str, params: object) -> None:
        """See `Peer.notify`."""


RateLimits = Callable[[], Awaitable[object]]
"""Reads the rate limits of the account in the form of the wire. Raises AuthError."""


class AccountApi:
    """Answers the account methods of one client.

    Args:
        engine: started.
        notify: tells the client of events.
        requires_openai_auth: whether the configured model provider needs an OpenAI account. If it does not, no account
            is shown, as in codex.
        rate_limits: reads the rate limits.
        logins: runs the interactive logins.
    """

    def __init__(
        self,
        engine: AuthEngine,
        notify: Notify,
        *,
        requires_openai_auth: bool = True,
        rate_limits: RateLimits,
        logins: InteractiveLogins,
    ) -> None:
        self._engine = engine
        self._notify = notify
        self._requires_openai_auth = requires_openai_auth
        self._rate_limits = rate_limits
        self._logins = logins
        self._methods: dict[str, Callable[[Raw | None], object]] = {
            "account/read": self._read,
            "account/login/start": self._login_start,
            "account/login/cancel": self._login_cancel,
            "account/logout": self._logout,
            "account/rateLimits/read": self._read_rate_limits,
            "getAuthStatus": self._auth_status,
        }
        self.close: Callable[[], None] = engine.subscribe(self._on_event)

    def handle(self, method: str, params: Raw | None) -> object:
        """Answer one request; see `jsonrpc.Handler`.

        Raises:
            RpcError: it is refused or malformed.
        """
        answer = self._methods.get(method)
        if answer is None:
            known = ", ".join(f"`{name}`" for name in ("initialize", *self._methods))
            raise RpcError(INVALID_REQUEST, f"Invalid request: unknown method, expected one of {known}")
        return answer(params)

    # account/read and getAuthStatus

    def _read(self, params: Raw | None) -> object:
        refresh = bool(_read_params(params).refresh_token)
        return self._read_later(refresh) if refresh or self._must_check() else self._account()

    async def _read_later(self, refresh: bool) -> wire.AccountReadResult:
        with _refusals():
            await (self._refresh() if refresh else self._check())
        return self._account()

    def _must_check(self) -> bool:
        """Whether the account may be out of date.

        Its token has expired or has no known owner, or nobody is signed in in this process.
        """
        return (
            self._is_expired()
            or self._is_unidentified()
            or self._engine.session.state in (AuthState.LOGGED_OUT, AuthState.REFRESH_DEAD)
        )

    async def _check(self) -> None:
        """Apply a login of another process, and find out whether an expired one can be refreshed."""
        await self._catch_up()
        await self._engine.check()

    async def _refresh(self) -> None:
        """Refresh as codex does for these methods: if it fails or takes long, the answer is what is known.

        A refresh that takes long goes on, and `account/updated` reports the result.
        """
        await self._catch_up()
        try:
            await self._engine.refresh(patience=_REFRESH_WITHIN)
        except (PermanentRefreshError, TransientAuthError, NotSignedIn):
            return

    async def _catch_up(self) -> None:
        """Apply sign-ins and sign-outs of other processes, so that nobody refreshes an account that is signed out.

        A turn may be under way, so this changes over to no other account: see `LazyAccount.follow`.
        """
        await self._engine.follow(switch=False)
        await self._engine.restore()  # also after a fault that `follow` would not retry so soon

    def _is_expired(self) -> bool:
        """Whether a login that this machine manages has an expired access token. A parent's tokens never do."""
        return self._engine.is_expired() and isinstance(self._engine.session.credentials, ChatgptTokens)

    def _is_unidentified(self) -> bool:
        """Whether the owner of a personal access token is not known. Then nobody is shown, as in codex."""
        session = self._engine.session
        return isinstance(session.credentials, PersonalAccessToken) and session.account is None

    def _account(self) -> wire.AccountReadResult:
        if not self._requires_openai_auth:
            return wire.AccountReadResult(None, False)
        session = self._engine.session
        account: wire.ApiKeyAccount | wire.ChatgptAccount | None = None
        if isinstance(session.credentials, ApiKey):
            account = wire.ApiKeyAccount()
        elif session.account is not None and session.state is not AuthState.REFRESH_DEAD:
            account = wire.ChatgptAccount(session.account.email, session.account.plan_type)
        return wire.AccountReadResult(account, True)

    def _auth_status(self, params: Raw | None) -> object:
        request = _status_params(params)
        include, refresh = bool(request.include_token), bool(request.refresh_token)
        is_out = self._engine.session.state is AuthState.LOGGED_OUT
        is_open = is_out or self._is_unidentified() or (include and self._is_expired())
        return self._auth_status_later(include, refresh) if refresh or is_open else self._status(include)

    async def _auth_status_later(self, include: bool, refresh: bool) -> wire.AuthStatusResult:
        with _refusals():
            await (self._refresh() if refresh else self._check())
        return self._status(include)

    def _status(self, include: bool) -> wire.AuthStatusResult:
        if not self._requires_openai_auth:
            return wire.AuthStatusResult(None, None, False)
        mode = None if self._is_unidentified() else self._engine.auth_mode
        return wire.AuthStatusResult(mode, self._token() if include else None, True)

    def _token(self) -> str | None:
        """The token to show. A dead ChatGPT login shows none, as it shows no account, and a personal access token is
        never shown. codex does the same.
        """
        session = self._engine.session
        if session.state is AuthState.REFRESH_DEAD:
            return None
        match session.credentials:
            case ApiKey(key=key):
                return key.reveal()
            case ChatgptTokens() | ExternalTokens() as tokens:
                return tokens.access_token.reveal()
            case _:
                return None

    # Logging in and out

    def _login_start(self, params: Raw | None) -> object:
        request = _login_start(params)
        match request:
            case wire.ApiKeyLogin():
                return Exclusive(self._use_api_key(request))
            case wire.ExternalTokensLogin():
                return Exclusive(self._use_external_tokens(request))
            case _:
                # Not exclusive: it may ask the issuer, and meanwhile the client may read, sign out or cancel.
                return self._start_interactive(request)

    async def _start_interactive(self, request: wire.ChatgptLogin | wire.DeviceCodeLogin) -> object:
        with _refusals():
            return await self._logins.start(request)

    async def _use_api_key(self, request: wire.ApiKeyLogin) -> dict[str, str]:
        with _refusals():
            await self._engine.use_api_key(ApiKey.parse(request.api_key))
        return {"type": "apiKey"}

    async def _use_external_tokens(self, request: wire.ExternalTokensLogin) -> dict[str, str]:
        if not request.id_token and not request.chatgpt_account_id:
            raise RpcError(
                INVALID_REQUEST,
                "Invalid request: missing field: external tokens come with `chatgptAccountId` or with `idToken`",
            )
        with _refusals():
            await self._engine.use_external_tokens(
                ExternalTokens.read(
                    access_token=request.access_token,
                    id_token=request.id_token,
                    account_id=request.chatgpt_account_id,
                    plan_type=request.chatgpt_plan_type,
                )
            )
        return {"type": "chatgptAuthTokens"}

    def _login_cancel(self, params: Raw | None) -> object:
        login_id = _login_cancel(params).login_id
        if not _UUID.fullmatch(login_id):
            raise RpcError(
                INVALID_REQUEST, "invalid login id: `loginId` must be the UUID from the answer to `account/login/start`"
            )
        return Exclusive(self._cancel(login_id))

    async def _cancel(self, login_id: str) -> dict[str, str]:
        return {"status": "canceled" if await self._logins.cancel(login_id) else "notFound"}

    def _logout(self, params: Raw | None) -> object:
        _no_params(params)
        return Exclusive(self._log_out())

    async def _log_out(self) -> dict[str, str]:
        with _refusals():
            await self._engine.log_out()
        return {}

    # Rate limits

    def _read_rate_limits(self, params: Raw | None) -> object:
        _no_params(params)
        return self._ask_rate_limits()

    async def _ask_rate_limits(self) -> object:
        with _refusals():
            await self._catch_up()
            mode = self._engine.auth_mode
            if mode is None:
                raise RpcError(INVALID_REQUEST, "rate limits need a ChatGPT account: sign in first")
            if mode is AuthMode.API_KEY:
                raise RpcError(INVALID_REQUEST, "rate limits need a ChatGPT account: an API key has none")
            return await self._rate_limits()

    # Events

    def _on_event(self, event: Event) -> None:
        match event:
            case LoginCompleted():
                if event.login_id is not None and not self._logins.ends(event.login_id):
                    return
                completed = wire.LoginCompletedParams(event.login_id, event.success, event.error)
                self._notify(wire.LOGIN_COMPLETED, completed)
            case AccountUpdated():
                self._notify(wire.ACCOUNT_UPDATED, wire.AccountUpdatedParams(event.auth_mode, event.plan_type))
            case _:
                pass


class _refusals:
    """Converts the engine's errors to those of the protocol: -32600 for a refusal, -32603 for a failure."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _REFUSALS):
            raise RpcError(INVALID_REQUEST, str(error)) from None
        if isinstance(error, PermanentRefreshError):
            raise RpcError(INTERNAL_ERROR, str(error), {"reason": str(error.reason)}) from None
        if isinstance(error, AuthError):
            raise RpcError(INTERNAL_ERROR, str(error)) from None


class PeerTokenSource:
    """The parent at the other end of the connection, as an `ExternalTokenSource`."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def request_tokens(self, *, previous_account_id: str | None) -> ExternalTokens:
        """Ask the parent for new tokens. No time limit: the engine cancels the request, and a late answer is dropped.

        Raises:
            ParentUnavailable: it answered with an error or without tokens, or it is gone.
            InvalidCredentials: it answered with something that is not a token.
        """
        try:
            answer = await self._peer.request(wire.REFRESH_METHOD, wire.RefreshParams(previous_account_id))
        except PeerClosed:
            raise ParentUnavailable(
                "the parent application went away before it gave new tokens: start it again"
            ) from None
        except RemoteError as error:
            raise ParentUnavailable(
                f"the parent application answered the request for new tokens with error {error.code}: see its log, "
                "then send the request again"
            ) from None
        try:
            tokens = _refresh_answer(answer)
        except RpcError:
            tokens = None
        if tokens is None or not (tokens.id_token or tokens.chatgpt_account_id):
            raise ParentUnavailable(
                "the parent application answered without the tokens: it must send `accessToken` with `idToken` or "
                "with `chatgptAccountId`"
            )
        return ExternalTokens.read(
            access_token=tokens.access_token,
            id_token=tokens.id_token,
            account_id=tokens.chatgpt_account_id,
            plan_type=tokens.chatgpt_plan_type,
        )
