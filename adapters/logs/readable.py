"""Control characters in log lines."""


def readable(text: str) -> str:
    """Escape control characters, which a terminal would execute: messages of the issuer and claims are untrusted."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode() for sign in text
    )
