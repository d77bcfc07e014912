"""`zkpy log DIR|FILE`: what a log holds, entry by entry.

It writes nothing and takes no lock, so that it may run beside a server.  Exit code
0: all of it reads; 1: it could not be read, or there is damage that no crash leaves.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from wire import txn as txns
from wire.errors import RemoteProtocolError
from wire.records import ACL
from wire.txn import (
    CheckTxn,
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    Txn,
)
from zkpy.cli.shown import quote_data, show_session, show_time
from zkpy.effects import Entry, EntryKind
from zkpy.errors import StorageError
from zkpy.storage import OsFileSystem
from zkpy.storage.inspect import Segment, find_segments, open_segment
from zkpy.zxid import show as show_zxid

Fields = dict[str, Any]


@click.command()
@click.argument("path", metavar="DIR|FILE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--data", "with_data", is_flag=True, help="Show the data of znodes, not its size.")
@click.option("--batches", is_flag=True, help="A line for each batch, before its entries.")
def log(path: str, as_json: bool, with_data: bool, batches: bool) -> None:
    """Print the transactions in a log.

    DIR is a data directory (or dataLogDir, where that is set), FILE one file of a log.
    Passwords of sessions are never shown.
    """
    show = _show_json if as_json else _show_text
    try:
        for fields in read_fields(path, with_data, batches):
            click.echo(show(fields))
    except BrokenPipeError:
        raise  # `| head` has read enough; click ends in silence
    except (StorageError, OSError) as why:
        click.echo(f"zkpy: {why}", err=True)
        sys.exit(1)
    except Damaged:
        sys.exit(1)


class Damaged(Exception):
    """Some of the log is damaged; it was said where."""


def read_fields(path: str, with_data: bool, batches: bool) -> Iterator[Fields]:
    fs = OsFileSystem(read_only=True)
    damaged = False
    for name in find_segments(fs, path):
        try:
            segment = open_segment(fs, name)
        except FileNotFoundError:
            _note(f"{name}: it was purged meanwhile")
            continue
        yield from _read_segment(segment, with_data, batches)
        damaged |= _report(segment)
    if damaged:
        raise Damaged


def _read_segment(segment: Segment, with_data: bool, batches: bool) -> Iterator[Fields]:
    for batch in segment.batches():
        header = batch.header
        if batches:
            yield {
                "batch": header.first,
                "last": header.last,
                "offset": batch.offset,
                "bytes": header.total_bytes,
                "committed": header.committed,
                "digest_zxid": header.digest_zxid,
                "digest": header.digest,
                "chain": header.chain_after,
            }
        for entry in batch.entries:
            yield describe(entry, with_data)


def _report(segment: Segment) -> bool:
    """Say what is wrong with a segment; whether it is damage."""
    if segment.problem is not None:
        _note(f"{segment.path}: {segment.problem}")
    elif segment.torn:
        _note(f"{segment.path}: torn at {segment.end}, or being written just now")
    return segment.problem is not None


def _note(text: str) -> None:
    click.echo(f"zkpy: {text}", err=True)


# --- entries ------------------------------------------------------------------------


def describe(entry: Entry, with_data: bool) -> Fields:
    if entry.kind != EntryKind.TXN:
        kind = EntryKind(entry.kind).name.lower()
        return {"zxid": entry.zxid, "type": kind, "bytes": len(entry.data)}
    try:
        header, txn = txns.decode(entry.data)
    except RemoteProtocolError as why:
        return {"zxid": entry.zxid, "type": "unreadable", "why": str(why)}
    return {
        "zxid": entry.zxid,
        "time": header.time_ms,
        "session": header.session,
        "cxid": header.cxid,
        **({"local": True} if header.number < 0 else {}),
        **describe_txn(txn, with_data),
    }


def describe_txn(txn: Txn, with_data: bool) -> Fields:
    name, fields = _TXNS[type(txn)]
    return {"type": name, **fields(txn, with_data)}


def _create(txn: CreateTxn, with_data: bool) -> Fields:
    owner = {"owner": txn.owner} if txn.owner else {}
    return {"path": txn.path, **_data(txn.data, with_data), **owner, "acl": _acl(txn.acl)}


def _data(data: bytes | None, with_data: bool) -> Fields:
    if data is None:
        return {"bytes": None}
    return {"bytes": len(data)} | ({"data": data} if with_data else {})


def _acl(acl: tuple[ACL, ...]) -> list[str]:
    return [f"{each.scheme}:{each.id}:{each.perms}" for each in acl]


def _multi(txn: MultiTxn, with_data: bool) -> Fields:
    return {"txns": [describe_txn(each, with_data) for each in txn.txns]}


_TXNS: Final[dict[type, tuple[str, Callable[[Any, bool], Fields]]]] = {
    CreateTxn: ("create", _create),
    DeleteTxn: ("delete", lambda txn, _: {"path": txn.path}),
    SetDataTxn: (
        "setData",
        lambda txn, data: {"path": txn.path, **_data(txn.data, data), "version": txn.version},
    ),
    SetACLTxn: (
        "setACL",
        lambda txn, _: {"path": txn.path, "acl": _acl(txn.acl), "version": txn.aversion},
    ),
    CheckTxn: ("check", lambda txn, _: {"path": txn.path, "version": txn.version}),
    CreateSessionTxn: ("createSession", lambda txn, _: {"timeout": txn.timeout_ms}),
    CloseSessionTxn: ("closeSession", lambda txn, _: {}),
    ErrorTxn: ("error", lambda txn, _: {"code": txn.code}),
    MultiTxn: ("multi", _multi),
}


# --- lines --------------------------------------------------------------------------


def _show_json(fields: Fields) -> str:
    return json.dumps(fields, default=_to_json)


def _to_json(value: bytes) -> str:
    """Data is the only thing that JSON has no form for."""
    return base64.b64encode(value).decode("ascii")


def _show_text(fields: Fields) -> str:
    if "batch" in fields:
        return (
            f"--- batch {show_zxid(fields['batch'])} to {show_zxid(fields['last'])} at "
            f"{fields['offset']}: {fields['bytes']} bytes, committed "
            f"{show_zxid(fields['committed'])}, digest {fields['digest']:#x} at "
            f"{show_zxid(fields['digest_zxid'])}"
        )
    parts = [show_zxid(fields["zxid"])]
    if "time" in fields:
        parts += [show_time(fields["time"]), show_session(fields["session"])]
        parts.append(f"cxid {fields['cxid']}")
    if "local" in fields:
        parts.append("local session")
    return "  ".join([*parts, _show_txn(fields)])


def _show_txn(fields: Fields) -> str:
    shown = [str(fields["type"])]
    shown += [f(fields[key]) for key, f in _PARTS.items() if key in fields]
    return " ".join(shown)


def _show_bytes(size: int | None) -> str:
    return "no data" if size is None else f"{size} bytes"


def _show_owner(owner: int) -> str:
    return f"owner {show_session(owner)}"


def _show_multi(items: list[Fields]) -> str:
    return "[" + "; ".join(map(_show_txn, items)) + "]"


_PARTS: Final[dict[str, Callable[[Any], str]]] = {
    "path": quote_data,
    "bytes": _show_bytes,
    "data": quote_data,
    "version": lambda version: f"version {version}",
    "owner": _show_owner,
    "acl": lambda acl: "acl " + ",".join(acl),
    "timeout": lambda ms: f"{ms} ms",
    "code": str,
    "why": str,
    "txns": _show_multi,
}
