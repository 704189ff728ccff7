"""What a codex turn needs: the configuration for the loopback model, and the params of the requests."""

from typing import Any

from authstate.testing import LoopbackIssuer


def model_config(issuer: LoopbackIssuer) -> str:
    """The lines of config.toml for a model of the loopback backend, which uses the ChatGPT login as OpenAI's own does.

    With `remote_models = false`, codex 0.93.0 does not fetch the list of models, and starts a thread 3 seconds sooner.
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
    """The params of `thread/start`, for both versions of codex."""
    return {"cwd": str(cwd), "experimentalRawEvents": False}


def turn_params(thread: str, words: str) -> dict[str, Any]:
    """The params of `turn/start`, for both versions of codex."""
    return {"threadId": thread, "input": [{"type": "text", "text": words, "text_elements": []}]}
