"""Logins that codex knows and authstate does not manage: it says that they are there, and leaves them alone.

Releases from 0.150.0 on act with them in place of a ChatGPT login. Some are named by the environment, the others are
members of auth.json. Whoever acted with the ChatGPT login beside them would act as somebody else.
"""

import os
from collections.abc import Mapping

import msgspec

_NAMED_BY = {
    ("CODEX_ACCESS_TOKEN",): "an access token",
    ("OPENAI_IDENTITY_TOKEN_FILE", "OPENAI_FEDERATION_RULE_ID"): "a workload identity",
}
MEMBERS = {
    "personal_access_token": "a personal access token",
    "agent_identity": "an agent identity",
    "bedrock_api_key": "an Amazon Bedrock API key",
    "bedrock_access_keys": "Amazon Bedrock access keys",
}
"""Members of auth.json, and what they are for a person."""
MODES = {
    "personalAccessToken": MEMBERS["personal_access_token"],
    "agentIdentity": MEMBERS["agent_identity"],
    "bedrockApiKey": MEMBERS["bedrock_api_key"],
    "bedrockAccessKeys": MEMBERS["bedrock_access_keys"],
    "headers": "headers of a proxy",
}
"""Values of auth_mode."""
_LARGEST = 4 * 1024 * 1024  # bytes


def in_environment(environ: Mapping[str, str]) -> str | None:
    """The login that the environment names for codex, in words; None where there is none."""
    for names, what in _NAMED_BY.items():
        if all(environ.get(name, "").strip() for name in names):
            return f"{what} ({', '.join(names)})"
    return None


def in_members(members: Mapping[str, object]) -> str | None:
    """The login of another kind in a record without `auth_mode`, in words; None where there is none.

    codex prefers it to a key and to tokens in the same record. (Measured with 0.171.0 and a personal access token.)
    """
    for name, what in MEMBERS.items():
        if name in members and bytes(_raw(members[name])).strip() not in (b"null", b'""'):
            return what
    return None


def in_file(path: str) -> str | None:
    """The same for the auth.json at this path. What cannot be read is none: the store says what is wrong with it."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST)
        if not any(name.encode() in data for name in (*MEMBERS, *MODES)):
            return None
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        mode = msgspec.json.decode(members.get("auth_mode", msgspec.Raw(b"null")), type=str | None)
    except (OSError, ValueError, RecursionError):
        return None
    if mode is not None:
        return MODES.get(mode)
    return in_members(members)


def of_command(environ: Mapping[str, str]) -> str | None:
    """The login of another kind that a codex would act with in this environment; None where it is authstate's."""
    named = in_environment(environ)
    if named is not None:
        return named
    home = environ.get("CODEX_HOME", "").strip() or os.path.join(os.path.expanduser("~"), ".codex")
    return in_file(os.path.join(home, "auth.json"))


def _raw(value: object) -> msgspec.Raw | bytes:
    return value if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
