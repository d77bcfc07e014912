"""Every test of the shell runs on both event loops."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import uvloop

from tests.server.fakes import play

T = TypeVar("T")
Play = Callable[[Callable[[], Awaitable[T]]], T]


@pytest.fixture(
    name="play", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def play_on_loop(request: pytest.FixtureRequest) -> Play[object]:
    return lambda scene: play(scene, request.param)
