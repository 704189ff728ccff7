"""Which tokens a child gets: those that the account API of its own release asks for, and no more.

0.93.0 takes the id token and the access token. Releases from 0.120.0 on take the access token, the workspace and the
plan, and ignore an id token. (Source: the schemas that each release prints, `LoginAccountParams` and
`ChatgptAuthTokensRefreshResponse`.) The release is in the `userAgent` of the child's answer to `initialize`. A release
in between, and a child that names none, gets all members, because it refuses a login in which one is missing.
"""

import re
from enum import StrEnum
from typing import TypeAlias

import msgspec
from msgspec import Raw

from authstate.adapters.confidential import Confidential
from authstate.engine.model.account import PlanType
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, ExternalTokens, PersonalAccessToken

_LAST_WITH_ID_TOKEN = (0, 93, 0)
_FIRST_WITHOUT = (0, 120, 0)
FIRST_WITH_REASON = (0, 171, 0)
"""The first release whose `account/updated` has a `reason`."""
# The client's name comes first, and may hold anything; a pre-release counts as its release.
_RELEASE = re.compile(r"/(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?=[-+ ]|$)")


ChildCredentials: TypeAlias = ApiKey | ChatgptTokens | ExternalTokens
"""What a child can hold."""


class Dialect(StrEnum):
    """A form of external tokens in the account API."""

    ID_TOKEN = "id_token"
    ACCOUNT = "account"
    BOTH = "both"


_MEMBERS = {
    Dialect.ID_TOKEN: ("id_token", "access_token"),
    Dialect.ACCOUNT: ("access_token", "chatgpt_account_id", "chatgpt_plan_type"),
    Dialect.BOTH: ("id_token", "access_token", "chatgpt_account_id", "chatgpt_plan_type"),
}


class _InitializeResult(msgspec.Struct, rename="camel"):
    user_agent: str = ""


def release_of(answer: Raw | bytes) -> tuple[int, int, int] | None:
    """The release of a child, from its result of `initialize`. None when it names none. Never raises."""
    try:
        agent = msgspec.json.decode(answer, type=_InitializeResult).user_agent
    except (ValueError, RecursionError):
        return None
    found = _RELEASE.search(agent)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def dialect_of(answer: Raw | bytes) -> Dialect:
    """The dialect of a child, from its result of `initialize`. Never raises."""
    release = release_of(answer)
    if release is None:
        return Dialect.BOTH
    if release >= _FIRST_WITHOUT:
        return Dialect.ACCOUNT
    return Dialect.ID_TOKEN if release <= _LAST_WITH_ID_TOKEN else Dialect.BOTH


class ChildTokenSet(Confidential, frozen=True, rename="camel", omit_defaults=True):
    """The tokens for a child. A member that is None is left out on the wire."""

    access_token: str
    id_token: str | None = None
    chatgpt_account_id: str | None = None
    chatgpt_plan_type: str | None = None


class ChildLogin(ChildTokenSet, frozen=True, tag_field="type", tag="chatgptAuthTokens"):
    """The same, as the params of `account/login/start`."""


def for_child(credentials: Credentials | None) -> ChildCredentials | None:
    """What a child can hold of the engine's credentials.

    None for a personal access token: no release takes one from its parent, not even as external tokens.
    """
    return None if isinstance(credentials, PersonalAccessToken) else credentials


def tokens_of(credentials: ChatgptTokens | ExternalTokens, dialect: Dialect) -> ChildTokenSet:
    """The members that a child of this dialect gets. The refresh token is never among them.

    Every child gets a login without a workspace in the id token's form, because the other form needs a workspace.
    """
    return ChildTokenSet(**_members(credentials, dialect))


def login_of(credentials: ChatgptTokens | ExternalTokens, dialect: Dialect) -> ChildLogin:
    """The same members, as the params of `account/login/start`."""
    return ChildLogin(**_members(credentials, dialect))


def _members(credentials: ChatgptTokens | ExternalTokens, dialect: Dialect) -> dict[str, str]:
    access = credentials.access_token.reveal()
    account = credentials.account
    tokens = {"id_token": credentials.id_token.reveal() if credentials.id_token else access, "access_token": access}
    if account.account_id is not None:
        tokens["chatgpt_account_id"] = account.account_id
    if account.plan_type is not PlanType.UNKNOWN:
        tokens["chatgpt_plan_type"] = str(account.plan_type)
    members = _MEMBERS[dialect if account.account_id is not None else Dialect.BOTH]
    return {name: tokens[name] for name in members if name in tokens}
