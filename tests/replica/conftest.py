"""A member alone, and a client of it; modules have others of these names."""

import pytest

from tests.replica.harness import Client, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world: World) -> Client:
    return world.connect()
