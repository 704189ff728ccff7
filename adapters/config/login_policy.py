"""Builds the login policy from config.toml and the administrator's files, and records which file sets each rule.

requirements.toml restricts the other files, as in codex from 0.150.0 on (measured).
"""

import os

import msgspec

from authstate.adapters.config.layers import Layers, Settings
from authstate.engine.model.policy import LoginMethod, Policy

METHOD, WORKSPACES = "forced_login_method", "forced_chatgpt_workspace_id"
_ALLOWED_METHODS, _ALLOWED_WORKSPACES = "allowed_login_methods", "allowed_chatgpt_workspaces"


class _PolicySource(msgspec.Struct, frozen=True):
    """A key that restricts the policy, and the file that sets it."""

    key: str
    file: str | None


class ConfiguredPolicy(msgspec.Struct, frozen=True):
    """A policy, and the files that set its rules. None for a rule that no file sets."""

    policy: Policy
    method_file: str | None
    workspaces_file: str | None


def policy_of(layers: Layers, system: str | None) -> ConfiguredPolicy:
    """Return the policy of all files and overrides.

    Args:
        layers: the files and overrides.
        system: the administrator's folder. A refusal names its files.

    Raises:
        ConfigError: a key has an invalid value, or no login is allowed.
    """
    settings = layers.settings
    method = settings.choice(METHOD, LoginMethod, None)
    methods = set(LoginMethod) if method is None else {method}
    workspaces = _ids(settings, WORKSPACES, settings.get(WORKSPACES))
    method_rule, workspaces_rule = (_PolicySource(key, settings.origin(key)) for key in (METHOD, WORKSPACES))
    if layers.requirements:
        requirements, file = layers.requirements, layers.requirements.path
        if (allowed := _allowed_methods(requirements)) is not None and methods - allowed:
            methods &= allowed
            method_rule = _PolicySource(_ALLOWED_METHODS, file)
        if (named := _allowed_workspaces(requirements)) is not None:
            left = tuple(one for one in workspaces if one in named) if workspaces else named
            if left != workspaces or not left:
                workspaces, workspaces_rule = left, _PolicySource(_ALLOWED_WORKSPACES, file)
            if not left and LoginMethod.CHATGPT in methods:
                methods.discard(LoginMethod.CHATGPT)
                method_rule = _PolicySource(_ALLOWED_WORKSPACES, file)
        if not methods:
            raise requirements.fault(
                (), "and the other settings together allow no way to sign in: ask your administrator"
            )
    policy = Policy(
        methods.pop() if len(methods) == 1 else None,
        workspaces,
        method_rule=_describe_source(method_rule, system),
        workspace_rule=_describe_source(workspaces_rule, system),
    )
    return ConfiguredPolicy(policy, method_rule.file, workspaces_rule.file)


def _allowed_methods(requirements: Settings) -> set[LoginMethod] | None:
    allowed = requirements.get(_ALLOWED_METHODS)
    if allowed is None:
        return None
    if not isinstance(allowed, list) or not all(one in LoginMethod._value2member_map_ for one in map(str, allowed)):
        raise requirements.fault((_ALLOWED_METHODS,), 'must be a list of "chatgpt" and "api"')
    return {LoginMethod(one) for one in allowed}


def _allowed_workspaces(requirements: Settings) -> tuple[str, ...] | None:
    allowed = requirements.get(_ALLOWED_WORKSPACES)
    if allowed is None:
        return None
    if not isinstance(allowed, list):
        raise requirements.fault((_ALLOWED_WORKSPACES,), "must be a list of workspace ids, as strings")
    return _ids(requirements, _ALLOWED_WORKSPACES, allowed)


def _ids(settings: Settings, key: str, value: object) -> tuple[str, ...]:
    """Return the workspaces that a key lists, without duplicates and blank entries."""
    values = [] if value is None else value if isinstance(value, list) else [value]
    names = [one.strip() for one in values if isinstance(one, str)]
    if len(names) < len(values):
        raise settings.fault((key,), "must be a workspace id, or a list of them, as strings")
    return tuple(dict.fromkeys(name for name in names if name))


def _describe_source(rule: _PolicySource, system: str | None) -> str | None:
    """Describe a rule for a message, if the administrator set it."""
    if system is None or rule.file is None or os.path.dirname(rule.file) != system.rstrip(os.sep):
        return None
    return f"{rule.key} in {rule.file}"
