"""Which standings of members (`wire.peer.Standing`) go together, and what each group may do."""

from typing import Final

from wire.peer import Standing

RECORDED: Final = (Standing.MEMBER, Standing.FOUNDING)
"""With a sound record of an ensemble, complete or not: their word counts in that one."""
FOUNDERS: Final = (Standing.BLANK, Standing.FOUNDING)
"""Of no complete ensemble: they may found one with others, or join any."""
SETTLED: Final = (Standing.MEMBER, Standing.SUSPECT)
"""Of one that is complete: they veto foundings, and join no other ensemble."""
