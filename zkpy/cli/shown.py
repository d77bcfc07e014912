"""How the commands show zxids, times, sessions and data."""

from datetime import UTC, datetime


def show_time(wall_ms: int) -> str:
    """ISO 8601, in UTC, with milliseconds; a time beyond the calendar as its number."""
    try:
        moment = datetime.fromtimestamp(wall_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{wall_ms} ms"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ms % 1000:03d}Z"


def show_session(session: int) -> str:
    return f"0x{session & 0xFFFFFFFFFFFFFFFF:x}"


def quote_data(data: bytes | str | None) -> str:
    """Text as it is where it can be read as such, everything else escaped; one line."""
    if data is None:
        return ""
    text = data if isinstance(data, str) else data.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def quote_lines(data: bytes) -> str:
    """Text of several lines, each as `quote_data` has it."""
    return "\n".join(quote_data(line) for line in data.split(b"\n"))
