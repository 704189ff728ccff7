"""The port of the loopback redirect: taken, asked for, or left alone and named."""

import asyncio
import errno
import gc
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, nullcontext
from typing import Any

import pytest
from support.login_harness import LoginHarness, agree, follow_redirect, get, open_files, until
from support.ports import private_port

from authstate.adapters.network import loopback_sockets
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.redirect import port
from authstate.adapters.oauth.redirect.port import PortsBusy, open_port
from authstate.testing import LoopbackIssuer


class Holder:
    """A program that holds a port, answers every request with the same bytes, and keeps the first line of each."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.gives_way = False

    async def start(self) -> "Holder":
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", private_port())
        self.port: int = self.server.sockets[0].getsockname()[1]
        return self

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode().strip()
        self.asked.append(line)
        if self.answer:
            writer.write(self.answer)
            writer.close()
        else:
            await reader.read()
            writer.close()
        if self.gives_way and line.startswith("GET /cancel "):
            self.server.close()


def http(head: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


CODEX = http("404 Not Found\r\nServer: tiny-http (Rust)", "Not Found")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that answers is never too slow, however busy the machine is. A test of a limit sets it."""
    monkeypatch.setattr(port, "_ANSWER_WITHIN", 60.0)
    monkeypatch.setattr(port, "_FREE_WITHIN", 60.0)


@pytest.fixture
async def hold() -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def start(answer: bytes = b"") -> Holder:
            holder = await Holder(answer).start()
            stack.callback(holder.server.close)
            return holder

        yield start


async def port_of(ports: list[int]) -> int:
    listener = await open_port(ports)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        port: int = listener.getsockname()[1]
        return port


async def test_the_first_port_that_is_free(hold: Any) -> None:
    free = private_port()
    assert await port_of([free, 0]) == free
    holder = await hold(http("200 OK"))
    assert await port_of([holder.port, free]) == free
    assert holder.asked == ["GET / HTTP/1.1"], "what is no login of ours is looked at once"


def test_the_ports_are_those_that_the_issuer_redirects_to() -> None:
    assert port.PORTS == (1455, 1457)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("200 OK\r\nServer: nginx/1.25"), 'a server named "nginx/1.25"'),
        (http("200 OK\r\nServer: \x1b[2Jevil\u202e"), 'a server named "'),
        (http("200 OK"), "a server that is not a codex or authstate login"),
        (http("404 Not Found\r\nServer: tiny-http (Rust)", "no such page"), "tiny-http"),
        (http("200 OK\r\nServer: tiny-http (Rust)", "Not Found"), "tiny-http"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"\x00\x01\x02", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "does not speak HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "does not speak HTTP"),
        (http("200 OK\r\nServer: " + "x" * 5000), "x" * 300 + "…"),
    ],
)
async def test_what_is_no_login_is_left_alone_and_named(hold: Any, answer: bytes, said: str) -> None:
    holder = await hold(answer)
    with pytest.raises(PortsBusy) as busy:
        await open_port([holder.port])
    message = str(busy.value)
    assert f"port {holder.port} " in message and said in message, message
    assert message.isprintable() and "sign in with a device code" in message
    assert holder.asked == ["GET / HTTP/1.1"]


async def test_one_that_says_nothing_is_not_waited_for(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_ANSWER_WITHIN", 0.1)
    holder = await hold()
    with pytest.raises(PortsBusy, match="the program that uses it does not speak HTTP"):
        await open_port([holder.port])


async def test_one_that_is_bound_and_does_not_listen() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", private_port()))
        port = bound.getsockname()[1]
        with pytest.raises(PortsBusy, match=f"port {port} is not available .address already in use"):
            await open_port([port])


async def test_both_ports_are_named(hold: Any) -> None:
    one, other = await hold(http("200 OK\r\nServer: nginx")), await hold(b"SSH-2.0\r\n")
    with pytest.raises(PortsBusy) as busy:
        await open_port([one.port, other.port])
    assert f"port {one.port} is used by" in str(busy.value) and f"port {other.port} is not available" in str(busy.value)


async def test_a_login_of_codex_is_asked_to_give_way(hold: Any) -> None:
    holder = await hold(CODEX)
    holder.gives_way = True
    assert await port_of([holder.port]) == holder.port
    assert holder.asked == ["GET / HTTP/1.1", "GET /cancel HTTP/1.1"]


async def test_a_login_that_does_not_give_way_is_named(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_FREE_WITHIN", 0.1)
    holder = await hold(CODEX)
    free = private_port()
    assert await port_of([holder.port, free]) == free
    with pytest.raises(PortsBusy, match=r"is used by another login, which did not end within 0\.1 seconds"):
        await open_port([holder.port])


async def test_no_port_is_the_end_of_the_attempt(harness: LoginHarness, hold: Any) -> None:
    holder = await hold(http("200 OK\r\nServer: nginx"))
    with pytest.raises(PortsBusy) as busy:
        await harness.start(ports=(holder.port,))
    assert [(event.success, event.error) for event in harness.outcomes] == [(False, str(busy.value))]
    harness.assert_unchanged()


# Another authstate


@pytest.mark.parametrize("same_engine", [True, False])
async def test_another_login_of_authstate_gives_way(
    harness: LoginHarness, loopback: LoopbackIssuer, same_engine: bool
) -> None:
    other = harness if same_engine else LoginHarness(Issuer(loopback.url))
    async with nullcontext() if same_engine else other.engine:
        first = await other.start(ports=(private_port(),))
        second = await harness.start(ports=(first.port,))
        assert second.port == first.port
        await asyncio.wait_for(first.closed(), 30)
        assert first.attempt.state == ("superseded" if same_engine else "cancelled")
        assert [event.success for event in other.outcomes] == [False]
        assert (await follow_redirect(second, agree(second, loopback))).title == "You are signed in"


@pytest.mark.parametrize("is_closed", [False, True])
async def test_one_that_shows_its_outcome_gives_way_too(
    harness: LoginHarness, loopback: LoopbackIssuer, is_closed: bool
) -> None:
    other = LoginHarness(Issuer(loopback.url), linger=60)
    async with other.engine:
        first = await other.start(ports=(private_port(),))
        assert (await get(first.port, agree(first, loopback))).location == "/done"
        if is_closed:
            await other.engine.close()
        second = await harness.start(ports=(first.port,))
        await asyncio.wait_for(first.closed(), 30)
        assert (first.attempt.state, second.port) == ("succeeded", first.port)


async def test_one_whose_browser_is_back_is_not_asked_in_the_middle(
    harness: LoginHarness, loopback: LoopbackIssuer
) -> None:
    """What is being stored is stored: the second login waits for it, and then has the port."""
    other = LoginHarness(Issuer(loopback.url))
    async with other.engine:
        first = await other.start(ports=(private_port(),))
        async with other.store.locked():
            visit = asyncio.create_task(get(first.port, agree(first, loopback)))
            await until(lambda: first.attempt.is_storing)
            starting = asyncio.create_task(harness.start(ports=(first.port,)))
            assert (await get(first.port, "/")).status == 404
        await visit
        second = await starting
        assert (first.attempt.state, second.port) == ("succeeded", first.port)


@pytest.mark.skipif(sys.platform == "win32", reason="it counts descriptors")
@pytest.mark.parametrize("answer", [CODEX, b"SSH-2.0\r\n", b""], ids=["login", "other", "silent"])
async def test_whoever_stops_waiting_leaves_no_socket(hold: Callable[..., Any], answer: bytes) -> None:
    holder = await hold(answer)
    gc.collect()  # what other tests have left is not closed meanwhile
    before = open_files()
    for rounds in range(30):
        opening = asyncio.create_task(open_port([holder.port]))
        for _ in range(rounds):
            await asyncio.sleep(0)
        opening.cancel()
        try:
            (await opening).close()
        except (asyncio.CancelledError, PortsBusy):
            continue
    await until(lambda: open_files() <= before)


# The other address that `localhost` can mean


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="a machine without IPv6")


async def hold_ipv6(answer: bytes, *, port: int | None = None, gives_way: bool = False) -> Holder:
    holder = Holder(answer)
    holder.gives_way = gives_way
    holder.server = await asyncio.start_server(holder.serve, "::1", private_port() if port is None else port)
    holder.port = holder.server.sockets[0].getsockname()[1]
    return holder


@needs_ipv6
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("200 OK\r\nServer: nginx"), r'is used on \[::1\] by a server named "nginx"'),
        (
            b"SSH-2.0\r\n",
            r"is not available on \[::1\] \(address already in use\), and the program that uses it does not speak HTTP",
        ),
    ],
)
async def test_a_port_that_a_stranger_holds_on_the_other_address_is_not_shared(answer: bytes, said: str) -> None:
    """The browser is sent to `localhost`, which may be [::1]: the stranger would be given the code."""
    stranger = await hold_ipv6(answer)
    async with stranger.server:
        with pytest.raises(PortsBusy, match=said):
            await open_port([stranger.port])
        free = private_port()
        assert await port_of([stranger.port, free]) == free
        with socket.socket() as address:
            address.bind(("127.0.0.1", stranger.port))


@needs_ipv6
async def test_a_login_gives_way_on_both_addresses(hold: Any) -> None:
    first = await hold(CODEX)
    first.gives_way = True
    second = await hold_ipv6(CODEX, port=first.port, gives_way=True)
    async with second.server:
        assert await port_of([first.port]) == first.port
    assert (first.asked, second.asked) == (["GET / HTTP/1.1", "GET /cancel HTTP/1.1"],) * 2


@needs_ipv6
async def test_a_stranger_beside_a_login_that_gave_way_is_named(hold: Any) -> None:
    first = await hold(CODEX)
    first.gives_way = True
    stranger = await hold_ipv6(http("200 OK\r\nServer: nginx"), port=first.port)
    async with stranger.server:
        with pytest.raises(PortsBusy, match=r'used on \[::1\] by a server named "nginx"'):
            await open_port([first.port])


@needs_ipv6
async def test_the_browser_is_served_on_both_addresses(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    login = await harness.start(ports=(private_port(),))
    for host in (f"localhost:{login.port}", f"[::1]:{login.port}"):
        assert (await get(login.port, "/", host=host, address="::1")).status == 404
    assert (await get(login.port, "/", host=f"127.0.0.1:{login.port}", address="::1")).status == 421
    visit = await get(login.port, agree(login, loopback), address="::1")
    assert visit.location == "/done"
    assert (await get(login.port, "/done", address="::1")).title == "You are signed in"
    await login.closed()
    with socket.socket(socket.AF_INET6) as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("::1", login.port))


@pytest.mark.parametrize("lacks", ["support", "family", "address"])
async def test_a_machine_without_ipv6_needs_no_second_address(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(listener: socket.socket, address: str, port: int) -> None:
        if address == "::1":
            error = loopback_sockets.AddressTaken(address, "cannot assign requested address")
            error.errno = errno.EADDRNOTAVAIL
            raise error
        listen(listener, address, port)

    listen = loopback_sockets._listen
    if lacks == "support":
        monkeypatch.setattr(socket, "has_ipv6", False)
    elif lacks == "family":
        monkeypatch.setattr(socket, "AF_INET6", 12345)
    else:
        monkeypatch.setattr(loopback_sockets, "_listen", refuse)
    with await open_port([0]) as listener:
        assert isinstance(listener, loopback_sockets.LoopbackSocket) and listener.beside is None


@needs_ipv6
async def test_any_port_is_one_that_is_free_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def refuse(port: int) -> socket.socket | None:
        tries.append(port)
        if len(tries) < 3:
            raise loopback_sockets.AddressTaken("::1", "in use")
        return listen(port)

    listen = loopback_sockets._listen_beside
    monkeypatch.setattr(loopback_sockets, "_listen_beside", refuse)
    with await open_port([0]) as listener:
        assert listener.getsockname()[1] == tries[-1]
    assert len(tries) == 3
