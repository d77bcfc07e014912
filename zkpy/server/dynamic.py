"""The committed membership as a file, beside zoo.cfg.

In: the voter set in force.  Out: the file that `dynamicConfigFile` names, replaced
atomically with the present `server.N` lines and their version; without that key,
`ZOO.CFG.dynamic.VERSION`, one for each version, as ZooKeeper names them.

zoo.cfg itself is the operator's and is never written.  A server that is started again needs
neither file: who counts, and where they are, is in its data directory, and that rules.  The
files are for people, for tools, and for a server whose data directory is lost.  So a failure
to write one is a line in the log, and one that has all of it already is left alone.

A server that the membership does not name keeps the file that it was started with: with
the new one it could not start again to be taken in once more.
"""

import logging
import os
import tempfile

from zkpy import membership
from zkpy.config import Config
from zkpy.replica.membership import known_to, version_of
from zkpy.zab.quorum import VoterSet

log = logging.getLogger("zkpy.server")


def keep(config: Config, voters: VoterSet) -> None:
    """Write down a set that is in force; nothing, if the log has no addresses yet."""
    known = known_to(voters)
    version = version_of(voters)
    path = path_for(config, version)
    settled = version > 0 and not voters.joint
    if not settled or config.server_id not in known.servers or path is None:
        return
    text = membership.show(str(known), version) + "\n"
    try:
        if read(path) != text:
            replace(path, text)
            log.info("%s: the membership of version %x is written there", path, version)
    except OSError as why:
        log.warning("%s: the membership cannot be written there: %s", path, why.strerror)


def path_for(config: Config, version: int) -> str | None:
    """None for a server without a zoo.cfg: there is nothing to write beside."""
    if config.dynamic_file is not None:
        return config.dynamic_file
    beside = os.path.isfile(config.source)
    return f"{config.source}.dynamic.{version:x}" if beside else None


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def replace(path: str, text: str) -> None:
    """The old file or the new one, whenever somebody looks, and after a crash."""
    directory = os.path.dirname(path) or "."
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=os.path.basename(path) + ".")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
