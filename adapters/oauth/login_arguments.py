"""Checks the arguments of a sign-in before it begins: a login attempt that cannot be run would stay open."""

from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.model.arguments import ensure_instance, ensure_methods

_AN_ENGINE = "an AuthEngine. With a SyncAuthEngine, write engine.call(start_device_login)"


def issuer_for(engine: object, issuer: Issuer | None) -> Issuer:
    """Return the issuer of a sign-in: the one that was given, or that of the environment.

    Args:
        engine: what is signed in.
        issuer: what was given.

    Raises:
        ConfigError: there is no issuer given, and a variable of the environment has an invalid value.
        TypeError: the engine or the issuer has another type.
    """
    ensure_methods(engine, ("begin_login", "complete_login"), "engine", _AN_ENGINE)
    if issuer is None:
        return Issuer.of()
    ensure_instance(issuer, Issuer, "issuer", "an Issuer, such as Issuer(url), or leave it out")
    return issuer
