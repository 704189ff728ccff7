"""An error of an engine has one frame of authstate, and that frame holds nothing that the caller gave."""

from collections.abc import Awaitable, Callable
from types import FrameType

import pytest

from authstate import AuthEngine, AuthstateError, Policy
from authstate.testing import FakeAuthority, MemoryStore, make_external_tokens, make_tokens

CANARY = "canary-5c1f"
Use = Callable[[AuthEngine], Awaitable[object]]


def frames_of(error: BaseException) -> list[FrameType]:
    """The frames of authstate that an error came through, the outermost first."""
    found: list[FrameType] = []
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals["__name__"]).startswith("authstate"):
            found.append(trace.tb_frame)
        trace = trace.tb_next
    return found


USES: dict[str, Use] = {
    "use_api_key": lambda engine: engine.use_api_key(f"sk-{CANARY}"),
    "complete_chatgpt_login": lambda engine: engine.complete_chatgpt_login(make_tokens(refresh_token=CANARY)),
    "use_external_tokens": lambda engine: engine.use_external_tokens(make_external_tokens(account_id="org-1")),
    "authorization": lambda engine: engine.authorization(),
    "start, again": lambda engine: engine.start(),
}


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("name", USES)
async def test_an_error_has_one_frame_without_what_was_given(name: str, is_closed: bool) -> None:
    nobody = MemoryStore(None)
    engine = AuthEngine(nobody, FakeAuthority(make_tokens()), policy=Policy(forced_workspaces=("org-9",)))
    await engine.start()
    if is_closed:
        await engine.close()
    elif name == "use_api_key":
        await engine.use_external_tokens(make_external_tokens(account_id="org-9"))  # a key is refused meanwhile
    with pytest.raises(AuthstateError) as raised:
        await USES[name](engine)
    [frame] = frames_of(raised.value)
    assert CANARY not in repr(frame.f_locals) and not {"args", "kwargs"} & {*frame.f_locals}
    assert raised.value.__context__ is None or raised.value.__suppress_context__
    if not is_closed:
        await engine.close()
