"""What a real codex makes of the lines that `wrap` lets through.

Run it in `tests/`: `python -m interop.fuzz_wrap --lines 20000`.

Lines about accounts, written in every way that some reader may obey, are mixed with ordinary ones, cut into chunks and
fed to the filter of `wrap`. What it lets through goes to a real `codex app-server`, and after each batch its login must
be what it was. What the filter keeps back goes to another one: there some must be obeyed, or the test is blind.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from msgspec import Raw
from support.codex_binaries import VERSIONS, install
from support.homes import fill
from support.wire_client import INITIALIZE, WireClient, clean_environment

from authstate.adapters.jsonrpc.framing import Envelope, RpcError
from authstate.adapters.proxy.front_end import METHODS, RETIRED
from authstate.adapters.proxy.pending_requests import PendingRequests
from authstate.adapters.proxy.routing import Exchange, FromFrontEnd, InitializeExchange
from authstate.testing import LoopbackIssuer

KEY = "sk-of-somebody-else"
BATCH = 200
_TOLD = {"account/updated", "account/login/completed", "authStatusChange", "loginChatGptComplete"}
_LOGINS: tuple[tuple[str, Any], ...] = (
    ("account/logout", None),
    ("account/login/start", {"type": "apiKey", "apiKey": KEY}),
    ("logoutChatGpt", None),
    ("loginApiKey", {"apiKey": KEY}),
)


class Line:
    """Makes lines by chance."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def one(self) -> bytes:
        """A line without its newline."""
        random = self._random
        if random.random() < 0.2:
            return self._ordinary()
        method, params = random.choice(_LOGINS)
        if random.random() < 0.1:
            method = random.choice(sorted(METHODS | set(RETIRED)))
        members = [("id", json.dumps(random.choice([700007, "7", -1]))), ("method", self._text(method))]
        members.append(("params", json.dumps(params)))
        random.shuffle(members)
        if random.random() < 0.3:  # as an array, whose order is that of the members
            values = dict(members)
            order = ["id", "method", "params"]
            return f"[{','.join(values[name] for name in order)}]".encode()
        if random.random() < 0.4:
            decoy = random.choice([("method", '"thread/list"'), ("result", "{}"), ("id", "700008"), ("error", "null")])
            members.insert(random.randrange(len(members) + 1), decoy)
        if random.random() < 0.3:
            members.insert(random.randrange(len(members) + 1), ("pad", json.dumps("x" * random.randrange(4000))))
        written = self._space().join(f"{self._text(name)}:{self._space()}{value}," for name, value in members)
        return self._spoiled(f"{{{written[:-1]}}}".encode())

    def _ordinary(self) -> bytes:
        return self._random.choice(
            [
                b'{"id":900009,"method":"thread/loaded/list","params":{}}',
                b'{"method":"initialized"}',
                b'{"id":0,"result":{"accessToken":"x","chatgptAccountId":"y","chatgptPlanType":"plus"}}',
                b'[0,{"accessToken":"x","chatgptAccountId":"y"}]',
                b'{"id":900009,"method":"no/such","params":{"text":"account/logout"}}',
                b"",
                b"account/logout",
            ]
        )

    def _text(self, text: str) -> str:
        """A JSON string, some letters of which are escaped."""
        letters = []
        for letter in text:
            if self._random.random() < 0.03:
                letters.append(f"\\u{ord(letter):04x}")
            else:
                letters.append("\\/" if letter == "/" and self._random.random() < 0.2 else letter)
        return f'"{"".join(letters)}"'

    def _space(self) -> str:
        return self._random.choice(["", "", "", " ", "\t", "\r", "  "])

    def _spoiled(self, line: bytes) -> bytes:
        """A line with one thing that readers may or may not mind."""
        return self._random.choice(
            [
                *[line] * 8,
                b"\xef\xbb\xbf" + line,
                b"\x00" + line,
                line + b" {}",
                line[:-1] + b",}",
                line[:-1],
                b"\r" + line + b"\r",
                line.replace(b'"method"', b"'method'"),
                line[:-1] + b',"deep":' + b"[" * 200 + b"]" * 200 + b"}",
                line[:-1] + b',"big":1e999}',
            ]
        )


class Filter:
    """The front-end's direction of `wrap`, after the handshake."""

    def __init__(self) -> None:
        self.passed: list[bytes] = []
        initialize = InitializeExchange(self)
        initialize.is_done = True
        exchange = Exchange(initialize, PendingRequests(), PendingRequests(), _nothing)
        self.feed = FromFrontEnd(self, "authstate-fuzz-", self.passed.append, exchange).line_stream.feed
        self.kept = 0

    def ask(self, message: Envelope, size: int) -> None:
        self.kept += 1

    change = take_answer = ask

    def refuse(self, id_: Raw, error: RpcError) -> None:
        self.kept += 1

    def on_initialize(self, params: Raw) -> None:
        raise AssertionError("the handshake is over")

    def on_initialize_answered(self, is_accepted: bool) -> None:
        raise AssertionError("the handshake is over")

    def let_through(self, data: bytes, random: Random) -> bytes:
        """What passes of some lines, fed in chunks."""
        self.passed.clear()
        start = 0
        while start < len(data):
            end = start + random.choice([1, 7, 100, 3000, 60_000])
            self.feed(data[start:end])
            start = end
        return b"".join(self.passed)


def _nothing(*_: object) -> None:
    return None


class Child:
    """A real app-server with tokens in memory, as `wrap` has it."""

    def __init__(self, binary: Path, home: Path, issuer: LoopbackIssuer) -> None:
        tokens = issuer.seed()
        command = [str(binary), "-c", 'cli_auth_credentials_store="ephemeral"']
        self._client = WireClient(command, clean_environment(home, **issuer.environment))
        self._client.call("initialize", INITIALIZE)
        self._client.send({"method": "initialized"})
        params = {
            "type": "chatgptAuthTokens",
            "idToken": tokens["id_token"],
            "accessToken": tokens["access_token"],
            "chatgptAccountId": "org-1",
            "chatgptPlanType": "plus",
        }
        self._client.call("account/login/start", params)
        self._before = self.login()
        while self._count() < 2:  # it tells of this login itself: completed and updated
            self.login()
        self._told = self._count()

    def login(self) -> object:
        """Whom it acts as."""
        return self._client.call("getAuthStatus", {"includeToken": True, "refreshToken": False}).get("result")

    def write(self, data: bytes) -> None:
        """Give it lines."""
        assert self._client.process.stdin is not None
        self._client.process.stdin.write(data)
        self._client.process.stdin.flush()

    def has_obeyed(self) -> bool:
        """Whether it did anything about its login."""
        return self.login() != self._before or self._count() != self._told

    def obeys(self) -> bool:
        """Whether it does something about its login within a minute."""
        deadline = monotonic() + 60
        while not self.has_obeyed():  # each look is a round trip
            if monotonic() > deadline:
                return False
        return True

    def close(self) -> None:
        self._client.__exit__()

    def _count(self) -> int:
        return sum(message.get("method") in _TOLD for message in self._client.received)


def batches(lines: int, random: Random) -> Iterator[list[bytes]]:
    """So many lines, in batches."""
    maker = Line(random)
    for start in range(0, lines, BATCH):
        yield [maker.one() for _ in range(min(BATCH, lines - start))]


def run(binary: Path, lines: int, seed: int, folder: Path, issuer: LoopbackIssuer) -> dict[str, int]:
    """Feed so many lines. Returns what was counted; `obeyed` must be 0 and `would_obey` must not."""
    random = Random(seed)
    home = fill(folder / "home", issuer)
    child, line_stream = Child(binary, home, issuer), Filter()
    counts = {"lines": 0, "passed": 0, "obeyed": 0, "would_obey": 0}
    for number, batch in enumerate(batches(lines, random)):
        data = b"".join(line + b"\n" for line in batch)
        passed = line_stream.let_through(data, random)
        counts["lines"] += len(batch)
        counts["passed"] += passed.count(b"\n")
        child.write(passed)
        counts["obeyed"] += child.has_obeyed()
        if number % 10 == 0:  # not blind: without the filter it would have obeyed
            bare = Child(binary, home, issuer)
            bare.write(b"".join(line + b"\n" for line in batch if line.isascii()))
            counts["would_obey"] += bare.obeys()
            bare.close()
    child.close()
    return counts


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for version in VERSIONS:
        with tempfile.TemporaryDirectory() as folder, LoopbackIssuer() as issuer:
            print(version, run(install(version), options.lines, options.seed, Path(folder), issuer), flush=True)


if __name__ == "__main__":
    main()
