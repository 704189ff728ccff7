"""One entry of the operating system's keyring, through the `keyring` library. All calls block, some until a person
answers.

On Linux each item of the Secret Service is looked up, because two programs can create two items for one entry: the
`keyring` library and codex (keyring-rs) use different attributes, and each finds only its own item. Therefore a save
rewrites the existing item in place and removes the others.

On macOS the entry is the one that codex uses. The system asks the person before it gives one program what another
stored. On Windows codex names its entries differently, so neither program sees the other's. There, an entry holds 2,560
bytes, and the tokens of a ChatGPT login are longer: use the file.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from authstate.engine.model.errors import StoreUnavailable, strip_tracebacks

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

_WINDOWS_TOO_LARGE = 1783  # RPC_X_BAD_STUB_DATA, the error of CredWrite


class NoKeyring(StoreUnavailable):
    """This machine, or this session, has no usable keyring."""


class KeyringEntry:
    """The entry of a service and an account.

    Every method raises NoKeyring, or StoreUnavailable with the cause and what to do. No message contains what is
    stored.
    """

    def __init__(self, service: str, account: str) -> None:
        self.service = service
        self.account = account
        self.place: str = f'the keyring entry "{service}", account "{account}"'

    @strip_tracebacks
    def read(self) -> str | None:
        """Return what is stored, None if nothing is."""
        with _translated_errors("read", self.place):
            for backend in _backends(self.place):
                found = _Items(backend, self).read() if _is_secret_service(backend) else self._get_password(backend)
                if found is not None:
                    return found
        return None

    @strip_tracebacks
    def write(self, text: str) -> None:
        """Replace what is stored."""
        with _translated_errors("write", self.place):
            backend = _backends(self.place)[0]
            if _is_secret_service(backend):
                _Items(backend, self).write(text)
            else:
                backend.set_password(self.service, self.account, text)

    @strip_tracebacks
    def remove(self) -> None:
        """Remove what is stored from every keyring that has it. It is not an error if nothing is stored."""
        with _translated_errors("remove", self.place):
            for backend in _backends(self.place):
                if _is_secret_service(backend):
                    _Items(backend, self).remove()
                elif self._get_password(backend) is not None:
                    backend.delete_password(self.service, self.account)

    @strip_tracebacks
    def probe_write(self, size: int) -> None:
        """Write `size` characters to an entry beside this one, and remove it."""
        trial = KeyringEntry(self.service, f"{self.account}|trial")
        trial.write(" " * size)
        trial.remove()

    @strip_tracebacks
    def changed_at(self) -> float | None:
        """Return when the entry was last changed, in seconds since the epoch. None if the keyring does not tell."""
        with _translated_errors("read", self.place):
            for backend in _backends(self.place):
                if _is_secret_service(backend):
                    return _Items(backend, self).changed_at()
        return None

    def _get_password(self, backend: "KeyringBackend") -> str | None:
        return backend.get_password(self.service, self.account)


class _Items:
    """The Secret Service items of one entry."""

    def __init__(self, backend: Any, entry: KeyringEntry) -> None:
        self._backend = backend
        self._entry = entry

    def read(self) -> str | None:
        with self._unlocked_items() as (_, items):
            return items[0].get_secret().decode("utf-8", "replace") if items else None

    def write(self, text: str) -> None:
        entry = self._entry
        with self._unlocked_items() as (collection, items):
            if not items:
                # codex's attributes, so that codex finds the item.
                attributes = self._query() | {"target": "default", "application": "authstate"}
                collection.create_item(f"{entry.account}@{entry.service}", attributes, text.encode(), replace=True)
                return
            kept = next((item for item in items if item.get_attributes().get("target") == "default"), items[0])
            kept.set_secret(text.encode())
            for item in items:
                if item.item_path != kept.item_path:
                    item.delete()

    def remove(self) -> None:
        with self._unlocked_items() as (_, items):
            for item in items:
                item.delete()

    def changed_at(self) -> float | None:
        with self._unlocked_items() as (_, items):
            return float(items[0].get_modified()) if items else None

    @contextmanager
    def _unlocked_items(self) -> Iterator[tuple[Any, list[Any]]]:
        """Yield the collection and the unlocked items of the entry, the one that was changed last first."""
        collection = self._backend.get_preferred_collection()
        with closing(collection.connection):
            items = list(collection.search_items(self._query()))
            for item in items:
                self._backend.unlock(item)
            yield collection, sorted(items, key=lambda item: item.get_modified(), reverse=True)

    def _query(self) -> dict[str, str]:
        return {"service": self._entry.service, "username": self._entry.account}


def _backends(place: str) -> list["KeyringBackend"]:
    """Return the usable keyrings, the preferred one first. Raises NoKeyring."""
    import keyring
    from keyring.backends import chainer, fail, null

    chosen = keyring.get_keyring()
    backends = list(chosen.backends) if isinstance(chosen, chainer.ChainerBackend) else [chosen]
    usable = [backend for backend in backends if not isinstance(backend, fail.Keyring | null.Keyring)]
    if not usable:
        raise NoKeyring(
            f"there is no keyring here for {place}: start one (on Linux a Secret Service such as gnome-keyring, with "
            'DBUS_SESSION_BUS_ADDRESS set), or set cli_auth_credentials_store = "file"'
        )
    return usable


def _is_secret_service(backend: "KeyringBackend") -> bool:
    return type(backend).__module__ == "keyring.backends.SecretService"


@contextmanager
def _translated_errors(doing: str, place: str) -> Iterator[None]:
    """Turn an error of a keyring into one for a person. The backend's own text is left out: it may contain anything."""
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:
        raise StoreUnavailable(f"cannot {doing} {place}: {_describe(error)}") from None


def _describe(error: Exception) -> str:
    name = type(error).__name__
    if name in ("KeyringLocked", "LockedException", "PromptDismissedException"):
        return "the keyring is locked: unlock it, then try again"
    if getattr(error, "winerror", None) == _WINDOWS_TOO_LARGE or _WINDOWS_TOO_LARGE in error.args:
        return 'it is too large for this keyring: set cli_auth_credentials_store = "file"'
    if name in ("InitError", "SecretServiceNotAvailableException", "DBusErrorResponse") or isinstance(error, OSError):
        return f"the keyring cannot be reached ({name}): see that its service runs, then try again"
    return f"the keyring refused ({name}): see to the keyring, then try again"
