"""Who counts: voters with weights and groups, observers, and two sets at once.

Without groups a quorum is more than half of the weight.  With groups it is more than
half of the groups (those with any weight), each by more than half of its weight.  A
*joint* set, in force while one set replaces another, needs a quorum of both.  Servers
with weight zero, observers and strangers never count (rule A13).

    bytes   >BqqI version of the format, zxid of the CONFIG entry, that of the joint set
            which decided on it, length of the note;
            note; set; B 1 if another set follows (joint), else 0; set
    set     >HH numbers of voters and observers;
            per voter >qIH server id, weight, group (0: none); per observer >q
"""

import struct
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Voter:
    weight: int = 1
    group: int = 0
    """0: in no group.  Either every voter has a group, or none has."""


@dataclass(frozen=True, slots=True)
class Members:
    """One set of voters and observers."""

    voters: dict[int, Voter]
    """Server id -> voter, ascending by id."""
    observers: tuple[int, ...] = ()
    _groups: list[dict[int, int]] = field(init=False, compare=False, repr=False)
    """Per group that has any weight: server id -> weight."""

    def __post_init__(self) -> None:
        groups: dict[int, dict[int, int]] = {}
        for sid, voter in self.voters.items():
            groups.setdefault(voter.group, {})[sid] = voter.weight
        counting = [group for group in groups.values() if any(group.values())]
        object.__setattr__(self, "_groups", counting)

    def agreed(self, values: Mapping[int, int]) -> int:
        """The greatest value that a quorum has reached; 0 for voters that are not in `values`."""
        reached = sorted((_agreed_in(group, values) for group in self._groups), reverse=True)
        return reached[len(reached) // 2] if reached else 0

    def won(self, yes: Container[int]) -> bool:
        """Whether those for it are a quorum."""
        return 2 * sum(_won_in(group, yes) for group in self._groups) > len(self._groups)


def _agreed_in(weights: dict[int, int], values: Mapping[int, int]) -> int:
    if len(weights) == 1:
        (sid,) = weights
        return values.get(sid, 0)
    left = sum(weights.values()) // 2
    for value, weight in sorted(((values.get(s, 0), w) for s, w in weights.items()), reverse=True):
        left -= weight
        if left < 0:
            return value
    raise AssertionError("a group without weight has no quorum")


def _won_in(weights: dict[int, int], yes: Container[int]) -> bool:
    return 2 * sum(weight for sid, weight in weights.items() if sid in yes) > sum(weights.values())


@dataclass(frozen=True, slots=True)
class VoterSet:
    """The voter set in force; counting is by the newest one in the log, committed or not."""

    members: Members
    joining: Members | None = None
    """The set that replaces `members`, while both must agree."""
    version: int = 0
    """zxid of its CONFIG entry; 0 for one that only stands in a configuration file."""
    note: bytes = b""
    """For the upper layers (addresses for /zookeeper/config); nothing here reads it."""
    decided: int = 0
    """zxid of the joint set's entry that led to this one: once that was committed, no leader
    could do anything but follow it.  0 where there was none."""

    @classmethod
    def of(cls, voters: Iterable[int], observers: Iterable[int] = ()) -> Self:
        """Plain majority of the given server ids."""
        return cls(Members({sid: Voter() for sid in sorted(voters)}, tuple(sorted(observers))))

    @property
    def joint(self) -> bool:
        return self.joining is not None

    def voters(self) -> list[int]:
        """Server ids of all voters, ascending."""
        return sorted({**self.members.voters, **(self.joining.voters if self.joining else {})})

    def everyone(self) -> list[int]:
        """Server ids of voters and observers, ascending."""
        observers = self.members.observers + (self.joining.observers if self.joining else ())
        return sorted({*self.voters(), *observers})

    def is_voter(self, sid: int) -> bool:
        return sid in self.members.voters or (
            self.joining is not None and sid in self.joining.voters
        )

    def unanimous(self, yes: Container[int]) -> bool:
        """Whether nobody with any weight is missing."""
        sets = [self.members] + ([self.joining] if self.joining else [])
        return all(sid in yes for one in sets for sid, voter in one.voters.items() if voter.weight)

    def alone(self, sid: int) -> bool:
        """Whether this one server is all the quorum there is."""
        return self.joining is None and self.members.won((sid,))

    def agreed(self, values: Mapping[int, int]) -> int:
        """The greatest value that a quorum (of both sets, if joint) has reached."""
        reached = self.members.agreed(values)
        return min(reached, self.joining.agreed(values)) if self.joining else reached

    def won(self, yes: Container[int]) -> bool:
        """Whether those for it are a quorum, of both sets if joint."""
        return self.members.won(yes) and (self.joining is None or self.joining.won(yes))

    def at(self, version: int) -> "VoterSet":
        return replace(self, version=version)

    def join(self, new: Members, note: bytes) -> "VoterSet":
        """The joint set on the way from this one to `new`."""
        assert self.joining is None, "one change at a time"
        return VoterSet(self.members, new, 0, note)

    def leave(self) -> "VoterSet":
        """The set that a joint one leads to."""
        assert self.joining is not None
        return VoterSet(self.joining, None, 0, self.note, self.version)

    def encode(self) -> bytes:
        numbers = FORMAT_VERSION, self.version, self.decided, len(self.note)
        head = _HEAD.pack(*numbers) + self.note
        tail = b"\1" + _encode_members(self.joining) if self.joining else b"\0"
        return head + _encode_members(self.members) + tail

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """ValueError for bytes that `encode` did not make."""
        try:
            return cls._decode(data)
        except (struct.error, IndexError) as error:
            raise ValueError(f"not a voter set: {error}") from error

    @classmethod
    def _decode(cls, data: bytes) -> Self:
        version, decided, start, note_length = _decode_head(data)
        pos = start + note_length
        note = data[start:pos]
        members, pos = _decode_members(data, pos)
        joining, end = _decode_members(data, pos + 1) if data[pos] else (None, pos + 1)
        if end != len(data):
            raise ValueError("voter set of the wrong length")
        return cls(members, joining, version, note, decided)


FORMAT_VERSION: Final = 2
_HEAD: Final = struct.Struct(">BqqI")
_HEAD_1: Final = struct.Struct(">BqI")
"""Of format 1, which knew of no set that decided on another."""
_COUNTS: Final = struct.Struct(">HH")
_VOTER: Final = struct.Struct(">qIH")
_OBSERVER: Final = struct.Struct(">q")


def _decode_head(data: bytes) -> tuple[int, int, int, int]:
    """Version, version of what decided on it, where the note begins, its length."""
    if data[0] == 1:
        _, version, note_length = _HEAD_1.unpack_from(data)
        return version, 0, _HEAD_1.size, note_length
    version_of_format, version, decided, note_length = _HEAD.unpack_from(data)
    if version_of_format != FORMAT_VERSION:
        raise ValueError(f"voter set of format {version_of_format}")
    return version, decided, _HEAD.size, note_length


def _encode_members(members: Members) -> bytes:
    parts = [_COUNTS.pack(len(members.voters), len(members.observers))]
    parts += [_VOTER.pack(sid, v.weight, v.group) for sid, v in sorted(members.voters.items())]
    parts += [_OBSERVER.pack(sid) for sid in members.observers]
    return b"".join(parts)


def _decode_members(data: bytes, pos: int) -> tuple[Members, int]:
    voter_count, observer_count = _COUNTS.unpack_from(data, pos)
    pos += _COUNTS.size
    voters = {}
    for _ in range(voter_count):
        sid, weight, group = _VOTER.unpack_from(data, pos)
        voters[sid] = Voter(weight, group)
        pos += _VOTER.size
    end = pos + observer_count * _OBSERVER.size
    observers = tuple(_OBSERVER.unpack_from(data, at)[0] for at in range(pos, end, _OBSERVER.size))
    return Members(voters, observers), end


class VoterHistory:
    """Voter sets of one log, by the zxid of their CONFIG entries: the newest is in force.

    Older ones are kept while a cut of the log, or an image at an earlier zxid, may
    need them.
    """

    __slots__ = ("sets",)

    def __init__(self, sets: list[VoterSet]) -> None:
        assert sets
        self.sets = sets

    @property
    def in_force(self) -> VoterSet:
        return self.sets[-1]

    def add(self, voters: VoterSet) -> None:
        self.sets.append(voters)

    def at(self, zxid: int) -> VoterSet:
        """The newest set proposed up to `zxid`."""
        return next((s for s in reversed(self.sets) if s.version <= zxid), self.sets[0])

    def truncate(self, zxid: int) -> None:
        while len(self.sets) > 1 and self.sets[-1].version > zxid:
            self.sets.pop()

    def forget(self, zxid: int) -> None:
        """Drop those that were out of force at `zxid`."""
        while len(self.sets) > 1 and self.sets[1].version <= zxid:
            del self.sets[0]
