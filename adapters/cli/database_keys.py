"""The encryption keys of a command: from the file of `--keys`, or from the environment."""

from authstate.adapters.config import ConfigError
from authstate.adapters.postgres.keys import KeyFile, KeyProvider, KeysInvalid, KeyVariable


async def key_provider(path: str | None) -> KeyProvider:
    """Return where the keys are, after they were loaded once.

    Args:
        path: of their file. None: they are in the environment.

    Raises:
        ConfigError: they cannot be used, or there are none.
    """
    keys: KeyProvider = KeyVariable() if path is None else KeyFile(path)
    try:
        await keys.load()
    except KeysInvalid as error:
        advice = ": set it, or name a file with --keys" if path is None else ""
        raise ConfigError(f"{error}{advice}") from None
    return keys
