"""What a member has seen since its process began, for whoever watches.  Nothing depends on it.

Entries are not counted one by one: within an epoch their zxids have no gaps, so that the
present leadership's are a difference, and those of earlier ones are added up as each ends.
"""

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Counts:
    """Of entries, those that open an epoch are left out, and those that synchronise a learner."""

    looked: int = 0
    """Times that a leader was looked for."""
    proposed: int = 0
    """Entries, as a leader."""
    committed: int = 0
    """Those of them that a quorum had."""
    diffs: int = 0
    """Learners synchronised with entries, or by a cut of their logs."""
    snaps: int = 0
    """Learners to which an image was sent."""
    received: int = 0
    """Entries proposed to it, as a learner."""
    told: int = 0
    """Those of them of which the leader has said that they are committed."""
