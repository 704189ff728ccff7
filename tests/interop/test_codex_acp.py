"""`authstate run -- codex-acp`: the agent that editors start, which runs an app-server of its own."""

import json
import queue
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Self

import pytest
from support.codex_binaries import NEW
from support.codex_turns import model_config
from support.real_parts import RealParts
from support.wire_client import AUTHSTATE, Message, clean_environment

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person", "expires_in": -10}


class Editor:
    """What an editor does: it starts an agent and speaks ACP with it, JSON-RPC in lines. A context manager.

    Args:
        command: of the agent.
        environment: of the agent.
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.updates: list[Message] = []
        """The notifications that came, in order."""
        self._count = 0
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._pump, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def result(self, method: str, params: Message) -> Any:
        """Send a request that must succeed. Returns its result."""
        self._count += 1
        request = {"jsonrpc": "2.0", "id": self._count, "method": method, "params": params}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        deadline = monotonic() + 60
        while (line := self._lines.get(timeout=max(0.0, deadline - monotonic()))) is not None:
            message: Message = json.loads(line)
            if "method" in message:
                self.updates.append(message)
            elif message["id"] == self._count:
                assert "result" in message, message
                return message["result"]
        raise AssertionError(f"the agent ended without an answer to {method}")

    def text(self) -> str:
        """What the agent said."""
        updates = (one["params"]["update"] for one in self.updates if one["method"] == "session/update")
        chunks = (one["content"] for one in updates if one["sessionUpdate"] == "agent_message_chunk")
        return "".join(chunk.get("text", "") for chunk in chunks)

    def _pump(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)


@pytest.mark.parametrize("release", [NEW, "newest"])
def test_a_session_with_an_expired_token(
    release: str, real_parts: RealParts, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(config=model_config(issuer), **PERSON)
    codex = real_parts.codex(release)
    environment = clean_environment(home, **issuer.environment, CODEX_PATH=str(codex))
    with Editor([*AUTHSTATE, "run", "--", *real_parts.codex_acp()], environment) as editor:
        client = {"protocolVersion": 1, "clientCapabilities": {}, "clientInfo": {"name": "interop", "version": "1"}}
        editor.result("initialize", client)
        session = editor.result("session/new", {"cwd": str(home), "mcpServers": []})["sessionId"]
        prompt = [{"type": "text", "text": "hello"}]
        ended = editor.result("session/prompt", {"sessionId": session, "prompt": prompt})
        assert ended["stopReason"] == "end_turn"
        assert editor.text().endswith("You said: hello")
        stats = issuer.stats()
        assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    assert editor.process.returncode == 0
