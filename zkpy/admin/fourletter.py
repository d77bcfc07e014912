"""Four-letter words: a command's answer as the text that ZooKeeper sends.

The whole answer is one piece, which the shell writes at once before it closes the
connection: clients such as kazoo read it with a single `recv`.
"""

from collections.abc import Callable, Iterable
from typing import Final

from zkpy.admin.commands import COMMANDS, Answer, ConnectionView, ServerView

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
    command = _COMMANDS.get(word)
    if command is None:
        return f"{word} is not a command of this server.\n"
    if command.needs_service and not view.mode:
        return NOT_SERVING
    return _TEXTS[word](command.run(view))


def _show_ok(found: Answer) -> str:
    return "imok"


def _show_access(found: Answer) -> str:
    read_only = found["read_only"]
    return "null" if read_only is None else "ro" if read_only else "rw"


def _show_environment(found: Answer) -> str:
    return "Environment:\n" + "".join(f"{key}={value}\n" for key, value in found.items())


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
        f"Node count: {found['node_count']}\n"
    )


_COMMANDS: Final = {command.word: command for command in COMMANDS}
_TEXTS: Final[dict[str, Callable[[Answer], str]]] = {
    "ruok": _show_ok,
    "srvr": _show_server,
    "stat": _show_stat,
    "envi": _show_environment,
    "isro": _show_access,
    "mntr": _show_monitor,
}
