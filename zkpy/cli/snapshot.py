"""`zkpy snapshot DIR|FILE`: what an image holds, znode by znode, or in figures.

It writes nothing and takes no lock, so that it may run beside a server.  The image is
verified whole, by its checksums and by the digest of its state, before a line of it is
shown.  Exit code 1: it could not be.
"""

import base64
import heapq
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click

from wire.records import STAT
from zkpy.cli.shown import quote_data, show_session, show_time
from zkpy.errors import StorageError
from zkpy.state import znode as zn
from zkpy.state.apply import ReplicatedState
from zkpy.state.image import load
from zkpy.storage import OsFileSystem
from zkpy.storage.inspect import find_images, open_image
from zkpy.zxid import show as show_zxid

TOP: Final = 10
_STAT: Final = (
    *("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion"),
    *("ephemeral_owner", "data_length", "num_children", "pzxid"),
)
Fields = dict[str, Any]


@click.command()
@click.argument("path", metavar="DIR|FILE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--data", "with_data", is_flag=True, help="Show the data of znodes too.")
@click.option("--stats", is_flag=True, help="Figures only: counts, sizes, the largest.")
def snapshot(path: str, as_json: bool, with_data: bool, stats: bool) -> None:
    """Print what an image holds.

    DIR is a data directory, whose newest image is taken; FILE is one image.
    Passwords of sessions are never shown.
    """
    try:
        name, state = read_state(path)
    except (StorageError, OSError) as why:
        click.echo(f"zkpy: {why}", err=True)
        sys.exit(1)
    lines = [summarise(name, state)] if stats else list_all(name, state, with_data)
    show = _show_json if as_json else _show_text
    for fields in lines:
        click.echo(show(fields))


def read_state(path: str) -> tuple[str, ReplicatedState]:
    """The newest image there is, verified; CorruptionError if it is damaged."""
    fs = OsFileSystem(read_only=True)
    name = find_images(fs, path)[-1]
    return name, load(open_image(fs, name).chunks)


def list_all(name: str, state: ReplicatedState, with_data: bool) -> Iterator[Fields]:
    yield {"image": name, **_head(state)}
    for session, held in state.sessions.sessions.items():
        yield {"session": session, "timeout": held.timeout_ms}
    for path in sorted(state.tree.nodes):
        yield describe(state, path, with_data)


def describe(state: ReplicatedState, path: str, with_data: bool) -> Fields:
    znode, tree = state.tree.nodes[path], state.tree
    fields = dict(zip(_STAT, STAT.unpack(zn.stat_of(znode)), strict=True))
    acl = [f"{each.scheme}:{each.id}:{each.perms}" for each in tree.acl_of(path)]
    data = {"data": zn.data_of(znode)} if with_data else {}
    return {"path": path, **fields, "owner": tree.owner_of(path), "acl": acl, **data}


def _head(state: ReplicatedState) -> Fields:
    return {
        "zxid": state.zxid,
        "digest": state.digest,
        "znodes": state.node_count,
        "sessions": len(state.sessions),
    }


# --- figures ------------------------------------------------------------------------


def summarise(name: str, state: ReplicatedState) -> Fields:
    nodes, lifetimes = state.tree.nodes, state.lifetimes
    sizes = {path: zn.data_length(znode) for path, znode in nodes.items()}
    children = {path: len(names) for path, names in state.tree.children.items()}
    bytes_below: Counter[str] = Counter()
    znodes_below: Counter[str] = Counter()
    for path, size in sizes.items():
        top = "/" + path[1:].partition("/")[0]
        bytes_below[top] += size
        znodes_below[top] += 1
    return {
        "image": name,
        **_head(state),
        "data_bytes": sum(sizes.values()),
        "ephemerals": lifetimes.ephemeral_count,
        "containers": len(lifetimes.containers),
        "ttls": len(lifetimes.ttls),
        "acls": len(state.tree.acls),
        "depth": max(path.count("/") for path in nodes if path != "/"),
        "largest": _top(sizes),
        "widest": _top(children),
        "branches_by_bytes": dict(bytes_below.most_common(TOP)),
        "branches_by_znodes": dict(znodes_below.most_common(TOP)),
    }


def _top(values: dict[str, int]) -> dict[str, int]:
    return dict(heapq.nlargest(TOP, values.items(), key=lambda item: item[1]))


# --- lines --------------------------------------------------------------------------


def _show_json(fields: Fields) -> str:
    return json.dumps(fields, default=lambda data: base64.b64encode(data).decode("ascii"))


def _show_text(fields: Fields) -> str:
    if "largest" in fields:
        return "\n".join(_show_figures(fields))
    if "image" in fields:
        return (
            f"{fields['image']}: zxid {show_zxid(fields['zxid'])}, digest {fields['digest']:#x}, "
            f"{fields['znodes']} znodes, {fields['sessions']} sessions"
        )
    if "timeout" in fields:
        return f"session {show_session(fields['session'])} {fields['timeout']} ms"
    return _show_znode(fields)


def _show_znode(fields: Fields) -> str:
    owner = f"  owner {show_session(fields['owner'])}" if fields["owner"] else ""
    data = f"  {quote_data(fields['data'])}" if fields.get("data") is not None else ""
    return (
        f"{quote_data(fields['path'])}  {fields['data_length']} bytes  "
        f"{fields['num_children']} children  version {fields['version']}  "
        f"created {show_zxid(fields['czxid'])}  modified {show_zxid(fields['mzxid'])} "
        f"{show_time(fields['mtime'])}{owner}  acl {','.join(fields['acl'])}{data}"
    )


def _show_figures(fields: Fields) -> Iterator[str]:
    for key, value in fields.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            yield f"{name}:"
            yield from (f"  {count:>12}  {quote_data(path)}" for path, count in value.items())
        else:
            yield f"{name}: {_NUMBERS.get(key, str)(value)}"


_NUMBERS: Final = {"zxid": show_zxid, "digest": hex}
