"""Recognizes other kinds of login in a stored record: codex from 0.150.0 on uses them instead of a ChatGPT login.

authstate does not manage them. It reports them, and does not change them.
"""

from collections.abc import Mapping

import msgspec

MEMBERS = {
    "personal_access_token": "a personal access token",
    "agent_identity": "an agent identity",
    "bedrock_api_key": "an Amazon Bedrock API key",
    "bedrock_access_keys": "Amazon Bedrock access keys",
}
"""Members of auth.json, and how a message names them."""
MODES = {
    "personalAccessToken": MEMBERS["personal_access_token"],
    "agentIdentity": MEMBERS["agent_identity"],
    "bedrockApiKey": MEMBERS["bedrock_api_key"],
    "bedrockAccessKeys": MEMBERS["bedrock_access_keys"],
    "headers": "headers of a proxy",
}
"""Values of auth_mode, and how a message names them."""


def find_in_members(members: Mapping[str, object]) -> str | None:
    """Return how a message names the other kind of login in a record without `auth_mode`. None if there is none.

    codex prefers it to a key and to tokens in the same record. (Measured with 0.171.0 and a personal access token.)
    """
    for name, what in MEMBERS.items():
        if name in members and bytes(_raw(members[name])).strip() not in (b"null", b'""'):
            return what
    return None


def find_in_record(data: bytes) -> str | None:
    """Return how a message names the other kind of login in a stored record. None if there is none, or no record."""
    if not any(name.encode() in data for name in (*MEMBERS, *MODES)):
        return None
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        mode = msgspec.json.decode(members.get("auth_mode", msgspec.Raw(b"null")), type=str | None)
    except (ValueError, RecursionError):
        return None
    return find_in_members(members) if mode is None else MODES.get(mode)


def _raw(value: object) -> msgspec.Raw | bytes:
    return value if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
