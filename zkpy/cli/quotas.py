"""Quotas in `zkpy shell`: the two znodes of one, below `/zookeeper/quota`, as zkCli.sh keeps
them."""

from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from zkpy.cli import requests
from zkpy.cli.arguments import QUOTA, Arguments, UsageError
from zkpy.cli.context import Context, join, walk

NO_LIMIT: Final = -1
_LIMITS: Final = {"n": "count", "b": "bytes", "N": "countHardLimit", "B": "byteHardLimit"}
"""Option -> what the limits znode calls it."""


def limits_path(path: str) -> str:
    return f"{QUOTA}{path.rstrip('/')}/zookeeper_limits"


def parse_limits(text: str) -> dict[str, int]:
    """`count=1,bytes=2=;byteHardLimit=3;countHardLimit=4`; -1 and absent mean no limit."""
    found = dict.fromkeys(_LIMITS.values(), NO_LIMIT)
    for part in text.replace(";", ",").split(","):
        name, _, value = part.strip("=").partition("=")
        if name in found and value.lstrip("-").isdigit():
            found[name] = int(value)
    return found


def encode_limits(limits: dict[str, int]) -> str:
    return (
        f"count={limits['count']},bytes={limits['bytes']}=;"
        f"byteHardLimit={limits['byteHardLimit']};countHardLimit={limits['countHardLimit']}"
    )


def read_limits(client: KazooClient, path: str) -> dict[str, int]:
    return parse_limits(client.get(limits_path(path))[0].decode("utf-8", "replace"))


def list_quota(context: Context, given: Arguments) -> None:
    try:
        limits = read_limits(context.client, given.path)
    except NoNodeError:
        context.tell(f"{given.path} has no quota")
        return
    for name, value in limits.items():
        context.tell(f"{name}: {'no limit' if value < 0 else value}")
    for what, used in read_use(context.client, given.path).items():
        context.tell(f"{what} now: {used}")


def read_use(client: KazooClient, path: str) -> dict[str, int]:
    """As the server counts it, for paths that have a quota."""
    try:
        stats = client.get(f"{QUOTA}{path}/zookeeper_stats")[0].decode("utf-8", "replace")
    except NoNodeError:
        return {"znodes": requests.count_descendants(client, path) + 1}
    found = parse_limits(stats)
    return {"znodes": found["count"], "bytes": found["bytes"]}


def set_quota(context: Context, given: Arguments) -> None:
    """Limits that are not named stay as they are."""
    client, wanted = context.client, _named_limits(given)
    if not wanted:
        raise UsageError("one of -n, -b, -N, -B is needed")
    if client.exists(given.path) is None:
        raise NoNodeError
    try:
        limits = read_limits(client, given.path) | wanted
        client.set(limits_path(given.path), encode_limits(limits).encode())
    except NoNodeError:
        _refuse_nested(client, given.path)
        limits = parse_limits("") | wanted
        client.create(limits_path(given.path), encode_limits(limits).encode(), makepath=True)
        client.create(f"{QUOTA}{given.path}/zookeeper_stats", b"count=-1,bytes=-1")
    _warn_of_use(context, given.path, limits)


def _warn_of_use(context: Context, path: str, limits: dict[str, int]) -> None:
    """Nothing is refused because of it, but hard limits may refuse the next write."""
    use = read_use(context.client, path)
    for name, limit in limits.items():
        what = "znodes" if name.startswith("count") else "bytes"
        if 0 <= limit < use.get(what, 0):
            context.tell(f"warning: {name} is {limit}, and {what} now: {use[what]}")


def _named_limits(given: Arguments) -> dict[str, int]:
    values = {name: getattr(given, option) for option, name in _LIMITS.items()}
    return {name: value for name, value in values.items() if value is not None}


def _refuse_nested(client: KazooClient, path: str) -> None:
    """Only one quota on any line from the root to a leaf, as zkCli.sh sees to."""
    above = path
    while above != "/":
        above = above.rpartition("/")[0] or "/"
        if client.exists(limits_path(above)) is not None:
            raise UsageError(f"{path}: {above} has a quota, and it covers this path")
    if client.exists(QUOTA + path) is not None:
        for below in walk(client, QUOTA + path):
            if below.endswith("/zookeeper_limits"):
                covered = below.removeprefix(QUOTA).removesuffix("/zookeeper_limits")
                raise UsageError(f"{path}: {covered} below it has a quota")


def delete_quota(context: Context, given: Arguments) -> None:
    """The named limits, or the whole quota."""
    client = context.client
    named = [name for option, name in _LIMITS.items() if getattr(given, option)]
    limits = read_limits(client, given.path)
    if named:
        limits |= dict.fromkeys(named, NO_LIMIT)
        client.set(limits_path(given.path), encode_limits(limits).encode())
    else:
        _remove_quota(client, given.path)


def _remove_quota(client: KazooClient, path: str) -> None:
    """The two znodes, and what is empty then above them."""
    at = QUOTA + path
    for name in ("zookeeper_limits", "zookeeper_stats"):
        if client.exists(join(at, name)) is not None:
            client.delete(join(at, name))
    while at != QUOTA and not client.get_children(at):
        client.delete(at)
        at = at.rpartition("/")[0]
