"""The diagram in docs/architecture.md is drawn from the tables of legal moves (`--rewrite`)."""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from wire.peer import Role
from zkpy.zab import leader, learner, zab

Moves = Mapping[Any, str]
"""(from, to), both of one enum, -> what brings it about."""
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
BEGIN, END = "```mermaid\nstateDiagram-v2\n", "```\n"


def draw() -> str:
    """Roles; within each, the phases; and of each learner, what its leader knows."""
    inside = {
        Role.LEADING: [*moves(leader.MOVES, "leading"), *stages()],
        Role.FOLLOWING: [*moves(learner.MOVES, "following"), *heard(learner.LEGAL, "following")],
    }
    lines = ["[*] --> looking", *arrows(zab.MOVES)]
    for role, drawn in inside.items():
        lines += [f"state {name(role)} {{", *(f"    {line}" for line in drawn), "}"]
    return BEGIN + "".join(f"    {line}\n" for line in lines) + END


def moves(table: Moves, prefix: str) -> Iterator[str]:
    first = next(iter(table))[0]
    yield f"[*] --> {name(first, prefix)}"
    yield from arrows(table, prefix)


def stages() -> Iterator[str]:
    """Another region of the leader's state, for each learner by itself."""
    yield "--"
    yield f"[*] --> {name(leader.Stage.CALLED, 'learner')} : FollowerInfo"
    yield from arrows(leader.STAGES, "learner")
    known = [(stage, message) for stage, message in leader.LEGAL if stage is not None]
    yield from heard(known, "learner")


def arrows(table: Moves, prefix: str = "") -> Iterator[str]:
    for (source, target), why in table.items():
        yield f"{name(source, prefix)} --> {name(target, prefix)} : {why}"


def heard(legal: Iterable[tuple[Enum, type]], prefix: str) -> Iterator[str]:
    """In each phase, which messages are taken; any other ends the link."""
    messages: dict[Enum, list[str]] = {}
    for phase, message in legal:
        messages.setdefault(phase, []).append(message.__name__)
    for phase, names in messages.items():
        yield f"{name(phase, prefix)} : {phase.value} - takes {', '.join(sorted(names))}"


def name(state: Enum, prefix: str = "") -> str:
    plain = state.name.lower()
    return f"{prefix}_{plain}" if prefix else plain


def test_the_page_shows_what_the_tables_say(rewrite: bool) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    assert found, "the page has lost its diagram"
    shown, _, after = rest.partition(END)
    if rewrite:
        PAGE.write_text(before + draw() + after, encoding="utf-8")
    else:
        assert BEGIN + shown + END == draw(), "pytest --rewrite draws it anew"


def test_every_phase_can_be_reached() -> None:
    for table, phases in (
        (zab.MOVES, Role),
        (leader.MOVES, leader.Phase),
        (leader.STAGES, leader.Stage),
        (learner.MOVES, learner.Phase),
    ):
        first, *others = phases
        assert {target for _, target in table} >= set(others), first
