"""Runs the services of a docker compose file as processes of this machine, without containers.

What Docker would do is done by hand: a path of a container becomes the file or folder that is mounted there, a program
becomes the one that is installed here, and `postgres` and `tokens` become ports of loopback. Nothing else of a command
line or of the environment is changed.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.codex_binaries import CannotInstall
from support.ports import private_port

_SECRETS = "/run/secrets/"
_BROKER_PORT = "4518"


class ComposeServices:
    """The services of one file.

    Args:
        content: of the file, as parsed.
        folder: of the file.
        programs: where each program of a command line is, by name: a command and its first arguments.
        environment: of all processes, besides what the file says.
        running: ends the services that run.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        folder: Path,
        programs: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
        running: ExitStack,
    ) -> None:
        self.services: Mapping[str, Any] = content["services"]
        self._secrets: Mapping[str, Any] = content["secrets"]
        self._folder = folder
        self._programs = programs
        self._environment = environment
        self._running = running
        self._port_of = {name: str(private_port()) for name in self.services if name.startswith("broker-")}
        self.reached = next(iter(self._port_of), "")
        """The service that answers at `tokens`."""

    def order(self, name: str) -> list[str]:
        """The services that must run before one, and the service itself: each after those that it depends on."""
        found: list[str] = []
        for before in self.services[name].get("depends_on", {}):
            found += [service for service in self.order(before) if service not in found]
        return [*found, name]

    def command(self, name: str) -> list[str]:
        """The command line of a service, as a process of this machine."""
        service = self.services[name]
        words: list[str] = service.get("entrypoint") or service["command"]
        return self._here(name, words)

    def variables(self, name: str, **more: str) -> dict[str, str]:
        """The environment of a service."""
        given: Mapping[str, str] = self.services[name].get("environment", {})
        return {**self._environment, **more, **{key: self._mapped(name, value) for key, value in given.items()}}

    def run(self, name: str, **more: str) -> str:
        """Run a service to its end. Returns its output; raises AssertionError if it fails."""
        done = subprocess.run(
            self.command(name),
            env=self.variables(name, **more),
            cwd=self._temporary(name),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str, **more: str) -> "subprocess.Popen[bytes]":
        """Start a service that goes on, and wait until it is healthy."""
        log = (self._temporary(name) / "log").open("wb")
        self._running.callback(log.close)
        process = subprocess.Popen(self.command(name), env=self.variables(name, **more), stderr=log)
        self._running.callback(end, process)
        while not self.is_healthy(name):
            assert process.poll() is None, (self._temporary(name) / "log").read_text()
        return process

    def is_healthy(self, name: str) -> bool:
        """Whether its health check succeeds."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            self._here(name, words), env=self.variables(name), capture_output=True, timeout=60, check=False
        )
        return done.returncode == 0

    def _here(self, name: str, words: Sequence[str]) -> list[str]:
        program, *arguments = words
        if program not in self._programs:
            raise CannotInstall(f"nobody said where {program} is")
        return [*self._programs[program], *(self._mapped(name, word) for word in arguments)]

    def _mapped(self, name: str, text: str) -> str:
        """Replace paths and addresses of a container by those of this machine."""
        for path, here in self._mounts(name).items():
            if text == path or text.startswith(f"{path}/") or f'"{path}"' in text:
                return text.replace(path, os.fspath(here)).replace(f":{_BROKER_PORT}", f":{self._port_of.get(name)}")
        assert _SECRETS not in text, f"{name} does not have the secret that it names: {text}"
        text = text.replace(f"https://tokens:{_BROKER_PORT}", f"https://localhost:{self._port_of[self.reached]}")
        return text.replace(f":{_BROKER_PORT}", f":{self._port_of.get(name)}")

    def _mounts(self, name: str) -> dict[str, Path]:
        """What a service sees at which path."""
        service = self.services[name]
        found = {f"{_SECRETS}{secret}": self._folder / self._secrets[secret]["file"] for secret in service["secrets"]}
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            found[target] = self._folder / source
        return {**found, "/tmp": self._temporary(name)}

    def _temporary(self, name: str) -> Path:
        folder = self._folder / "temporary" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, and wait for its end."""
    process.terminate()
    process.wait(timeout=60)
