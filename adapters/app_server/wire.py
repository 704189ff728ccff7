"""The wire types of the account API, both dialects. Names, codes and shapes are OpenAI's; see docs/protocol.md.

Params are decoded strictly: a missing field, a wrong type or an unknown variant is -32600, with a message that names
the place and never shows a value. Fields that are not known are ignored. Nothing here imports the engine, so that
`initialize` is answered before it is loaded.
"""

from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from authstate.adapters.confidential import Confidential
from authstate.adapters.jsonrpc.framing import INVALID_REQUEST, RpcError

REFRESH_METHOD = "account/chatgptAuthTokens/refresh"
SESSIONS_METHOD = "accountSession/list"
ROUTING_READY = "workspaceRoutingReady"
LOGIN_COMPLETED = "account/login/completed"
ACCOUNT_UPDATED = "account/updated"

LOGIN_TYPES = ("apiKey", "chatgpt", "chatgptDeviceCode", "chatgptAuthTokens")

_T = TypeVar("_T")


class ParamsDecoder(Generic[_T]):
    """Decodes the params of one method.

    Args:
        kind: the type of the params.
        variants: what its tag may say, when it is a tagged union.
    """

    def __init__(self, kind: Any, variants: tuple[str, ...] = ()) -> None:
        self._decoder: msgspec.json.Decoder[_T] = msgspec.json.Decoder(kind)
        self._variants = variants

    def __call__(self, params: Raw | None) -> _T:
        """Decode; absent params count as an empty object.

        Raises:
            RpcError: -32600.
        """
        try:
            return self._decoder.decode(b"{}" if params is None else params)
        except msgspec.ValidationError as error:
            raise RpcError(INVALID_REQUEST, f"Invalid request: {self._explain(str(error))}") from None
        except (ValueError, RecursionError):
            raise RpcError(INVALID_REQUEST, "Invalid request: the params cannot be read") from None

    def _explain(self, message: str) -> str:
        if not message.startswith("Invalid value"):
            return message
        return f"unknown variant at `$.type`, expected one of {', '.join(f'`{name}`' for name in self._variants)}"


class ClientInfo(msgspec.Struct):
    """Who the client is."""

    name: str
    version: str
    title: str | None = None


class Capabilities(msgspec.Struct, rename="camel"):
    """What the client can do and does not want."""

    experimental_api: bool = False
    opt_out_notification_methods: list[str] | None = None


class InitializeParams(msgspec.Struct, rename="camel"):
    """`initialize`"""

    client_info: ClientInfo
    capabilities: Capabilities | None = None


class AccountReadParams(msgspec.Struct, rename="camel"):
    """`account/read`"""

    refresh_token: bool | None = None


class ApiKeyAccount(msgspec.Struct, tag_field="type", tag="apiKey"):
    """An account that is only a key."""


class ChatgptAccount(msgspec.Struct, tag_field="type", tag="chatgpt", rename="camel"):
    """A ChatGPT account, whoever owns its tokens."""

    email: str | None
    plan_type: str


class AccountReadResult(msgspec.Struct, rename="camel"):
    """`account/read`"""

    account: ApiKeyAccount | ChatgptAccount | None
    requires_openai_auth: bool


class ApiKeyLogin(Confidential, frozen=True, tag_field="type", tag="apiKey", rename="camel"):
    """`account/login/start`: store an API key."""

    api_key: str


class ChatgptLogin(msgspec.Struct, tag_field="type", tag="chatgpt"):
    """`account/login/start`: in the browser. Its options are ignored."""


class DeviceCodeLogin(msgspec.Struct, tag_field="type", tag="chatgptDeviceCode"):
    """`account/login/start`: with a code that the person types in on another device."""


class ExternalTokensLogin(Confidential, frozen=True, tag_field="type", tag="chatgptAuthTokens", rename="camel"):
    """`account/login/start`: a parent's tokens, in the dialect of 0.93 (an id token) or 0.169 (an account)."""

    access_token: str
    id_token: str | None = None
    chatgpt_account_id: str | None = None
    chatgpt_plan_type: str | None = None


LoginStart: TypeAlias = ApiKeyLogin | ChatgptLogin | DeviceCodeLogin | ExternalTokensLogin


class ChatgptLoginResult(Confidential, frozen=True, tag_field="type", tag="chatgpt", rename="camel"):
    """`account/login/start`: the person opens the URL in a browser of this machine."""

    login_id: str
    auth_url: str


class DeviceCodeLoginResult(Confidential, frozen=True, tag_field="type", tag="chatgptDeviceCode", rename="camel"):
    """`account/login/start`: the person types the code in at the URL, on any device."""

    login_id: str
    verification_url: str
    user_code: str


class LoginCancelParams(msgspec.Struct, rename="camel"):
    """`account/login/cancel`"""

    login_id: str


class NoParams(msgspec.Struct):
    """Methods that take none: absent, null or an object."""


class AuthStatusParams(msgspec.Struct, rename="camel"):
    """`getAuthStatus`"""

    include_token: bool | None = None
    refresh_token: bool | None = None


class AuthStatusResult(Confidential, frozen=True, rename="camel"):
    """`getAuthStatus`"""

    auth_method: str | None
    auth_token: str | None
    requires_openai_auth: bool


class LoginCompletedParams(msgspec.Struct, rename="camel"):
    """`account/login/completed`"""

    login_id: str | None
    success: bool
    error: str | None


class AccountUpdatedParams(msgspec.Struct, rename="camel"):
    """`account/updated`"""

    auth_mode: str | None
    plan_type: str | None


class AccountUpdatedForReason(AccountUpdatedParams):
    """`account/updated`, as releases from 0.171.0 on send it."""

    reason: str | None = None
    """`workspaceRoutingReady` once the app-server found out where the backend of the account is; else None."""


class AccountSessionWorkspace(msgspec.Struct, rename="camel"):
    """A workspace of `accountSession/list`."""

    account_id: str
    name: str | None = None
    image_url: str | None = None
    kind: str | None = None


class AccountSession(msgspec.Struct, rename="camel"):
    """An account of `accountSession/list`."""

    session_id: str
    email: str | None
    user_id: str | None
    last_used_at: int
    """Seconds since the epoch."""
    selected_workspace_account_id: str | None
    workspaces: list[AccountSessionWorkspace]
    display_name: str | None = None
    image_url: str | None = None
    is_active: bool = True


class AccountSessionsResult(msgspec.Struct, rename="camel"):
    """`accountSession/list`"""

    active_session_id: str | None = None
    sessions: list[AccountSession] = []


class RefreshParams(msgspec.Struct, rename="camel"):
    """`account/chatgptAuthTokens/refresh`, as we send it."""

    previous_account_id: str | None
    reason: str = "unauthorized"


class ChildRefreshParams(msgspec.Struct, rename="camel"):
    """`account/chatgptAuthTokens/refresh`, as a child sends it."""

    previous_account_id: str | None = None


class RefreshAnswer(Confidential, frozen=True, rename="camel"):
    """What a parent answers, in either dialect."""

    access_token: str
    id_token: str | None = None
    chatgpt_account_id: str | None = None
    chatgpt_plan_type: str | None = None
