"""Whether this search for a leader can end by itself, or has to wait and say so (rule D5).

In: what voters say about themselves in their datagrams.  Out: None, or why no leader can
come about until an operator does something.  Pure: no time, no messages of its own.

A verdict needs the word of *every* voter: a sound one that is merely slow, or away, may
still make the quorum.  And none of them may have a leader: the set known here may be an
old one.  What the members do meanwhile is wait, not end: nobody is served either way, and
the moment that one more sound member is there, those that waited elect a leader with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from wire.peer import Standing
from zkpy.zab.quorum import VoterSet
from zkpy.zab.standing import RECORDED, SETTLED

_FAULTS = {
    Standing.SUSPECT: "has damaged data",
    Standing.BLANK: "has no data",
    Standing.FOUNDING: "began to found an ensemble of its own",
    Standing.MEMBER: "is a member of another ensemble",
}


@dataclass(frozen=True, slots=True)
class Word:
    """What one voter says about itself."""

    standing: int
    cluster_id: bytes
    looks: bool
    """Without a leader, as we are."""


def why_stuck(voters: VoterSet, words: Mapping[int, Word]) -> str | None:
    """Why none of these voters can ever be elected; None if there is any hope, or doubt.

    `words` holds oneself too.  Blank members that met nobody who is not blank may found an
    ensemble, so a verdict needs one that is a member, or was.
    """
    sids = sorted(voters.voters())
    if not sids or not all(sid in words and words[sid].looks for sid in sids):
        return None
    if not any(words[sid].standing in SETTLED for sid in sids):
        return None
    sound = [_kin(words, sids, words[sid]) for sid in sids if words[sid].standing in RECORDED]
    if any(voters.won(kin) for kin in sound):
        return None
    return _explain(sids, max(sound, key=len, default=[]), words)


def _kin(words: Mapping[int, Word], sids: list[int], one: Word) -> list[int]:
    """Members of one ensemble whose vote counts."""
    return [
        sid
        for sid in sids
        if words[sid].standing in RECORDED and words[sid].cluster_id == one.cluster_id
    ]


def _explain(sids: list[int], sound: list[int], words: Mapping[int, Word]) -> str:
    faults = [
        f"server {sid} {_FAULTS[Standing(words[sid].standing)]}" for sid in sids if sid not in sound
    ]
    whole = " and ".join(f"server {sid}" for sid in sound) or "none"
    return (
        f"no leader can be elected: all {len(sids)} voters are there, but too few have sound data "
        f"({whole}); {', '.join(faults)}. They wait, and serve nobody, until enough of these are "
        "started again with their own data directory as it was"
    )
