"""Starts `authstate app-server`: answers the first message as soon as the configuration is known to be right.

Nothing is read from the client before that: a front-end that gets no answer shows the message on standard error.
"""

import os
from collections.abc import Mapping, Sequence

from authstate.adapters.app_server.first_answer import answer_first
from authstate.adapters.config.defaults import home_with_defaults
from authstate.adapters.config.home import ConfigError
from authstate.adapters.io.fast_imports import paused_gc
from authstate.adapters.io.signals import ENDINGS, signals_noted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from authstate.adapters.config.settings import Config, Environment

_TEST_PARENT_TIMEOUT = "AUTHSTATE_TEST_PARENT_TIMEOUT"  # seconds; for tests only


def main(overrides: Sequence[str] = ()) -> int:
    """Serve until the end and return the exit status.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.

    Raises:
        ConfigError: the configuration cannot be used, or the environment names a login that is not managed here;
            nothing was read or written yet.
    """
    with signals_noted(ENDINGS) as noted:
        home = home_with_defaults(os.environ, overrides)
        early = None if home is None else answer_first(0, 1, home)
        config, environment, settings = _read_configuration(overrides)
        first = answer_first(0, 1, str(environment.home)) if early is None else early
        with paused_gc():
            import asyncio  # imported here, because the first answer does not wait for it

            from authstate.adapters.app_server.server import serve

        _keep_warnings()
        return asyncio.run(serve(config, environment, settings=settings, first=first, noted=noted))


def _read_configuration(overrides: Sequence[str]) -> "tuple[Config, Environment, dict[str, float]]":
    """Read the configuration, the environment, and what tests shorten. Raises ConfigError."""
    with paused_gc():
        from authstate.adapters.config.settings import Environment, load_config
        from authstate.adapters.config.unmanaged_logins import ensure_none_in_environment
        from authstate.adapters.network.insecure_http import ALLOWED_HOSTS_VARIABLE

    if ALLOWED_HOSTS_VARIABLE in os.environ:  # reading the configuration may warn of such a host
        _keep_warnings()
    ensure_none_in_environment(os.environ)
    environment = Environment.read(os.environ, acts_with_key=False)
    return load_config(environment.home, overrides), environment, settings_for_tests(os.environ)


def _keep_warnings() -> None:
    from authstate.adapters.logs.program import keep_warnings_on_stderr  # imported here: it needs `logging`

    keep_warnings_on_stderr()


def settings_for_tests(environ: Mapping[str, str]) -> dict[str, float]:
    """What tests shorten. Raises ConfigError."""
    text = environ.get(_TEST_PARENT_TIMEOUT, "")
    try:
        return {"parent_timeout": float(text)} if text else {}
    except ValueError:
        raise ConfigError(f"the environment variable {_TEST_PARENT_TIMEOUT} must be a number of seconds") from None
