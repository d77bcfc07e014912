"""What the commands say of themselves."""

import click
import pytest
from click.testing import CliRunner

from zkpy.cli.main import COMMANDS, zkpy

PARSED = {
    name: command
    for name in sorted(COMMANDS)
    if (command := zkpy.get_command(click.Context(zkpy), name)) is not None
}
OPTIONS = [
    pytest.param(command, option, id=f"{name} {option.opts[0]}")
    for name, command in PARSED.items()
    for option in command.params
    if isinstance(option, click.Option)
]


def test_the_list_says_all_of_each_command() -> None:
    lines = CliRunner().invoke(zkpy, ["--help"]).output.splitlines()
    listed = {words[0]: line for line in lines if (words := line.split()) and words[0] in COMMANDS}
    assert listed.keys() == COMMANDS.keys()
    assert [line for line in listed.values() if line.endswith("...")] == []


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_has_a_word_and_tells_its_default(
    command: click.Command, option: click.Option
) -> None:
    assert option.help
    default = option.default
    if isinstance(default, int | float | str) and not option.is_flag:
        assert option.show_default or str(default) in option.help
