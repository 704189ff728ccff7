"""The keys of the tests of this folder."""

import pytest

from authstate.adapters.postgres.keys import EncryptionKeys


@pytest.fixture
def keys() -> EncryptionKeys:
    return EncryptionKeys({"first": bytes(range(32))})
