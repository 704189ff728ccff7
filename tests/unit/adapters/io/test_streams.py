"""Two descriptors as a reader and a writer."""

import asyncio
import os

import pytest

from authstate.adapters.io.streams import open_reader


@pytest.mark.parametrize("watched", [True, False])
async def test_a_read_is_no_larger_than_a_pipe_usually_is(watched: bool) -> None:
    """A larger one costs as much again as all else that is done with a message."""
    fcntl = pytest.importorskip("fcntl", reason="only Linux has pipes of a size that one can choose")
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("only Linux has pipes of a size that one can choose")
    incoming, outgoing = os.pipe()
    data = os.urandom(fcntl.fcntl(outgoing, fcntl.F_SETPIPE_SZ, 512 * 1024))
    assert os.write(outgoing, data) == len(data)
    os.close(outgoing)
    parts: list[bytes] = []
    ended = asyncio.Event()
    await open_reader(incoming, parts.append, ended.set, watched=watched)
    await asyncio.wait_for(ended.wait(), 60)
    os.close(incoming)
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= 64 * 1024
