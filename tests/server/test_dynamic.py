"""The committed membership: where others are looked for, and the file beside zoo.cfg."""

import logging
from dataclasses import replace
from pathlib import Path

import attrs
import pytest

from zkpy.config import Config, load, parse_server
from zkpy.membership import parse_configuration
from zkpy.replica.membership import founding_set, members_of
from zkpy.server import dynamic
from zkpy.server.ensemble import difference, merge_lines
from zkpy.zab.quorum import VoterSet

ONE = "server.1=a:1:2:participant;a:3"
TWO = "server.2=b:1:2:participant;b:3"
FOUNDED = founding_set(parse_configuration(ONE), 0).at(0x10)


def decided(text: str, version: int) -> VoterSet:
    new = parse_configuration(text)
    note = founding_set(new, 0).note
    return FOUNDED.join(members_of(new), note).at(version).leave().at(version + 1)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    zoo = tmp_path / "zoo.cfg"
    (tmp_path / "myid").write_text("1")
    zoo.write_text(f"dataDir={tmp_path}\nreconfigEnabled=true\nclientPort=3\n{ONE}\n")
    return load(str(zoo))


def test_one_file_for_each_version(config: Config, tmp_path: Path) -> None:
    before = Path(config.source).read_text()
    dynamic.keep(config, FOUNDED)
    dynamic.keep(config, decided(f"{TWO}\n{ONE}", 0x20))
    assert (tmp_path / "zoo.cfg.dynamic.10").read_text() == f"{ONE}\nversion=10\n"
    assert (tmp_path / "zoo.cfg.dynamic.20").read_text() == f"{ONE}\n{TWO}\nversion=20\n"
    assert Path(config.source).read_text() == before
    assert len(list(tmp_path.iterdir())) == 4, "nothing half done stays"


def test_the_file_that_zoo_cfg_names_is_replaced_and_read_again(
    config: Config, tmp_path: Path
) -> None:
    named, zoo = tmp_path / "members", Path(config.source)
    named.write_text(f"{ONE}\n")
    zoo.write_text(
        f"dataDir={tmp_path}\nreconfigEnabled=true\nclientPort=3\ndynamicConfigFile={named}\n"
    )
    dynamic.keep(load(str(zoo)), decided(f"{ONE}\n{TWO}", 0x20))
    assert named.read_text() == f"{ONE}\n{TWO}\nversion=20\n"
    again = load(str(zoo))
    assert [spec.server_id for spec in again.servers] == [1, 2]
    dynamic.keep(again, decided(TWO, 0x30))
    assert "version=20" in named.read_text(), "without its own line it could not start again"


@pytest.mark.parametrize(
    "voters",
    [
        VoterSet.of([1]).at(5),
        replace(FOUNDED, version=0),
        FOUNDED.join(FOUNDED.members, FOUNDED.note).at(0x20),
    ],
    ids=["no addresses", "not in the log", "joint"],
)
def test_what_is_not_written(config: Config, tmp_path: Path, voters: VoterSet) -> None:
    dynamic.keep(config, voters)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["myid", "zoo.cfg"]


def test_a_directory_that_takes_no_file(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = str(tmp_path / "none" / "members")
    caplog.set_level(logging.WARNING)
    dynamic.keep(attrs.evolve(config, dynamic_file=target), FOUNDED)
    assert caplog.messages == [
        f"{target}: the membership cannot be written there: No such file or directory"
    ]
    dynamic.keep(attrs.evolve(config, source="the command line"), FOUNDED)
    assert len(caplog.messages) == 1


def test_the_log_has_the_first_word_and_the_files_the_second() -> None:
    static = [parse_server(1, "a:1:2"), parse_server(2, "old:1:2"), parse_server(3, "c:1:2")]
    merged = {s.server_id: s for s in merge_lines(static, FOUNDED, decided(f"{ONE}\n{TWO}", 0x20))}
    assert [a.host for a in merged[1].addresses] == ["a"]
    assert [a.host for a in merged[2].addresses] == ["b", "old"]
    assert [a.host for a in merged[3].addresses] == ["c"]


@pytest.mark.parametrize(
    ("named", "counted"),
    [
        (ONE, None),
        (f"{ONE}\n{TWO}", "voters 1 2"),
        (f"{ONE}\nserver.2=b:1:2:observer;b:3", "voters 1 and observers 2"),
        (f"{ONE}\nweight.1=2", "voters 1 (of weight 2)"),
        (f"{ONE}\ngroup.1=1\nweight.1=3", "voters 1 (in group 1 of weight 3)"),
    ],
    ids=["the same", "a voter more", "an observer more", "a weight", "a group"],
)
def test_files_that_name_others_than_the_log(
    config: Config, named: str, counted: str | None
) -> None:
    Path(config.source).write_text(Path(config.source).read_text().replace(ONE, named))
    found = difference(load(config.source), FOUNDED)
    if counted is None:
        assert found is None
    else:
        assert found == (
            f"{config.source} names {counted}, the ensemble's are voters 1: these count, and only "
            "`zkpy reconfig` changes them"
        )
