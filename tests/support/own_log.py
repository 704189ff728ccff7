"""What authstate logged during a test.

The garbage collector makes asyncio log what an earlier test left, such as an exception that nobody asked for, in
whichever test it runs.
"""

import pytest


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages of the loggers of authstate, in their order."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("authstate")]
