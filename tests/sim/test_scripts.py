"""Scripted scenarios, each with its whole expected trace (`--rewrite` makes them anew)."""

from pathlib import Path

import pytest

from zkpy.testing.script import ScriptError, run_script

SCRIPTS = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_script(path: Path, rewrite: bool) -> None:
    text = path.read_text(encoding="utf-8")
    played = run_script(text)
    if rewrite:
        path.write_text(played, encoding="utf-8")
    else:
        assert played == text
    assert "VIOLATION" not in played
    assert "\nnot " not in played, "an `until` that did not come true"


def test_playing_what_was_played_gives_the_same() -> None:
    text = "start voters=1\nuntil leader\nclient a 1\nask a create /x hello\nask a get /x\n"
    once = run_script(text)
    assert once == run_script(once)
    assert "hello version 0" in once


def test_an_unknown_command_is_an_error() -> None:
    with pytest.raises(ScriptError):
        run_script("start voters=1\nfrobnicate\n")
