"""`authstate app-server` as a real process: pipes, files and sockets, bad lines, ends, signals, a real issuer."""

import contextlib
import json
import os
import random
import selectors
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authstate.adapters.testing.auth_json import chatgpt_auth_json
from authstate.testing import LoopbackIssuer, make_jwt

COMMAND = [sys.executable, "-m", "authstate.adapters.cli", "app-server"]
HELLO = {"id": "hello", "method": "initialize", "params": {"clientInfo": {"name": "test", "version": "1"}}}
EXTERNAL = {
    "type": "chatgptAuthTokens",
    "accessToken": make_jwt(**{"https://api.openai.com/auth": {"chatgpt_account_id": "org-1"}}),
    "chatgptAccountId": "org-1",
}
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals, pipes and modes")


class Server:
    """The process, and a client on its pipes."""

    def __init__(self, home: Path, stdin: Any = subprocess.PIPE, stdout: Any = subprocess.PIPE, **env: str) -> None:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "TMPDIR")}
        self.process = subprocess.Popen(
            COMMAND,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=kept | {"HOME": str(home), "CODEX_HOME": str(home), "NO_PROXY": "127.0.0.1"} | env,
        )
        self.buffer = b""

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, *messages: Any) -> None:
        self.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def read(self, timeout: float = 60.0) -> Any:
        """The next message; None at the end of the output."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                assert selector.select(timeout), "no answer"
                data = os.read(self.process.stdout.fileno(), 1 << 20)
                if not data:
                    assert self.buffer == b""
                    return None
                self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def call(self, method: str, params: Any = None, id_: Any = 1) -> Any:
        """The answer, which must be the next message."""
        self.send({"id": id_, "method": method, "params": params})
        answer = self.read()
        assert answer["id"] == id_, answer
        return answer.get("result", answer.get("error"))

    def initialize(self) -> Any:
        self.send(HELLO, {"method": "initialized"})
        return self.read()["result"]

    def end(self) -> tuple[int, bytes]:
        """Close the input; the exit status, and what was written to stderr."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        status = self.process.wait(timeout=60)
        assert self.process.stderr is not None
        return status, self.process.stderr.read()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        server.process.kill()
        server.process.wait()
        for pipe in (server.process.stdin, server.process.stdout, server.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@pytest.fixture
def start(tmp_path: Path, servers: list[Server]) -> Any:
    def begin(initialize: bool = True, **options: Any) -> Server:
        server = Server(tmp_path, **options)
        servers.append(server)
        if initialize:
            server.initialize()
        return server

    return begin


@pytest.fixture(scope="module")
def issuer() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as running:
        yield running


def sign_in(issuer: LoopbackIssuer, home: Path, **login: Any) -> dict[str, str]:
    """Put a login into the home, as codex writes it."""
    tokens = issuer.seed(**login)
    put(home, chatgpt_auth_json(tokens))
    return tokens


def put(home: Path, content: Any) -> None:
    """Store a login in one step. A server that runs may take half a file for one that is spoiled."""
    (home / "auth.new").write_text(json.dumps(content))
    os.replace(home / "auth.new", home / "auth.json")


def stored(home: Path) -> Any:
    return json.loads((home / "auth.json").read_text())


# Every method


def test_a_whole_session(start: Any, tmp_path: Path) -> None:
    server = start(initialize=False)
    assert server.call("account/read", {}) == {"code": -32600, "message": "Not initialized"}
    assert server.initialize()["codexHome"] == os.path.realpath(tmp_path)
    assert server.call("account/read", {}) == {"account": None, "requiresOpenaiAuth": True}
    assert server.call("account/login/start", {"type": "apiKey", "apiKey": " sk-one "}) == {"type": "apiKey"}
    assert server.read() == {
        "method": "account/login/completed",
        "params": {"loginId": None, "success": True, "error": None},
    }
    assert server.read() == {"method": "account/updated", "params": {"authMode": "apikey", "planType": None}}
    assert stored(tmp_path)["OPENAI_API_KEY"] == "sk-one"
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "auth.json").stat().st_mode) == 0o600
    assert server.call("getAuthStatus", {"includeToken": True})["authToken"] == "sk-one"
    assert server.call("account/login/cancel", {"loginId": "x"})["code"] == -32600
    assert server.call("account/rateLimits/read")["code"] == -32600
    assert server.call("account/logout") == {}
    assert server.read() == {"method": "account/updated", "params": {"authMode": None, "planType": None}}
    assert not (tmp_path / "auth.json").exists()
    assert server.end() == (0, b"")


def test_rate_limits_come_from_the_backend_and_survive_a_401(
    start: Any, issuer: LoopbackIssuer, tmp_path: Path
) -> None:
    sign_in(issuer, tmp_path)
    (tmp_path / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n')
    server = start(**issuer.environment)
    issuer.expire_access()
    accepted = issuer.stats()["refreshes_accepted"]
    assert server.call("account/rateLimits/read")["rateLimits"]["limitId"] == "codex"
    assert issuer.stats()["refreshes_accepted"] == accepted + 1
    assert server.end()[0] == 0


def test_a_dead_refresh_token_is_sent_once(start: Any, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    sign_in(issuer, tmp_path, expires_in=-10)
    before = stored(tmp_path)
    issuer.revoke()
    refused = issuer.stats()["refreshes_refused"]
    server = start(**issuer.environment)
    for params in ({}, {"refreshToken": True}, {"refreshToken": True}, {}):
        assert server.call("account/read", params) == {"account": None, "requiresOpenaiAuth": True}
    assert server.call("getAuthStatus", {"includeToken": True})["authToken"] is None
    assert "Sign in again" in server.call("account/rateLimits/read")["message"]
    assert issuer.stats()["refreshes_refused"] == refused + 1
    assert stored(tmp_path) == before
    status, log = server.end()
    assert status == 0
    assert before["tokens"]["refresh_token"].encode() not in log


@pytest.mark.parametrize("answers", ["late", "error"])
def test_a_parent_that_gives_no_tokens_fails_that_request_only(
    start: Any, issuer: LoopbackIssuer, tmp_path: Path, answers: str
) -> None:
    (tmp_path / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n')
    server = start(AUTHSTATE_TEST_PARENT_TIMEOUT="0.2")
    assert server.call("account/login/start", EXTERNAL) == {"type": "chatgptAuthTokens"}
    assert {server.read()["method"], server.read()["method"]} == {"account/login/completed", "account/updated"}
    for number in range(2):
        server.send({"id": "limits", "method": "account/rateLimits/read"})
        question = server.read()
        assert (question["id"], question["params"]["previousAccountId"]) == (number, "org-1")
        if answers == "error":
            server.send({"id": number, "error": {"code": -1, "message": "no"}})
        answer = server.read()
        assert (answer["id"], answer["error"]["code"]) == ("limits", -32603)
        server.send({"id": number, "result": EXTERNAL})
    assert server.call("account/read", {})["account"]["type"] == "chatgpt"
    assert not (tmp_path / "auth.json").exists()


def test_a_parent_that_answers_lets_the_request_through(start: Any, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n')
    server = start()
    server.call("account/login/start", EXTERNAL)
    server.read()
    server.read()
    server.send({"id": "limits", "method": "account/rateLimits/read"})
    tokens = issuer.seed(account_id="org-1")
    answer = {"accessToken": tokens["access_token"], "idToken": tokens["id_token"], "chatgptAccountId": "org-1"}
    server.send({"id": server.read()["id"], "result": answer})
    assert "rateLimits" in server.read()["result"]


@pytest.mark.parametrize("sends", ["the refused token again", "another one that is refused"])
def test_a_parent_whose_answer_is_of_no_use_is_asked_once_and_no_token_is_sent_twice(
    start: Any, issuer: LoopbackIssuer, tmp_path: Path, sends: str
) -> None:
    (tmp_path / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n')
    server = start()
    server.call("account/login/start", EXTERNAL)
    server.read()
    server.read()
    refused = issuer.stats()["backend_refused"]
    server.send({"id": "limits", "method": "account/rateLimits/read"})
    question = server.read()
    assert question["method"] == "account/chatgptAuthTokens/refresh"
    is_same = sends == "the refused token again"
    token = make_jwt(**{"https://api.openai.com/auth": {"chatgpt_account_id": "org-1"}}, jti="another")
    server.send({"id": question["id"], "result": EXTERNAL if is_same else EXTERNAL | {"accessToken": token}})
    answer = server.read()
    assert (answer["id"], answer["error"]["code"]) == ("limits", -32603)
    assert ("that the backend had refused before" if is_same else "status 401") in answer["error"]["message"]
    assert issuer.stats()["backend_refused"] - refused == (1 if is_same else 2)


def test_a_logout_that_the_issuer_could_not_be_told_of_is_in_the_log(
    start: Any, issuer: LoopbackIssuer, tmp_path: Path
) -> None:
    tokens = sign_in(issuer, tmp_path)
    server = start(**issuer.environment | {"CODEX_REVOKE_TOKEN_URL_OVERRIDE": "http://127.0.0.1:1/oauth/revoke"})
    assert server.call("account/logout") == {}
    assert server.read()["method"] == "account/updated"
    status, log = server.end()
    assert status == 0 and not (tmp_path / "auth.json").exists()
    assert b"not_revoked" in log and b"a copy of it may still work" in log
    assert tokens["refresh_token"].encode() not in log


def test_what_another_process_does_to_the_login_is_told_and_followed(
    start: Any, issuer: LoopbackIssuer, tmp_path: Path
) -> None:
    """It needs no request, and no restart: another account, an API key, a logout, and a login again."""
    sign_in(issuer, tmp_path, email="one@example.com")
    server = start(**issuer.environment)
    assert server.call("account/read", {})["account"]["email"] == "one@example.com"
    sign_in(issuer, tmp_path, email="two@example.com", account_id="org-2", plan="pro")
    told = server.read()
    assert (told["method"], told["params"]["authMode"], told["params"]["planType"]) == (
        "account/updated",
        "chatgpt",
        "pro",
    )
    assert server.call("account/read", {"refreshToken": True})["account"]["email"] == "two@example.com"
    put(tmp_path, {"OPENAI_API_KEY": "sk-1"})
    assert server.read()["params"]["authMode"] == "apikey"
    assert server.call("account/read", {})["account"] == {"type": "apiKey"}
    (tmp_path / "auth.json").unlink()
    assert server.read()["params"]["authMode"] is None
    assert server.call("account/read", {})["account"] is None
    sign_in(issuer, tmp_path, email="two@example.com", account_id="org-2")
    assert server.read()["params"]["authMode"] == "chatgpt"
    assert server.end()[0] == 0


# Bad input


def test_ids_of_every_json_type(start: Any) -> None:
    server = start()
    for id_ in (0, -1, 2**60, "", "x", "é"):
        assert server.call("account/read", {}, id_)["account"] is None
    wrong: tuple[object, ...] = (None, 1.5, True, [], {})
    for bad in wrong:
        server.send({"id": bad, "method": "account/read"})
        answer = server.read()
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)


def test_malformed_lines_are_refused_and_replies_to_nothing_dropped(start: Any) -> None:
    server = start()
    for line in (b"nope", b"\xff\xfe", b"[" * 200_000, b'{"id":1'):
        server.write(line + b"\n")
        answer = server.read()
        assert (answer["id"], answer["error"]["code"]) == (None, -32700)
    server.send({"id": 5, "result": {}}, {"id": 5, "result": {}}, {"id": None, "error": {"code": 1, "message": "x"}})
    assert server.call("account/read", {})["account"] is None
    assert server.end() == (0, b"")


def test_ten_thousand_random_lines(start: Any) -> None:
    server = start()
    chance = random.Random(11)
    for _ in range(100):
        lines = [chance.randbytes(chance.randrange(1, 60)).replace(b"\n", b" ") for _ in range(100)]
        server.write(b"\n".join(lines) + b"\n" + json.dumps({"id": "mark", "method": "account/read"}).encode() + b"\n")
        while (answer := server.read())["id"] != "mark":
            assert answer["error"]["code"] in (-32700, -32600)
    assert server.end() == (0, b"")


def test_two_thousand_requests_in_one_write(start: Any) -> None:
    server = start(initialize=False)
    server.send(HELLO, *({"id": n, "method": "account/read", "params": {}} for n in range(2000)))
    assert server.read()["id"] == "hello"
    answers = [server.read() for _ in range(2000)]
    assert [answer["id"] for answer in answers] == list(range(2000))
    assert all("result" in answer for answer in answers)


def test_a_line_of_fifty_megabytes_is_refused_and_not_held(start: Any) -> None:
    server = start()
    server.write(b'{"id":1,"method":"account/read","params":{"x":"')
    for _ in range(50):
        server.write(b"y" * 1024 * 1024)
    server.write(b'"}}\n')
    answer = server.read()
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert server.call("account/read", {})["account"] is None
    status = Path(f"/proc/{server.process.pid}/status")
    if status.exists():  # Linux tells the most that it ever held
        most = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        assert most < 60 * 1024, f"{most} kB"


def test_a_broken_configuration_ends_the_start_with_a_clear_line(start: Any, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("= nope")
    server = start(initialize=False)
    status, log = server.end()
    assert status != 0
    assert b"config.toml" in log and b"Traceback" not in log


def test_a_corrupt_auth_json_shows_no_account_and_is_named_in_the_log(start: Any, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text('{"tokens": {"access')
    server = start()
    assert server.call("account/read", {}) == {"account": None, "requiresOpenaiAuth": True}
    status, log = server.end()
    assert status == 0
    assert str(tmp_path / "auth.json").encode() in log
    assert (tmp_path / "auth.json").read_text() == '{"tokens": {"access'


# Ends


def test_the_input_may_end_at_any_moment(start: Any, tmp_path: Path) -> None:
    login = {"id": 3, "method": "account/login/start", "params": {"type": "apiKey", "apiKey": "sk-1"}}
    session = (HELLO, {"method": "initialized"}, {"id": 2, "method": "account/read"}, login, {"id": 4, "method": "x"})
    lines = b"".join(json.dumps(message).encode() + b"\n" for message in session)
    ends = [place for place, byte in enumerate(lines) if byte == ord("\n")]
    cuts = sorted({0, *ends, *(place + 1 for place in ends), *range(5, len(lines), 40)})
    for first in range(0, len(cuts), 4):
        started = [(cut, start(initialize=False)) for cut in cuts[first : first + 4]]
        for cut, server in started:
            server.write(lines[:cut])
            assert server.process.stdin is not None
            server.process.stdin.close()
        for cut, server in started:
            answered = 0
            while (message := server.read()) is not None:
                answered += "id" in message
            assert answered == len(lines[:cut].splitlines()) - lines[:cut].count(b'"initialized"}'), lines[:cut]
            assert server.end() == (0, b""), lines[:cut]
    beside = {f"auth.json.authstate.{tail}" for tail in ("lock", "journal")}
    assert {path.name for path in tmp_path.iterdir()} == {"auth.json"} | beside


def test_what_came_before_the_end_is_answered(start: Any) -> None:
    server = start(initialize=False)
    server.write(json.dumps(HELLO).encode() + b'\n{"id":2,"method":"account/read"}')
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.read()["id"] == "hello"
    assert server.read()["result"]["account"] is None
    assert server.read() is None
    assert server.end() == (0, b"")


def test_the_end_comes_while_the_parent_is_asked(start: Any, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n')
    server = start(AUTHSTATE_TEST_PARENT_TIMEOUT="600")
    server.call("account/login/start", EXTERNAL)
    server.read()
    server.read()
    server.send({"id": "limits", "method": "account/rateLimits/read"})
    assert server.read()["method"] == "account/chatgptAuthTokens/refresh"
    assert server.end()[0] == 0, "within a minute, of ten that the parent has"


def test_nobody_reads_the_output_any_more(start: Any) -> None:
    server = start()
    assert server.process.stdout is not None
    server.process.stdout.close()
    server.send({"id": 1, "method": "account/read"})
    assert server.process.wait(timeout=60) == 0
    assert server.end() == (0, b"")


@POSIX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it(start: Any, number: int, status: int) -> None:
    server = start()
    server.call("account/read", {})
    server.process.send_signal(number)
    assert server.process.wait(timeout=60) == status
    assert server.end() == (status, b"")


def wait_for_refreshes(issuer: LoopbackIssuer, accepted: int) -> None:
    """Return when the issuer has seen that many refreshes."""
    deadline = time.monotonic() + 60
    while len(issuer.stats()["refresh_tokens_sent"]) < accepted:  # each look is a round trip to the issuer
        assert time.monotonic() < deadline, "the refresh was not sent"


@POSIX
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "EOF"])
def test_an_end_during_a_refresh_waits_until_its_tokens_are_stored(
    start: Any, issuer: LoopbackIssuer, tmp_path: Path, how: str
) -> None:
    before = sign_in(issuer, tmp_path)["refresh_token"]
    server = start(**issuer.environment)
    server.call("account/read", {})
    issuer.hold("refresh", times=1)
    stats = issuer.stats()
    server.send({"id": "r", "method": "account/read", "params": {"refreshToken": True}})
    wait_for_refreshes(issuer, len(stats["refresh_tokens_sent"]) + 1)
    if how == "EOF":
        server.process.stdin.close()
        issuer.release("refresh")
        assert server.end()[0] == 0
    else:
        server.process.send_signal(getattr(signal, how))
        issuer.release("refresh")
        assert server.process.wait(timeout=60) == {"SIGTERM": 143, "SIGINT": 130}[how]
    assert issuer.stats()["refreshes_accepted"] == stats["refreshes_accepted"] + 1
    after = stored(tmp_path)["tokens"]["refresh_token"]
    assert after != before
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


# Other transports


@POSIX
def test_files_for_input_and_output(tmp_path: Path, servers: list[Server]) -> None:
    requests, answers = tmp_path / "in", tmp_path / "out"
    requests.write_bytes(json.dumps(HELLO).encode() + b'\n{"id":2,"method":"account/read"}\n')
    with requests.open("rb") as stdin, answers.open("wb") as stdout:
        server = Server(tmp_path, stdin=stdin, stdout=stdout)
        servers.append(server)
        assert server.end() == (0, b"")
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["hello", 2]


@POSIX
def test_one_socket_for_input_and_output(tmp_path: Path, servers: list[Server]) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            server = Server(tmp_path, stdin=theirs, stdout=theirs)
            servers.append(server)
        ours.settimeout(60)
        stream = ours.makefile("rwb")
        messages: list[dict[str, Any]] = [HELLO, *({"id": n, "method": "account/read"} for n in range(50))]
        for message in messages:
            stream.write(json.dumps(message).encode() + b"\n")
            stream.flush()
            assert json.loads(stream.readline())["id"] == message["id"]
        ours.shutdown(socket.SHUT_WR)
        assert stream.read() == b""
        stream.close()
    assert server.end() == (0, b"")


@POSIX
def test_a_reader_that_falls_behind_gets_everything_in_the_end(start: Any) -> None:
    server = start()
    server.call("account/read", {})  # the account is open: from here on nothing waits, and nothing is refused
    os.set_blocking(server.process.stdin.fileno(), False)
    line, sent, rest = b'{"id":%d,"method":"account/read"}\n', 0, b""
    refusals = 0
    while refusals < 200 and sent < 200_000:
        rest = rest or line % sent
        try:
            rest = rest[os.write(server.process.stdin.fileno(), rest) :]
        except BlockingIOError:
            refusals += 1
            selectors.DefaultSelector().select(0.005)
            continue
        sent += not rest
    assert refusals == 200, "it went on reading although nobody reads its answers"
    os.set_blocking(server.process.stdin.fileno(), True)
    received = 0
    for received in range(sent):
        assert server.read()["id"] == received
    assert received == sent - 1
