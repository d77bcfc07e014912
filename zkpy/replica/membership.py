"""Between voter sets, which zab counts, and configurations, which clients read.

A CONFIG entry carries in its note, as a transaction's bytes, what clients are to see: a
setData of `/zookeeper/config`, with the header of whoever asked for the change.  So
whichever leader completes a change, every member shows the same znode at the same zxid, and
the one who waits for the answer gets it.

That zxid is the joint set's: committed by a quorum of the old voters and of the new, it is
decided, and the set of the new ones alone, which every leader then proposes by itself, has
nothing to say to clients.  So a reconfig has one place in the log, as any other write.
It is the version of the configuration, too; the text cannot hold it, as it is not known
when the text is made, so it is added where it is applied.
"""

from dataclasses import dataclass, field

import attrs

from wire import txn as txns
from wire.txn import SetDataTxn, TxnHeader
from zkpy import membership
from zkpy.membership import Configuration
from zkpy.pipeline.request import LEADER, NO_NUMBER
from zkpy.state import paths
from zkpy.zab.quorum import Members, Voter, VoterSet

SHOWN_VERSION: int = -1
"""dataVersion of `/zookeeper/config`, as in ZooKeeper."""
VOTERS_MIN_STANDALONE: int = 2


@dataclass(frozen=True, slots=True)
class MembershipRules:
    """What zoo.cfg says about changes of membership."""

    enabled: bool = False
    """`reconfigEnabled`."""
    voters_min: int = VOTERS_MIN_STANDALONE
    """2 with `standaloneEnabled`, else 1."""
    static: Configuration = field(default_factory=lambda: Configuration({}))
    """What the files say: of servers that the log has no addresses of."""


def members_of(configuration: Configuration) -> Members:
    voters = {
        sid: Voter(configuration.weights.get(sid, 1), configuration.groups.get(sid, 0))
        for sid in configuration.voters
    }
    return Members(voters, tuple(configuration.observers))


def note_of(header: TxnHeader, text: str) -> bytes:
    """What goes with a voter set: `text` is that of the configuration, without a version."""
    return txns.encode(header, SetDataTxn(paths.CONFIG, text.encode(), SHOWN_VERSION))


def founding_set(configuration: Configuration, time_ms: int) -> VoterSet:
    """What a founding puts into the log; nobody in particular asked for it."""
    header = TxnHeader(0, 0, LEADER, 0, NO_NUMBER, time_ms)
    return VoterSet(members_of(configuration), None, 0, note_of(header, str(configuration)))


def shown(voters: VoterSet) -> tuple[TxnHeader, SetDataTxn] | None:
    """What a voter set, once committed, has clients see; None if it is nothing new."""
    if voters.decided or not voters.note:
        return None
    header, txn = txns.decode(voters.note)
    assert isinstance(txn, SetDataTxn) and txn.data is not None
    text = membership.show(txn.data.decode(), voters.version)
    return header, SetDataTxn(txn.path, text.encode(), txn.version)


def version_of(voters: VoterSet) -> int:
    """By which clients know the configuration that this set is."""
    return voters.decided or voters.version


def known_to(voters: VoterSet) -> Configuration:
    """Servers whose addresses go with that set; of a joint one, those it leads to."""
    return membership.parse_configuration(text_of(voters))


def text_of(voters: VoterSet) -> str:
    """Without a version; empty if no addresses go with that set."""
    if not voters.note:
        return ""
    _, txn = txns.decode(voters.note)
    assert isinstance(txn, SetDataTxn) and txn.data is not None
    return txn.data.decode()


def configuration_of(voters: VoterSet, static: Configuration) -> Configuration:
    """The set as a configuration: addresses from its note, else from the files.

    A member of which neither knows an address is left out: it cannot stay without one.
    """
    known = known_to(voters)
    if known.servers:
        return known
    roles = dict.fromkeys(voters.voters(), False) | dict.fromkeys(voters.members.observers, True)
    specs = [
        attrs.evolve(spec, observer=roles[sid])
        for sid, spec in static.servers.items()
        if sid in roles
    ]
    counted = {sid: voter for sid, voter in voters.members.voters.items() if sid in static.servers}
    groups = {sid: voter.group for sid, voter in counted.items() if voter.group}
    weights = {sid: voter.weight for sid, voter in counted.items() if voter.weight != 1}
    return Configuration.of(specs, groups, weights)
