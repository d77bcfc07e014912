"""What ZooKeeper's `mntr` has, and what docs/metrics.md says that zkpy's lacks."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTED = Path(__file__).parent / "testdata" / "mntr-3.9.5.txt"
PAGE = ROOT / "docs" / "metrics.md"
MISSING = "## Keys of ZooKeeper's that are missing\n"
SUMMARY = ("avg", "min", "max", "cnt", "sum")
PARTS = {
    "value": (),
    "summary": SUMMARY,
    "percentiles": (*SUMMARY, "p50", "p95", "p99", "p999"),
}


def listed() -> list[tuple[str, str, list[str]]]:
    """(key, kind, roles) of each."""
    lines = LISTED.read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return [(key, kind, roles) for key, kind, *roles in rows]


def left_out() -> set[str]:
    """What the page says is missing, by its first column."""
    _, _, table = PAGE.read_text().partition(MISSING)
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def keys_of(role: str, server_id: int = 1) -> set[str]:
    """All that a server of that role has to show, as it shows it."""
    missing, keys = left_out(), set()
    for key, kind, roles in listed():
        if key not in missing and (role in roles or roles == ["all"]):
            name = re.sub("^N_", f"{server_id}_", key)
            keys |= {f"zk_{part}_{name}" for part in PARTS[kind]} or {f"zk_{name}"}
    return keys
