"""What a logout tells a person of tokens that the issuer did not revoke."""

from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.engine.engine import AuthEngine
from authstate.engine.model.events import Event, Warned


class NotRevoked:
    """Collects the warnings of an engine that a token could not be revoked.

    Args:
        engine: of the logout. Its warnings are heard from now on.
    """

    def __init__(self, engine: AuthEngine) -> None:
        self._messages: list[str] = []
        engine.subscribe(self._on_event)

    def print(self) -> None:
        """Print them. Call it when the engine is closed: until then, the issuer may still answer."""
        for message in self._messages:
            print_error(message, ExitStatus.DONE)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Warned) and event.code == "not_revoked":
            self._messages.append(event.message)
