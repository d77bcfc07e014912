"""Who owned what at every zxid, from the log of a zkpy server: nothing is missing in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from recipes.kafka.group import Ownership
from recipes.kafka.paths import TopicPartition
from zkpy.cli.log import read_fields


@attrs.define
class Recording:
    """Replays transactions under one prefix."""

    prefix: str
    """Of the owners of one group."""
    ownership: Ownership = attrs.field(factory=Ownership)
    sessions: dict[int, dict[TopicPartition, None]] = attrs.field(factory=dict)

    def follow(self, fields: dict[str, Any]) -> None:
        time_ms, session = fields.get("time", 0), fields.get("session", 0)
        for txn in flat(fields):
            self._follow(txn, time_ms, session)

    def _follow(self, txn: dict[str, Any], time_ms: int, session: int) -> None:
        if txn["type"] == "closeSession":
            for each in self.sessions.pop(session, {}):
                self.ownership.released(each, time_ms)
        where = self._where(txn.get("path", ""))
        if where is None:
            return
        if txn["type"] == "create":
            self.ownership.claimed(where, txn["data"].decode(), time_ms)
            self.sessions.setdefault(session, {})[where] = None
        elif txn["type"] == "delete":
            self.ownership.released(where, time_ms)
            for owned in self.sessions.values():
                owned.pop(where, None)

    def _where(self, path: str) -> TopicPartition | None:
        parts = path.removeprefix(self.prefix).split("/")
        if not path.startswith(self.prefix) or len(parts) != 2:
            return None
        return TopicPartition(parts[0], int(parts[1]))


def flat(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if fields["type"] == "multi":
        yield from fields["txns"]
    else:
        yield fields


def ownership_of(data: Path, root: str, group: str) -> Ownership:
    """TwoOwners if a partition ever had two."""
    recording = Recording(f"{root}/consumers/{group}/owners/")
    for fields in read_fields(str(data), True, False):
        recording.follow(fields)
    return recording.ownership
