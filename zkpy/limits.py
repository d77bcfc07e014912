"""Every bound and time-out of the core, in one frozen record.

`config` fills it; everything may import it.  The unit is the last word of each
name.  A queue without a bound here is a bug.
"""

from typing import Final

import attrs

ENTRY_BYTES_CEILING: Final = 48 * 1024 * 1024
"""What `entry_bytes_max` may be set to.  A frame between members holds 64 MiB, and 8 MiB may be
in flight before one: a transaction beyond that is one that no learner ever gets."""
ENTRY_BYTES_LEAST: Final = 2048
"""However small frames are kept: sessions and reconfigs have to fit."""


@attrs.define(frozen=True)
class Limits:
    tick_ms: int = 2000
    """ZooKeeper's unit of time: `tickTime`."""
    init_ticks: int = 10
    sync_ticks: int = 5
    session_timeout_min_ms: int = 4000
    session_timeout_max_ms: int = 40000
    frame_bytes_max: int = 0xFFFFF
    """`jute.maxbuffer`: a longer request closes its connection."""
    entry_bytes_max: int = 0xFFFFF + 0xFFFFF
    """A transaction above this is refused (`jute.maxbuffer` plus `jute.maxbuffer.extrasize`)."""
    connections_per_address_max: int = 60
    """`maxClientCnxns`; 0 means no bound."""
    connections_max: int = 0
    handshake_ms: int = 10_000
    """`nio.sessionlessCnxnTimeout`: how long a connection may go without a ConnectRequest."""
    tls_handshakes_max: int = 250
    """`netty.server.outstandingHandshake.limit`: TLS handshakes under way at a time; 0: any."""
    tls_detection_ms: int = 5000
    """`ssl.handshakeDetectionTimeoutMillis`: how long a connection may say nothing where it is
    not known yet whether it will speak TLS."""
    connect_tokens_max: int = 0
    """`connectionMaxTokens`: handshakes let in at once; 0 means no bound."""
    connect_fill_ms: int = 1
    """`connectionTokenFillTime`"""
    connect_fill_count: int = 1
    """`connectionTokenFillCount`: tokens that come back each `connect_fill_ms`."""
    identities_max: int = 128
    """Identities that one connection may have; each ACL check looks at them."""
    identity_bytes_max: int = 16 * 1024
    """What all of these may come to: each write of the connection carries them to the leader."""
    outstanding_per_connection_max: int = 1000
    """Requests in flight on one connection before its socket is no longer read."""
    outstanding_max: int = 1000
    """`globalOutstandingLimit`: writes in flight before clients are no longer read."""
    outstanding_bytes_max: int = 8 * 1024 * 1024
    """Of all writes in flight together: those that are beyond it wait before they go on."""
    share_bytes_max: int = 1024 * 1024
    """Reply bytes of one connection in one pass, roughly; what it asked for beyond waits."""
    output_bytes_max: int = 64 * 1024 * 1024
    """Unsent bytes of one connection at which it is dropped: a client that never reads."""
    container_check_ms: int = 60_000
    """`znode.container.checkIntervalMs`: how often the leader looks for what should end."""
    container_removals_max: int = 10_000
    """Containers and TTL znodes removed per look (`znode.container.maxPerMinute`)."""
    container_never_used_ms: int = 0
    """Age at which a container that never had children goes; 0: never."""
    snap_entries: int = 100_000
    """`snapCount`: entries between images (each server draws from half of it to all of it)."""
    snap_bytes: int = 256 * 1024 * 1024
    """`snapSizeLimitInKb`: log bytes between images, which a start has to read again."""
    image_slice_nodes: int = 400
    """Znodes encoded in one pass while an image is made."""
    window_bytes_max: int = 16 * 1024 * 1024
    """Committed entries kept in memory for synchronising learners by DIFF: some 45,000 small
    ones, where ZooKeeper keeps 500."""
