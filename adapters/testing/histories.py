"""Histories of a login: what a person, an issuer, other processes and time do, one action after the other."""

from enum import StrEnum

from authstate.adapters.stores.memory import MemoryStore
from authstate.adapters.testing.engines import TEST_API_KEY, EngineInState, Engines
from authstate.adapters.testing.tokens import make_external_tokens
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError


class HistoryAction(StrEnum):
    """One thing that happens to a login."""

    PERSON_SIGNS_IN = "the person signs in"
    PERSON_CHANGES_ACCOUNT = "the person signs in with another account"
    PERSON_USES_API_KEY = "the person uses an API key"
    PERSON_SIGNS_OUT = "the person signs out"
    PARENT_GIVES_TOKENS = "the parent application gives tokens"
    PROGRAM_SENDS_REQUEST = "the program sends a request"
    PROGRAM_REFRESHES = "the program refreshes"
    PROGRAM_FOLLOWS = "the program follows other processes"
    ISSUER_REVOKES = "the issuer revokes every login"
    ISSUER_LOSES_ANSWER = "the issuer loses its next two answers"
    ISSUER_GOES_DOWN = "the issuer goes down"
    ISSUER_COMES_BACK = "the issuer comes back"
    BACKEND_REFUSES = "the backend refuses every access token"
    OTHER_SIGNS_IN = "another process signs in"
    OTHER_SIGNS_OUT = "another process signs out"
    OTHER_REFRESHES = "another process refreshes"
    MINUTE_PASSES = "a minute passes"
    HOUR_PASSES = "an hour passes"


class HistoryPlayer:
    """Plays actions on one engine and its surroundings.

    Args:
        engines: the surroundings.
        process: the engine, whose store is a `MemoryStore`. It must have been entered.

    Raises:
        TypeError: the engine has another store, which other processes of a history cannot share.
    """

    def __init__(self, engines: Engines, process: EngineInState) -> None:
        if not isinstance(process.store, MemoryStore):
            raise TypeError(f"a history needs an engine with a MemoryStore, not {type(process.store).__name__}")
        self._engines = engines
        self._engine = process.engine
        self._store = process.store

    async def play(self, action: HistoryAction) -> AuthError | None:
        """Let an action happen, and let the tasks that it causes run.

        Returns:
            The error that the person or the program gets; None if there is none.
        """
        try:
            await self._play(action)
        except AuthError as error:
            return error
        finally:
            await self._engines.clock.settle()
        return None

    async def _play(self, action: HistoryAction) -> None:
        engine, engines, faults = self._engine, self._engines, self._engines.faults
        match action:
            case HistoryAction.PERSON_SIGNS_IN:
                await engine.complete_chatgpt_login(engines.authority.issue())
            case HistoryAction.PERSON_CHANGES_ACCOUNT:
                other = engines.authority.issue(email="other@example.com", account_id="org-2")
                await engine.complete_chatgpt_login(other)
            case HistoryAction.PERSON_USES_API_KEY:
                engines.backend.accept(TEST_API_KEY, "key")
                await engine.use_api_key(TEST_API_KEY)
            case HistoryAction.PERSON_SIGNS_OUT:
                await engine.log_out()
            case HistoryAction.PARENT_GIVES_TOKENS:
                tokens = make_external_tokens(now=engines.clock.now())
                engines.backend.accept(tokens.access_token.reveal())
                await engine.use_external_tokens(tokens)
            case HistoryAction.PROGRAM_SENDS_REQUEST:
                await self._send()
            case HistoryAction.PROGRAM_REFRESHES:
                await engine.refresh()
            case HistoryAction.PROGRAM_FOLLOWS:
                await engine.follow()
            case HistoryAction.ISSUER_REVOKES:
                faults.revoke()
            case HistoryAction.ISSUER_LOSES_ANSWER:
                faults.lose_answer(times=2)
            case HistoryAction.ISSUER_GOES_DOWN:
                faults.be_down()
            case HistoryAction.ISSUER_COMES_BACK:
                faults.clear()
            case HistoryAction.BACKEND_REFUSES:
                faults.expire()
            case HistoryAction.OTHER_SIGNS_IN | HistoryAction.OTHER_SIGNS_OUT | HistoryAction.OTHER_REFRESHES:
                await self._play_elsewhere(action)
            case HistoryAction.MINUTE_PASSES | HistoryAction.HOUR_PASSES:
                engines.clock.advance(60 if action is HistoryAction.MINUTE_PASSES else 3600)

    async def _send(self) -> None:
        """Send a request as a client does: after a 401, recover and send it again."""
        authorization = await self._engine.authorization()
        for _ in range(2):
            token = authorization.token.reveal()
            accepted = self._engines.backend.accepts(token)
            name = self._engines.transcript.name("access", token)
            self._engines.transcript.add(f"request {name}", "200" if accepted else "401")
            if accepted:
                return
            authorization = await self._engine.recover(authorization)

    async def _play_elsewhere(self, action: HistoryAction) -> None:
        """Act as another process on the same store. Its errors are its own."""
        async with self._engines.on(self._store) as other:
            try:
                if action is HistoryAction.OTHER_SIGNS_IN:
                    await other.complete_chatgpt_login(self._engines.authority.issue())
                elif action is HistoryAction.OTHER_SIGNS_OUT:
                    await other.log_out()
                elif isinstance(other.session.credentials, ChatgptTokens):
                    await other.refresh()
            except AuthError:
                return
