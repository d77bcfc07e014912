"""What happened in a run, for people: as lines of text, or as one picture in HTML.

In the picture every member is a lane and time runs to the right: the colour of a lane is
its role, faint while it does not serve, grey while it is dead; a red dot is a crash.
Partitions are above, commits below; whatever is pointed at says what it is.
Plain inline SVG, no script, no dependency.
"""

from collections.abc import Iterable
from html import escape
from typing import Final

import attrs

from zkpy.testing.world import MS, SECOND

NETWORK: Final = 0
"""The lane of what concerns no single member."""


@attrs.define
class Mark:
    """Something that happened at one moment."""

    at: int
    """Virtual time in microseconds."""
    lane: int
    """A server id, or NETWORK."""
    kind: str
    """`role`, `fault`, `heal`, `boot`, `crash`, `note`, `violation`."""
    text: str


@attrs.define(eq=False)
class Timeline:
    marks: list[Mark] = attrs.Factory(list)
    commits: dict[int, int] = attrs.Factory(dict)
    """Bucket of 100 ms -> entries first applied in it."""

    def add(self, at: int, lane: int, kind: str, text: str) -> None:
        self.marks.append(Mark(at, lane, kind, text))

    def count_commits(self, at: int, count: int) -> None:
        bucket = at // BUCKET
        self.commits[bucket] = self.commits.get(bucket, 0) + count

    def text(self) -> str:
        return "".join(f"{_line(mark)}\n" for mark in self.marks)


BUCKET: Final = 100 * MS
_COLOURS: Final = {
    "leading": "#2b8a3e",
    "following": "#1c7ed6",
    "observing": "#7048e8",
    "looking": "#f59f00",
    "down": "#ced4da",
    "paused": "#868e96",
}
_SERVERS: Final = ("leading", "following", "observing")
_SERVING: Final = "serving"
_LANE: Final = 46
_LEFT: Final = 84
_WIDTH: Final = 1400
_TOP: Final = 90


def _line(mark: Mark) -> str:
    lane = f"server {mark.lane}" if mark.lane else "-"
    return f"{mark.at / SECOND:10.4f} s  {lane:9}  {mark.kind:9}  {mark.text}"


# --- the picture


def render_html(timeline: Timeline, members: list[int], title: str) -> str:
    """A page that stands alone."""
    end = max((mark.at for mark in timeline.marks), default=0)
    end = max(end, max(timeline.commits, default=0) * BUCKET) + 200 * MS
    height = _TOP + _LANE * len(members) + 110
    body = "".join(_draw(timeline, members, end))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + 20} {height}" role="img" '
        f'aria-label="{escape(title)}">{body}</svg>{_legend()}'
        f"<pre>{escape(timeline.text())}</pre></body></html>\n"
    )


_STYLE: Final = (
    "body{font:14px sans-serif;margin:1.5em;color:#212529}"
    "svg{width:100%;border:1px solid #dee2e6;background:#fff}"
    "text{font:11px sans-serif;fill:#343a40}"
    "pre{font-size:11px;background:#f8f9fa;padding:1em;overflow:auto}"
    "span{display:inline-block;margin-right:1em}"
    "i{display:inline-block;width:1em;height:1em;margin-right:.3em;vertical-align:-2px}"
)


def _legend() -> str:
    spans = (
        f'<span><i style="background:{colour}"></i>{name}</span>'
        for name, colour in _COLOURS.items()
    )
    return f"<p>{''.join(spans)}<span>faint: does not serve</span></p>"


def _draw(timeline: Timeline, members: list[int], end: int) -> Iterable[str]:
    yield from _draw_axis(members, end)
    yield from _draw_faults(timeline, members, end)
    for row, sid in enumerate(members):
        marks = [mark for mark in timeline.marks if mark.lane == sid]
        yield from _draw_lane(marks, sid, row, end)
    yield from _draw_commits(timeline, members, end)


def _x(at: int, end: int) -> float:
    return round(_LEFT + _WIDTH * at / end, 1)


def _draw_axis(members: list[int], end: int) -> Iterable[str]:
    bottom = _TOP + _LANE * len(members) + 70
    step = max(1, end // SECOND // 20) * SECOND
    for at in range(0, end, step):
        x = _x(at, end)
        yield f'<line x1="{x}" y1="20" x2="{x}" y2="{bottom}" stroke="#f1f3f5"/>'
        yield f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{at // SECOND} s</text>'


def _draw_lane(marks: list[Mark], sid: int, row: int, end: int) -> Iterable[str]:
    y = _TOP + _LANE * row
    yield f'<text x="8" y="{y + 16}">server {sid}</text>'
    since, state = 0, "down"
    for mark in marks:
        after = _state_after(mark, state)
        if after != state:
            yield _bar(since, mark.at, y, state, end)
            since, state = mark.at, after
    yield _bar(since, end, y, state, end)
    for mark in marks:
        yield _dot(mark, y, end)


def _state_after(mark: Mark, state: str) -> str:
    if mark.kind == "crash":
        return "down"
    if mark.kind == "boot":
        return "looking"
    if mark.kind in ("role", "pause", "resume"):
        word = mark.text.replace(",", " ").split()[0]
        return f"{word} {_SERVING}" if mark.text.endswith(_SERVING) else word
    return state


def _bar(since: int, until: int, y: int, state: str, end: int) -> str:
    x = _x(since, end)
    width = max(0.5, _x(until, end) - x)
    role, _, serving = state.partition(" ")
    faint = "" if serving or role not in _SERVERS else ' fill-opacity=".4"'
    colour = _COLOURS[role]
    return f'<rect x="{x}" y="{y}" width="{width:.1f}" height="22" fill="{colour}"{faint}/>'


def _dot(mark: Mark, y: int, end: int) -> str:
    x = _x(mark.at, end)
    colour = "#e03131" if mark.kind in ("crash", "fault", "violation", "alarm") else None
    if colour is None:
        return ""
    return f'<circle cx="{x}" cy="{y + 11}" r="4" fill="{colour}">{_tip(mark)}</circle>'


def _tip(mark: Mark) -> str:
    return f"<title>{escape(_line(mark).strip())}</title>"


def _draw_faults(timeline: Timeline, members: list[int], end: int) -> Iterable[str]:
    """Partitions and the like, from fault to heal, one below the other where they overlap."""
    rows: list[int] = []
    for mark, until in _spans(timeline, end):
        row = next((i for i, free in enumerate(rows) if free <= mark.at), len(rows))
        rows[row : row + 1] = [until]
        x, y = _x(mark.at, end), 20 + 12 * (row % 5)
        width = max(2.0, _x(until, end) - x)
        yield (
            f'<rect x="{x}" y="{y}" width="{width:.1f}" height="9" fill="#ffc9c9" '
            f'stroke="#e03131" stroke-width=".5">{_tip(mark)}</rect>'
            f'<text x="{x + 2}" y="{y + 8}">{escape(mark.text.split(":")[0])}</text>'
        )


def _spans(timeline: Timeline, end: int) -> list[tuple[Mark, int]]:
    spans = []
    network = [mark for mark in timeline.marks if mark.lane == NETWORK]
    for i, mark in enumerate(network):
        if mark.kind == "fault":
            heals = (m.at for m in network[i:] if m.kind == "heal" and m.text == mark.text)
            spans.append((mark, next(heals, min(end, mark.at + 100 * MS))))
        elif mark.kind == "violation":
            spans.append((mark, end))
    return spans


def _draw_commits(timeline: Timeline, members: list[int], end: int) -> Iterable[str]:
    base = _TOP + _LANE * len(members) + 66
    most = max(timeline.commits.values(), default=1)
    yield f'<text x="8" y="{base - 10}">commits</text>'
    for bucket, count in sorted(timeline.commits.items()):
        x = _x(bucket * BUCKET, end)
        width = max(1.0, _WIDTH * BUCKET / end - 0.5)
        height = round(50 * count / most, 1)
        yield (
            f'<rect x="{x}" y="{base - height}" width="{width:.1f}" height="{height}" '
            f'fill="#495057"><title>{count} commits</title></rect>'
        )
