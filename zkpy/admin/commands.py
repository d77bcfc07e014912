"""The table of commands: one row per command, its answer a mapping of plain values.

A row knows nothing of how its answer is sent: `fourletter` makes text of it.
The names are those of ZooKeeper's AdminServer, the words its four-letter words.

Where ZooKeeper shows its data watches alone (wchs, wchc, wchp), all kinds are shown
here, each path once per session.  There is no trace log here and so no mask of it:
gtmk says 0, and stmk changes nothing.
"""

import getpass
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from wire.codes import EventType
from zkpy import __version__
from zkpy.admin.metrics import Metrics
from zkpy.config import Config, ServerSpec, parse_server
from zkpy.config.properties import PREFIX, is_secret
from zkpy.replica.status import Details, Status, Tables
from zkpy.summary import Samples, Summary

ZOOKEEPER_VERSION: Final = "3.9.5"
"""The release whose protocol is served: clients decide by it what they may ask for."""
RELEASED: Final = "2026-11-24 00:00 UTC"
"""ZooKeeper has the time of the build here; this is the day of this version."""

NS_PER_MS: Final = 1_000_000
_ANY: Final = "0.0.0.0"
PERCENTILES: Final = {"p50": 500, "p95": 950, "p99": 990, "p999": 999}
"""Name -> so many in a thousand."""

Answer = Mapping[str, object]


def version_text() -> str:
    """In ZooKeeper's form, which kazoo takes apart: digits and dots up to the first dash."""
    return f"{ZOOKEEPER_VERSION}-zkpy-{__version__}, built on {RELEASED}"


@attrs.define(frozen=True)
class ConnectionView:
    """One client connection.  Times of the wall clock in ms."""

    address: str
    """`host:port`"""
    reading: bool
    """False while the server takes no more requests from it."""
    queued: int
    received: int
    sent: int
    session: int = 0
    """0 before the handshake."""
    timeout_ms: int = 0
    opened_ms: int = 0
    expires_ms: int = 0
    """When its session is to expire unless it is heard from."""
    last_opcode: int = 0
    last_xid: int = -1
    last_zxid: int = 0
    last_response_ms: int = 0
    latency: Summary = attrs.field(factory=Summary)
    secure: bool = False
    """Over TLS."""


@attrs.define(frozen=True)
class ServerView:
    """All that commands may read, gathered for one answer, and what a few of them do."""

    status: Status
    metrics: Metrics
    uptime_ms: int
    config: Config
    connections: Callable[[], Iterator[ConnectionView]] = lambda: iter(())
    """Made one by one as they are asked for; how many there are, `status` says."""
    latency: Summary = attrs.field(factory=Summary)
    """Of all connections, the open ones included."""
    client_port: int = 0
    """The real one, if any free one was asked for; -1 without one."""
    wall_ms: int = 0
    now_ms: int = 0
    """The same moment on the monotonic clock."""
    details: Callable[[], Details] = Details
    """Walks tables that may be long: called only where it is shown."""
    tables: Tables | None = None
    """What may be long, piece by piece; not for four-letter words, whose answer is one piece."""
    last_image: Callable[[], tuple[int, int]] = lambda: (-1, -1)
    """The newest one on disk: zxid, and when it was written in s of the wall clock; -1, -1 if
    there is none."""
    reset_stats: Callable[[], None] = lambda: None
    reset_connections: Callable[[], None] = lambda: None
    secure_port: int | None = None
    """Where TLS alone is spoken; None if nowhere."""
    handshakes: int = 0
    """Of TLS, under way."""

    @property
    def mode(self) -> str:
        """standalone, leader, follower, observer or read-only; empty while not serving."""
        return self.status.mode


@attrs.define(frozen=True)
class Command:
    name: str
    word: str
    """The short name; a four-letter word, but for those in `WITHOUT_WORD`."""
    run: Callable[[ServerView], Answer]
    needs_service: bool = True
    """Refused with one line while the server serves nobody."""
    changes: bool = False
    """It does something, and does not only tell."""


def are_you_ok(view: ServerView) -> Answer:
    return {}


def is_read_only(view: ServerView) -> Answer:
    return {"read_only": view.mode == "read-only" if view.mode else None}


def describe_environment(view: ServerView) -> Answer:
    uname = os.uname()
    return {
        "zookeeper.version": version_text(),
        "host.name": socket.gethostname(),
        "python.version": sys.version.partition(" ")[0],
        "python.implementation": sys.implementation.name,
        "python.home": sys.prefix,
        "os.name": uname.sysname,
        "os.arch": uname.machine,
        "os.version": uname.release,
        "user.name": find_user(),
        "user.home": os.path.expanduser("~"),
        "user.dir": os.getcwd(),
    }


def find_user() -> str:
    """Under which this process runs."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "<NA>"


def describe_server(view: ServerView) -> Answer:
    return {
        "version": version_text(),
        "read_only": view.mode == "read-only",
        **_traffic(view),
        "num_alive_client_connections": view.status.connections,
        "outstanding_requests": view.status.outstanding,
        "last_processed_zxid": view.status.zxid,
        "server_state": view.mode,
        "node_count": view.status.znodes,
        "proposal_stats": view.status.proposal_sizes if view.mode == "leader" else None,
    }


def _traffic(view: ServerView) -> Answer:
    """Since the start, or the last srst."""
    return {
        "avg_latency": view.latency.average(NS_PER_MS),
        "min_latency": view.latency.least // NS_PER_MS,
        "max_latency": view.latency.greatest // NS_PER_MS,
        "packets_received": view.status.packets_received - view.metrics.packets_received_before,
        "packets_sent": view.status.packets_sent - view.metrics.packets_sent_before,
    }


def describe_clients(view: ServerView) -> Answer:
    return {**describe_server(view), "connections": view.connections()}


def list_connections(view: ServerView) -> Answer:
    return {"connections": view.connections()}


@attrs.define(frozen=True)
class Spread:
    """A summary among the figures, shown in units of so many."""

    summary: Summary
    unit: int = 1


@attrs.define(frozen=True)
class Distribution:
    """Likewise, with percentiles."""

    samples: Samples
    unit: int = 1
    median_only: bool = False
    """And that for Prometheus alone: what ZooKeeper calls a basic summary."""


def monitor(view: ServerView) -> Answer:
    answer: dict[str, object] = {}
    for name, figure in figures(view).items():
        answer |= _flatten(name, figure)
    return answer


def figures(view: ServerView) -> Answer:
    """All figures by ZooKeeper's names: numbers, words, `Spread`s and `Distribution`s."""
    status, metrics = view.status, view.metrics
    return {
        "version": version_text(),
        "server_state": view.mode,
        **_peer_state(view),
        **_traffic(view),
        "num_alive_connections": view.status.connections,
        "outstanding_requests": status.outstanding,
        "uptime": view.uptime_ms,
        "znode_count": status.znodes,
        "watch_count": status.watches,
        "ephemerals_count": status.ephemerals,
        "approximate_data_size": status.data_bytes,
        "global_sessions": status.sessions,
        "local_sessions": status.local_sessions,
        "open_file_descriptor_count": _count_descriptors(),
        "max_file_descriptor_count": _limit_descriptors(),
        **_leadership(view),
        **_broadcast(view),
        **_connections(view),
        **_responses(view),
        **_watch_events(view),
        "disk_low": int(status.low_space),
        "digest_mismatches_count": status.served.digest_mismatches,
        "fsynctime": Distribution(metrics.sync, NS_PER_MS, median_only=True),
        "sync_processor_batch_size": Distribution(metrics.batch_entries, median_only=True),
        "snapshottime": Distribution(metrics.image, NS_PER_MS, median_only=True),
        "dbinittime": Distribution(metrics.start, NS_PER_MS, median_only=True),
        "startup_txns_loaded": Distribution(metrics.start_entries, median_only=True),
        **_distribution("readlatency", metrics.reads, NS_PER_MS),
        **_distribution("updatelatency", metrics.updates, NS_PER_MS),
        **_timings(view),
    }


def _connections(view: ServerView) -> Answer:
    """A handshake without a token is refused as a connection too many is."""
    metrics, served = view.metrics, view.status.served
    return {
        "connection_request_count": served.connection_requests,
        "connection_rejected": metrics.connections_rejected + served.connections_throttled,
        "connection_revalidate_count": served.connections_resumed,
        "revalidate_count": served.claims,
        "auth_failed_count": served.auths_failed,
        "tls_handshake_exceeded": metrics.handshakes_exceeded,
        "unsuccessful_handshake": metrics.handshakes_failed,
        "outstanding_tls_handshake": view.handshakes,
        "connection_drop_count": metrics.connections_lost,
        "connection_dropped": metrics.connections_dropped,
        "cnxn_closed_without_zk_server_running": served.connections_without_service,
        "sessionless_connections_expired": served.handshakes_expired,
        "stale_sessions_expired": served.sessions_expired,
        "throttled_ops": served.ops_throttled,
        "request_throttle_wait_count": metrics.connections_held,
        **_spread("connection_token_deficit", served.token_deficit),
    }


def _responses(view: ServerView) -> Answer:
    """Events are among the sizes, and not among the bytes of responses, as ZooKeeper has it."""
    sizes, watch_bytes = view.status.sizes, view.status.served.watch_bytes
    return {
        "bytes_received_count": view.metrics.bytes_received,
        "bytes_sent_count": view.metrics.bytes_sent,
        # Some events may be noted and not written yet, or never: their role ended.
        "response_bytes": max(0, sizes.total - watch_bytes),
        "watch_bytes": watch_bytes,
        "last_client_response_size": sizes.last,
        "min_client_response_size": sizes.least,
        "max_client_response_size": sizes.greatest,
    }


def _watch_events(view: ServerView) -> Answer:
    words = {
        EventType.NODE_CREATED: "created",
        EventType.NODE_DELETED: "deleted",
        EventType.NODE_DATA_CHANGED: "changed",
        EventType.NODE_CHILDREN_CHANGED: "children",
    }
    answer: dict[str, object] = {}
    for event, word in words.items():
        answer |= _spread(f"node_{word}_watch_count", view.status.told.get(event, Summary()))
    return answer


def _peer_state(view: ServerView) -> Answer:
    """Of a member of an ensemble, as ZooKeeper words it."""
    words = {
        "leader": "leading - broadcast",
        "follower": "following - broadcast",
        "observer": "observing - broadcast",
    }
    return {"peer_state": words[view.mode]} if view.mode in words else {}


def _leadership(view: ServerView) -> Answer:
    """What only a leader, or a member of an ensemble, knows."""
    status = view.status
    shared = {} if status.standalone else {"quorum_size": status.voters}
    since_ms = status.leading_since_ms
    if view.mode != "leader" or status.proposal_sizes is None or since_ms is None:
        return shared
    last, least, greatest = status.proposal_sizes
    unvoiced = status.learners - status.synced_followers - status.synced_observers
    return {
        **shared,
        "learners": status.learners,
        "synced_followers": status.synced_followers,
        "synced_observers": status.synced_observers,
        "synced_non_voting_followers": unvoiced,
        "pending_syncs": status.pending_syncs,
        "leader_uptime": view.now_ms - since_ms,
        "max_learner_lag": status.lag,
        "last_proposal_size": last,
        "min_proposal_size": least,
        "max_proposal_size": greatest,
    }


def _broadcast(view: ServerView) -> Answer:
    """Entries of zab's own are among those counted."""
    status, counts = view.status, view.status.counts
    member = {"current_epoch": status.epoch}
    if view.mode != "leader":
        member["learner_lag"] = status.lag
    return {
        **({} if status.standalone else member),
        "looking_count": counts.looked,
        "proposal_count": counts.proposed,
        "commit_count": counts.committed,
        "diff_count": counts.diffs,
        "snap_count": counts.snaps,
        "learner_proposal_received_count": counts.received,
        "learner_commit_received_count": counts.told,
    }


def _timings(view: ServerView) -> Answer:
    """Who acknowledged how late, the leader shows."""
    timings = view.status.timings
    acks = timings.acks if view.mode == "leader" else {}
    answer: dict[str, object] = {
        **_spread("election_time", timings.election),
        **_spread("unavailable_time", timings.unavailable),
        **_spread("leader_unavailable_time", timings.leader_unavailable),
        **_spread("follower_sync_time", timings.follower_sync),
        **_spread("observer_sync_time", timings.observer_sync),
        **_spread("inflight_diff_count", timings.diffs),
        **_spread("inflight_snap_count", timings.snaps),
        **_distribution("quorum_ack_latency", timings.quorum_ack),
    }
    for sid, samples in sorted(acks.items()):
        answer |= _distribution(f"{sid}_ack_latency", samples)
    return answer


def _spread(name: str, summary: Summary, unit: int = 1) -> dict[str, object]:
    return {name: Spread(summary, unit)}


def _distribution(name: str, samples: Samples, unit: int = 1) -> dict[str, object]:
    return {name: Distribution(samples, unit)}


def _flatten(name: str, figure: object) -> dict[str, object]:
    """A figure under the names that ZooKeeper gives its parts."""
    if isinstance(figure, Spread):
        return _parts(name, figure.summary, figure.unit)
    if isinstance(figure, Distribution):
        samples, unit = figure.samples, figure.unit
        if figure.median_only:
            return _parts(name, samples.summary(), unit)
        values = samples.percentiles(tuple(PERCENTILES.values()))
        shown = {f"{word}_{name}": v // unit for word, v in zip(PERCENTILES, values, strict=True)}
        return {**_parts(name, samples.summary(), unit), **shown}
    return {name: figure}


def _parts(name: str, summary: Summary, unit: int) -> dict[str, object]:
    return {
        f"avg_{name}": summary.average(unit),
        f"min_{name}": summary.least // unit,
        f"max_{name}": summary.greatest // unit,
        f"cnt_{name}": summary.count,
        f"sum_{name}": summary.total // unit,
    }


def _count_descriptors() -> int:
    """-1 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # one of them lists the others
    except OSError:
        return -1


def _limit_descriptors() -> int:
    import resource  # POSIX only, and nothing else needs it

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


# --- the ensemble -------------------------------------------------------------------


def describe_leader(view: ServerView) -> Answer:
    """Also where nobody leads: `leader_id` is -1 then, as in ZooKeeper."""
    status = view.status
    if status.standalone:
        return {"error": "server is not initialized"}
    leader = status.leader if status.leader is not None else -1
    spec = member_specs(view).get(leader)
    return {
        "is_leader": leader == status.server_id,
        "leader_id": leader,
        "leader_ip": spec.addresses[0].host if spec else "",
    }


def _client_place(view: ServerView, own: ServerSpec | None) -> str:
    """Empty for a server that all clients reach by TLS."""
    if own is not None and own.client is not None:
        return f"{own.client.host or _ANY}:{own.client.port}"
    configured = view.config.client
    return f"{configured.host or _ANY}:{view.client_port}" if configured is not None else ""


def describe_zab(view: ServerView) -> Answer:
    status = view.status
    if status.standalone:
        return {"voting": False, "zabstate": ""}
    own = member_specs(view).get(status.server_id)
    peers = own.addresses if own else ()
    return {
        "myid": status.server_id,
        "is_leader": status.leader == status.server_id,
        "quorum_address": _places([(each.host, each.quorum_port) for each in peers]),
        "election_address": _places([(each.host, each.election_port) for each in peers]),
        "client_address": _client_place(view, own),
        "voting": status.votes,
        "last_zxid": f"{status.zxid:#x}",
        "zab_epoch": status.zxid >> 32,
        "zab_counter": status.zxid & 0xFFFFFFFF,
        "zabstate": status.phase,
    }


def _places(places: Sequence[tuple[str, int]]) -> Answer:
    shown = [f"{host}:{port}" for host, port in places]
    return {
        "empty": not places,
        "all_addresses": shown,
        "wildcard_addresses": [f"0.0.0.0:{port}" for _, port in places],
        "all_ports": [port for _, port in places],
        "all_host_strings": [host for host, _ in places],
        "one": shown[0] if shown else None,
    }


def view_voters(view: ServerView) -> Answer:
    specs = member_specs(view) if not view.status.standalone else {}
    return {"current_config": {sid: _member(s) for sid, s in specs.items() if not s.observer}}


def _member(spec: ServerSpec) -> Answer:
    client = spec.client
    return {
        "server_addresses": [f"{each.host}:{each.quorum_port}" for each in spec.addresses],
        "election_addresses": [f"{each.host}:{each.election_port}" for each in spec.addresses],
        "client_address": f"{client.host or '0.0.0.0'}:{client.port}" if client else "",
        "learner_type": "participant",
    }


def member_specs(view: ServerView) -> dict[int, ServerSpec]:
    """The members by number, as `conf` has them."""
    found = {}
    for line in _members(view):
        key, _, value = line.partition("=")
        if key.startswith("server."):
            sid = int(key.removeprefix("server."))
            found[sid] = parse_server(sid, value)
    return dict(sorted(found.items()))


def list_observers(view: ServerView) -> Answer:
    observers = view.status.observers if view.mode == "leader" else ()
    return {"synced_observers": len(observers), "observers": [{"sid": sid} for sid in observers]}


# --- configuration and disk ---------------------------------------------------------


def describe_configuration(view: ServerView) -> Answer:
    config, limits = view.config, view.config.limits
    return {
        "clientPort": view.client_port,
        "secureClientPort": -1 if view.secure_port is None else view.secure_port,
        "dataDir": config.data_dir,
        "dataDirSize": _measure(config.data_dir),
        "dataLogDir": config.log_dir,
        "dataLogSize": _measure(config.log_dir),
        "tickTime": limits.tick_ms,
        "maxClientCnxns": limits.connections_per_address_max,
        "minSessionTimeout": limits.session_timeout_min_ms,
        "maxSessionTimeout": limits.session_timeout_max_ms,
        "clientPortListenBacklog": config.listen_backlog,
        "serverId": view.status.server_id,
        **_membership(view),
    }


def _membership(view: ServerView) -> Answer:
    config = view.config
    own = next((each for each in config.servers if each.server_id == config.server_id), None)
    if view.status.standalone or own is None:
        return {}
    return {
        "initLimit": config.limits.init_ticks,
        "syncLimit": config.limits.sync_ticks,
        "electionAlg": 3,
        "electionPort": "|".join(str(each.election_port) for each in own.addresses),
        "quorumPort": "|".join(str(each.quorum_port) for each in own.addresses),
        "peerType": int(not view.status.votes),
        "membership": _members(view),
    }


def _members(view: ServerView) -> list[str]:
    """What the log says, with its version; before it says anything, the files, at version 0."""
    if view.status.membership:
        return view.status.membership.split("\n")
    lines = [f"server.{each.server_id}={each.text}" for each in view.config.servers]
    return [*lines, "version=0"]


def measure_directories(view: ServerView) -> Answer:
    return {
        "datadir_size": _measure(view.config.data_dir),
        "logdir_size": _measure(view.config.log_dir),
    }


def _measure(directory: str) -> int:
    """Bytes of the files in and below a directory; what is removed meanwhile counts for nothing."""
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name), follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total


def show_initial_configuration(view: ServerView) -> Answer:
    """Of ZooKeeper's text of the file: without its comments, and without secrets."""
    pairs = _shown_properties(view).items()
    return {"initial_configuration": "".join(f"{key}={value}\n" for key, value in pairs)}


def list_properties(view: ServerView) -> Answer:
    return {f"{PREFIX}{key}": each for key, each in sorted(_shown_properties(view).items())}


def _shown_properties(view: ServerView) -> dict[str, str]:
    return {
        key: "***" if is_secret(key) else value for key, value in view.config.properties.items()
    }


def describe_last_image(view: ServerView) -> Answer:
    zxid, written_s = view.last_image()
    return {"zxid": f"{zxid & 0xFFFFFFFFFFFFFFFF:x}", "timestamp": written_s}


# --- sessions, watches, digests -----------------------------------------------------


def dump_sessions(view: ServerView) -> Answer:
    """Who expires when is the leader's to know; of a session that all know, others have the
    time-out alone."""
    details = view.details()
    limits = view.config.limits
    buckets: dict[int, list[ConnectionView]] = {}
    for each in view.connections():
        ends_ms = each.expires_ms if each.session else each.opened_ms + limits.handshake_ms
        buckets.setdefault((ends_ms // limits.tick_ms + 1) * limits.tick_ms, []).append(each)
    return {
        "expiry_time_to_session_ids": by_wall_time(view, details.deadlines),
        "expiry_time_to_local_session_ids": by_wall_time(view, details.local_deadlines),
        "session_id_to_timeout": dict(sorted(details.timeouts.items())),
        "session_id_to_ephemeral_paths": details.ephemerals,
        "expiry_time_to_connections": dict(sorted(buckets.items())),
    }


def by_wall_time(
    view: ServerView, deadlines: Mapping[int, list[int]] | None
) -> dict[int, list[int]] | None:
    if deadlines is None:
        return None
    return {at - view.now_ms + view.wall_ms: sessions for at, sessions in deadlines.items()}


def summarise_watches(view: ServerView) -> Answer:
    watches = view.details().watches
    return {
        "num_connections": len({session for session, _ in watches}),
        "num_paths": len({path for _, path in watches}),
        "num_total_watches": len(watches),
    }


def list_watches(view: ServerView) -> Answer:
    found: dict[int, list[str]] = {}
    for session, path in view.details().watches:
        found.setdefault(session, []).append(path)
    return {"session_id_to_watched_paths": found}


def list_watches_by_path(view: ServerView) -> Answer:
    found: dict[str, list[int]] = {}
    for session, path in view.details().watches:
        found.setdefault(path, []).append(session)
    return {"path_to_session_ids": found}


def list_digests(view: ServerView) -> Answer:
    return {"digests": view.details().digests}


# --- what changes something ----------------------------------------------------------


def reset_stats(view: ServerView) -> Answer:
    view.reset_stats()
    return {}


def reset_connections(view: ServerView) -> Answer:
    view.reset_connections()
    return {}


def trace_mask(view: ServerView) -> Answer:
    return {"tracemask": 0}


COMMANDS: Final = (
    Command("configuration", "conf", describe_configuration),
    Command("connections", "cons", list_connections),
    Command("connection_stat_reset", "crst", reset_connections, changes=True),
    Command("dirs", "dirs", measure_directories),
    Command("dump", "dump", dump_sessions),
    Command("environment", "envi", describe_environment, needs_service=False),
    Command("get_trace_mask", "gtmk", trace_mask, needs_service=False),
    Command("hash", "hash", list_digests),
    Command("is_read_only", "isro", is_read_only, needs_service=False),
    Command("monitor", "mntr", monitor),
    Command("ruok", "ruok", are_you_ok, needs_service=False),
    Command("stat_reset", "srst", reset_stats, changes=True),
    Command("server_stats", "srvr", describe_server),
    Command("stats", "stat", describe_clients),
    Command("set_trace_mask", "stmk", trace_mask, needs_service=False),
    Command("watches", "wchc", list_watches),
    Command("watches_by_path", "wchp", list_watches_by_path),
    Command("watch_summary", "wchs", summarise_watches),
)

WITHOUT_WORD: Final = (
    Command("initial_configuration", "icfg", show_initial_configuration),
    Command("last_snapshot", "lsnp", describe_last_image),
    Command("leader", "lead", describe_leader),
    Command("observers", "obsr", list_observers),
    Command("system_properties", "sysp", list_properties, needs_service=False),
    Command("voting_view", "", view_voters),
    Command("zabstate", "", describe_zab, needs_service=False),
)
"""Those that ZooKeeper has over HTTP alone."""
