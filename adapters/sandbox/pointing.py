"""What points codex, authstate and the test of a front-end at a sandbox: variables, `-c` overrides, a config.toml."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_LOOPBACK: Final = ("127.0.0.1", "localhost")
_THEIRS: Final = ("CODEX_", "OPENAI_", "AUTHSTATE_")
"""Variables of the person that a command in the sandbox must not see: they lead to the real service, or hold keys."""


class Pointing(msgspec.Struct, frozen=True):
    """Everything that a program needs to use a sandbox instead of the real service.

    Args:
        url: of the sandbox, without a slash at the end.
        home: the folder for `CODEX_HOME`.
    """

    url: str
    home: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables, for codex from 0.93.0 on and for authstate."""
        return {
            "AUTHSTATE_SANDBOX_URL": self.url,
            "CODEX_HOME": self.home,
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{self.url}/oauth/token",
            "CODEX_REVOKE_TOKEN_URL_OVERRIDE": f"{self.url}/oauth/revoke",
            "CODEX_APP_SERVER_LOGIN_ISSUER": self.url,
            "CODEX_AUTHAPI_BASE_URL": f"{self.url}/api/accounts",
            "AUTHSTATE_REDIRECT_PORTS": "0",
            "NO_PROXY": ",".join(_LOOPBACK),
            "no_proxy": ",".join(_LOOPBACK),
        }

    @property
    def settings(self) -> dict[str, str | bool]:
        """The keys of config.toml, with dots between their parts."""
        provider = "model_providers.sandbox"
        return {
            "chatgpt_base_url": f"{self.url}/backend-api",
            "model": "gpt-5",
            "model_provider": "sandbox",
            f"{provider}.name": "sandbox",
            f"{provider}.base_url": f"{self.url}/backend-api/codex",
            f"{provider}.wire_api": "responses",
            f"{provider}.requires_openai_auth": True,
            "features.apps": False,  # a sandbox has none, and codex would complain
            "features.remote_models": False,  # with it, codex 0.93.0 waits 3 seconds for a list of models
        }

    @property
    def overrides(self) -> list[str]:
        """The values of `-c` that mean the same as `config_toml`."""
        return [f"{key}={json.dumps(value)}" for key, value in self.settings.items()]

    @property
    def config_toml(self) -> str:
        """The content of config.toml."""
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.settings.items())

    def environ_of_command(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a command that runs in the sandbox.

        Args:
            environ: the environment to add to. Its keys and settings for the real service are left out.
        """
        kept = {name: value for name, value in environ.items() if not name.startswith(_THEIRS)}
        named = (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")
        hosts = ",".join(dict.fromkeys([*(host.strip() for host in named if host.strip()), *_LOOPBACK]))
        return {**kept, **self.environment, "NO_PROXY": hosts, "no_proxy": hosts}

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {
            "url": self.url,
            "control": f"{self.url}/sandbox",
            "model": f"{self.url}/backend-api/codex",
            "environment": self.environment,
            "overrides": self.overrides,
            "configToml": self.config_toml,
        }

    def as_shell(self) -> str:
        """Return the lines that a shell reads."""
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.environment.items())

    def as_text(self) -> str:
        """Return it for a person."""
        arguments = "".join(f"  -c {shlex.quote(override)} \\\n" for override in self.overrides).removesuffix(" \\\n")
        exports = "".join(f"  {line}\n" for line in self.as_shell().splitlines())
        return (
            f"The sandbox is at {self.url}/. Open it in a browser to see and control it.\n\n"
            f"These variables point codex, authstate and your tests at it:\n\n{exports}\n"
            f"{self.home} has the config.toml that codex needs. For a home of your own, give codex these arguments:\n\n"
            f"{arguments}\n\n"
            f"A test controls it with JSON over HTTP, for example:\n\n"
            f"  curl -sS -X POST {self.url}/sandbox/expire\n\n"
            f"Ctrl-C ends it, and removes {self.home}.\n"
        )
