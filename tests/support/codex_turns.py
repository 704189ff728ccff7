"""What a turn needs: the configuration of codex for the loopback model, and the params of the requests."""

from typing import Any

from authstate.adapters.testing import LoopbackIssuer


def model_config(issuer: LoopbackIssuer) -> str:
    """The lines of config.toml for a model behind the loopback backend, authorized as OpenAI's own.

    Without its own look at which models there are, 0.93.0 starts a thread three seconds sooner.
    """
    return f"""model = "gpt-5"
model_provider = "loopback"
[model_providers.loopback]
name = "loopback"
base_url = "{issuer.backend_url}/codex"
wire_api = "responses"
requires_openai_auth = true
request_max_retries = 0
stream_max_retries = 0
[features]
remote_models = false
"""


def thread_params(cwd: object) -> dict[str, Any]:
    """`thread/start`, as both versions take it."""
    return {"cwd": str(cwd), "experimentalRawEvents": False}


def turn_params(thread: str, words: str) -> dict[str, Any]:
    """`turn/start`, as both versions take it."""
    return {"threadId": thread, "input": [{"type": "text", "text": words, "text_elements": []}]}
