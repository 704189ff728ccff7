"""The rate limits of the account: reads them from the backend and converts them for the account API."""

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from authstate.adapters.network.failures import explain_failure, explain_proxy_refusal
from authstate.adapters.network.http_proxies import Network, NetworkSettingError, Proxy, urlsplit_or_none
from authstate.adapters.network.insecure_http import InsecureTransport, ensure_secure
from authstate.adapters.oauth.issuer_http import IN_BETWEEN, LONGEST_ANSWER, AnswerTooLong, read_bounded
from authstate.engine.model.account import PlanType
from authstate.engine.model.errors import AuthstateError, strip_tracebacks

if TYPE_CHECKING:
    import httpx

    from authstate.adapters.httpx_auth import Authorizer

Json = dict[str, Any]

_TIMEOUT: Final = 30.0
_MAIN: Final = "codex"
_BACKEND: Final = "the backend"
_UNREACHED: Final = "check the network and the proxy, then try again"


class RateLimitsUnavailable(AuthstateError):
    """The backend did not give the rate limits. `str(error)` is written for the person who reads it.

    Args:
        message: what happened.
        status: the HTTP status, when there was an answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def usage_url(base_url: str) -> str:
    """Where the rate limits are, for a `chatgpt_base_url`."""
    base = base_url.rstrip("/")
    return base + ("/wham/usage" if "/backend-api" in base else "/api/codex/usage")


@strip_tracebacks
async def read_rate_limits(
    engine: "Authorizer",
    base_url: str,
    client: "httpx.AsyncClient | None" = None,
    network: Network | None = None,
) -> Json:
    """Ask the backend and return the result of `account/rateLimits/read`. Cancellation drops the request.

    Args:
        engine: authorizes the request, and recovers it from a 401.
        base_url: the `chatgpt_base_url`.
        client: a client to use; by default one for this call.
        network: the proxies and certificate authorities of such a client; by default those of the environment.

    Raises:
        RateLimitsUnavailable: no answer, or none that can be read, within 30 seconds for each step of the request.
        AuthError: there is no authorization; see `EngineAuth`.
    """
    import httpx

    proxy: Proxy | None = None
    try:
        ensure_secure(base_url, "chatgpt_base_url")
        if client is not None:
            return rate_limits_from_usage(await _usage(client, engine, base_url))
        from authstate.adapters.network.http_clients import client_settings

        settings, proxy = client_settings(usage_url(base_url), network)
        async with httpx.AsyncClient(timeout=_TIMEOUT, **settings) as own:
            return rate_limits_from_usage(await _usage(own, engine, base_url, proxy))
    except InsecureTransport as error:
        raise RateLimitsUnavailable(str(error)) from None
    except NetworkSettingError as error:
        raise RateLimitsUnavailable(f"the backend cannot be asked: {error}") from None
    except AnswerTooLong:
        raise RateLimitsUnavailable(
            f"the backend sent an answer of more than {LONGEST_ANSWER} bytes: {IN_BETWEEN}"
        ) from None
    except AuthstateError:
        raise
    except Exception as error:  # whatever it is, its frames hold the token
        raise _unanswered(error, base_url, proxy) from None


def _unanswered(error: Exception, base_url: str, proxy: Proxy | None) -> RateLimitsUnavailable:
    import httpx

    parts = urlsplit_or_none(base_url)
    fault = explain_failure(error, (parts.hostname if parts is not None else None) or _BACKEND, proxy)
    if fault is not None:
        return RateLimitsUnavailable(fault.message)
    if isinstance(error, httpx.PoolTimeout):
        return RateLimitsUnavailable(f"no token came within {_TIMEOUT:g} seconds: {_UNREACHED}")
    if isinstance(error, httpx.TimeoutException):
        return RateLimitsUnavailable(f"{_BACKEND} did not answer within {_TIMEOUT:g} seconds: {_UNREACHED}")
    if isinstance(error, httpx.ConnectError):
        return RateLimitsUnavailable(f"{_BACKEND} cannot be reached: {error}: {_UNREACHED}")
    kind = type(error).__name__
    return RateLimitsUnavailable(
        f"{_BACKEND} could not be asked: {kind}: check chatgpt_base_url, the network and the proxy"
    )


async def _usage(client: "httpx.AsyncClient", engine: "Authorizer", base_url: str, proxy: Proxy | None = None) -> Json:
    from authstate.adapters.httpx_auth import EngineAuth

    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "authstate"}
    url = usage_url(base_url)
    async with client.stream("GET", url, headers=headers, auth=EngineAuth(engine), follow_redirects=False) as response:
        if response.status_code == 407 and proxy is not None:
            raise RateLimitsUnavailable(explain_proxy_refusal(407, _BACKEND, proxy).message, 407)
        if response.status_code != 200:
            status = response.status_code
            raise RateLimitsUnavailable(f"the backend answered with status {status}: {_remedy(status)}", status)
        content = await read_bounded(response)
    try:
        usage = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        usage = None
    if not isinstance(usage, dict):
        raise RateLimitsUnavailable(f"the backend sent an answer that is no JSON object: {IN_BETWEEN}", 200)
    return usage


def _remedy(status: int) -> str:
    if status == 401:
        return "sign in again"
    if status == 429 or status >= 500:
        return "try again later"
    return f"check chatgpt_base_url; {IN_BETWEEN}"


def rate_limits_from_usage(usage: Json) -> Json:
    """The wire result for the backend's usage. A member of the wrong type counts as missing."""
    plan_type = usage.get("plan_type")
    plan = str(PlanType.from_claim(plan_type)) if isinstance(plan_type, str) else None
    main = _snapshot(_MAIN, None, usage.get("rate_limit"), _credits(usage.get("credits")), plan)
    by_id = {_MAIN: main}
    additional = usage.get("additional_rate_limits")
    for limit in additional if isinstance(additional, list) else ():
        feature = limit.get("metered_feature") if isinstance(limit, dict) else None
        if isinstance(feature, str) and feature and feature != _MAIN:
            name = limit.get("limit_name")
            by_id[feature] = _snapshot(
                feature, name if isinstance(name, str) else None, limit.get("rate_limit"), None, plan
            )
    return {"rateLimits": main, "rateLimitsByLimitId": by_id}


def _snapshot(limit_id: str, name: str | None, rate_limit: object, credits: Json | None, plan: str | None) -> Json:
    windows = rate_limit if isinstance(rate_limit, dict) else {}
    return {
        "limitId": limit_id,
        "limitName": name,
        "primary": _window(windows.get("primary_window")),
        "secondary": _window(windows.get("secondary_window")),
        "credits": credits,
        "planType": plan,
    }


def _window(window: object) -> Json | None:
    if not isinstance(window, dict):
        return None
    used = _whole(window.get("used_percent"))
    if used is None:
        return None
    seconds = _whole(window.get("limit_window_seconds"))
    return {
        "usedPercent": used,
        "windowDurationMins": (seconds + 59) // 60 if seconds is not None and seconds > 0 else None,
        "resetsAt": _whole(window.get("reset_at")),
    }


def _credits(credits: object) -> Json | None:
    if not isinstance(credits, dict):
        return None
    balance = credits.get("balance")
    if isinstance(balance, int | float) and not isinstance(balance, bool):
        balance = str(balance)
    return {
        "hasCredits": credits.get("has_credits") is True,
        "unlimited": credits.get("unlimited") is True,
        "balance": balance if isinstance(balance, str) else None,
    }


def _whole(number: object) -> int | None:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return None
    return round(number)
