"""The auth state machine as a small picture in plain characters, with the current state marked."""

from authstate.engine.model.states import AuthState

_PICTURE = """\
       +--------------+   use_api_key              +-----------+
       | <logged_out> | -------------------------> | <api_key> |
       +--------------+                            +-----------+
         |          |     use_external_tokens      +-------------------+
         |          +----------------------------> | <external_tokens> |
         | complete_chatgpt_login                  +-------------------+
         v                                            (tokens_refreshed)
       +-----------+   refresh_rejected            +----------------+
       | <chatgpt> | ----------------------------> | <refresh_dead> |
       +-----------+ <---------------------------- +----------------+
    (tokens_refreshed)  tokens_refreshed

       log_out and credentials_refused lead from every state to logged_out;
       a login leads from every state, but out of external_tokens only
       use_external_tokens."""


def picture(current: AuthState) -> str:
    """The machine, with `>current<` marked like this. Plain ASCII, 75 columns."""
    text = _PICTURE
    for state in AuthState:
        left, right = (">", "<") if state is current else (" ", " ")
        text = text.replace(f"<{state}>", f"{left}{state}{right}")
    return text
