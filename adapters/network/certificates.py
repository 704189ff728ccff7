"""The trusted certificate authorities: those of the system, and those that the environment names.

    CODEX_CA_CERTIFICATE    a PEM file, in addition to the system's authorities
    SSL_CERT_FILE           a PEM file, in their place
    SSL_CERT_DIR            folders of PEM files named by their hash (`openssl rehash`), in their place

Only the first variable that is set is used. A system without authorities, such as a small container, gets those of the
package certifi.
"""

import os
import ssl
import sys
from functools import lru_cache
from typing import Final

from authstate.adapters.network.http_proxies import Network, NetworkSettingError

_PEM: Final = "-----BEGIN CERTIFICATE-----"


def trust_settings(network: Network) -> ssl.SSLContext:
    """Return the TLS settings for our own requests. They are cached, because loading them takes tens of milliseconds.

    Raises:
        NetworkSettingError: the file or folder does not exist, cannot be read, or is not in PEM format.
    """
    found = network.certificates()
    if found is None:
        return _trust_settings("", "", "")
    variable, setting = found
    return _trust_settings(variable, setting.name, setting.value.reveal())


@lru_cache(maxsize=4)
def _trust_settings(variable: str, name: str, value: str) -> ssl.SSLContext:
    context = _system_context() if variable in ("", "CODEX_CA_CERTIFICATE") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if variable == "SSL_CERT_DIR":
        for folder in value.split(os.pathsep):
            if not os.path.isdir(folder):
                raise NetworkSettingError(f"{name}: the folder {folder!r} does not exist: correct or unset it")
        context.load_verify_locations(capath=value)
    elif variable:
        _load(context, name, value)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trust each certificate in the file, not only roots
    return context


def _load(context: ssl.SSLContext, name: str, path: str) -> None:
    from authstate.adapters.io.regular_files import read_regular_file

    try:
        read_regular_file(path, 1)  # rejects pipes, on which OpenSSL would wait for ever
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise NetworkSettingError(
            f"{name}: {path!r} is not a PEM file of certificates, with lines such as {_PEM}: correct or unset it"
        ) from None
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or type(error).__name__).lower()
        raise NetworkSettingError(f"{name}: cannot read {path!r}: {why}: correct or unset it") from None


def _system_context() -> ssl.SSLContext:
    import truststore

    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if _has_none():
        import certifi

        context.load_verify_locations(cafile=certifi.where())
    return context


def _has_none() -> bool:
    """Return whether OpenSSL finds no authorities on this system. macOS and Windows have their own stores."""
    if sys.platform in ("darwin", "win32"):
        return False
    paths = ssl.get_default_verify_paths()
    return not paths.cafile and not (paths.capath and os.listdir(paths.capath))
