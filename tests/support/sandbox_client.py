"""A client of the control API of `authstate sandbox`, and what an application does with its issuer."""

from typing import Any

import httpx


class SandboxClient:
    """Sends requests to a sandbox.

    Args:
        http: a client whose base URL is the sandbox.
    """

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def get(self, path: str) -> Any:
        """The answer of the control API to a GET, which must succeed."""
        return self._checked(self.http.get(f"/sandbox/{path}"))

    def post(self, path: str, **body: Any) -> Any:
        """... to a POST."""
        return self._checked(self.http.post(f"/sandbox/{path}", json=body))

    def clear_faults(self) -> None:
        """Serve all requests again."""
        self._checked(self.http.delete("/sandbox/faults"))

    def counts(self) -> dict[str, int]:
        """The counts of `GET /sandbox/state`."""
        counts: dict[str, int] = self.get("state")["counts"]
        return counts

    def refusal(self, method: str, path: str, content: str = "") -> tuple[int, str, str]:
        """The status, code and message of a request that must be refused."""
        answer = self.http.request(method, path, content=content)
        assert answer.status_code >= 400, answer.text
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["message"]

    def sign_in(self, **options: Any) -> dict[str, str]:
        """The tokens of a login that needs no page."""
        tokens: dict[str, str] = self.post("logins", **options)["authJson"]["tokens"]
        return tokens

    def refresh(self, token: str) -> httpx.Response:
        """Spend a refresh token. Raises httpx.TransportError if the answer is lost."""
        return self.http.post("/oauth/token", json={"grant_type": "refresh_token", "refresh_token": token})

    def usage(self, token: str) -> int:
        """The status of a request to the backend."""
        headers = {"Authorization": f"Bearer {token}"}
        return self.http.get("/backend-api/wham/usage", headers=headers).status_code

    def requests(self) -> list[dict[str, Any]]:
        """All requests that the sandbox has seen."""
        seen: list[dict[str, Any]] = self.get("requests")["requests"]
        return seen

    def wait_for_answer(self, endpoint: str) -> dict[str, Any]:
        """Wait until a request to an endpoint has been answered, and return it."""
        revision = 0
        while True:
            found = self.get(f"requests?after={revision}&wait=30")
            for request in found["requests"]:
                if request["endpoint"] == endpoint and request["isOver"]:
                    return dict(request)
            assert found["revision"] > revision, f"nobody asks {endpoint}"
            revision = found["revision"]

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json()
