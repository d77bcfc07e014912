"""What scenarios have in common: a stage with an ensemble that serves, and its end."""

from zkpy.testing.ensemble import Member
from zkpy.testing.script import Stage


def begin(*lines: str, **setup: int) -> Stage:
    stage = Stage()
    stage.play(" ".join(["start", *(f"{key}={value}" for key, value in setup.items())]))
    play(stage, "until leader", "until serving", *lines)
    return stage


def play(stage: Stage, *lines: str) -> list[str]:
    printed: list[str] = []
    for line in lines:
        printed += stage.play(line)
    assert not [line for line in printed if line.startswith("VIOLATION")], printed
    return printed


def leader_of(stage: Stage) -> Member:
    leader = stage.ensemble.leader()
    assert leader is not None
    return leader


def followers_of(stage: Stage) -> list[int]:
    leader = leader_of(stage).sid
    return [sid for sid in stage.ensemble.setup.voters if sid != leader]


def run(stage: Stage, duration: int) -> None:
    stage.world.run_until(stage.world.now + duration)


def settle(stage: Stage) -> None:
    """Everyone is up and equal, and a write commits."""
    for member in stage.ensemble.members.values():
        member.crash_in_batches = None
    play(stage, *(f"boot {member.sid}" for member in stage.ensemble.members.values()))
    printed = play(stage, "until leader", "until equal", "client z leader")
    assert printed[-1].startswith("z is connected"), printed
    printed = play(stage, "ask z create /settled", "run 1s", "until equal", "check")
    assert printed[-1] == "sound", printed
