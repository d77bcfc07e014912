"""How the commands show zxids, times, sessions and data."""

from datetime import UTC, datetime
from typing import Final


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
    """Text as it is where it can be read as such, everything else escaped; one line.

    No two values look alike: a backslash is two, `\\xNN` is a byte that is not of UTF-8
    or a control character, `\\uNNNN` any other character.
    """
    if data is None:
        return ""
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
    return "".join(map(_quote_char, text))


def _quote_char(char: str) -> str:
    code = ord(char)
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    if 0xDC80 <= code <= 0xDCFF:  # what surrogateescape makes of a byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if 0x80 <= code <= 0xFF else ascii(char)[1:-1]


def dump_hex(data: bytes) -> str:
    """Sixteen bytes a line, in the frame that zkCli.sh draws."""
    digits = " ".join(f"{digit:2x}" for digit in range(16))
    head = [f"{'':9}+{'-' * 49}+", f"{'':9}| {digits} |"]
    lines = [_dump_line(at, data[at : at + 16]) for at in range(0, len(data), 16)]
    return "\n".join([*head, _RULE, *lines, _RULE]) if data else ""


_RULE: Final = f"+{'-' * 8}+{'-' * 49}+{'-' * 16}+"


def _dump_line(at: int, data: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
    return f"|{at:08x}| {data.hex(' '):47} |{text:16}|"


def quote_lines(data: bytes) -> str:
    """Text of several lines, each as `quote_data` has it."""
    return "\n".join(quote_data(line) for line in data.split(b"\n"))
