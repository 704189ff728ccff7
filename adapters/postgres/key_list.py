"""Adds a key to a file with a list of keys."""

import os
import tempfile
from pathlib import Path

from authstate.adapters.postgres.keys import EncryptionKeys, KeysInvalid
from authstate.engine.model.errors import strip_tracebacks

_HEADING = "# one key in a line; the first one encrypts, and all of them decrypt\n"


@strip_tracebacks
def add_to_file(path: str | os.PathLike[str], key_id: str, encoded: str) -> EncryptionKeys:
    """Add a key as the last line of a file. The file is made if it is missing, for its owner only.

    A reader sees the old list or the new one, complete. A link stays one: what it points to is replaced.

    Args:
        path: the file.
        key_id: the id of the key.
        encoded: the key in base64.

    Returns:
        All keys of the file.

    Raises:
        KeysInvalid: the file is no list of keys. It was not changed.
        OSError: it cannot be read or written.
    """
    target = Path(path).resolve()
    try:
        text = target.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        text = _HEADING
    except UnicodeDecodeError:
        raise KeysInvalid(f"{path} is not a list of encryption keys: it is not UTF-8") from None
    if text and not text.endswith("\n"):
        text += "\n"
    text += f"{key_id}={encoded}\n"
    keys = EncryptionKeys.parse(text, str(path))
    try:
        _replace(target, text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    return keys


def _replace(target: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
