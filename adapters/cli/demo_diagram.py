"""The auth state machine as a small diagram in ASCII, with the current state marked."""

from authstate.engine.model.states import AuthState

_DIAGRAM = """\
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


def draw_states(current: AuthState) -> str:
    """Return the diagram, with the current state as `>state<`. ASCII, at most 75 columns."""
    text = _DIAGRAM
    for state in AuthState:
        left, right = (">", "<") if state is current else (" ", " ")
        text = text.replace(f"<{state}>", f"{left}{state}{right}")
    return text
