"""Which requests a sandbox takes: none under another name, and none that a page of another site causes."""

import pytest

from authstate.adapters.sandbox.origin import refusal

OURS = ("Host", "127.0.0.1:4000")


def status_of(
    *headers: tuple[str, str], method: str = "POST", path: str = "/sandbox/expire", is_control: bool = True
) -> int | None:
    refused = refusal(4000, method, path, headers, is_control=is_control)
    return None if refused is None else refused[0]


def test_a_program_on_this_machine_is_served() -> None:
    assert status_of(OURS) is None
    assert status_of(("host", "LOCALHOST:4000"), ("Content-Length", "12")) is None
    assert status_of(OURS, ("Origin", "http://localhost:4000"), ("Sec-Fetch-Site", "same-origin")) is None


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        (("Host", "evil.example:4000"),),
        (("Host", "127.0.0.1"),),
        (("Host", "127.0.0.1:4001"),),
        (("Host", "[::1]:4000"),),
        (OURS, OURS),
        (OURS, ("Host", "evil.example:4000")),
    ],
)
def test_another_name_is_refused_for_every_endpoint(hosts: tuple[tuple[str, str], ...]) -> None:
    assert status_of(*hosts) == 421
    assert status_of(*hosts, method="GET", path="/oauth/authorize", is_control=False) == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:4000", "http://127.0.0.1:4001"])
def test_a_page_of_another_origin_is_refused_for_every_endpoint(origin: str) -> None:
    assert status_of(OURS, ("Origin", origin)) == 403
    assert status_of(OURS, ("Origin", origin), path="/oauth/token", is_control=False) == 403
    assert status_of(OURS, ("Origin", "http://127.0.0.1:4000"), ("Origin", origin)) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_of_another_site_leads_to_the_sign_in_page_only(site: str) -> None:
    header = ("Sec-Fetch-Site", site)
    assert status_of(OURS, header, method="GET", path="/sandbox/state") == 403
    assert status_of(OURS, header, path="/oauth/authorize", is_control=False) == 403
    assert status_of(OURS, header, method="GET", path="/oauth/authorize", is_control=False) is None


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (("Transfer-Encoding", "chunked"), 411),
        (("Content-Length", "-1"), 400),
        (("Content-Length", "1, 1"), 400),
        (("Content-Length", "²"), 400),
        (("Content-Length", str(64 * 1024 * 1024 + 1)), 413),
        (("Content-Length", "9" * 5000), 413),
    ],
)
def test_a_body_of_no_known_length_is_not_read(header: tuple[str, str], status: int) -> None:
    assert status_of(OURS, header) == status


def test_a_target_with_another_host_is_refused() -> None:
    assert status_of(OURS, path="http://evil.example/sandbox/revoke") == 400


def test_the_control_of_the_loopback_issuer_is_closed() -> None:
    assert status_of(OURS, path="/control/revoke", is_control=False) == 404
