"""Adds a key to a file with a list of keys."""

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from authstate.adapters.io.regular_files import read_regular_file
from authstate.adapters.postgres.keys import LARGEST_FILE, EncryptionKeys, KeysInvalid
from authstate.adapters.stores.file_ownership import copy_ownership, give_to_owner_of_folder
from authstate.engine.model.errors import strip_tracebacks

_HEADING = "# one key in a line; the first one encrypts, and all of them decrypt\n"


@strip_tracebacks
def add_to_file(path: str | os.PathLike[str], key_id: str, encoded: str) -> EncryptionKeys:
    """Add a key as the last line of a file. The file is made if it is missing, for its owner only.

    A reader sees the old list or the new one, complete. A link stays one: what it points to is replaced. The file keeps
    its owner and its group. Two processes that add keys at once wait for each other, except on Windows and on file
    systems without locks.

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
        with _locked(target):
            text = _text_of(target, str(path)) or _HEADING
            if not text.endswith("\n"):
                text += "\n"
            text += f"{key_id}={encoded}\n"
            keys = EncryptionKeys.parse(text, str(path))
            _replace(target, text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    return keys


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is missing. Blocks while another process adds a key."""
    while True:
        with suppress(FileExistsError):
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            give_to_owner_of_folder(str(target))
        if sys.platform == "win32":
            yield
            return
        import fcntl

        handle = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), os.stat(target)):  # if not, it was replaced meanwhile
                yield
                return
        finally:
            os.close(handle)


def _text_of(target: Path, path: str) -> str:
    data = read_regular_file(str(target), LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise KeysInvalid(f"{path} is not a list of encryption keys: it has more than {LARGEST_FILE} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise KeysInvalid(f"{path} is not a list of encryption keys: it is not UTF-8") from None


def _replace(target: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            if not copy_ownership(temporary, str(target)):
                raise OSError(errno.EPERM, "It belongs to another user: run this as that user, or as root")
            if sys.platform != "win32":
                os.fchmod(file.fileno(), 0o600)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
