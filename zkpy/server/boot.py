"""From a Config and a data directory to the parts that `server.app` runs.

Ports are bound, the data directory is opened, what cannot be served from is refused, the core
is made of what is left.  Each step that cannot be done is one line for the operator
(`ConfigError`, `StorageError`), and nothing was changed before.
"""

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from zkpy.config import ClientAddress, Config
from zkpy.effects import Recovered
from zkpy.errors import ConfigError, StorageError
from zkpy.limits import Limits
from zkpy.pipeline.auth import Authenticator
from zkpy.pipeline.digest_md5 import SaslUsers, secret_of
from zkpy.pipeline.prepare import Rules
from zkpy.replica.core import Replica, ReplicaOptions
from zkpy.replica.local import LocalSessionRules
from zkpy.replica.membership import VOTERS_MIN_STANDALONE, MembershipRules, founding_set
from zkpy.server import founding
from zkpy.server.clock import entropy, monotonic_ms, wall_ms
from zkpy.server.sockets import bind
from zkpy.server.space import Space, measure_free
from zkpy.storage import OsFileSystem, Storage, StorageOptions
from zkpy.zab.member import ZabOptions, recovered_voters
from zkpy.zab.quorum import Members, Voter, VoterSet

log = logging.getLogger("zkpy.server")

WINDOW_ALONE_BYTES: Final = 1024 * 1024
"""Of committed entries that a server alone keeps in memory: nobody asks for them."""
SERVER_ID: Final = 1
"""Of a server that was never given an id."""
_OWN_ADDRESS: Final = "a name or an address of this machine is needed, or 0.0.0.0 for all of them"


def bind_clients(config: Config) -> list[socket.socket]:
    """For plain connections, if there are any, or for both kinds."""
    return [] if config.client is None else _bind(config, config.client)


def bind_secure(config: Config) -> list[socket.socket]:
    """For TLS alone, if there is any."""
    return [] if config.secure is None else _bind(config, config.secure)


def _bind(config: Config, address: ClientAddress) -> list[socket.socket]:
    try:
        return bind(address)
    except OSError as why:
        raise ConfigError(cannot_listen(config, address, why)) from None


def cannot_listen(config: Config, address: ClientAddress, why: OSError) -> str:
    reason = why.strerror or str(why)
    line, key = config.client_line, "--port or clientPort"
    if address is config.secure:
        line, key = config.secure_line, "secureClientPort"
    if isinstance(why, socket.gaierror):
        return f"{line}: the name does not resolve ({reason}): {_OWN_ADDRESS}"
    if why.errno == errno.EADDRNOTAVAIL:
        return f"{line}: this machine has no such address: {_OWN_ADDRESS}"
    if why.errno == errno.EACCES:
        return (
            f"cannot listen on {address}: {reason}; ports below 1024 are for root, unless "
            "the system allows this user to have them (CAP_NET_BIND_SERVICE)"
        )
    return (
        f"cannot listen on {address}: {reason}; "
        f"is a server running there? Another port is chosen with {key}"
    )


ELECTION_KEY_BYTES_MIN: Final = 16


def read_election_keys(config: Config) -> tuple[bytes, ...]:
    """The lines of `electionKeyFile`: the first signs, and any of them will do for what comes, so
    that a key can be changed by and by."""
    if config.election_key_file is None or not config.is_ensemble:
        return ()
    try:
        with open(config.election_key_file, "rb") as file:
            keys = tuple(line.strip() for line in file if line.strip())
            shared = os.fstat(file.fileno()).st_mode & 0o007
    except OSError as why:
        raise ConfigError(
            f"{config.election_key_line}: it cannot be read: {why.strerror}"
        ) from None
    if not keys or min(map(len, keys)) < ELECTION_KEY_BYTES_MIN:
        raise ConfigError(
            f"{config.election_key_line}: lines of at least {ELECTION_KEY_BYTES_MIN} bytes are "
            "needed, one key each (openssl rand -hex 32)"
        )
    if shared:
        log.warning("%s: everybody on this machine can read the key", config.election_key_file)
    return keys


def open_storage(config: Config, space: Space | None = None) -> tuple[Storage, Recovered]:
    if not config.data_dir_autocreate and not os.path.isdir(config.data_dir):
        raise ConfigError(f"{config.data_dir}: no such directory, and datadir.autocreate is false")
    options = StorageOptions(
        segment_bytes=config.segment_bytes,
        on_full=space.on_full if space else None,
        wait_for_room=space.wait_for_room if space else None,
        lock=threading.Lock(),
    )
    return Storage.open(OsFileSystem(), config.data_dir, config.log_dir, options)


def refuse_hopeless(config: Config, recovered: Recovered) -> None:
    """What a server alone can never serve from: nobody is there to synchronise it anew."""
    if not config.is_ensemble:
        refuse_members_data(config, recovered)
    if config.is_ensemble and not decides_alone(recovered):
        if recovered.suspect is not None:
            log.warning("%s; the data will be fetched anew from a leader", recovered.suspect)
        return
    if recovered.suspect is not None:
        raise StorageError(
            f"{config.data_dir}: {recovered.suspect}; acknowledged writes may be missing, and "
            "there is no other server to fetch them from: bring the directory back from a copy"
        )
    if recovered.identity is None and not founding.is_allowed(config):
        raise ConfigError(
            f"{config.data_dir}: it holds no data yet, and db.autocreate is false: "
            "`zkpy init` makes it"
        )


def refuse_without_room(
    config: Config,
    recovered: Recovered,
    measure: Callable[[Iterable[str]], int | None] = measure_free,
) -> None:
    """A first start makes a log file, and would wait for its room before it serves anybody."""
    free = measure((config.log_dir,))
    if recovered.identity is None and free is not None and free < config.segment_bytes:
        raise ConfigError(
            f"{config.log_dir}: the first log file needs {config.segment_bytes} bytes, and {free} "
            f"are free: make room, or set preAllocSize to less than {config.segment_bytes >> 10} kB"
        )


def refuse_members_data(config: Config, recovered: Recovered) -> None:
    """Of an ensemble that zoo.cfg does not know: votes and answers of the others would be due."""
    identity = recovered.identity
    if identity is None:
        return
    *_, in_force = recovered_voters(identity, recovered.image_zxid, recovered.entries)
    voters = in_force.voters()
    if voters == [identity.server_id]:
        return
    lines = "one server line" if config.servers else "no server lines"
    raise ConfigError(
        f"{config.data_dir}: the data is that of server {identity.server_id}, of an ensemble of "
        f"voters {' '.join(map(str, voters))}, but {config.source} has {lines}: it needs a "
        "server.N line for each of them (`zkpy recover` lets one go on alone, when the others "
        "are lost for good)"
    )


def decides_alone(recovered: Recovered) -> bool:
    """Whether, by what it knows, this server is all the quorum there is."""
    identity = recovered.identity
    return identity is not None and VoterSet.decode(identity.voters).alone(identity.server_id)


def build_replica(config: Config, recovered: Recovered) -> Replica:
    config = attrs.evolve(config, limits=limits_of(config))
    server_id = find_server_id(config, recovered)
    options = ReplicaOptions(
        server_id,
        zab_options(config, server_id),
        standalone=not config.is_ensemble,
        limits=config.limits,
        rules=find_rules(config),
        membership=membership_rules(config),
        authenticator=build_authenticator(config),
        read_only_mode=config.read_only_mode,
        leader_serves=config.leader_serves,
        local_sessions=local_session_rules(config),
        audited=config.audit,
    )
    return Replica(options, recovered, rng=entropy(), wall_clock=wall_ms, now=monotonic_ms())


def build_authenticator(config: Config) -> Authenticator:
    ensembles = config.ensemble_names if config.ensemble_scheme else None
    return Authenticator(
        config.super_digest,
        config.digest_scheme,
        config.digest_hash,
        ensembles,
        config.required_schemes,
        build_sasl_users(config),
        config.x509_super,
    )


def build_sasl_users(config: Config) -> SaslUsers | None:
    if not config.sasl_users:
        return None
    secrets = {user: secret_of(user, password) for user, password in config.sasl_users.items()}
    return SaslUsers(secrets, config.sasl_super_users, config.sasl_keeps_failed)


def find_rules(config: Config) -> Rules:
    shown = config.tls is not None and config.tls.client_auth != "none"
    schemes = {"digest": config.digest_scheme, "sasl": config.sasl_scheme, "x509": shown}
    off = tuple(scheme for scheme, is_on in schemes.items() if not is_on)
    return Rules(config.extended_types, config.enforce_quota, off, config.reconfig_enabled)


def limits_of(config: Config) -> Limits:
    """A server alone has no learners to keep entries for."""
    if config.is_ensemble:
        return config.limits
    return attrs.evolve(config.limits, window_bytes_max=WINDOW_ALONE_BYTES)


def local_session_rules(config: Config) -> LocalSessionRules | None:
    """On a server alone all sessions are global; one that may get others has local ones, too."""
    if not config.local_sessions or not config.is_ensemble:
        return None
    return LocalSessionRules(config.local_sessions_upgrading)


def zab_options(config: Config, server_id: int) -> ZabOptions:
    """Elections go by ZooKeeper's figures at the usual ticks, and faster at short ones.

    They only shape traffic and patience: a network slower than them costs rounds, never safety."""
    limits, tick_ms = config.limits, config.limits.tick_ms
    return ZabOptions(
        voters=propose_voters(config, server_id),
        tick_ms=tick_ms,
        init_ticks=limits.init_ticks,
        sync_ticks=limits.sync_ticks,
        resend_ms=min(150, max(20, tick_ms // 4)),
        resend_cap_ms=min(1000, max(100, 2 * tick_ms)),
        finalize_ms=min(200, max(20, tick_ms // 4)),
        named_only=config.reconfig_enabled,
        autocreate=founding.is_allowed(config),
        window_bytes_max=limits.window_bytes_max,
    )


def find_server_id(config: Config, recovered: Recovered) -> int:
    """`myid`, or what the data directory has been so far."""
    known = recovered.identity.server_id if recovered.identity is not None else None
    if config.server_id is None:
        return SERVER_ID if known is None else known
    if known not in (None, config.server_id):
        raise ConfigError(
            f"{config.data_dir}/myid: it says {config.server_id}, but the data there is that of "
            f"server {known}"
        )
    return config.server_id


def propose_voters(config: Config, server_id: int) -> VoterSet:
    """What zoo.cfg proposes; only founding asks for it."""
    if not config.servers:
        return VoterSet(Members({server_id: Voter()}))
    return founding_set(config.membership, wall_ms())


def membership_rules(config: Config) -> MembershipRules:
    """A server without a line of its own has no address that others could be told."""
    enabled = config.reconfig_enabled and config.is_ensemble
    voters_min = VOTERS_MIN_STANDALONE if config.standalone_enabled else 1
    return MembershipRules(enabled, voters_min, config.membership)
