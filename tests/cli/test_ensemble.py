"""`zkpy ensemble`: the files that it writes, and a run of it in a process of its own."""

import itertools
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from kazoo.client import KazooClient

from tests.server.members import LIMIT_S
from zkpy import config as configs
from zkpy.cli.ensemble import find_refusal, hosts_of, plan_servers, write_files
from zkpy.cli.main import zkpy
from zkpy.config import ClientAddress
from zkpy.config.keys import SASL_PROVIDER
from zkpy.storage.identity import IDENTITY_NAME
from zkpy.testing.realserver import free_ports


def test_each_server_has_its_own_file(tmp_path: Path) -> None:
    servers = plan_servers(tmp_path, 3, 1, 2181)
    for server in servers:
        write_files(server, servers)
    found = [configs.load(str(server.config)) for server in servers]
    assert [each.server_id for each in found] == [1, 2, 3, 4]
    assert [each.observer for each in found] == [False, False, False, True]
    assert found[2].client == ClientAddress("127.0.0.1", 2183)
    assert [warning for each in found for warning in each.warnings] == []
    ports = {(server.quorum_port, server.election_port) for server in servers}
    assert len(ports) == 4
    assert len({each.data_dir for each in found}) == 4
    assert hosts_of(servers[:2]) == "127.0.0.1:2181,127.0.0.1:2182"


def test_admin_ports_are_nobody_elses(tmp_path: Path) -> None:
    servers = plan_servers(tmp_path, 3, 1, 8080)
    ports = [each.admin_port for each in servers]
    assert len(set(ports)) == 4
    others = [(each.client_port, each.quorum_port, each.election_port) for each in servers]
    assert set(ports).isdisjoint(itertools.chain(*others))


@pytest.mark.parametrize("size", ["2", "5"])
def test_another_number_of_voters_is_refused(tmp_path: Path, size: str) -> None:
    """What they are is in the data: those that are added would never count."""
    servers = plan_servers(tmp_path, 3, 1, 2181)
    for server in servers:
        write_files(server, servers)
    (tmp_path / "server-1" / "data" / IDENTITY_NAME).write_bytes(b"")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert find_refusal(plan_servers(tmp_path, 3, 2, 2181)) is None
    refused = CliRunner().invoke(zkpy, ["ensemble", "--size", size, "--dir", str(tmp_path)])
    assert refused.exit_code == 1
    assert f"zkpy: {tmp_path} holds an ensemble of 3 voters" in refused.output
    assert "--size 3 goes on with it" in refused.output
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_zoo_cfg_whose_users_are_not_to_be_read_is_no_broken_one(tmp_path: Path) -> None:
    """Taken for one, it would be written anew with another number of voters."""
    servers = plan_servers(tmp_path, 3, 0, 2181)
    write_files(servers[0], servers)
    (tmp_path / "server-1" / "data" / IDENTITY_NAME).write_bytes(b"")
    with servers[0].config.open("a") as file:
        file.write(
            f"authProvider.1={SASL_PROVIDER}\nsessionRequireClientSASLAuth=true\n"
            f"java.security.auth.login.config={tmp_path}/nothing\n"
        )
    refusal = find_refusal(plan_servers(tmp_path, 5, 0, 2181))
    assert refusal is not None and "holds an ensemble of 3 voters" in refusal


def run(directory: Path, port: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zkpy", "ensemble", "--port", str(port), *more]
    return subprocess.Popen(
        [*command, "--dir", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )


def test_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    """A voter and an observer; what was written is there again in the next run."""
    port = free_ports(2)[0]
    for again in (False, True):
        child = run(tmp_path / "here", port, "--size", "1", "--observers", "1")
        assert child.stdout is not None
        with child.stdout as output:
            seen = []
            for line in output:
                seen.append(line)
                if re.search(r"2 \| .*observing server 1, .*: serving", line):
                    break
            text = "".join(seen)
            client = KazooClient(f"127.0.0.1:{port + 1}", timeout=10)
            client.start(LIMIT_S)
            if again:
                assert client.get("/a")[0] == b"v", text
            else:
                client.create("/a", b"v")
            client.stop()
            client.close()
            child.send_signal(signal.SIGINT)
            text += output.read()
        assert child.wait(LIMIT_S) == 0
        assert f"server 2 (observer): clients 127.0.0.1:{port + 1}, quorum " in text
        assert f"KazooClient('127.0.0.1:{port},127.0.0.1:{port + 1}')" in text
        assert text.count("ended with code 0") == 2


def test_ends_when_no_server_is_left(tmp_path: Path) -> None:
    (tmp_path / "server-1" / "data" / "version-2").mkdir(parents=True)
    child = run(tmp_path, free_ports(2)[0], "--size", "1")
    assert child.communicate(timeout=LIMIT_S)[0].count("1 | zkpy: ") == 1
    assert child.returncode == 1
