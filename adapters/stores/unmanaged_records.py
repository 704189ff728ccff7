"""Recognizes the kind of login in a stored record: codex from 0.150.0 on uses other kinds instead of ChatGPT.

authstate does not manage most of them. It names them, and does not change them. A personal access token is managed, but
codex uses that by itself, too: no parent can give it to an app-server.
"""

from collections.abc import Mapping

import msgspec

PERSONAL_ACCESS_TOKEN = "personal_access_token"
"""The member of a personal access token."""


class OtherLogin(msgspec.Struct, frozen=True):
    """A login that codex uses by itself."""

    kind: str
    """Its `AuthMode`, as codex spells it; `workloadIdentity` for one that has none."""
    name: str
    """How a message names it, with an article."""
    source: str | None = None
    """The environment variables that set it. None if it is stored."""

    def __str__(self) -> str:
        return self.name if self.source is None else f"{self.name} ({self.source})"


PERSONAL = OtherLogin("personalAccessToken", "a personal access token")
MEMBERS = {
    PERSONAL_ACCESS_TOKEN: PERSONAL,
    "bedrock_api_key": OtherLogin("bedrockApiKey", "an Amazon Bedrock API key"),
    "bedrock_access_keys": OtherLogin("bedrockAccessKeys", "Amazon Bedrock access keys"),
    "agent_identity": OtherLogin("agentIdentity", "an agent identity"),
}
"""Members of auth.json that are a login, in the order in which codex prefers them."""
MODES = {
    **{login.kind: login for login in MEMBERS.values()},
    "headers": OtherLogin("headers", "headers of a proxy"),
}
"""Values of `auth_mode`, and the login that each of them means."""
_WITH_LOGIN = ("OPENAI_API_KEY", "tokens")


def find_in_members(members: Mapping[str, object]) -> OtherLogin | None:
    """Return the other kind of login in a record without `auth_mode`. None if there is none.

    codex prefers it to a key and to tokens in the same record, but for an agent identity, which it then ignores.
    (Measured with 0.169.0 and 0.171.0.)
    """
    for name, login in MEMBERS.items():
        if not _has(members, name):
            continue
        if name != "agent_identity" or not any(_has(members, other) for other in _WITH_LOGIN):
            return login
    return None


def find_in_record(data: bytes) -> OtherLogin | None:
    """Return the other kind of login in a stored record. None if there is none, or no record."""
    if not any(name.encode() in data for name in (*MEMBERS, *MODES)):
        return None
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        mode = msgspec.json.decode(members.get("auth_mode", msgspec.Raw(b"null")), type=str | None)
    except (ValueError, RecursionError):
        return None
    return find_in_members(members) if mode is None else MODES.get(mode)


def _has(members: Mapping[str, object], name: str) -> bool:
    value = members.get(name)
    raw = value if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
    return bytes(raw).strip() != b"null"
