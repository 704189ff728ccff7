"""One history on a real server: the server, its home, the issuer, the reference model, and the comparison of both."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from authstate.adapters.conformance.checks import CHECKS
from authstate.adapters.conformance.connection import INITIALIZE, Connection, Message, NoAnswer
from authstate.adapters.conformance.held import Key, Managed
from authstate.adapters.conformance.home import Home
from authstate.adapters.conformance.reference import ReferenceAccount
from authstate.adapters.testing.loopback_issuer import LoopbackIssuer

INVALID = -32600
COMPLETED, UPDATED, READ = "account/login/completed", "account/updated", "account/read"
ERROR_OUTPUT = "standard-error.txt"
_TOKEN = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*)*|(?<!\w)(?:sk|rt|ac|at)[-_][\w-]{6,}")
"""What looks like a token or a key whose name is not known."""


class CheckFailed(Exception):
    """A check failed, which ends the history: the server and the model are no longer in the same state."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check: str = check
        self.detail: str = detail


class NotApplicable(Exception):
    """The server has no such method or login type, which ends the history. `area` is how its checks begin."""

    def __init__(self, area: str, reason: str) -> None:
        super().__init__(reason)
        self.area: str = area
        self.reason: str = reason


class Setting(NamedTuple):
    """What all histories of a run share.

    Attributes:
        patience: seconds to wait for an answer, and for the end of the server.
        grace: seconds to wait for a notification once a later request was answered.
    """

    command: Sequence[str]
    issuer: LoopbackIssuer
    folder: Path
    patience: float = 30.0
    grace: float = 5.0


class History:
    """The state of one history. Actions call its methods.

    Attributes:
        passed: the checks that passed.
        extra: checks that failed without a change of the state, and why.
        transcript: what was sent, received and done, without secrets.
    """

    def __init__(self, setting: Setting, number: int) -> None:
        self.setting: Setting = setting
        self.issuer: LoopbackIssuer = setting.issuer
        folder = setting.folder / f"home-{number}"
        folder.mkdir()
        self.home: Home = Home(folder, self.issuer.backend_url)
        self.errors: Path = setting.folder / f"{number}-{ERROR_OUTPUT}"
        self.model: ReferenceAccount = ReferenceAccount()
        self.passed: set[str] = set()
        self.extra: dict[str, str] = {}
        self.transcript: list[tuple[str, str]] = []
        self.secrets: dict[str, str] = {}
        self.parent: Callable[[Message], Message | None] = lambda _: {"error": {"code": INVALID, "message": "no"}}
        self.user_agent: str = ""
        self.pending_login: str | None = None
        self.has_unknown_member = False
        self.refused_dialects = 0
        self.answered_without_id: bool = False
        self.not_processed: list[str] = []
        """The digests of refresh tokens that the issuer neither used nor refused for good: one for each request."""
        self._connection: Connection | None = None
        self._shown = 0
        self.issuer.behave("refresh")
        self.sends_before: int = len(self.sent_tokens())

    # Comparing

    def check(self, name: str, holds: bool, detail: str = "") -> None:
        """Record a check. Raises CheckFailed if it does not hold."""
        assert name in CHECKS, name
        if not holds:
            raise CheckFailed(name, self.hidden(detail))
        self.passed.add(name)

    def observe(self, name: str, holds: bool, detail: str) -> None:
        """Record a check whose failure does not end the history, because the state is as the model says."""
        assert name in CHECKS, name
        if holds:
            self.passed.add(name)
        else:
            self.extra.setdefault(name, self.hidden(detail))

    def refused(self, name: str, answer: Message) -> None:
        """Check that a request was refused with -32600."""
        code = answer.get("error", {}).get("code")
        self.check(name, code == INVALID, f"expected error {INVALID}, got {json.dumps(answer)}")

    def hidden(self, text: str) -> str:
        """The text without secrets: each one is replaced by its name."""
        for secret, name in self.secrets.items():
            text = text.replace(secret, f"<{name}>")
        return _TOKEN.sub("<a token>", text).replace(str(self.home.folder), "$CODEX_HOME")

    def secret(self, value: str, kind: str) -> str:
        """Remember a secret: it must appear nowhere, and transcripts show its name. Returns the value."""
        self.secrets.setdefault(value, f"{kind} {sum(name.startswith(kind) for name in self.secrets.values()) + 1}")
        return value

    def note(self, sign: str, text: str) -> None:
        """Add a line to the transcript, and look for secrets in what the server said."""
        self.transcript.append((sign, text))
        if sign == "<":
            self.answered_without_id |= '"id":null' in text.replace(" ", "")
            self._look_for_secrets(text)

    # The server

    @property
    def server(self) -> Connection:
        """The running server. It is started and initialized first if there is none."""
        if self._connection is None:
            self.start()
        assert self._connection is not None
        return self._connection

    @property
    def is_running(self) -> bool:
        """Whether the server was started and not ended."""
        return self._connection is not None

    def start(self, *, is_initialized: bool = True) -> Connection:
        """Start the server. Raises ChildNotStarted."""
        self.note("#", f"start {' '.join(self.setting.command)}")
        self._connection = Connection(
            self.setting.command,
            clean_environment(self.home.folder, self.issuer.environment),
            self.errors,
            self.note,
            lambda message: self.parent(message),
            self.setting.patience,
        )
        if is_initialized:
            self.initialize()
            self.model.start()
            self.announced = self.model.mode
        return self._connection

    def initialize(self) -> None:
        """Do the handshake and check its answer."""
        answer = self.server.call("initialize", INITIALIZE)
        self.user_agent = str(answer.get("result", {}).get("userAgent", ""))
        self.check("start/initialize", self.user_agent.startswith("authstate-verify/"), json.dumps(answer))
        self.server.send({"method": "initialized"})

    def call(self, method: str, params: Message | None = None) -> Message:
        """Send a request to the server and wait for its answer. What was told before it is forgotten."""
        server = self.server
        server.told.clear()
        try:
            answer = server.call(method, params)
        except NoAnswer as error:
            raise CheckFailed("answers/in-time", f"{method}: {error}") from None
        self.passed.add("answers/in-time")
        return answer

    def stop(self, *, kill: bool = False) -> bool:
        """End the server. Returns whether it ended by itself when its input was closed."""
        connection, self._connection = self._connection, None
        if connection is None:
            return True
        self.note("#", "kill -9 the server" if kill else "close the input of the server")
        if kill:
            connection.kill()
            return True
        return connection.close(self.setting.patience)

    # What the server tells

    def told(
        self,
        name: str,
        *expected: Mapping[str, Any],
        anywhere: Mapping[str, Any] | None = None,
        others: bool = False,
        early: bool = False,
    ) -> None:
        """Check that these notifications come, in this order, and that no other does.

        Args:
            name: the check.
            expected: `method`, and the members of `params` that must have these values, where the server sends them.
            anywhere: a notification that comes besides, before, between or after them.
            others: whether an `account/updated` with the mode of the model may come besides.
            early: whether they may come before the answer to the last request.
        """
        server = self.server
        before = [] if early else self._relevant((), others)
        self.check(name, not before, f"a notification came before the answer: {json.dumps(before[:1])}")
        self.call_quietly(READ, {"refreshToken": False})
        total = len(expected) + (anywhere is not None)
        server.receive_until(lambda: len(self._relevant(expected, others)) >= total, self.setting.grace)
        found = self._relevant(expected, others)
        server.told.clear()
        besides = next((one for one in found if anywhere is not None and _matches(one, anywhere)), None)
        rest = [one for one in found if one is not besides]
        right = len(found) == total and len(rest) == len(expected) and all(map(_matches, rest, expected))
        wanted = [dict(one) for one in (*expected, *filter(None, [anywhere]))]
        self.check(name, right, f"expected {wanted}, got {[_short(one) for one in found]}")

    def call_quietly(self, method: str, params: Message) -> Message:
        """Send a request, and keep what is told meanwhile."""
        told = self.server.told[:]
        answer = self.call(method, params)
        self.server.told[:0] = told
        return answer

    def eventually(self, ready: Callable[[], bool]) -> bool:
        """Exchange messages until `ready` returns true, at most for the time of grace. Returns whether it did."""
        deadline = monotonic() + self.setting.grace
        while not (is_ready := ready()) and monotonic() < deadline:
            self.call_quietly(READ, {"refreshToken": False})
        return is_ready

    def _relevant(self, expected: Sequence[Mapping[str, Any]], others: bool) -> list[Message]:
        """What was told, without a start's announcement of the stored login and without harmless repetitions."""
        found: list[Message] = []
        for message in self.server.told:
            wanted = len(found) < len(expected) and _matches(message, expected[len(found)])
            if wanted or not self._is_known_extra(message, others):
                found.append(message)
        return found

    def _is_known_extra(self, message: Message, others: bool) -> bool:
        if message["method"] != UPDATED:
            return False
        mode = message["params"].get("authMode")
        if others and mode == self.model.mode:
            return True
        if self.announced is not None and mode == self.announced:
            self.extra["start/nothing-unasked"] = f"after `initialize`: {json.dumps(_short(message))}"
            return True
        return False

    announced: str | None = None
    """The mode of the login that was stored at the last start: some releases announce it, at some later time."""

    # What is shown and stored

    def shows(self, name: str) -> None:
        """Check that the server shows what the model says."""
        read = self.call_quietly(READ, {"refreshToken": False}).get("result", {})
        account = read.get("account")
        wanted = self.model.account
        right = account is None if wanted is None else _contains(account, wanted)
        self.check(name, right, f"`account` must be {wanted}, and is {account}")
        status = self.call_quietly("getAuthStatus", {"includeToken": True, "refreshToken": False})
        if "error" in status:
            return
        found = (status["result"].get("authMethod"), status["result"].get("authToken"))
        expected = (self.model.mode, self.model.token)
        self.check(name, found == expected, f"mode and token must be {expected}, and are {found}")

    def stores(self, name: str) -> None:
        """Check that auth.json holds what the model says."""
        found, expected = _material(self.home.stored()), _material(self.model.stored)
        self.check(name, found == expected, f"auth.json must hold {expected}, and holds {found}")
        if found is not None:
            self.observe("store/private", self.home.is_private(), "others may read auth.json")

    def learn_stored(self, workspace: str) -> Managed:
        """Read the tokens that the server got from the issuer, for the person of this workspace."""
        stored = self.home.stored()
        tokens = self.home.content().get("tokens") or {}
        for kind in ("refresh_token", "access_token", "id_token"):
            if isinstance(tokens.get(kind), str):
                self.secret(tokens[kind], kind.replace("_", "-"))
        found = stored if isinstance(stored, Managed) else Managed("none", "none", None, None, None)
        return found._replace(workspace=workspace)

    def sent_tokens(self) -> list[str]:
        """The digest of each refresh token that was sent to the issuer so far."""
        sent: list[str] = self.issuer.stats()["refresh_tokens_sent"]
        return sent

    def times_sent(self, token: str) -> int:
        """How often a refresh token was sent."""
        return self.sent_tokens().count(_digest(token))

    def finish(self) -> None:
        """End the server, and check what holds for the whole history."""
        self.passed.add("answers/shape")
        is_pending = self.pending_login is not None
        if self.announced is not None and "start/nothing-unasked" not in self.extra:
            self.passed.add("start/nothing-unasked")
        ended = self.stop()
        self.check("end/pending-login" if is_pending else "end/input-closed", ended, "it was killed after a while")
        refused = {_digest(token) for token in self.model.refused_tokens}
        sent = [token for token in self.sent_tokens()[self.sends_before :] if token not in refused]
        if sent:
            processed = Counter(sent) - Counter(self.not_processed)
            twice = processed.total() - len(processed)
            self.observe("refresh/no-token-twice", twice == 0, f"{twice} of {len(sent)} requests sent a token again")
        errors = self.errors.read_text(encoding="utf-8", errors="replace") if self.errors.exists() else ""
        for secret, kind in self.secrets.items():
            self.check("secrets/none-in-output", secret not in errors, f"the error output holds <{kind}>")
        elsewhere = self.home.files_with(set(self.secrets))
        elsewhere.pop("auth.json", None)
        if self.secrets:
            self.check("secrets/none-in-files", not elsewhere, f"{elsewhere} holds it")

    def abandon(self) -> None:
        """Kill the server if it still runs, and let requests to the issuer go on."""
        connection, self._connection = self._connection, None
        self.issuer.release("refresh")
        if connection is not None:
            with suppress(Exception):
                connection.kill()

    def _look_for_secrets(self, line: str) -> None:
        for secret, kind in self.secrets.items():
            if secret in line and '"authToken"' not in line:
                raise CheckFailed("secrets/none-in-output", f"a line of the server holds <{kind}>")


def clean_environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of the server: ours, without variables and proxies that change a login."""
    drop = ("CODEX_", "OPENAI_", "AUTHSTATE_", "COV_CORE_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(drop)}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return {**kept, "HOME": str(home), "CODEX_HOME": str(home), **more}


def _digest(token: str) -> str:
    """What the issuer remembers of a refresh token that it got."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


def _matches(message: Message, expected: Mapping[str, Any]) -> bool:
    params = message.get("params", {})
    return message["method"] == expected["method"] and all(
        params.get(name) == value
        for name, value in expected.items()
        if name != "method" and not (name == "planType" and name not in params)  # 0.93.0 sends none
    )


def _contains(found: object, wanted: Mapping[str, Any]) -> bool:
    return isinstance(found, dict) and all(found.get(name) == value for name, value in wanted.items())


def _short(message: Message) -> dict[str, Any]:
    return {"method": message["method"], **message.get("params", {})}


def _material(held: Key | Managed | None) -> tuple[str, ...] | None:
    """What identifies a login in auth.json."""
    return (held.refresh, held.access) if isinstance(held, Managed) else held
