"""The address that a browser on another machine ended on: what is taken for it, and what is refused in clear words."""

import pytest
from support.login_harness import LoginHarness, agree, asked, get, target

from authstate.adapters.oauth.authorization_request import AuthorizationRequest
from authstate.adapters.oauth.redirect.pasted_callback import NotTheCallback, parameters_of
from authstate.engine.model.errors import LoginAttemptEnded
from authstate.engine.model.secret import Secret
from authstate.testing import LoopbackIssuer

PORT = 1455
STATE = "state-" + 37 * "x"
"""As long as a random one. It is part of the names of tests, which are the same in every process."""
QUESTION = AuthorizationRequest(f"http://localhost:{PORT}/auth/callback", Secret("verifier"), Secret(STATE))
QUERY = f"code=ac_canary&state={STATE}"
ADDRESS = f"http://localhost:{PORT}/auth/callback?{QUERY}"


@pytest.mark.parametrize(
    "text",
    [
        ADDRESS,
        f"  {ADDRESS}\r\n",
        f'"{ADDRESS}"',
        f"'{ADDRESS}'",
        f"<{ADDRESS}>",
        f"“{ADDRESS}”",
        f"\x1b[200~{ADDRESS}\x1b[201~",
        ADDRESS.replace("localhost", "127.0.0.1"),
        ADDRESS.replace("localhost", "[::1]"),
        ADDRESS.replace("http", "HTTP").replace("localhost", "LocalHost"),
        ADDRESS.replace("?", "\\?").replace("&", "\\&").replace("=", "\\="),
        ADDRESS.replace("&", "&amp;"),
        f"({ADDRESS})",
        ADDRESS.removeprefix("http://"),
        ADDRESS.removeprefix("http://").replace("localhost", "[::1]"),
        ADDRESS.partition(str(PORT))[2],
        f"{ADDRESS[:60]}\n  {ADDRESS[60:]}",
        ADDRESS + "#",
        ADDRESS + "&scope=openid%20email",
        QUERY,
        "?" + QUERY,
        f"state={STATE}&code=ac_canary",
    ],
)
def test_every_way_to_copy_it_is_read(text: str) -> None:
    parameters = parameters_of(text, QUESTION, PORT)
    assert (parameters["code"], parameters["state"]) == (["ac_canary"], [STATE])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is not an address: paste the whole address"),
        ('""', "this is not an address"),
        ("canary\x07", "this is not an address"),
        (ADDRESS + "x" * 20_000, "this is not an address"),
        ("ac_canary", "not the address that the browser arrives at"),
        (f"https://auth.openai.com/oauth/authorize?{QUERY}", "not the address"),
        (f"https://evil.example/auth/callback?{QUERY}", "not the address"),
        (f"http://localhost:{PORT + 1}/auth/callback?{QUERY}", "not the address"),
        (f"http://localhost/auth/callback?{QUERY}", "not the address"),
        (f"https://localhost:{PORT}/auth/callback?{QUERY}", "not the address"),
        (f"http://localhost:{PORT}/done?{QUERY}", "not the address"),
        (f"http://localhost:{PORT}@evil.example/auth/callback?{QUERY}", "not the address"),
        (f"http://canary@localhost:{PORT}/auth/callback?{QUERY}", "not the address"),
        (f"http://localhost:{PORT}x/auth/callback?{QUERY}", "not the address"),
        (f"http://localhost:{PORT}.evil.example/auth/callback?{QUERY}", "not the address"),
        ("http://[::1/auth/callback", "not the address"),
        ("/auth/callback?code=ac_canary", "incomplete, its state is missing"),
        ("code=ac_canary", "incomplete, its state is missing"),
        (f"http://localhost:{PORT}/auth/callback", "incomplete, its state is missing"),
        (f"{QUERY}&" + "&".join(["x=1"] * 40), "incomplete, its state is missing"),
        ("code=ac_canary&state=canary", "belongs to another sign-in"),
        (f"{QUERY}&state=canary", "belongs to another sign-in"),
        (f"state={STATE}", "incomplete, its code is missing"),
        (f"state={STATE}&code=", "incomplete, its code is missing"),
        (f"{QUERY}&code=ac_2", "incomplete, its code is missing"),
        (f"state={STATE}&error=access_denied", "the sign-in was declined on the issuer's page: open the URL again"),
        (f"state={STATE}&error=server_error&error_description=try+later", 'error server_error, which says "try later"'),
        (f"{QUERY}&error=", "the issuer refused the sign-in: open the URL again"),
    ],
)
def test_what_is_not_the_answer_is_refused_in_clear_words_without_showing_it(text: str, said: str) -> None:
    with pytest.raises(NotTheCallback) as refused:
        parameters_of(text, QUESTION, PORT)
    message = str(refused.value)
    assert said in message and message.isprintable()
    assert "canary" not in message and STATE not in message
    assert refused.value.__context__ is None or refused.value.__suppress_context__


async def test_a_login_is_completed_with_what_was_pasted(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    """Beside the server, which waits for a browser all the same; after what was refused, and once."""
    login = await harness.start(linger=60.0)
    address = f"http://localhost:{login.port}" + agree(login, loopback)
    for wrong in (address.replace("state=", "state=x"), "https://evil.example/", target(login, error="access_denied")):
        with pytest.raises(NotTheCallback):
            login.paste(wrong)
    assert (await get(login.port, "/auth/callback?state=x&code=y")).status == 400
    assert (login.attempt.state, harness.outcomes) == ("pending", [])
    login.paste(address)
    with pytest.raises(LoginAttemptEnded, match="has already been answered"):
        login.paste(address)
    await login.closed()
    assert login.attempt.state == "succeeded"
    with pytest.raises(LoginAttemptEnded):
        login.paste(address)
    assert [event.success for event in harness.outcomes] == [True]


async def test_a_browser_that_comes_back_after_a_paste_is_told_so(
    harness: LoginHarness, loopback: LoopbackIssuer
) -> None:
    loopback.hold("exchange", times=1)
    login = await harness.start()
    address = agree(login, loopback)
    login.paste(address)
    assert (await get(login.port, address)).title == "This link was already used"
    loopback.release("exchange")
    await login.closed()
    assert login.attempt.state == "succeeded"


async def test_a_login_that_was_cancelled_takes_nothing(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    login = await harness.start()
    address = agree(login, loopback)
    await harness.engine.cancel_login(login.attempt.login_id)
    with pytest.raises(LoginAttemptEnded, match="cancelled"):
        login.paste(address)
    harness.assert_unchanged()


async def test_the_person_at_another_machine_gets_a_login_of_their_own_state(harness: LoginHarness) -> None:
    first, second = await harness.start(), await harness.start()
    with pytest.raises(NotTheCallback, match="belongs to another sign-in"):
        second.paste(f"code=ac_1&state={asked(first)['state']}")
    assert second.attempt.is_open
