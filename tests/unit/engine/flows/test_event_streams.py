"""A stream of events against a model: one who waits sleeps until something happens, and loses nothing."""

import asyncio
from collections.abc import Collection
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.engine.flows.event_streams import EventStream, EventStreams
from authstate.engine.model.events import Event, Warned
from authstate.engine.model.session import Session


class Model:
    """A stream with one consumer, and what the consumer should have."""

    def __init__(self) -> None:
        self.stream = EventStream(Session(), limit=100)
        self.put_events: list[Event] = []
        self.got: list[Event] = []
        self.consumer: asyncio.Task[None] | None = None

    def do(self, step: str) -> None:
        """Put an event, end the stream, or begin or cancel a wait."""
        if step == "put":
            event = Warned("code", str(len(self.put_events)))
            self.stream.put(event)
            if not self.stream.is_over:
                self.put_events.append(event)
        elif step == "end":
            self.stream.end()
        elif step == "consume" and self.consumer is None:
            self.consumer = asyncio.create_task(self._consume())
        elif step == "cancel" and self.consumer is not None:
            self.consumer.cancel()

    async def settle(self) -> None:
        """Let the loop run until the consumer can do no more, and compare. A cancelled one leaves some."""
        for _ in range(4):
            await asyncio.sleep(0)
        assert self.got == self.put_events[: len(self.got)]
        if self.consumer is None:
            return
        if not self.consumer.cancelled():
            assert self.got == self.put_events
            assert self.consumer.done() == self.stream.is_over
        if self.consumer.done():
            self.consumer = None

    async def _consume(self) -> None:
        async for event in self.stream:
            self.got.append(event)


STEPS = st.lists(st.sampled_from(["put", "put", "consume", "cancel", "pause", "end"]), max_size=20)


@given(STEPS)
def test_a_consumer_has_every_event_and_sleeps_until_the_next(steps: list[str]) -> None:
    waits = 0
    wait = asyncio.Event.wait

    async def count_and_wait(event: asyncio.Event) -> Literal[True]:
        nonlocal waits
        waits += 1
        assert waits < 100, "whoever waits is not asleep"
        return await wait(event)

    async def play() -> None:
        model = Model()
        for step in steps:
            if step == "pause":
                await model.settle()
            else:
                model.do(step)
        model.do("end")
        if model.consumer is not None:
            await asyncio.wait((model.consumer,))
            model.consumer = None
        model.do("consume")
        await model.settle()
        assert model.got == model.put_events

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncio.Event, "wait", count_and_wait)
        asyncio.run(play())


@pytest.mark.parametrize(("grace", "wait"), [(30.0, 1.0), (0.25, 0.25), (0.0, 0.0)])
async def test_listeners_get_a_second_at_the_end_but_no_more_than_the_engine_has(
    grace: float, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    ends: list[str] = []

    async def wait_in_no_time(tasks: Collection[Any], *, timeout: float) -> None:
        waits.append(timeout)

    async def listener(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")

    streams = EventStreams(Session, lambda: None)
    streams.subscribe(listener)
    streams.put(Warned("code", "message"))
    await asyncio.sleep(0)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "wait", wait_in_no_time)
        await streams.close(grace)
    assert waits == [wait]
    assert ends == ["cancelled"], "it has ended when the engine has"


async def test_a_stream_that_is_opened_after_the_end_is_over() -> None:
    streams = EventStreams(Session, lambda: None)
    await streams.close(1.0)
    stream = streams.open(1)
    streams.put(Warned("code", "message"))
    assert stream.is_over and not streams.are_open
    assert [event async for event in stream] == []


async def test_after_the_end_no_listener_is_called() -> None:
    async def listener(event: Event) -> None:
        raise AssertionError("the engine has ended")

    streams = EventStreams(Session, lambda: None)
    streams.subscribe(listener)
    await streams.close(1.0)
    streams.subscribe(listener)
    streams.put(Warned("code", "message"))
    assert not streams.are_open
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stream_that_has_ended_counts_no_more() -> None:
    """Else its engine would keep a timer for somebody who has stopped to listen."""
    streams = EventStreams(Session, lambda: None)
    stream = streams.open(1)
    assert streams.are_open
    await stream.aclose()
    assert not streams.are_open
