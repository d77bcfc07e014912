"""The answers of commands as JSON, under the keys that ZooKeeper's AdminServer gives them.

In: a `ServerView`.  Out: the document in pieces of bytes.  What may be long (watches,
ephemerals, connections) is read and encoded while the pieces are asked for, some hundred
rows each, so that a server with a million watches serves its clients in between.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import attrs

from zkpy.admin.commands import (
    COMMANDS,
    NS_PER_MS,
    WITHOUT_WORD,
    Answer,
    Command,
    ConnectionView,
    ServerView,
    by_wall_time,
)
from zkpy.admin.fourletter import name_operation
from zkpy.replica.status import Tables

PIECE_CHARACTERS: Final = 32 * 1024
VALUES_PER_TEXT: Final = 500
STEPS_PER_PART: Final = 5000
NOT_SERVING: Final = "This ZooKeeper instance is not currently serving requests"
MORE_NAMES: Final = {"config": "configuration", "env": "environment"}
"""Third names that ZooKeeper has for a command."""
NEED_SERVICE: Final = ("ruok", "is_read_only")
"""As four-letter words these two are answered without service, over HTTP they are not."""

BY_NAME: Final[dict[str, Command]] = {
    name: command
    for command in (*COMMANDS, *WITHOUT_WORD)
    if command.name != "set_trace_mask"  # there is none, see `web.UNBUILT`
    for name in (command.name, command.word)
    if name
} | {name: c for name, full in MORE_NAMES.items() for c in COMMANDS if c.name == full}


@attrs.define(frozen=True)
class Rows:
    """The members of an object, all of them arrays, made as they are asked for."""

    pairs: Iterator[tuple[str, Iterable[Any]]]


@attrs.define(frozen=True)
class Items:
    """The elements of an array, likewise."""

    values: Iterator[object]


@attrs.define(frozen=True)
class Count:
    """A number that is found part by part."""

    parts: Iterator[int]


def needs_service(command: Command) -> bool:
    return command.needs_service or command.name in NEED_SERVICE


def document_of(command: Command, view: ServerView) -> dict[str, object]:
    """Runs the command.  `command` and `error` are the last members, as in ZooKeeper."""
    shape = _SHAPES.get(command.name)
    found = shape(view) if shape is not None else command.run(view)
    error = found.get("error")
    rest = {key: value for key, value in found.items() if key != "error"}
    return {**rest, "command": command.name, "error": error}


def refusal(name: str, why: str) -> dict[str, object]:
    return {"command": name, "error": why}


# --- the same things under other names -------------------------------------------------


def _configuration(view: ServerView) -> Answer:
    config, limits = view.config, view.config.limits
    return {
        "client_port": view.client_port,
        "data_dir": config.data_dir,
        "data_log_dir": config.log_dir,
        "tick_time": limits.tick_ms,
        "max_client_cnxns": limits.connections_per_address_max,
        "min_session_timeout": limits.session_timeout_min_ms,
        "max_session_timeout": limits.session_timeout_max_ms,
        "server_id": view.status.server_id if config.server_id is not None else 0,
        "client_port_listen_backlog": config.listen_backlog,
    }


def _connections(view: ServerView) -> Answer:
    return _both_kinds(view, _connection)


def _both_kinds(view: ServerView, show: Callable[[ConnectionView], Answer]) -> Answer:
    plain = (each for each in view.connections() if not each.secure)
    secure = (each for each in view.connections() if each.secure)
    return {"connections": Items(map(show, plain)), "secure_connections": Items(map(show, secure))}


def _connection(each: ConnectionView) -> Answer:
    brief = _brief_connection(each)
    if not each.session:
        return brief
    latency = each.latency
    return {
        **brief,
        "session_id": each.session,
        "last_operation": name_operation(each.last_opcode),
        "established": each.opened_ms,
        "session_timeout": each.timeout_ms,
        "last_cxid": each.last_xid,
        "last_zxid": each.last_zxid,
        "last_response_time": each.last_response_ms,
        "last_latency": latency.last // NS_PER_MS,
        "min_latency": latency.least // NS_PER_MS,
        "avg_latency": latency.total // NS_PER_MS // max(latency.count, 1),
        "max_latency": latency.greatest // NS_PER_MS,
    }


def _brief_connection(each: ConnectionView) -> dict[str, object]:
    return {
        "remote_socket_address": each.address,
        "interest_ops": int(each.reading),
        "outstanding_requests": each.queued,
        "packets_received": each.received,
        "packets_sent": each.sent,
    }


def _server(view: ServerView) -> Answer:
    found = dict(_by_name("server_stats", view))
    dirs, sizes = _by_name("dirs", view), view.status.sizes
    responses = _buffer_sizes(sizes.last, sizes.least, sizes.greatest)
    proposals: Any = found.pop("proposal_stats")
    node_count, version = found.pop("node_count"), found.pop("version")
    read_only = found.pop("read_only")
    figures = {
        **found,
        "fsync_threshold_exceed_count": view.metrics.slow_syncs,
        "client_response_stats": responses,
        "data_dir_size": dirs["datadir_size"],
        "log_dir_size": dirs["logdir_size"],
        "uptime": view.uptime_ms,
    }
    return {
        "version": version,
        "read_only": read_only,
        "server_stats": figures,
        "client_response": responses,
        **({} if proposals is None else {"proposal_stats": _buffer_sizes(*proposals)}),
        "node_count": node_count,
    }


def _buffer_sizes(last: int, least: int, greatest: int) -> Answer:
    return {"last_buffer_size": last, "min_buffer_size": least, "max_buffer_size": greatest}


def _clients(view: ServerView) -> Answer:
    return {**_server(view), **_both_kinds(view, _brief_connection)}


def _by_name(name: str, view: ServerView) -> Answer:
    return BY_NAME[name].run(view)


# --- what may be long ------------------------------------------------------------------


def _dump(view: ServerView) -> Answer:
    """Who expires when, the leader alone knows; ephemerals everybody does."""
    tables = _tables(view)
    expiries = by_wall_time(view, tables.deadlines()) or {}
    owned = ((str(each), tables.owned_by(each)) for each in tables.owners())
    return {
        "expiry_time_to_session_ids": Rows((str(at), ids) for at, ids in expiries.items()),
        "session_id_to_ephemeral_paths": Rows((each, paths) for each, paths in owned if paths),
    }


def _digests(view: ServerView) -> Answer:
    """Of zkpy's own making, and so of no version of ZooKeeper's."""
    digests = _tables(view).digests()
    rows = ({"zxid": zxid, "digest_version": 0, "digest": digest} for zxid, digest in digests)
    return {"digests": Items(rows)}


def _watches(view: ServerView) -> Answer:
    tables = _tables(view)
    found = map(tables.watched_by, tables.watching_links())
    return {"session_id_to_watched_paths": Rows((str(s), paths) for s, paths in found if s)}


def _watches_by_path(view: ServerView) -> Answer:
    tables = _tables(view)
    found = ((path, tables.watchers(path)) for path in tables.watched_paths())
    return {"path_to_session_ids": Rows((path, ids) for path, ids in found if ids)}


def _watch_summary(view: ServerView) -> Answer:
    tables = _tables(view)
    links = tables.watching_links()
    return {
        "num_connections": len(links),
        "num_paths": Count(_parts(1 for _ in tables.watched_paths())),
        "num_total_watches": Count(_parts(1 for each in links for _ in tables.watched_by(each)[1])),
    }


def _parts(numbers: Iterable[int]) -> Iterator[int]:
    """Their sum, in parts that are about as much work each."""
    total = steps = 0
    for number in numbers:
        total += number
        steps += 1
        if total + steps >= STEPS_PER_PART:
            yield total
            total = steps = 0
    yield total


def _tables(view: ServerView) -> Tables:
    assert view.tables is not None
    return view.tables


_SHAPES: Final[dict[str, Callable[[ServerView], Answer]]] = {
    "configuration": _configuration,
    "connections": _connections,
    "dump": _dump,
    "hash": _digests,
    "server_stats": _server,
    "stats": _clients,
    "watch_summary": _watch_summary,
    "watches": _watches,
    "watches_by_path": _watches_by_path,
}
"""Commands whose four-letter form has other names, or other parts."""


# --- bytes -----------------------------------------------------------------------------


def encode(document: Mapping[str, object]) -> Iterator[bytes]:
    """In pieces, laid out as ZooKeeper's: a member on each line, a space before the colon.  Some
    are empty: a part of the work is done, and there is nothing to show yet."""
    separator = "{\n"
    for key, value in document.items():
        head = f"{separator}  {json.dumps(key)} : "
        separator = ",\n"
        if isinstance(value, Rows):
            yield from _group(head + "{", _show_rows(value.pairs), " }")
        elif isinstance(value, Items):
            yield from _group(head + "[", _show_items(value.values), " ]")
        elif isinstance(value, Count):
            total = 0
            for part in value.parts:
                total += part
                yield b""
            yield f"{head}{total}".encode()
        else:
            yield (head + _show(value)).encode()
    yield b"\n}"


def _group(head: str, texts: Iterable[str], tail: str) -> Iterator[bytes]:
    """Pieces of about one size, however long the texts are."""
    parts, size = [head], 0
    for text in texts:
        parts.append(text)
        size += len(text)
        if size >= PIECE_CHARACTERS:
            yield "".join(parts).encode()
            parts, size = [], 0
    yield ("".join(parts) + tail).encode()


def _show_items(values: Iterable[object]) -> Iterator[str]:
    separator = " "
    for value in values:
        yield separator + _show(value)
        separator = ",\n    "


def _show_rows(pairs: Iterable[tuple[str, Iterable[Any]]]) -> Iterator[str]:
    separator = " "
    for key, values in pairs:
        yield f"{separator}{json.dumps(key)} : "
        yield from _show_list(values)
        separator = ",\n    "


def _show_list(values: Iterable[Any]) -> Iterator[str]:
    """One session may watch more than anybody wants to wait for."""
    left, separator = iter(values), "["
    while some := list(islice(left, VALUES_PER_TEXT)):
        yield separator + _show(some)[1:-1]
        separator = ", "
    yield "[]" if separator == "[" else "]"


def _show(value: object) -> str:
    """On one line: the encoder that makes several is not the one in C."""
    return json.dumps(value, separators=(", ", " : "))
