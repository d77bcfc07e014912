"""Four-letter words: a command's answer as the text that ZooKeeper sends.

The whole answer is one piece, which the shell writes at once before it closes the
connection: clients such as kazoo read it with a single `recv`.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from wire.codes import OpCode
from zkpy.admin.commands import COMMANDS, NS_PER_MS, Answer, ConnectionView, ServerView

NOT_SERVING: Final = "This ZooKeeper instance is not currently serving requests\n"


def answer(word: str, view: ServerView, whitelist: Iterable[str], read_only_mode: bool) -> bytes:
    """The text for `word`, ready to be sent."""
    return _render(word, view, is_allowed(word, whitelist, read_only_mode)).encode()


def is_allowed(word: str, whitelist: Iterable[str], read_only_mode: bool) -> bool:
    """Clients look for a writable server with isro, so that read-only mode needs it."""
    return word in whitelist or "*" in whitelist or (word == "isro" and read_only_mode)


def _render(word: str, view: ServerView, allowed: bool) -> str:
    if not allowed:
        return f"{word} is not executed because it is not in the whitelist.\n"
    command = _COMMANDS[word]
    if command.needs_service and not view.mode:
        why = view.status.why_idle
        return NOT_SERVING + (f"{why}\n" if why else "")
    return _TEXTS[word](command.run(view))


def _show_ok(found: Answer) -> str:
    return "imok"


def _show_access(found: Answer) -> str:
    read_only = found["read_only"]
    return "null" if read_only is None else "ro" if read_only else "rw"


def _show_environment(found: Answer) -> str:
    return "Environment:\n" + _show_pairs(found)


def _show_pairs(found: Answer) -> str:
    return "".join(f"{key}={value}\n" for key, value in found.items())


def _show_configuration(found: Answer) -> str:
    """ZooKeeper ends the members with the version of their set, in hexadecimal."""
    pairs: dict[str, Any] = dict(found)
    members = pairs.pop("membership", None)
    text = _show_pairs(pairs)
    return text if members is None else "\n".join([f"{text}membership: ", *members])


def _show_dirs(found: Answer) -> str:
    return "".join(f"{key}: {value}\n" for key, value in found.items())


def _show_mask(found: Answer) -> str:
    return str(found["tracemask"])


def _show_digests(found: dict[str, Any]) -> str:
    return "".join(f"{zxid:x}: {digest}\n" for zxid, digest in found["digests"])


def _show_connections(found: dict[str, Any]) -> str:
    return "".join(f"{_show_whole(each)}\n" for each in found["connections"]) + "\n"


def _show_dump(found: dict[str, Any]) -> str:
    owned: Mapping[int, list[str]] = found["session_id_to_ephemeral_paths"]
    connections = {
        at: [f"ip: /{each.address} sessionId: {_hex(each.session)}" for each in group]
        for at, group in found["expiry_time_to_connections"].items()
    }
    ephemerals = "".join(f"{_hex(session)}:\n{_indent(paths)}" for session, paths in owned.items())
    return (
        f"SessionTracker dump:\n{_show_sessions(found)}"
        f"ephemeral nodes dump:\nSessions with Ephemerals ({len(owned)}):\n{ephemerals}"
        f"Connections dump:\nConnections {_show_sets(connections)}"
    )


def _show_sessions(found: dict[str, Any]) -> str:
    """By expiry where that is watched over: local sessions here, the others by the leader."""
    local = found["expiry_time_to_local_session_ids"]
    own = "" if local is None else f"Local Session {_show_sets(_hex_sets(local))}"
    tracked = found["expiry_time_to_session_ids"]
    if tracked is not None:
        return f"{own}{'Global ' if own else ''}Session {_show_sets(_hex_sets(tracked))}"
    timeouts: Mapping[int, int] = found["session_id_to_timeout"]
    lines = "".join(f"{_hex(session)}\t{each}ms\n" for session, each in timeouts.items())
    return f"{own}Global Sessions({len(timeouts)}):\n{lines}"


def _hex_sets(sets: Mapping[int, list[int]]) -> dict[int, list[str]]:
    return {at: [_hex(each) for each in sessions] for at, sessions in sets.items()}


def _show_sets(sets: Mapping[int, list[str]]) -> str:
    """What expires together, soonest first."""
    total = sum(map(len, sets.values()))
    return f"Sets ({len(sets)})/({total}):\n" + "".join(
        f"{len(each)} expire at {_date(at)}:\n{_indent(each)}" for at, each in sets.items()
    )


def _indent(lines: Iterable[str]) -> str:
    return "".join(f"\t{line}\n" for line in lines)


def _hex(session: int) -> str:
    return f"0x{session & 0xFFFFFFFFFFFFFFFF:x}"


def _date(wall_ms: int) -> str:
    """As Java's Date prints itself."""
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(wall_ms / 1000))


def _show_watches(found: dict[str, Any]) -> str:
    owned: Mapping[int, list[str]] = found["session_id_to_watched_paths"]
    return "".join(f"{_hex(each)}\n{_indent(paths)}" for each, paths in owned.items()) + "\n"


def _show_watches_by_path(found: dict[str, Any]) -> str:
    watched: Mapping[str, list[int]] = found["path_to_session_ids"]
    return "".join(f"{path}\n{_indent(map(_hex, ids))}" for path, ids in watched.items()) + "\n"


def _show_watch_summary(found: Answer) -> str:
    return (
        f"{found['num_connections']} connections watching {found['num_paths']} paths\n"
        f"Total watches:{found['num_total_watches']}\n"
    )


def _show_monitor(found: Answer) -> str:
    return "".join(f"zk_{key}\t{value}\n" for key, value in found.items())


def _show_server(found: Answer) -> str:
    return _head(found) + _tail(found)


def _show_stat(found: Answer) -> str:
    connections = found["connections"]
    assert isinstance(connections, Iterable)
    clients = "".join(f"{_show_connection(each)}\n" for each in connections)
    return f"{_head(found)}Clients:\n{clients}\n{_tail(found)}"


def _show_connection(each: ConnectionView) -> str:
    return (
        f" /{each.address}[{int(each.reading)}]"
        f"(queued={each.queued},recved={each.received},sent={each.sent})"
    )


def _show_whole(each: ConnectionView) -> str:
    brief = _show_connection(each)
    if not each.session:
        return brief
    xid = f",lcxid=0x{each.last_xid:x}" if each.last_xid >= 0 else ""
    latency = each.latency
    return (
        f"{brief[:-1]},sid={_hex(each.session)},lop={name_operation(each.last_opcode)}"
        f",est={each.opened_ms},to={each.timeout_ms}{xid},lzxid={_hex(each.last_zxid)}"
        f",lresp={each.last_response_ms},llat={latency.last // NS_PER_MS}"
        f",minlat={latency.least // NS_PER_MS}"
        f",avglat={latency.total // NS_PER_MS // max(latency.count, 1)}"
        f",maxlat={latency.greatest // NS_PER_MS})"
    )


def name_operation(opcode: int) -> str:
    """ZooKeeper's short names; NA for what it does not name."""
    return _OPERATIONS.get(opcode, "NA")


def _head(found: Answer) -> str:
    version = f"Zookeeper version: {found['version']}\n"
    if found["read_only"]:
        return version + "READ-ONLY mode; serving only read-only clients\n"
    return version


def _tail(found: Answer) -> str:
    zxid = found["last_processed_zxid"]
    assert isinstance(zxid, int)
    return (
        f"Latency min/avg/max: {found['min_latency']}/{found['avg_latency']}"
        f"/{found['max_latency']}\n"
        f"Received: {found['packets_received']}\n"
        f"Sent: {found['packets_sent']}\n"
        f"Connections: {found['num_alive_client_connections']}\n"
        f"Outstanding: {found['outstanding_requests']}\n"
        f"Zxid: {zxid:#x}\n"
        f"Mode: {found['server_state']}\n"
        f"Node count: {found['node_count']}\n" + _show_proposals(found["proposal_stats"])
    )


def _show_proposals(sizes: object) -> str:
    if sizes is None:
        return ""
    assert isinstance(sizes, tuple)
    return f"Proposal sizes last/min/max: {'/'.join(map(str, sizes))}\n"


_COMMANDS: Final = {command.word: command for command in COMMANDS}
_OPERATIONS: Final[dict[int, str]] = {
    OpCode.CREATE_SESSION: "SESS",
    OpCode.CLOSE_SESSION: "CLOS",
    OpCode.PING: "PING",
    OpCode.MULTI: "MULT",
    OpCode.MULTI_READ: "MLTR",
    OpCode.CREATE: "CREA",
    OpCode.CREATE2: "CREA",
    OpCode.CREATE_TTL: "CREA",
    OpCode.CREATE_CONTAINER: "CREA",
    OpCode.DELETE: "DELE",
    OpCode.SET_DATA: "SETD",
    OpCode.RECONFIG: "RECO",
    OpCode.SET_ACL: "SETA",
    OpCode.SYNC: "SYNC",
    OpCode.CHECK: "CHEC",
    OpCode.EXISTS: "EXIS",
    OpCode.GET_DATA: "GETD",
    OpCode.SET_WATCHES: "SETW",
    OpCode.SET_WATCHES2: "STW2",
    OpCode.ADD_WATCH: "ADDW",
    OpCode.GET_ACL: "GETA",
    OpCode.GET_CHILDREN: "GETC",
    OpCode.GET_CHILDREN2: "GETC",
    OpCode.GET_ALL_CHILDREN_NUMBER: "GETACN",
    OpCode.CHECK_WATCHES: "CHKW",
    OpCode.REMOVE_WATCHES: "REMW",
    OpCode.WHO_AM_I: "HOMI",
    OpCode.GET_EPHEMERALS: "GETE",
}
_TEXTS: Final[dict[str, Callable[[Any], str]]] = {
    "conf": _show_configuration,
    "cons": _show_connections,
    "crst": lambda found: "Connection stats reset.\n",
    "dirs": _show_dirs,
    "dump": _show_dump,
    "envi": _show_environment,
    "gtmk": _show_mask,
    "hash": _show_digests,
    "isro": _show_access,
    "mntr": _show_monitor,
    "ruok": _show_ok,
    "srst": lambda found: "Server stats reset.\n",
    "srvr": _show_server,
    "stat": _show_stat,
    "stmk": _show_mask,
    "wchc": _show_watches,
    "wchp": _show_watches_by_path,
    "wchs": _show_watch_summary,
}
