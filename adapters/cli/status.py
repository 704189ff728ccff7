"""`authstate status`: shows who is signed in, to a person or to a program."""

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from authstate.adapters.cli.context import SELECTED, AccountChoice, CommandContext, open_context
from authstate.adapters.cli.exit_status import ExitStatus, printable
from authstate.adapters.cli.home_lease import HomeLease, find_home_lease
from authstate.adapters.cli.running_broker import RunningBroker, ask_broker
from authstate.adapters.config.layers import OVERRIDE, EffectiveSetting
from authstate.adapters.config.unmanaged_logins import find_in_environment
from authstate.adapters.logs.redaction import redact_text
from authstate.adapters.stores.permissions import Finding
from authstate.adapters.stores.unmanaged_records import MODES, OtherLogin
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens, PersonalAccessToken
from authstate.engine.model.errors import StoreUnreadable, TokenRefused
from authstate.engine.model.events import AuthMode, Event, RefreshFailed, Warned
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState

_SENTENCES = {
    AuthState.LOGGED_OUT: "Not signed in.",
    AuthState.API_KEY: "Signed in with an API key.",
    AuthState.CHATGPT: "Signed in with ChatGPT.",
    AuthState.EXTERNAL_TOKENS: "Signed in with tokens that a parent application owns.",
    AuthState.REFRESH_DEAD: "Sign in again: this sign-in can no longer be refreshed.",
}
_PERSONAL = ("Signed in with a personal access token.", "Sign in again: the issuer refused the personal access token.")
_PATIENCE = 10.0
"""How long, in seconds, a person waits for an expired access token to be refreshed."""
_CHOSEN_BY = {SELECTED: "selected with `authstate account use`", OVERRIDE: "named by --account or -c"}


async def show_status(overrides: list[str], *, as_json: bool) -> ExitStatus:
    """Check the stored login and print the result.

    An expired access token is refreshed, within ten seconds, and by the home's broker if one is running. Nothing is
    changed if another user owns the home folder.

    Returns:
        DONE if somebody is signed in, otherwise NOT_SIGNED_IN, REFRESH_DEAD, or TRY_LATER if the store cannot be read
        now.

    Raises:
        ConfigError: the configuration is invalid.
    """
    home = open_context(overrides)
    warnings: list[str] = []
    findings = home.findings  # read before the engine starts, so that the log does not repeat them
    home.engine.subscribe(lambda event: _collect(event, warnings))
    broker = None if home.is_of_another_user else await ask_broker(home)
    if broker is not None and broker.issuer_fault is not None:
        warnings.append(broker.issuer_fault)
    is_checked = home.is_of_another_user or (broker is not None and broker.issuer_fault is not None)
    other = find_in_environment(os.environ)
    async with home.engine as engine:
        session = engine.session if is_checked else await engine.check(_PATIENCE)
        mode = engine.auth_mode
    expires_at, findings = _expires_at(session), home.findings  # a refresh may have corrected some
    has_expired = session.state is AuthState.CHATGPT and expires_at is not None and expires_at <= time.time()
    if has_expired and not warnings and not home.is_of_another_user:
        warnings.append("the access token has expired, and the issuer has not answered yet: try again later")
    warnings.extend(finding.message for finding in findings)
    if home.vault_fault:
        warnings.append(home.vault_fault)
    if home.is_of_another_user and has_expired:
        warnings.append(
            "the access token has expired: status does not refresh it, because another user owns the home folder"
        )
    if isinstance(session.credentials, ChatgptTokens) and not session.credentials.can_refresh and not session.failure:
        warnings.append("there is no refresh token: sign in again when the access token expires")
    if isinstance(session.credentials, PersonalAccessToken) and session.account is None and not engine.identity_fault:
        warnings.append("the issuer has not said yet whose the personal access token is: try again later")
    is_refused = isinstance(engine.identity_fault, TokenRefused)
    other, lease = other or _stored_other(engine), await find_home_lease(home, session)
    if as_json:
        print(_as_json(session, mode, home, warnings, findings, broker, other, lease, is_refused=is_refused))
    else:
        shown = (home.effective_settings, broker, other, home.account, lease)
        print(as_text(session, home.place, warnings, *shown, is_refused=is_refused))
    if home.environment.api_key is not None and not as_json:
        print("The API key comes from CODEX_API_KEY, which wins over the stored login.", file=sys.stderr)
    if session.state is AuthState.REFRESH_DEAD:
        return ExitStatus.REFRESH_DEAD
    if engine.store_fault is not None and not isinstance(engine.store_fault, StoreUnreadable):
        return ExitStatus.TRY_LATER
    is_out = session.state is AuthState.LOGGED_OUT or is_refused
    return ExitStatus.NOT_SIGNED_IN if is_out else ExitStatus.DONE


def _stored_other(engine: AuthEngine) -> OtherLogin | None:
    """Return the stored login of a kind that authstate does not manage. None if there is none."""
    fault = engine.store_fault
    return MODES.get(fault.other_login or "") if isinstance(fault, StoreUnreadable) else None


def _collect(event: Event, warnings: list[str]) -> None:
    """Collect warnings for the person: a store that cannot be read, a refresh that failed for now."""
    if isinstance(event, Warned):
        warnings.append(event.message)
    elif isinstance(event, RefreshFailed) and not event.permanent:
        warnings.append(str(event.error))


def _as_json(
    session: Session,
    mode: AuthMode | None,
    home: CommandContext,
    warnings: list[str],
    findings: list[Finding],
    broker: RunningBroker | None,
    other: OtherLogin | None,
    lease: HomeLease | None,
    *,
    is_refused: bool,
) -> str:
    account, failure, expires_at = session.account, session.failure, _expires_at(session)
    return json.dumps(
        {
            "signedIn": session.state not in (AuthState.LOGGED_OUT, AuthState.REFRESH_DEAD) and not is_refused,
            "state": session.state,
            "authMode": mode,
            "email": account.email if account else None,
            "planType": account.plan_type if account else None,
            "workspaceId": account.account_id if account else None,
            "account": msgspec.to_builtins(home.account),
            "store": home.place,
            "accessTokenExpiresAt": _instant(expires_at) if expires_at else None,
            "failure": {"message": failure.message, "reason": failure.reason} if failure else None,
            "broker": {"url": broker.url, "processId": broker.process_id} if broker else None,
            "homeLease": msgspec.to_builtins(lease),
            "otherLogin": {"kind": other.kind, "source": other.source} if other else None,
            "warnings": warnings,
            "settings": [msgspec.to_builtins(setting) for setting in _shown(home.effective_settings)],
            "storeFindings": [msgspec.to_builtins(finding) for finding in findings],
        },
        indent=2,
    )


def as_text(
    session: Session,
    place: str,
    warnings: list[str],
    effective_settings: Sequence[EffectiveSetting] = (),
    broker: RunningBroker | None = None,
    other: OtherLogin | None = None,
    choice: AccountChoice | None = None,
    lease: HomeLease | None = None,
    *,
    is_refused: bool = False,
) -> str:
    """Return the lines that `status` and `login` print.

    Args:
        session: who is signed in.
        place: where the credentials are stored.
        warnings: other things the person should know.
        effective_settings: the settings that a file or `-c` sets.
        broker: the running broker of the home, if there is one.
        other: the login that codex uses by itself instead.
        choice: the account of the vault, if there are several.
        lease: what stands in the home instead of a login.
        is_refused: whether the issuer refused the personal access token.
    """
    is_personal = isinstance(session.credentials, PersonalAccessToken)
    lines = [_PERSONAL[is_refused] if is_personal else _SENTENCES[session.state]]
    if choice:
        lines.append(f"  account       {choice.name} ({_CHOSEN_BY.get(choice.chosen_by, choice.chosen_by)})")
    account, expires_at = session.account, _expires_at(session)
    if account:
        lines.append(f"  email         {account.email or 'not known'}")
        lines.append(f"  plan          {account.plan_type}")
        lines.append(f"  workspace     {account.account_id or 'not known'}")
    if expires_at:
        lines.append(f"  access token  {_describe_duration(expires_at - time.time())} ({_instant(expires_at)})")
    lines.append(f"  store         {place}")
    if broker:
        lines.append(f"  broker        {broker.url} (process {broker.process_id})")
    if lease:
        lines.append(f"  lease         {lease.message}")
    if other:
        lines.append(f"  codex uses    {other}{'' if other.source is None else ' instead of what is stored'}")
    lines.extend(f"  setting       {_setting(setting)}" for setting in _shown(effective_settings))
    if session.failure:
        lines.append(f"  reason        {session.failure.message}")
    lines.extend(f"  warning       {warning}" for warning in warnings)
    if lease and lease.advice:
        lines.append(f"  what to do    {lease.advice}")
    elif session.state in (AuthState.LOGGED_OUT, AuthState.REFRESH_DEAD) and other is None:
        lines.append(f"  what to do    authstate login{_option_for(choice)}")
    return "\n".join(printable(line) for line in lines)


def _option_for(choice: AccountChoice | None) -> str:
    """Return what to add to a command so that it acts on the same account."""
    return f" --account {choice.name}" if choice is not None and choice.chosen_by == OVERRIDE else ""


def _shown(effective_settings: Sequence[EffectiveSetting]) -> list[EffectiveSetting]:
    """Hide what looks like a key in the settings: somebody may have pasted one into the wrong place."""
    return [msgspec.structs.replace(setting, value=_hidden(setting.value)) for setting in effective_settings]


def _hidden(value: object) -> object:
    if isinstance(value, list):
        return [_hidden(one) for one in value]
    return redact_text(value) if isinstance(value, str) else value


def _setting(setting: EffectiveSetting) -> str:
    """Return a setting in the syntax of config.toml, and the file that sets it."""
    return f"{setting.key} = {json.dumps(setting.value, ensure_ascii=False)} ({setting.decided_by})"


def _expires_at(session: Session) -> float | None:
    """Return when the access token expires, in seconds since the epoch. None if unknown or if there is no token."""
    credentials = session.credentials
    return credentials.expires_at if isinstance(credentials, ChatgptTokens | ExternalTokens) else None


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _describe_duration(seconds: float) -> str:
    """Return a distance in time in the largest unit that fits."""
    distance = abs(seconds)
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if distance >= size:
            count = int(distance // size)
            words = f"{count} {unit}{'s' if count > 1 else ''}"
            break
    else:
        words = "less than a minute"
    return f"expires in {words}" if seconds > 0 else f"expired {words} ago"
