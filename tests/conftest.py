"""Options and fixtures of all tests.

`--seed N` is the seed of every test that draws (the default never changes, so
that a plain run is the same each time); `--rewrite` lets tests that compare with
a kept file (scripts' traces, golden bytes) write it anew, to be read in the diff;
`--server zookeeper` runs the recipes' tests against Apache ZooKeeper.
"""

import random

import pytest
from hypothesis import HealthCheck, settings

DEFAULT_SEED = 1

settings.register_profile(
    "zkpy",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("zkpy")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zkpy")
    group.addoption("--seed", type=int, default=DEFAULT_SEED, metavar="N", help="seed of all dice")
    group.addoption("--rewrite", action="store_true", help="write kept traces and bytes anew")
    group.addoption(
        "--server",
        choices=["zkpy", "zookeeper"],
        default="zkpy",
        help="what the recipes' tests run against; zookeeper is Apache's, from Debian's package",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('seed')}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    value = request.config.getoption("seed")
    assert isinstance(value, int)
    return value


@pytest.fixture
def rng(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """Dice of one test: from the seed and the test's name, so that order does not matter."""
    return random.Random(f"{seed} {request.node.nodeid}")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("rewrite"))
