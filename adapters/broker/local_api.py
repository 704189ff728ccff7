"""The JSON API on the broker's unix socket, for its owner: docs/broker-api.md describes it.

Every answer names the home of the broker in the header `Authstate-Home`, so that a client does not take the broker of
another home for its own.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from os import getpid
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authstate.adapters.broker.account_tokens import DEFAULT_TTL, make_lease, token_of
from authstate.adapters.broker.app import BrokerApp, OnRefusal
from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.event_streams import SseResponse, SseStreams
from authstate.adapters.broker.listeners import HOME_HEADER
from authstate.adapters.broker.local_answers import (
    ApiFault,
    fault_of,
    json_answer,
    session_members,
)
from authstate.adapters.broker.metrics import BrokerMetrics
from authstate.adapters.broker.min_lifetime import read_min_lifetime
from authstate.adapters.broker.public_routes import public_routes
from authstate.adapters.broker.served_accounts import ServedAccount
from authstate.adapters.broker.shown_members import account_members, lease_members, name_members
from authstate.adapters.config.home import ConfigError
from authstate.adapters.config.settings import BrokerEndpoints
from authstate.adapters.logs.redaction import redact_text
from authstate.engine.machines.lease import Lease, LeaseState
from authstate.engine.model.errors import AuthError, StoreUnavailable
from authstate.engine.version import VERSION

_LARGEST_BODY = 64 * 1024  # bytes


class Place(msgspec.Struct, frozen=True):
    """Where a broker is reached."""

    url: str
    """Its TCP side, without a slash at the end."""
    socket: str | None
    """The path of its unix socket."""


class LeaseWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/leases`."""

    account: str | None = None
    ttl: float | None = DEFAULT_TTL
    label: str = ""


class LocalApi:
    """The endpoints below /v1.

    Args:
        broker: whose accounts and leases they are.
        streams: of its events.
        place: where it is reached.
    """

    def __init__(self, broker: Broker, streams: SseStreams, place: Place) -> None:
        self._broker = broker
        self._streams = streams
        self._place = place

    def routes(self) -> list[BaseRoute]:
        """Return all routes."""
        return [
            Route("/v1/accounts", _guarded(self._accounts), methods=["GET"]),
            Route("/v1/accounts/{name}", _guarded(self._account), methods=["GET"]),
            Route("/v1/token", _guarded(self._token), methods=["GET"]),
            Route("/v1/leases", _guarded(self._leases), methods=["GET"]),
            Route("/v1/leases", _guarded(self._new_lease), methods=["POST"]),
            Route("/v1/leases", _guarded(self._end_leases), methods=["DELETE"]),
            Route("/v1/leases/{id}", _guarded(self._end_lease), methods=["DELETE"]),
            Route("/v1/state", _guarded(self._state), methods=["GET"]),
            Route("/v1/events", _guarded(self._events), methods=["GET"]),
        ]

    async def _accounts(self, request: Request) -> Response:
        """All accounts, as they are stored. It opens no engine, so that a list of many accounts costs little."""
        found = await self._broker.accounts.listed()
        return json_answer({"accounts": [account_members(one) for one in found]})

    async def _account(self, request: Request) -> Response:
        """One account, as its engine sees it. An expired access token is refreshed first."""
        found = await self._account_named(request.path_params["name"])
        async with self._broker.accounts.engine(found.entry.id) as engine:
            await engine.check()
            members = session_members(engine, found.entry, is_selected=found.is_selected)
        return json_answer({**members, "store": found.store})

    async def _token(self, request: Request) -> Response:
        query = request.query_params
        lifetime = _seconds(query.get("min_lifetime", "0"))
        form = query.get("format", "json")
        if form not in ("json", "bearer"):
            raise ApiFault(400, "invalid_request", "format must be json or bearer")
        found = await token_of(self._broker, await self._id_of(query.get("account")), lifetime)
        token = found.authorization.token.reveal()
        if form == "bearer":
            return Response(f"{token}\n", media_type="text/plain", headers={"Cache-Control": "no-store"})
        return json_answer(
            {
                "token": token,
                "kind": "api_key" if found.is_static else "access_token",
                "expiresAt": found.authorization.expires_at,
                "workspaceId": found.authorization.account_id,
                "account": name_members(found.account),
                "store": found.store,
            }
        )

    async def _leases(self, request: Request) -> Response:
        leases = await self._broker.leases.listed(await self._account_of_query(request))
        return json_answer({"leases": await self._shown(leases)})

    async def _new_lease(self, request: Request) -> Response:
        try:
            wish = msgspec.json.decode(await _body_of(request) or b"{}", type=LeaseWish)
        except (ValueError, RecursionError) as error:
            said = redact_text(f"the body must be a JSON object: {error}")  # it names members that are unknown
            raise ApiFault(400, "invalid_request", said) from None
        made = await make_lease(self._broker, await self._id_of(wish.account), wish.ttl, wish.label)
        endpoints = BrokerEndpoints.of(self._place.url)
        members = {
            "lease": (await self._shown([made.lease]))[0],
            "handle": made.handle.secret.reveal(),
            "refreshUrl": endpoints.refresh_url,
            "revokeUrl": endpoints.revoke_url,
        }
        return json_answer(members, 201)

    async def _end_lease(self, request: Request) -> Response:
        try:
            ended = await self._broker.leases.end(request.path_params["id"])
        except ConfigError as error:
            raise ApiFault(404, "not_found", str(error)) from None
        return json_answer({"lease": (await self._shown([ended]))[0]})

    async def _end_leases(self, request: Request) -> Response:
        """End all leases, but not that of an adopted home, which would lose its login."""
        ended = await self._broker.leases.end_all(await self._account_of_query(request))
        return json_answer({"leases": await self._shown(ended)})

    async def _state(self, request: Request) -> Response:
        summary, count = await self._broker.accounts.summary(), await self._broker.leases.count()
        return json_answer(
            {
                "version": VERSION,
                "processId": getpid(),
                "url": self._place.url,
                "socket": self._place.socket,
                **summary,
                "leases": None if count is None else _by_state(count),
            }
        )

    async def _shown(self, leases: Sequence[Lease]) -> list[dict[str, Any]]:
        """Return what is shown of leases. If the list of accounts cannot be read, their names are null."""
        names: Mapping[str, str] = {}
        with suppress(StoreUnavailable):
            names = await self._broker.accounts.names({lease.account for lease in leases})
        return [lease_members(lease, names) for lease in leases]

    async def _account_named(self, name: str | None) -> ServedAccount:
        """Return an account, or the selected one. Raises ApiFault: there is no such account."""
        try:
            return await self._broker.accounts.find(name)
        except ConfigError as error:
            raise ApiFault(404, "not_found", str(error)) from None

    async def _id_of(self, name: str | None) -> str:
        return (await self._account_named(name)).entry.id

    async def _account_of_query(self, request: Request) -> str | None:
        """Return the id of the account whose leases are meant. None: all."""
        name = request.query_params.get("account")
        return None if name is None else await self._id_of(name)

    async def _events(self, request: Request) -> Response:
        if self._streams.is_full:
            raise ApiFault(503, "too_many_streams", "too many streams of events are open: close one", 5.0)
        return SseResponse(self._streams)


class LocalApp:
    """The application of the unix socket: what TCP serves, and the JSON API.

    Args:
        broker: gives the tokens.
        metrics: count the answers.
        streams: of the broker's events.
        place: where the broker is reached.
        on_refusal: called with the path and each refusal of an OAuth endpoint.
    """

    def __init__(
        self,
        broker: Broker,
        metrics: BrokerMetrics,
        streams: SseStreams,
        place: Place,
        on_refusal: OnRefusal | None = None,
    ) -> None:
        routes = [*public_routes(broker, metrics), *LocalApi(broker, streams, place).routes()]
        self._app: ASGIApp = BrokerApp(broker, metrics, routes, on_refusal=on_refusal)
        self._home = quote(broker.accounts.place).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and name the home."""

        async def send_with_home(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HOME_HEADER.encode(), self._home)]
            await send(message)

        await self._app(scope, receive, send_with_home)


def _guarded(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Answer an expected error as JSON."""

    async def guarded(request: Request) -> Response:
        try:
            return await answer(request)
        except (ApiFault, AuthError, ConfigError) as error:
            fault = fault_of(error)
        return fault.answer()

    return guarded


def _by_state(count: Mapping[tuple[str, str], int]) -> dict[str, int]:
    numbers = dict.fromkeys(map(str, LeaseState), 0)
    for (_, state), number in count.items():
        numbers[state] += number
    return numbers


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_BODY:
            raise ApiFault(413, "invalid_request", f"the body is larger than {_LARGEST_BODY} bytes")
    return bytes(body)


def _seconds(text: str) -> float:
    seconds = read_min_lifetime(text)
    if seconds is None:
        raise ApiFault(400, "invalid_request", "min_lifetime must be a number of seconds, at most a year")
    return seconds
